"""Gray-level co-occurrence inside the true masks of nucleus and cytoplasm.

Gray is the green channel, where the dyes of blood stains absorb most, in 32 fixed levels of 8
values each, so that a level means the same in every image. A pair counts when both pixels lie in
the region. Offsets are (0, d), (r, r), (d, 0), (r, -r) with r = round(d / sqrt 2), as in
scikit-image; matrices are symmetric.
"""

import numpy as np

from hemaest._numba import kernel

LEVELS = 32
DISTANCES = (1, 3, 5)

_PROPERTIES = {
    "contrast": "sum (i - j)^2 p(i, j)",
    "dissimilarity": "sum |i - j| p(i, j)",
    "homogeneity": "sum p(i, j) / (1 + (i - j)^2)",
    "energy": "sqrt(sum p(i, j)^2)",
    "correlation": "sum (i - mu)(j - mu) p(i, j) / sigma^2 (1 where sigma = 0)",
    "entropy": "-sum p(i, j) ln p(i, j)",
}
_HARALICK = {
    "variance": "sum (i - mu)^2 p(i, j)",
    "sum_average": "sum k ps(k), where ps(k) is the probability of i + j = k",
    "sum_variance": "sum (k - sum_average)^2 ps(k)",
    "sum_entropy": "-sum ps(k) ln ps(k)",
    "difference_variance": "variance of |i - j|",
    "difference_entropy": "-sum pd(k) ln pd(k), where pd(k) is the probability of |i - j| = k",
    "imc_1": "(HXY - HXY1) / HX, information measure of correlation, natural logarithms",
    "imc_2": "sqrt(1 - exp(-2 (HXY2 - HXY))), natural logarithms",
    "second_moment": "sum p(i, j)^2",
}


def definitions() -> dict[str, str]:
    """Return the name and one-line definition of the features of a region, in order."""
    lines = {}
    for d in DISTANCES:
        for name, text in _PROPERTIES.items():
            lines[f"glcm_{name}_d{d}_mean"] = f"mean over 4 angles at distance {d}: {text}"
            lines[f"glcm_{name}_d{d}_range"] = f"range over 4 angles at distance {d}: {text}"
    for name, text in _HARALICK.items():
        lines[f"haralick_{name}"] = f"mean over 4 angles at distance 1: {text}"
    return lines


SIZE = len(definitions())


def _offsets():
    rows = []
    for d in DISTANCES:
        r = round(d / np.sqrt(2))
        rows += [(0, d), (r, r), (d, 0), (r, -r)]
    return np.array(rows)


OFFSETS = _offsets()
_TABLE = 8192
_COUNTS = np.arange(_TABLE)
C_LOG_C = np.where(_COUNTS > 0, _COUNTS * np.log(np.maximum(_COUNTS, 1)), 0.0)


@kernel(fastmath=False)
def _clogc(count, table):
    return table[count] if count < len(table) else count * np.log(count)


@kernel(fastmath=False)
def level_ranges(gray, regions):
    """Return the least level of each region and one more than its highest (0 and 0 if empty)."""
    seen = np.zeros((3, LEVELS), np.bool_)
    for y in range(gray.shape[0]):
        for x in range(gray.shape[1]):
            seen[regions[y, x], gray[y, x] >> 3] = True
    ranges = np.zeros((2, 2), np.int64)
    for region in range(2):
        for level in range(LEVELS - 1, -1, -1):
            if seen[region + 1, level]:
                ranges[region, 0] = level
                ranges[region, 1] = max(ranges[region, 1], level + 1)
    return ranges


@kernel(fastmath=False)
def quantize(gray, regions, ranges, pad):
    """Return codes: the levels that cytoplasm has, then those that the nucleus has, then outside.

    So few codes keep the matrices of their pairs in the processor's nearest cache.
    """
    height, width = gray.shape
    shift = ranges[0, 1] - ranges[0, 0]
    outside = shift + ranges[1, 1] - ranges[1, 0]
    table = np.empty((3, 256), np.uint8)
    for v in range(256):
        table[0, v] = outside
        table[1, v] = (v >> 3) - ranges[0, 0]
        table[2, v] = (v >> 3) - ranges[1, 0] + shift
    codes = np.full((height + 2 * pad, width + 2 * pad), outside, np.uint8)
    for y in range(height):
        line, values, parts = codes[y + pad, pad:], gray[y], regions[y]
        for x in range(width):
            line[x] = table[parts[x], values[x]]
    return codes


@kernel(fastmath=False)
def spans(regions):
    """Return where each row's first pixel of a region is, and one more than where its last is."""
    height, width = regions.shape
    ends = np.zeros((height, 2), np.int64)
    for y in range(height):
        row = regions[y]
        first, last = 0, width
        while first < width and row[first] == 0:
            first += 1
        while last > first and row[last - 1] == 0:
            last -= 1
        ends[y, 0] = first
        ends[y, 1] = last
    return ends


@kernel(fastmath=False)
def co_occurrence(codes, ends, dy, dx, pad, n, counts):
    """Count the pairs of codes at one offset; return their n x n matrix, a part of ``counts``.

    Neighbors are often the same pair: four matrices in turn keep one count from having to wait
    for the one before it.
    """
    size = n * n
    counts[: 4 * size] = 0
    first, second = counts[:size], counts[size : 2 * size]
    third, fourth = counts[2 * size : 3 * size], counts[3 * size : 4 * size]
    pairs = np.empty(codes.shape[1], np.uint16)
    for y in range(len(ends)):
        start, stop = ends[y, 0] + pad, ends[y, 1] + pad
        here = codes[y + pad, start:stop]
        there = codes[y + pad + dy, start + dx : stop + dx]
        length = len(here)
        for x in range(length):
            pairs[x] = np.uint16(n) * np.uint16(here[x]) + np.uint16(there[x])
        whole = length - length % 4
        for x in range(0, whole, 4):
            first[pairs[x]] += 1
            second[pairs[x + 1]] += 1
            third[pairs[x + 2]] += 1
            fourth[pairs[x + 3]] += 1
        for x in range(whole, length):
            first[pairs[x]] += 1
    for k in range(size):
        first[k] += second[k] + third[k] + fourth[k]
    return first.reshape(n, n)


@kernel(fastmath=False)
def _properties(counts, shift, low, high, table, with_haralick, out, haralick):
    """Write six properties of one matrix (NaN without pairs); add Haralick's to ``haralick``.

    The row of the region's least level ``low`` is ``shift``.
    """
    marginal = np.zeros(32, np.int64)
    difference = np.zeros(32, np.int64)
    total_of = np.zeros(63, np.int64)
    squares = 0.0
    log_sum = 0.0
    shift -= low
    for i in range(low, high):
        c = 2 * counts[shift + i, shift + i]
        if c:
            marginal[i] += c
            difference[0] += c
            total_of[2 * i] += c
            squares += float(c) * c
            log_sum += _clogc(c, table)
        for j in range(i + 1, high):
            c = counts[shift + i, shift + j] + counts[shift + j, shift + i]
            if c:
                marginal[i] += c
                marginal[j] += c
                difference[j - i] += 2 * c
                total_of[i + j] += 2 * c
                squares += 2.0 * c * c
                log_sum += 2 * _clogc(c, table)
    n = marginal.sum()
    if n == 0:
        out[:] = np.nan
        if with_haralick:
            haralick[:] = np.nan
        return
    contrast = 0.0
    dissimilarity = 0.0
    homogeneity = 0.0
    mean = 0.0
    square = 0.0
    for k in range(32):
        contrast += k * k * difference[k]
        dissimilarity += k * difference[k]
        homogeneity += difference[k] / (1.0 + k * k)
        mean += k * marginal[k]
        square += k * k * marginal[k]
    contrast /= n
    dissimilarity /= n
    mean /= n
    variance = square / n - mean * mean
    entropy = np.log(n) - log_sum / n
    out[0] = contrast
    out[1] = dissimilarity
    out[2] = homogeneity / n
    out[3] = np.sqrt(squares) / n
    # (i - j)^2 = (i - mu)^2 + (j - mu)^2 - 2 (i - mu)(j - mu)
    out[4] = (variance - contrast / 2) / variance if variance > 1e-12 else 1.0
    out[5] = max(entropy, 0.0)
    if not with_haralick:
        return
    sum_average = 2 * mean
    sum_variance = 0.0
    sum_logs = 0.0
    for k in range(63):
        if total_of[k]:
            sum_variance += (k - sum_average) ** 2 * total_of[k]
            sum_logs += _clogc(total_of[k], table)
    difference_logs = 0.0
    marginal_logs = 0.0
    for k in range(32):
        difference_logs += _clogc(difference[k], table)
        marginal_logs += _clogc(marginal[k], table)
    hx = max(np.log(n) - marginal_logs / n, 0.0)
    # with equal marginals HXY1 = HXY2 = 2 HX
    information = max(2 * hx - entropy, 0.0)
    haralick[0] += variance / 4
    haralick[1] += sum_average / 4
    haralick[2] += sum_variance / n / 4
    haralick[3] += max(np.log(n) - sum_logs / n, 0.0) / 4
    haralick[4] += (contrast - dissimilarity**2) / 4
    haralick[5] += max(np.log(n) - difference_logs / n, 0.0) / 4
    haralick[6] += (-information / hx if hx > 1e-12 else 0.0) / 4
    haralick[7] += np.sqrt(1 - np.exp(-2 * information)) / 4
    haralick[8] += squares / n / n / 4


@kernel(fastmath=False)
def measure_glcm(gray, regions, offsets, table, out):
    """Write the features of cytoplasm (region 1) and nucleus (region 2): out is (2, SIZE)."""
    pad = 5
    ranges = level_ranges(gray, regions)
    codes = quantize(gray, regions, ranges, pad)
    ends = spans(regions)
    shifts = (0, ranges[0, 1] - ranges[0, 0])
    n = shifts[1] + ranges[1, 1] - ranges[1, 0] + 1
    space = np.empty(4 * n * n, np.int32)
    values = np.empty((2, 4, 6))
    for k in range(len(offsets)):
        counts = co_occurrence(codes, ends, offsets[k, 0], offsets[k, 1], pad, n, space)
        angle = k % 4
        for region in range(2):
            haralick = out[region, 36:]
            if k == 0:
                haralick[:] = 0
            low, high = ranges[region]
            _properties(
                counts, shifts[region], low, high, table, k < 4, values[region, angle], haralick
            )
        if angle == 3:
            for region in range(2):
                for p in range(6):
                    v = values[region, :, p]
                    place = (k // 4) * 12 + 2 * p
                    out[region, place] = v.mean()
                    out[region, place + 1] = v.max() - v.min()


TABLES = (OFFSETS, C_LOG_C)
