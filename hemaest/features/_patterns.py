"""Binary patterns and granularity inside a region.

Local binary patterns are uniform and rotation invariant. The neighbors on the circle are
interpolated as scikit-image does, with coordinates of five decimals, but in whole numbers: the
weights are integers over 10^10, so that no comparison with the center falls the wrong way by
rounding, least of all where the neighborhood is flat.

Granularity spectra and the fractal dimension come from gray morphology. Structuring elements grow
as octagons: a cross and a square in turn. What lies outside the region takes part in no minimum or
maximum, so the surroundings do not leak in.
"""

import numpy as np

from hemaest._numba import kernel
from hemaest.features._region import bounds

CIRCLES = ((8, 1), (16, 2))
PAD = 3
SIZES = 4

GRANULARITY_DEFINITIONS = {
    **{
        f"granules_dark_{r}": f"share of the darkness 255 - G that an opening with the octagon of "
        f"radius {r} takes away beyond radius {r - 1}"
        for r in range(1, SIZES + 1)
    },
    **{
        f"granules_light_{r}": f"share of the lightness G that an opening with the octagon of "
        f"radius {r} takes away beyond radius {r - 1}"
        for r in range(1, SIZES + 1)
    },
    "fractal_dimension": "3 - slope of ln V(r) over ln r, V(r) the volume between dilation and "
    "erosion of G by radius r = 1..4 (blanket method; 2 where G is flat)",
}


def lbp_definitions(circles=CIRCLES[:1]) -> dict[str, str]:
    """Return the name and one-line definition of the features of a region, in order."""
    lines = {}
    for points, radius in circles:
        where = f"{points} points at radius {radius}"
        for bits in range(points + 1):
            lines[f"lbp_{points}_{bits}"] = (
                f"share of pixels with a uniform pattern of {bits} points >= center, {where}"
            )
        lines[f"lbp_{points}_other"] = f"share of pixels whose pattern is not uniform, {where}"
    return lines


N_LBP = len(lbp_definitions())
N_GRANULARITY = len(GRANULARITY_DEFINITIONS)


def _circle(points: int, radius: int):
    """Return integer corners (y, x) and the four integer weights of each neighbor."""
    angles = 2 * np.pi * np.arange(points) / points
    ys = np.rint(-radius * np.sin(angles) * 1e5).astype(np.int64)
    xs = np.rint(radius * np.cos(angles) * 1e5).astype(np.int64)
    y0, x0 = ys // 100_000, xs // 100_000
    fy, fx = ys - y0 * 100_000, xs - x0 * 100_000
    gy, gx = 100_000 - fy, 100_000 - fx
    weights = np.stack([gy * gx, gy * fx, fy * gx, fy * fx], axis=1).astype(float)
    return np.stack([y0, x0], axis=1), weights


def _bins(points: int):
    """Return the bin of each pattern: its number of ones if uniform, else points + 1."""
    codes = np.arange(1 << points)
    bits = codes[:, None] >> np.arange(points) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), points + 1).astype(np.uint8)


LBP_TABLES = tuple((*_circle(points, radius), _bins(points)) for points, radius in CIRCLES)


@kernel(fastmath=False)
def measure_lbp(framed, regions, circle, out):
    """Write the shares of cytoplasm (region 1) and nucleus (region 2) for one circle.

    ``framed`` is the gray image as floats with a frame of PAD pixels of what lies around it.
    """
    codes = patterns(framed, circle[0], circle[1])
    _shares(codes, regions, circle[2], out)


@kernel(fastmath=False)
def patterns(gray, corners, weights):
    """Return the pattern of each pixel of a float image with a frame of PAD."""
    height, width = gray.shape
    codes = np.zeros((height, width), np.uint16)
    for p in range(len(corners)):
        dy, dx = corners[p]
        a, b, c, d = weights[p]
        bit = np.uint16(1 << p)
        for y in range(3, height - 3):
            above = gray[y + dy]
            below = gray[y + dy + 1]
            center = gray[y]
            line = codes[y]
            if a == 1e10:  # straight above, below or beside: no mean of four pixels
                for x in range(3, width - 3):
                    if above[x + dx] >= center[x]:
                        line[x] |= bit
                continue
            for x in range(3, width - 3):
                value = (
                    a * above[x + dx]
                    + b * above[x + dx + 1]
                    + c * below[x + dx]
                    + d * below[x + dx + 1]
                )
                if value >= center[x] * 1e10:
                    line[x] |= bit
    return codes


@kernel(fastmath=False)
def _shares(codes, regions, bins, out):
    """Write the share of each bin among the pixels of cytoplasm and nucleus."""
    counts = np.zeros((2, out.shape[1]), np.int64)
    for y in range(regions.shape[0]):
        for x in range(regions.shape[1]):
            region = regions[y, x]
            if region:
                counts[region - 1, bins[codes[y + 3, x + 3]]] += 1
    for region in range(2):
        n = counts[region].sum()
        for k in range(out.shape[1]):
            out[region, k] = counts[region, k] / n if n else np.nan


@kernel(fastmath=False)
def measure_granularity(gray, mask, out):
    """Write the values of :data:`GRANULARITY_DEFINITIONS`.

    Image and mask have a frame of one pixel.
    """
    n = mask.sum()
    if n == 0:
        out[:] = np.nan
        return
    top, left, bottom, right = bounds(mask)
    gray = gray[top - 1 : bottom + 1, left - 1 : right + 1].copy()
    mask = mask[top - 1 : bottom + 1, left - 1 : right + 1].copy()
    low = np.empty(4)
    high = np.empty(4)
    _openings(gray, mask, out[4:8], low)
    _openings((255 - gray).astype(np.uint8), mask, out[0:4], high)
    sx = 0.0
    sy = 0.0
    sxx = 0.0
    sxy = 0.0
    flat = False
    for r in range(4):
        volume = 255.0 * n - high[r] - low[r]
        if volume <= 0:
            flat = True
            break
        x = np.log(r + 1.0)
        y = np.log(volume)
        sx += x
        sy += y
        sxx += x * x
        sxy += x * y
    out[8] = 2.0 if flat else 3 - (4 * sxy - sx * sy) / (4 * sxx - sx * sx)


@kernel(fastmath=False)
def _openings(image, mask, spectrum, eroded_volume):
    """Write what each opening takes away, and the volume of each erosion."""
    low = _outside(image, mask, np.uint8(255))
    next_low = np.full_like(image, 255)
    up = np.zeros_like(image)
    next_up = np.zeros_like(image)
    start = _volume(image, mask)
    before = start
    for r in range(1, 5):
        _shrink(low, next_low, mask, r % 2 == 0)
        low, next_low = next_low, low
        eroded_volume[r - 1] = _volume(low, mask)
        up = _outside(low, mask, np.uint8(0))
        for back in range(r, 0, -1):
            _grow(up, next_up, mask, back % 2 == 0)
            up, next_up = next_up, up
        now = _volume(up, mask)
        spectrum[r - 1] = (before - now) / max(start, 1)
        before = now


@kernel(fastmath=False)
def _shrink(source, target, mask, square):
    """Write the minimum over a cross or a square inside the mask, and 255 outside it."""
    for y in range(1, source.shape[0] - 1):
        above, here, below = source[y - 1], source[y], source[y + 1]
        inside, line = mask[y], target[y]
        if square:
            for x in range(1, source.shape[1] - 1):
                v = min(min(above[x], below[x]), min(here[x], min(here[x - 1], here[x + 1])))
                w = min(min(above[x - 1], above[x + 1]), min(below[x - 1], below[x + 1]))
                line[x] = min(v, w) if inside[x] else 255
        else:
            for x in range(1, source.shape[1] - 1):
                v = min(min(above[x], below[x]), min(here[x], min(here[x - 1], here[x + 1])))
                line[x] = v if inside[x] else 255


@kernel(fastmath=False)
def _grow(source, target, mask, square):
    """Write the maximum over a cross or a square inside the mask, and 0 outside it."""
    for y in range(1, source.shape[0] - 1):
        above, here, below = source[y - 1], source[y], source[y + 1]
        inside, line = mask[y], target[y]
        if square:
            for x in range(1, source.shape[1] - 1):
                v = max(max(above[x], below[x]), max(here[x], max(here[x - 1], here[x + 1])))
                w = max(max(above[x - 1], above[x + 1]), max(below[x - 1], below[x + 1]))
                line[x] = max(v, w) if inside[x] else 0
        else:
            for x in range(1, source.shape[1] - 1):
                v = max(max(above[x], below[x]), max(here[x], max(here[x - 1], here[x + 1])))
                line[x] = v if inside[x] else 0


@kernel(fastmath=False)
def _outside(image, mask, value):
    """Return a copy that holds a value outside the mask."""
    result = np.empty_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            result[y, x] = image[y, x] if mask[y, x] else value
    return result


@kernel(fastmath=False)
def _volume(image, mask):
    total = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if mask[y, x]:
                total += image[y, x]
    return total
