"""Area, perimeters, moments, axes and convex hull of one region, from its rows of pixels.

Where scikit-image measures the same, the values are the same; the hull and what hangs on it are
found from the ends of each row alone, in exact integers.
"""

import numpy as np

from hemaest._numba import kernel

DEFINITIONS = {
    "area": "A: number of pixels",
    "perimeter": "P4: border pixels weighted 1, sqrt(2), (1 + sqrt(2)) / 2 by their neighbors",
    "perimeter_crofton": "P: Crofton's perimeter in 4 directions",
    "equivalent_diameter": "sqrt(4 A / pi)",
    "major_axis": "4 sqrt(larger eigenvalue of the covariance of the pixels)",
    "minor_axis": "4 sqrt(smaller eigenvalue of the covariance of the pixels)",
    "axis_ratio": "minor_axis / major_axis",
    "eccentricity": "sqrt(1 - (minor_axis / major_axis)^2)",
    "extent": "A / area of the bounding box",
    "hull_area": "pixels whose center is in the convex hull of the pixels' edge midpoints",
    "solidity": "A / hull_area",
    "hull_perimeter": "length of the convex hull of the pixels' edge midpoints",
    "convexity": "hull_perimeter / P",
    "circularity": "4 pi A / P^2",
    "feret_max": "largest distance between two points of the true convex hull",
    "feret_min": "smallest width of the true convex hull",
    "feret_ratio": "feret_min / feret_max",
    "hu_1": "first Hu moment, eta20 + eta02",
    "hu_2": "second Hu moment",
    "hu_3": "third Hu moment",
    "hu_4": "fourth Hu moment",
    "hu_5": "fifth Hu moment",
    "hu_6": "sixth Hu moment",
    "hu_7": "seventh Hu moment, absolute value (its sign is that of a mirror)",
}
SIZE = len(DEFINITIONS)

_ROOT2 = np.sqrt(2)
# Crofton weights of a 2 x 2 block: 1 for its own pixel, 2 above, 4 left, 8 above left
_CROFTON = np.zeros(16)
_CROFTON[[1, 5]] = np.pi / 4 * (1 + 1 / _ROOT2)
_CROFTON[[2, 7, 10, 11]] = np.pi / (4 * _ROOT2)
_CROFTON[3] = np.pi / (2 * _ROOT2)
_CROFTON[[8, 12]] = np.pi / 4
_CROFTON[[9, 13]] = np.pi / 2
# weight of a border pixel by 10 x diagonal + 2 x straight border neighbors + 1
_BORDER = np.zeros(50)
_BORDER[[5, 7, 15, 17, 25, 27]] = 1
_BORDER[[21, 33]] = _ROOT2
_BORDER[[13, 23]] = (1 + _ROOT2) / 2


@kernel(fastmath=False)
def cut(image, box, pad):
    """Return the labels of a 4-channel image inside a box, with a frame of zeros."""
    y0, x0, y1, x1 = box
    labels = np.zeros((y1 - y0 + 2 * pad, x1 - x0 + 2 * pad), np.uint8)
    for y in range(y0, y1):
        source, target = image[y, x0:x1], labels[y - y0 + pad, pad:]
        for x in range(len(source)):
            target[x] = source[x, 3]
    return labels


@kernel(fastmath=False)
def either(labels, one, other):
    """Return 1 where a label is one of two."""
    mask = np.empty(labels.shape, np.uint8)
    one, other = np.uint8(one), np.uint8(other)
    for y in range(labels.shape[0]):
        source, target = labels[y], mask[y]
        for x in range(len(source)):
            target[x] = np.uint8(source[x] == one) | np.uint8(source[x] == other)
    return mask


@kernel(fastmath=False)
def bounds(mask):
    """Return the first row and column of a mask's pixels, and one more than the last ones."""
    height, width = mask.shape
    columns = np.zeros(width, np.uint8)
    top, bottom = height, 0
    for y in range(height):
        row = mask[y]
        some = np.uint8(0)
        for x in range(width):
            some |= row[x]
            columns[x] |= row[x]
        if some:
            top = min(top, y)
            bottom = y + 1
    left, right = width, 0
    for x in range(width):
        if columns[x]:
            left = min(left, x)
            right = x + 1
    return top, left, bottom, right


@kernel(fastmath=False)
def perimeters(mask, crofton, border):
    """Return both perimeters of a mask with a frame of at least one zero.

    Rows are looked at as a whole, many pixels an instruction; what is counted one by one are the
    few pixels on the border.
    """
    height, width = mask.shape
    edge = np.zeros_like(mask)
    total = 0.0
    blocks = np.zeros(16, np.int64)
    codes = np.zeros(width, np.uint8)
    for y in range(1, height):
        here, above, line = mask[y], mask[y - 1], edge[y]
        below = mask[min(y + 1, height - 1)]
        for x in range(1, width):
            codes[x] = here[x] | above[x] << 1 | here[x - 1] << 2 | above[x - 1] << 3
        for x in range(1, width - 1):
            line[x] = here[x] & ~(above[x] & below[x] & here[x - 1] & here[x + 1])
        for x in range(1, width):
            # nothing crosses a block of one kind
            if codes[x] != 0 and codes[x] != 15:
                blocks[codes[x]] += 1
    for k in range(16):
        total += crofton[k] * blocks[k]
    weighted = 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if edge[y, x]:
                straight = edge[y - 1, x] + edge[y + 1, x] + edge[y, x - 1] + edge[y, x + 1]
                diagonal = (
                    edge[y - 1, x - 1]
                    + edge[y - 1, x + 1]
                    + edge[y + 1, x - 1]
                    + edge[y + 1, x + 1]
                )
                weighted += border[1 + 2 * straight + 10 * diagonal]
    return weighted, total


@kernel(fastmath=False)
def moments(mask):
    """Return area, centroid (y, x) and the central moments mu20, 11, 02, 30, 21, 12, 03 (y, x)."""
    height, width = mask.shape
    raw = np.zeros(10)
    oy = height // 2
    ox = width // 2
    for y in range(height):
        s0 = 0
        s1 = 0
        s2 = 0
        s3 = 0
        for x in range(width):
            if mask[y, x]:
                dx = x - ox
                s0 += 1
                s1 += dx
                s2 += dx * dx
                s3 += dx * dx * dx
        if s0:
            dy = y - oy
            raw[0] += s0
            raw[1] += dy * s0
            raw[2] += s1
            raw[3] += dy * dy * s0
            raw[4] += dy * s1
            raw[5] += s2
            raw[6] += dy * dy * dy * s0
            raw[7] += dy * dy * s1
            raw[8] += dy * s2
            raw[9] += s3
    n = raw[0]
    cy = raw[1] / n
    cx = raw[2] / n
    mu = np.empty(7)
    mu[0] = raw[3] - cy * raw[1]
    mu[1] = raw[4] - cy * raw[2]
    mu[2] = raw[5] - cx * raw[2]
    mu[3] = raw[6] - 3 * cy * raw[3] + 2 * cy * cy * raw[1]
    mu[4] = raw[7] - 2 * cy * raw[4] - cx * raw[3] + 2 * cy * cy * raw[2]
    mu[5] = raw[8] - 2 * cx * raw[4] - cy * raw[5] + 2 * cx * cx * raw[1]
    mu[6] = raw[9] - 3 * cx * raw[5] + 2 * cx * cx * raw[2]
    return n, cy + oy, cx + ox, mu


@kernel(fastmath=False)
def hu(n, mu, out):
    """Write the seven Hu moments."""
    e20, e11, e02 = mu[0] / n**2, mu[1] / n**2, mu[2] / n**2
    s = n**2.5
    e30, e21, e12, e03 = mu[3] / s, mu[4] / s, mu[5] / s, mu[6] / s
    p = e30 + e12
    q = e21 + e03
    u = e30 - 3 * e12
    v = 3 * e21 - e03
    out[0] = e20 + e02
    out[1] = (e20 - e02) ** 2 + 4 * e11**2
    out[2] = u**2 + v**2
    out[3] = p**2 + q**2
    out[4] = u * p * (p**2 - 3 * q**2) + v * q * (3 * p**2 - q**2)
    out[5] = (e20 - e02) * (p**2 - q**2) + 4 * e11 * p * q
    out[6] = abs(v * p * (p**2 - 3 * q**2) - u * q * (3 * p**2 - q**2))


@kernel(fastmath=False)
def _add_to_chain(chain, size, floor, y, x):
    while size > floor:
        ay = chain[size - 1, 0] - chain[size - 2, 0]
        ax = chain[size - 1, 1] - chain[size - 2, 1]
        by = y - chain[size - 1, 0]
        bx = x - chain[size - 1, 1]
        if ay * bx - ax * by > 0:
            break
        size -= 1
    chain[size, 0] = y
    chain[size, 1] = x
    return size + 1


@kernel(fastmath=False)
def hull(mask):
    """Return the convex hull of the pixels' edge midpoints, in doubled integer coordinates.

    Only the ends of each row can be on the hull. A pixel at (y, x) has its edge midpoints at
    (2y, 2x +- 1) and (2y +- 1, 2x).
    """
    height, width = mask.shape
    left = np.full(2 * height + 1, 2 * width + 2, np.int64)
    right = np.full(2 * height + 1, -2, np.int64)
    for y in range(height):
        a = 0
        while a < width and not mask[y, a]:
            a += 1
        if a == width:
            continue
        b = width - 1
        while not mask[y, b]:
            b -= 1
        left[2 * y + 1] = 2 * a - 1
        right[2 * y + 1] = 2 * b + 1
        for row in (2 * y, 2 * y + 2):
            left[row] = min(left[row], 2 * a)
            right[row] = max(right[row], 2 * b)
    chain = np.empty((4 * height + 8, 2), np.int64)
    size = 0
    for row in range(2 * height + 1):
        if right[row] > -2:
            size = _add_to_chain(chain, size, 1, row - 1, left[row])
    floor = size
    for row in range(2 * height, -1, -1):
        if right[row] > -2:
            size = _add_to_chain(chain, size, floor, row - 1, right[row])
    # the way back up ends beside the start: what is not convex there goes
    while size > 2:
        ay = chain[size - 1, 0] - chain[size - 2, 0]
        ax = chain[size - 1, 1] - chain[size - 2, 1]
        by = chain[0, 0] - chain[size - 1, 0]
        bx = chain[0, 1] - chain[size - 1, 1]
        if ay * bx - ax * by > 0:
            break
        size -= 1
    return chain[:size].copy()


@kernel(fastmath=False)
def hull_pixels(points):
    """Return the pixel centers inside a hull in doubled coordinates, its edge included."""
    n = len(points)
    low = points[:, 0].min()
    high = points[:, 0].max()
    start = low + (low % 2)
    rows = (high - start) // 2 + 1
    left = np.full(rows, 1 << 40, np.int64)
    right = np.full(rows, -(1 << 40), np.int64)
    for i in range(n):
        y0, x0 = points[i]
        y1, x1 = points[(i + 1) % n]
        if y0 > y1:
            y0, x0, y1, x1 = y1, x1, y0, x0
        first = y0 + (y0 % 2)
        for y in range(first, y1 + 1, 2):
            if y1 == y0:
                least = min(x0, x1)
                most = max(x0, x1)
                small = -(-least // 2)
                large = most // 2
            else:
                top = x0 * (y1 - y0) + (x1 - x0) * (y - y0)
                below = 2 * (y1 - y0)
                small = -(-top // below)
                large = top // below
            r = (y - start) // 2
            left[r] = min(left[r], small)
            right[r] = max(right[r], large)
    total = 0
    for r in range(rows):
        total += max(right[r] - left[r] + 1, 0)
    return total


@kernel(fastmath=False)
def hull_lengths(points):
    """Return perimeter, largest distance and smallest width of a hull in doubled coordinates."""
    n = len(points)
    length = 0.0
    longest = 0
    narrowest = np.inf
    for i in range(n):
        y0, x0 = points[i]
        y1, x1 = points[(i + 1) % n]
        dy = y1 - y0
        dx = x1 - x0
        side = np.sqrt(dy * dy + dx * dx)
        length += side
        reach = 0
        for j in range(n):
            ey = points[j, 0] - y0
            ex = points[j, 1] - x0
            longest = max(longest, ey * ey + ex * ex)
            reach = max(reach, abs(dy * ex - dx * ey))
        narrowest = min(narrowest, reach / side)
    return length / 2, np.sqrt(longest) / 2, narrowest / 2


@kernel(fastmath=False)
def measure_region(mask, crofton, border, out):
    """Write the values of :data:`DEFINITIONS` of a framed mask; return centroid and hull."""
    n, cy, cx, mu = moments(mask)
    weighted, total = perimeters(mask, crofton, border)
    points = hull(mask)
    spread = (mu[0] + mu[2]) / 2 / n
    split = np.sqrt(((mu[0] - mu[2]) / 2 / n) ** 2 + (mu[1] / n) ** 2)
    major = 4 * np.sqrt(spread + split)
    minor = 4 * np.sqrt(max(spread - split, 0.0))
    length, longest, narrowest = hull_lengths(points)
    inside = hull_pixels(points)
    rows = (points[:, 0].max() - points[:, 0].min()) // 2
    columns = (points[:, 1].max() - points[:, 1].min()) // 2
    out[0] = n
    out[1] = weighted
    out[2] = total
    out[3] = np.sqrt(4 * n / np.pi)
    out[4] = major
    out[5] = minor
    out[6] = minor / major if major > 0 else 1.0
    out[7] = np.sqrt(max(1 - (minor / major) ** 2, 0.0)) if major > 0 else 0.0
    out[8] = n / (rows * columns)
    out[9] = inside
    out[10] = n / inside
    out[11] = length
    out[12] = length / total
    out[13] = 4 * np.pi * n / total**2
    out[14] = longest
    out[15] = narrowest
    out[16] = narrowest / longest
    hu(n, mu, out[17:24])
    return cy, cx, points


TABLES = (_CROFTON, _BORDER)
