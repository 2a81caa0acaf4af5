"""Parts and lobes of a mask: connected components, exact distances, and peaks between necks."""

import numpy as np

from hemaest._numba import kernel

DEFINITIONS = {
    "lobe_count": "peaks of the distance map D whose neck is narrower than 0.75 of them, see below",
    "lobe_spread": "standard deviation / mean of the lobes' inscribed radii",
    "lobe_smallest": "least / largest inscribed radius of the lobes",
    "neck_width": "2 x least saddle of D between lobes (0 if apart, 2 max D if one lobe)",
    "neck_ratio": "neck_width / (2 max D)",
    "inscribed_radius": "max D: distance from a pixel of the nucleus to the nearest one outside",
    "inscribed_ratio": "2 max D / equivalent_diameter",
    "thickness_mean": "mean D / max D",
}
SIZE = len(DEFINITIONS)
NECK = 0.75
SMALLEST = 0.25


@kernel(fastmath=False)
def squared_distance(mask):
    """Return the exact squared distance of each pixel to the nearest zero; the frame is zero.

    Column distances first, then the lower envelope of parabolas over each run of a row
    (Felzenszwalb and Huttenlocher 2012): what lies beyond the zeros at a run's ends cannot win.
    """
    height, width = mask.shape
    column = np.zeros((height, width), np.int32)
    for y in range(1, height):
        for x in range(width):
            if mask[y, x]:
                column[y, x] = column[y - 1, x] + 1
    for y in range(height - 2, -1, -1):
        for x in range(width):
            column[y, x] = min(column[y, x], column[y + 1, x] + 1)
    for y in range(height):
        for x in range(width):
            column[y, x] *= column[y, x]
    result = np.zeros((height, width), np.int32)
    # a division of whole numbers costs more than the rest of the loop
    share = 1 / (2 * np.arange(width + 1))
    place = np.empty(width, np.int64)
    start = np.empty(width, np.int64)
    for y in range(1, height - 1):
        x = 1
        while x < width - 1:
            if not mask[y, x]:
                x += 1
                continue
            first = x - 1
            while mask[y, x]:
                x += 1
            last = x
            top = 0
            place[0] = first
            start[0] = first
            for q in range(first + 1, last + 1):
                gq = column[y, q] + q * q
                while True:
                    p = place[top]
                    # the first integer at which q is nearer than p; the half keeps exact
                    # quotients clear of rounding
                    ahead = gq - column[y, p] - p * p
                    meet = int(np.floor((ahead + 0.5) * share[q - p])) + 1
                    if meet > start[top] or top == 0:
                        break
                    top -= 1
                if meet <= last:
                    if meet <= start[top]:
                        place[0] = q
                    else:
                        top += 1
                        place[top] = q
                        start[top] = meet
            piece = 0
            for q in range(first + 1, last):
                while piece < top and start[piece + 1] <= q:
                    piece += 1
                p = place[piece]
                result[y, q] = (q - p) * (q - p) + column[y, p]
    return result


@kernel(fastmath=False)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel(fastmath=False)
def find_lobes(squared, neck, smallest):
    """Return the inscribed radii of the lobes and the saddles between them.

    Pixels are flooded from the deepest outwards. Where two basins meet, the one with the lower
    peak is a lobe if the saddle is under ``neck`` of its peak and the peak is at least
    ``smallest`` of the highest; else it is part of the other. Once one basin alone is left, what
    is too shallow for a peak can change nothing.
    """
    height, width = squared.shape
    flat = squared.ravel()
    top = flat.max()
    counts = np.zeros(top + 2, np.int32)
    inside = 0
    for v in flat:
        if v:
            counts[top - v + 1] += 1
            inside += 1
    for v in range(1, top + 2):
        counts[v] += counts[v - 1]
    order = np.empty(inside, np.int32)
    for i in range(flat.size):
        if flat[i]:
            slot = top - flat[i]
            order[counts[slot]] = i
            counts[slot] += 1
    parent = np.full(flat.size, -1, np.int32)
    near = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    radii = np.empty(inside)
    saddles = np.empty(inside)
    n_radii = 0
    n_saddles = 0
    least = smallest * smallest * top
    neck2 = neck * neck
    peaks = 0
    for i in order:
        if peaks == 1 and flat[i] < least:
            break
        home = -1
        for step in near:
            other = parent[i + step]
            if other < 0 or other == home:
                continue
            other = _root(parent, other)
            if home < 0:
                home = other
                parent[i] = home
            elif other != home:
                # a root is the pixel of its peak
                low, high = other, home
                if flat[low] > flat[high] or (flat[low] == flat[high] and low < high):
                    low, high = high, low
                if flat[i] < neck2 * flat[low] and flat[low] >= least:
                    radii[n_radii] = np.sqrt(flat[low])
                    saddles[n_saddles] = np.sqrt(flat[i])
                    n_radii += 1
                    n_saddles += 1
                peaks -= flat[low] >= least
                parent[low] = high
                home = high
        if home < 0:
            parent[i] = i
            peaks += flat[i] >= least
    for i in order:
        if parent[i] == i and flat[i] >= least:
            radii[n_radii] = np.sqrt(flat[i])
            n_radii += 1
    return radii[:n_radii], saddles[:n_saddles]


@kernel(fastmath=False)
def measure_lobes(mask, diameter, out):
    """Write the values of :data:`DEFINITIONS` of a framed mask; return the squared distances."""
    squared = squared_distance(mask)
    radii, saddles = find_lobes(squared, 0.75, 0.25)
    n = len(radii)
    top = radii.max()
    apart = n - 1 - len(saddles) > 0
    narrow = 0.0 if apart else (saddles.min() if len(saddles) else top)
    total = 0.0
    inside = 0
    for v in squared.ravel():
        if v:
            total += np.sqrt(v)
            inside += 1
    out[0] = n
    out[1] = radii.std() / radii.mean()
    out[2] = radii.min() / top
    out[3] = 2 * narrow
    out[4] = narrow / top
    out[5] = top
    out[6] = 2 * top / diameter
    out[7] = total / inside / top
    return squared


@kernel(fastmath=False)
def parts(mask):
    """Return the label of each pixel (0 outside) and the area of each part (areas[0] = 0).

    ``mask`` has a frame of zeros.
    """
    height, width = mask.shape
    labels = np.zeros((height, width), np.int32)
    areas = np.zeros(height * width // 2 + 2, np.int64)
    stack = np.empty((height * width, 2), np.int32)
    n = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not mask[y, x] or labels[y, x]:
                continue
            n += 1
            labels[y, x] = n
            stack[0, 0] = y
            stack[0, 1] = x
            size = 1
            while size:
                size -= 1
                cy = stack[size, 0]
                cx = stack[size, 1]
                areas[n] += 1
                for ny in range(cy - 1, cy + 2):
                    for nx in range(cx - 1, cx + 2):
                        if mask[ny, nx] and not labels[ny, nx]:
                            labels[ny, nx] = n
                            stack[size, 0] = ny
                            stack[size, 1] = nx
                            size += 1
    return labels, areas[: n + 1].copy()
