"""Chromatin and cytoplasm texture: clumps, nucleoli, rings, and texture at three scales.

:func:`texture` is what ``ChromatinTexture`` calls: all texture features of one cell, by kernels
without the GIL.

numba keys a cache by one file alone: after a change in a kernel of another module that is called
from here, delete ``__pycache__`` (an installed package gets all its files at once).
"""

from functools import cache

import numpy as np

from hemaest import cellmap
from hemaest._numba import kernel
from hemaest.features import _glcm
from hemaest.features._color import weighted_moments
from hemaest.features._glcm import measure_glcm
from hemaest.features._lobes import parts, squared_distance
from hemaest.features._patterns import (
    GRANULARITY_DEFINITIONS,
    LBP_TABLES,
    N_GRANULARITY,
    N_LBP,
    lbp_definitions,
    measure_granularity,
    measure_lbp,
)

REGIONS = ("cytoplasm", "nucleus")
# the channels and scales of the coarse pass: at full size the green channel alone
CHANNELS = ("red", "green", "blue")
SCALES = ("half", "quarter")
GRAY_DEFINITIONS = {
    "gray_mean": "mean of the green value G",
    "gray_std": "standard deviation of G",
    "gray_skewness": "skewness of G (0 where flat)",
    "gray_kurtosis": "excess kurtosis of G (0 where flat)",
    "gray_entropy": "-sum p ln p over the 256 values of G",
    "gray_range": "95th - 5th percentile of G (smallest value with at least that share)",
}
RING_DEFINITIONS = {
    f"ring_{k}": f"mean G where depth D / max D is in quarter {k} (1 outermost) - mean G"
    for k in range(1, 5)
}
NUCLEUS_DEFINITIONS = {
    "heterochromatin_fraction": "share of pixels at or below Otsu's threshold of G",
    "heterochromatin_contrast": "mean G above - mean G at or below Otsu's threshold",
    "heterochromatin_separability": "variance of G between the two classes / variance of G",
    "heterochromatin_rim": "share of dark pixels in the outermost ring - in all",
    "clump_count": "8-connected parts of the dark pixels with at least 4 pixels",
    "clump_size": "mean area of these parts / nucleus area",
    "clump_largest": "largest area of these parts / nucleus area",
    "nucleolus_count": "pale parts (G > light mean + 0.5 SD) of 0.2% to 10% of the area, D > 2",
    "nucleolus_area": "area of these parts / nucleus area",
    "nucleolus_largest": "largest area of these parts / nucleus area",
    "edge_gradient": "mean length of the gradient of G on the border pixels of the nucleus",
    "edge_variation": "standard deviation / mean of that length along the border",
    "edge_sharpness": "edge_gradient / (standard deviation of G within 3 pixels of the edge + 1)",
}
N_GRAY = len(GRAY_DEFINITIONS)
N_RING = len(RING_DEFINITIONS)
N_NUCLEUS = len(NUCLEUS_DEFINITIONS)
_N_GLCM = _glcm.SIZE
_TEXTURE = _N_GLCM + N_LBP + N_GRANULARITY
_BOTH = N_GRAY + _TEXTURE


@cache
def chromatin_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every texture feature, in order."""
    texture = {**_glcm.definitions(), **lbp_definitions(), **GRANULARITY_DEFINITIONS}
    both = {**GRAY_DEFINITIONS, **texture}
    nucleus = {**RING_DEFINITIONS, **NUCLEUS_DEFINITIONS}
    lines = {f"{region}_{name}": text for region in REGIONS for name, text in both.items()}
    lines |= {f"nucleus_{name}": text for name, text in nucleus.items()}
    for scale in SCALES:
        for channel in CHANNELS:
            for region in REGIONS:
                for name, text in texture.items():
                    where = f"{channel} channel at {scale} size (in place of G at full size)"
                    lines[f"{region}_{scale}_{channel}_{name}"] = f"{where}: {text}"
    return {name: f"{name.split('_')[0]}: {text}" for name, text in lines.items()}


def texture(image, k, box, out):
    """Write the texture features of cell ``k``, in the order of :func:`chromatin_definitions`."""
    # called from here one by one: a kernel around them all would compile each of them once more
    colors, regions = cut_texture(image, cellmap.codes(k), box)
    both = out[: 2 * _BOTH].reshape(2, _BOTH)
    # rows without gaps, as below: every layout of an array is compiled for itself
    fine = np.full((2, _TEXTURE), np.nan)
    _patterns_of(colors[1], regions, _glcm.TABLES, LBP_TABLES[0], fine)
    both[:, N_GRAY:] = fine
    for region in range(2):
        mask = (regions == region + 1).astype(np.uint8)
        counts = histogram(colors[1], mask)
        measure_gray(counts, both[region, :N_GRAY])
    place = 2 * _BOTH
    stop = place + N_RING + N_NUCLEUS
    measure_nucleus(
        colors[1], mask, counts, out[place : place + N_RING], out[place + N_RING : stop]
    )
    for _ in SCALES:
        colors, regions = halve(colors, regions)
        for channel in colors:
            part = out[stop : stop + 2 * _TEXTURE].reshape(2, _TEXTURE)
            _patterns_of(channel, regions, _glcm.TABLES, LBP_TABLES[0], part)
            stop += 2 * _TEXTURE


@kernel(fastmath=False)
def cut_texture(image, codes, box):
    """Return red, green and blue around a cell and the regions in its box.

    All have a frame of 3 pixels; beyond the image the colors repeat its edge, so that a cell that
    is cut off has no dark rim there.
    """
    y0, x0, y1, x1 = box
    height, width = image.shape[:2]
    colors = np.zeros((3, y1 - y0 + 6, x1 - x0 + 6), np.uint8)
    left, right = max(x0 - 3, 0), min(x1 + 3, width)
    before, beyond = left - x0 + 3, right - x0 + 3
    for y in range(y0 - 3, y1 + 3):
        source = image[min(max(y, 0), height - 1), left:right]
        for c in range(3):
            line = colors[c, y - y0 + 3]
            target = line[before:]
            for x in range(len(source)):
                target[x] = source[x, c]
            line[:before] = line[before]
            line[beyond:] = line[beyond - 1]
    regions = np.zeros((y1 - y0 + 6, x1 - x0 + 6), np.uint8)
    cytoplasm, nucleus = np.uint8(codes[0]), np.uint8(codes[1])
    for y in range(y0, y1):
        labels, line = image[y, x0:x1], regions[y - y0 + 3, 3:]
        for x in range(len(labels)):
            label = labels[x, 3]
            line[x] = np.uint8(label == nucleus) << 1 | np.uint8(label == cytoplasm)
    return colors, regions


@kernel(fastmath=False)
def _halve_rows(image):
    """Return the sums of rows in pairs (even size) or under (1, 2, 1) (odd size), as weights of 4.

    So the image is sampled evenly about its middle, whichever way it is turned.
    """
    height, width = image.shape
    half = (height + 1) // 2
    result = np.zeros((half, width), np.int64)
    for y in range(half):
        for x in range(width):
            if height % 2 == 0:
                result[y, x] = 2 * (image[2 * y, x] + image[2 * y + 1, x])
            else:
                above = image[max(2 * y - 1, 0), x]
                below = image[min(2 * y + 1, height - 1), x]
                result[y, x] = above + 2 * image[2 * y, x] + below
    return result


@kernel(fastmath=False)
def half_size(image):
    """Return an image at half size, in sixteenths."""
    rows = _halve_rows(image.astype(np.int64))
    return _halve_rows(np.ascontiguousarray(rows.T)).T


@kernel(fastmath=False)
def halve(colors, regions):
    """Return colors and regions at half size, framed; a pixel is what most of it was."""
    inner = regions[3:-3, 3:-3]
    nucleus = half_size((inner == 2).astype(np.uint8))
    cell = half_size((inner > 0).astype(np.uint8))
    height, width = cell.shape
    small = np.zeros((height + 6, width + 6), np.uint8)
    images = np.zeros((3, height + 6, width + 6), np.uint8)
    for y in range(height):
        for x in range(width):
            if nucleus[y, x] >= 8:
                small[y + 3, x + 3] = 2
            elif cell[y, x] >= 8:
                small[y + 3, x + 3] = 1
    for c in range(3):
        halved = half_size(np.ascontiguousarray(colors[c, 3:-3, 3:-3]))
        for y in range(-3, height + 3):
            for x in range(-3, width + 3):
                # the frame repeats the edge
                v = halved[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
                images[c, y + 3, x + 3] = (v + 8) // 16
    return images, small


@kernel(fastmath=False)
def _patterns_of(gray, regions, glcm_tables, circle, out):
    """Write co-occurrence, binary patterns and granularity of both regions: out is (2, n)."""
    inner = regions[3:-3, 3:-3]
    offsets, logs = glcm_tables
    measure_glcm(gray[3:-3, 3:-3], inner, offsets, logs, out[:, :_N_GLCM])
    stop = _N_GLCM + N_LBP
    measure_lbp(gray.astype(np.float64), inner, circle, out[:, _N_GLCM:stop])
    for region in range(2):
        mask = (regions == region + 1).astype(np.uint8)
        measure_granularity(gray, mask, out[region, stop:])


@kernel(fastmath=False)
def histogram(gray, mask):
    """Count the gray values inside a mask."""
    counts = np.zeros(256, np.int64)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                counts[gray[y, x]] += 1
    return counts


@kernel(fastmath=False)
def measure_gray(counts, out):
    """Write the values of :data:`GRAY_DEFINITIONS`."""
    n = counts.sum()
    if n == 0:
        out[:] = np.nan
        return
    mean, std, skewness = weighted_moments(counts, np.arange(256.0))
    fourth = 0.0
    logs = 0.0
    seen = 0
    low = -1
    high = -1
    for v in range(256):
        c = counts[v]
        if c:
            fourth += c * (v - mean) ** 4
            logs += c * np.log(c)
        seen += c
        if low < 0 and seen >= 0.05 * n:
            low = v
        if high < 0 and seen >= 0.95 * n:
            high = v
    out[0] = mean
    out[1] = std
    out[2] = skewness
    out[3] = fourth / n / std**4 - 3 if std > 1e-9 else 0.0
    out[4] = max(np.log(n) - logs / n, 0.0)
    out[5] = high - low


@kernel(fastmath=False)
def otsu(counts):
    """Return the threshold that separates best, the means under and over it, and how well."""
    n = counts.sum()
    total = 0.0
    for v in range(256):
        total += v * counts[v]
    under = 0
    sum_under = 0.0
    best = -1.0
    threshold = 0
    dark = total / n
    light = dark
    for v in range(256):
        under += counts[v]
        sum_under += v * counts[v]
        if under == 0 or under == n:
            continue
        a = sum_under / under
        b = (total - sum_under) / (n - under)
        between = float(under) * (n - under) * (b - a) ** 2
        if between > best:
            best, threshold, dark, light = between, v, a, b
    return threshold, dark, light, max(best, 0.0) / float(n) / float(n)


@kernel(fastmath=False)
def measure_rings(gray, mask, squared, mean, rings, out):
    """Write the mean gray of four rings of depth less the mean; fill the ring of each pixel."""
    top = squared.max()
    sums = np.zeros(4)
    counts = np.zeros(4, np.int64)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                # sqrt(d2 / top) in quarters, without roots: (4 d)^2 >= (k d_max)^2
                d = 16 * squared[y, x]
                ring = (d > top) + (d > 4 * top) + (d > 9 * top)
                rings[y, x] = ring
                sums[ring] += gray[y, x]
                counts[ring] += 1
    for k in range(4):
        out[k] = sums[k] / counts[k] - mean if counts[k] else 0.0


@kernel(fastmath=False)
def _edge(gray, mask, squared, out):
    n = 0
    total = 0.0
    square = 0.0
    near = 0
    near_sum = 0.0
    near_square = 0.0
    for y in range(1, mask.shape[0] - 1):
        for x in range(1, mask.shape[1] - 1):
            if not mask[y, x] or squared[y, x] > 9:
                continue
            v = float(gray[y, x])
            near += 1
            near_sum += v
            near_square += v * v
            if squared[y, x] == 1:
                gy = (float(gray[y + 1, x]) - gray[y - 1, x]) / 2
                gx = (float(gray[y, x + 1]) - gray[y, x - 1]) / 2
                length = np.sqrt(gy * gy + gx * gx)
                n += 1
                total += length
                square += length * length
    mean = total / n
    out[0] = mean
    out[1] = np.sqrt(max(square / n - mean * mean, 0.0)) / mean if mean > 0 else 0.0
    near_mean = near_sum / near
    out[2] = mean / (np.sqrt(max(near_square / near - near_mean * near_mean, 0.0)) + 1)


@kernel(fastmath=False)
def measure_nucleus(gray, mask, counts, ring_out, out):
    """Write the values of :data:`RING_DEFINITIONS` and :data:`NUCLEUS_DEFINITIONS`.

    Image and mask have a frame of at least one pixel; the mask's is zero.
    """
    n = counts.sum()
    if n == 0:
        ring_out[:] = np.nan
        out[:] = np.nan
        return
    squared = squared_distance(mask)
    mean, std, _ = weighted_moments(counts, np.arange(256.0))
    rings = np.zeros(mask.shape, np.uint8)
    measure_rings(gray, mask, squared, mean, rings, ring_out)
    threshold, dark_mean, light_mean, between = otsu(counts)
    dark = np.zeros(mask.shape, np.uint8)
    pale = np.zeros(mask.shape, np.uint8)
    n_dark = 0
    rim = 0
    rim_dark = 0
    pale_limit = light_mean + 0.5 * std
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                is_dark = gray[y, x] <= threshold
                if is_dark:
                    dark[y, x] = 1
                    n_dark += 1
                elif gray[y, x] > pale_limit and squared[y, x] > 4:
                    pale[y, x] = 1
                if rings[y, x] == 0:
                    rim += 1
                    rim_dark += is_dark
    share = n_dark / n
    out[0] = share
    out[1] = light_mean - dark_mean
    out[2] = between / (std * std) if std > 1e-9 else 0.0
    out[3] = rim_dark / rim - share if rim else 0.0
    _, areas = parts(dark)
    big = areas[areas >= 4]
    out[4] = len(big)
    out[5] = big.mean() / n if len(big) else 0.0
    out[6] = big.max() / n if len(big) else 0.0
    _, areas = parts(pale)
    spots = areas[(areas >= max(0.002 * n, 4.0)) & (areas <= 0.1 * n)]
    out[7] = len(spots)
    out[8] = spots.sum() / n
    out[9] = spots.max() / n if len(spots) else 0.0
    _edge(gray, mask, squared, out[10:13])
