"""Color of a cell: moments and percentiles of regions, shares of colors, granules and vacuoles.

RGB and optical density are functions of 8-bit values, so one 256-bin histogram for each channel
holds all that their statistics need; only CIELAB is computed pixel by pixel. The optical densities
of granules are over the bright background (95th percentile of each channel of the surround), so
what is measured is the stain of the cell and not the lamp. ``ColorFeatures`` calls this module.

numba keys a cache by one file alone: after a change in a kernel of another module that is called
from here, delete ``__pycache__`` (an installed package gets all its files at once).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._color import LINEAR, OPTICAL_DENSITY, RGB_TO_XYZ
from hemaest._numba import kernel
from hemaest.features._lobes import parts

REGIONS = ("surround", "cytoplasm", "nucleus")
CONTRASTS = (("nucleus", "cytoplasm"), ("cytoplasm", "surround"))
CONTRASTED = ("r", "g", "b", "od_r", "od_g", "od_b", "lightness", "lab_a", "lab_b")
CHANNELS = ("r", "g", "b", "od_r", "od_g", "od_b", "lightness", "lab_a", "lab_b")
PERCENTILES = (5, 50, 95)
BINS = 6
LIGHT_BINS = 8

_CHANNEL_TEXT = {
    "r": "red value, 0 to 255",
    "g": "green value, 0 to 255",
    "b": "blue value, 0 to 255",
    "od_r": "optical density in red, ln(256 / (R + 1))",
    "od_g": "optical density in green, ln(256 / (G + 1))",
    "od_b": "optical density in blue, ln(256 / (B + 1))",
    "lightness": "CIELAB L* (D65)",
    "lab_a": "CIELAB a* (D65), green to red",
    "lab_b": "CIELAB b* (D65), blue to yellow",
}
_STATISTIC_TEXT = {
    "mean": "mean",
    "std": "standard deviation",
    "skewness": "skewness m3 / m2^1.5 (0 where m2 = 0)",
}
GRANULE_DEFINITIONS = {
    "cytoplasm_eosinophilic_fraction": "share of cytoplasm with od_r / od < 0.2 and od > 0.6, "
    "where od = od_r + od_g + od_b over the background",
    "cytoplasm_eosinophilic_size": "mean area of such parts of at least 3 pixels / cell area",
    "cytoplasm_eosinophilic_density": "number of such parts in 1000 pixels of cytoplasm",
    "cytoplasm_basophilic_fraction": "share of cytoplasm with od_r / od > 0.27 and od above the "
    "middle of the medians of cytoplasm and nucleus",
    "cytoplasm_basophilic_size": "mean area of such parts of at least 3 pixels / cell area",
    "cytoplasm_basophilic_density": "number of such parts in 1000 pixels of cytoplasm",
    "cytoplasm_vacuole_fraction": "share of cytoplasm in vacuoles: parts of at least 3 pixels with "
    "od under half the median of cytoplasm that do not touch the outside of the cell",
    "cytoplasm_vacuole_count": "number of vacuoles",
}


def region_definitions() -> dict[str, str]:
    """Return the name and the one-line definition of each statistic of a region, in order."""
    lines = {
        f"{channel}_{statistic}": f"{text} of the {_CHANNEL_TEXT[channel]}"
        for channel in CHANNELS
        for statistic, text in _STATISTIC_TEXT.items()
    }
    for channel in CHANNELS[:3]:
        for q in PERCENTILES:
            lines[f"{channel}_p{q}"] = f"{q}th percentile of the {_CHANNEL_TEXT[channel]}"
    lines["od_r_share"] = "mean od_r / (mean od_r + od_g + od_b)"
    lines["od_b_share"] = "mean od_b / (mean od_r + od_g + od_b)"
    return lines


def histogram_definitions() -> dict[str, str]:
    """Return the name and one-line definition of the shares of colors, in order."""
    lines = {}
    for region in ("cytoplasm", "nucleus"):
        for i in range(BINS):
            for j in range(BINS):
                lines[f"{region}_share_a{i}_b{j}"] = (
                    f"{region}: share of pixels in bin {i} of a* (-10 to 60) and bin {j} of b* "
                    f"(-60 to 20), 6 bins each, the outer ones open"
                )
        for i in range(LIGHT_BINS):
            lines[f"{region}_share_l{i}"] = f"{region}: share of pixels in bin {i} of 8 of L*"
    return lines


@cache
def color_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every color feature of a cell, in order."""
    base = region_definitions()
    lines = {f"{r}_{name}": f"{r}: {text}" for r in REGIONS for name, text in base.items()}
    for one, other in CONTRASTS:
        for c in CONTRASTED:
            lines[f"{one}_minus_{other}_{c}"] = f"{one}_{c}_mean - {other}_{c}_mean"
    return {**lines, **GRANULE_DEFINITIONS, **histogram_definitions()}


@cache
def image_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every color feature of a whole image."""
    return {f"image_{name}": f"whole image: {text}" for name, text in region_definitions().items()}


N_STATISTICS = len(region_definitions())

# contribution of each 8-bit value of each channel to X, Y and Z: [channel, value, xyz]
_XYZ_PARTS = np.ascontiguousarray(RGB_TO_XYZ.T[:, None, :] * LINEAR[None, :, None])
_ROOT_STEPS = 16384
_T = np.arange(_ROOT_STEPS + 256) / _ROOT_STEPS
# the function f of CIELAB, in steps so fine that a straight line between them is exact to 3e-7
_ROOTS = np.where(_T > 216 / 24389, np.cbrt(_T), _T * (841 / 108) + 4 / 29)
TABLES = (OPTICAL_DENSITY, _XYZ_PARTS, _ROOTS)


def measure_color(
    image: NDArray[np.uint8], k: int, box: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Write the color features of cell ``k``."""
    statistics, histograms = region_statistics(image, image[..., 3], region_table(k), 3)
    out[: 3 * N_STATISTICS] = statistics.ravel()
    places = 3 * np.arange(len(CONTRASTED))
    means = dict(zip(REGIONS, statistics[:, places], strict=True))
    start = 3 * N_STATISTICS
    for one, other in CONTRASTS:
        out[start : start + len(CONTRASTED)] = means[one] - means[other]
        start += len(CONTRASTED)
    measure_granules(image, cellmap.codes(k), box, histograms[0], *TABLES, out[start:])


def image_statistics(image):
    """Return the statistics of a whole image."""
    # every label is of region 0; a view of the image is what the kernel is compiled for
    return region_statistics(image, image[..., 0], np.zeros(256, np.uint8), 1)[0][0]


def region_statistics(image, labels, regions, n_regions):
    """Return statistics (region, statistic) and histograms (region, channel, value).

    Parameters
    ----------
    image : uint8 array (H, W, >= 3)
    labels : uint8 array (H, W)
        The label of each pixel.
    regions : uint8 array (256,)
        The region of each label; 255 for none.
    n_regions : int
    """
    return _region_statistics(
        image, labels, regions, n_regions, _XYZ_PARTS, _ROOTS, OPTICAL_DENSITY
    )


def region_table(k):
    """Return the region of each value of a map: 0 no cell, 1 cytoplasm and 2 nucleus of cell k."""
    regions = np.full(256, 255, np.uint8)
    regions[0] = 0
    regions[list(cellmap.codes(k))] = 1, 2
    return regions


@kernel(fastmath=False)
def _region_statistics(image, labels, regions, n_regions, parts, roots, density):
    histogram, sums = accumulate(image, labels, regions, n_regions, parts, roots)
    out = np.empty((n_regions, 38))
    for k in range(n_regions):
        summarize(histogram[k], sums[k], density, out[k])
    return out, histogram


@kernel(fastmath=False)
def accumulate(image, labels, regions, n_regions, parts, roots):
    """Return channel histograms (region, 3, 256) and CIELAB power sums (region, 3, 4).

    ``regions[label]`` is the region of a pixel, or 255 for none. The sums are of powers 1 to 3
    (L* less 50, so that little is cancelled later).
    """
    histogram = np.zeros((n_regions, 3, 256), np.int64)
    sums = np.zeros((n_regions, 3, 4))
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            k = regions[labels[y, x]]
            if k == 255:
                continue
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            histogram[k, 0, r] += 1
            histogram[k, 1, g] += 1
            histogram[k, 2, b] += 1
            fx = _lab_f(parts[0, r, 0] + parts[1, g, 0] + parts[2, b, 0], roots)
            fy = _lab_f(parts[0, r, 1] + parts[1, g, 1] + parts[2, b, 1], roots)
            fz = _lab_f(parts[0, r, 2] + parts[1, g, 2] + parts[2, b, 2], roots)
            v = 116 * fy - 66
            sums[k, 0, 1] += v
            sums[k, 0, 2] += v * v
            sums[k, 0, 3] += v * v * v
            v = 500 * (fx - fy)
            sums[k, 1, 1] += v
            sums[k, 1, 2] += v * v
            sums[k, 1, 3] += v * v * v
            v = 200 * (fy - fz)
            sums[k, 2, 1] += v
            sums[k, 2, 2] += v * v
            sums[k, 2, 3] += v * v * v
    return histogram, sums


@kernel(fastmath=False)
def _lab_f(t, roots):
    place = t * 16384
    i = int(place)
    return roots[i] + (place - i) * (roots[i + 1] - roots[i])


@kernel(fastmath=False)
def summarize(histogram, sums, density, out):
    """Write the statistics of one region, in the order of :func:`region_definitions`."""
    n = histogram[0].sum()
    if n == 0:
        out[:] = np.nan
        return
    levels = np.arange(256.0)
    for c in range(3):
        # one by one: to assign a tuple to a slice compiles seconds of error messages
        mean, std, skewness = weighted_moments(histogram[c], levels)
        out[3 * c], out[3 * c + 1], out[3 * c + 2] = mean, std, skewness
        mean, std, skewness = weighted_moments(histogram[c], density)
        out[9 + 3 * c], out[10 + 3 * c], out[11 + 3 * c] = mean, std, skewness
        m1 = sums[c, 1] / n
        m2 = max(sums[c, 2] / n - m1 * m1, 0.0)
        m3 = sums[c, 3] / n - 3 * m1 * sums[c, 2] / n + 2 * m1**3
        out[18 + 3 * c] = m1 + (50 if c == 0 else 0)
        out[19 + 3 * c] = np.sqrt(m2)
        out[20 + 3 * c] = m3 / m2**1.5 if m2 > 1e-6 else 0.0
        out[27 + 3 * c] = percentile(histogram[c], n, 5)
        out[28 + 3 * c] = percentile(histogram[c], n, 50)
        out[29 + 3 * c] = percentile(histogram[c], n, 95)
    total = out[9] + out[12] + out[15]
    out[36] = out[9] / total if total > 0 else 1 / 3
    out[37] = out[15] / total if total > 0 else 1 / 3


@kernel(fastmath=False)
def weighted_moments(histogram, values):
    """Return mean, standard deviation and skewness of values counted by a histogram."""
    n = 0
    mean = 0.0
    for v in range(histogram.size):
        n += histogram[v]
        mean += histogram[v] * values[v]
    mean /= n
    m2 = 0.0
    m3 = 0.0
    for v in range(histogram.size):
        if histogram[v]:
            d = values[v] - mean
            m2 += histogram[v] * d * d
            m3 += histogram[v] * d * d * d
    m2 /= n
    m3 /= n
    skewness = m3 / m2**1.5 if m2 > 1e-12 else 0.0
    return mean, np.sqrt(m2), skewness


@kernel(fastmath=False)
def percentile(histogram, n, q):
    """Return the q-th percentile of counted 8-bit values, interpolated as numpy does."""
    place = q / 100 * (n - 1)
    low = int(np.floor(place))
    part = place - low
    seen = 0
    for v in range(histogram.size):
        seen += histogram[v]
        if seen > low:
            if part == 0 or seen > low + 1:
                return float(v)
            for w in range(v + 1, histogram.size):
                if histogram[w]:
                    return v + part * (w - v)
    return np.nan


@kernel(fastmath=False)
def measure_granules(image, codes, box, surround, density, parts_of_xyz, roots, out):
    """Write the granule and histogram values; ``surround`` has its channel histograms."""
    _granules(image, codes, box, surround, density, out[:8])
    _shares(image, codes, box, parts_of_xyz, roots, out[8:])


@kernel(fastmath=False)
def _granules(image, codes, box, surround, density, out):
    y0, x0, y1, x1 = box
    height = y1 - y0
    width = x1 - x0
    background = np.zeros(3)
    n = surround[0].sum()
    for c in range(3):
        if n:
            background[c] = density[int(percentile(surround[c], n, 95))]
    total = np.zeros((height + 2, width + 2))
    red = np.zeros((height + 2, width + 2))
    medians = np.zeros((2, 1024), np.int64)
    n_cell = 0
    n_cytoplasm = 0
    for y in range(height):
        for x in range(width):
            label = image[y + y0, x + x0, 3]
            if label != codes[0] and label != codes[1]:
                continue
            region = int(label == codes[1])
            n_cell += 1
            n_cytoplasm += region == 0
            r = max(density[image[y + y0, x + x0, 0]] - background[0], 0.0)
            g = max(density[image[y + y0, x + x0, 1]] - background[1], 0.0)
            b = max(density[image[y + y0, x + x0, 2]] - background[2], 0.0)
            red[y + 1, x + 1] = r
            total[y + 1, x + 1] = r + g + b
            medians[region, int((r + g + b) * 60)] += 1
    if n_cytoplasm == 0:
        out[:] = np.nan
        return
    pale = _median(medians[0]) / 60
    middle = (pale + _median(medians[1]) / 60) / 2 if n_cell > n_cytoplasm else 1.5 * pale + 0.6
    marks = np.zeros((3, height + 2, width + 2), np.uint8)
    for y in range(height):
        for x in range(width):
            if image[y + y0, x + x0, 3] == codes[0]:
                od = total[y + 1, x + 1]
                r = red[y + 1, x + 1]
                marks[0, y + 1, x + 1] = od > 0.6 and r < 0.2 * od
                marks[1, y + 1, x + 1] = od > middle and r > 0.27 * od
                marks[2, y + 1, x + 1] = od < 0.5 * pale
    for kind in range(2):
        _, areas = parts(marks[kind])
        grains = areas[areas >= 3]
        out[3 * kind] = marks[kind].sum() / n_cytoplasm
        out[3 * kind + 1] = grains.mean() / n_cell if len(grains) else 0.0
        out[3 * kind + 2] = 1000 * len(grains) / n_cytoplasm
    labels, areas = parts(marks[2])
    _drop_open(labels, areas, image, codes, box)
    holes = areas[areas >= 3]
    out[6] = holes.sum() / n_cytoplasm
    out[7] = len(holes)


@kernel(fastmath=False)
def _shares(image, codes, box, xyz, roots, out):
    """Write the shares of color bins of cytoplasm and nucleus."""
    counts = np.zeros((2, 44))
    for y in range(box[0], box[2]):
        for x in range(box[1], box[3]):
            label = image[y, x, 3]
            if label != codes[0] and label != codes[1]:
                continue
            region = int(label == codes[1])
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            fx = _lab_f(xyz[0, r, 0] + xyz[1, g, 0] + xyz[2, b, 0], roots)
            fy = _lab_f(xyz[0, r, 1] + xyz[1, g, 1] + xyz[2, b, 1], roots)
            fz = _lab_f(xyz[0, r, 2] + xyz[1, g, 2] + xyz[2, b, 2], roots)
            i = min(max(int((500 * (fx - fy) + 10) * (6 / 70)), 0), 5)
            j = min(max(int((200 * (fy - fz) + 60) * (6 / 80)), 0), 5)
            m = min(max(int((116 * fy - 16) * (8 / 100)), 0), 7)
            counts[region, 6 * i + j] += 1
            counts[region, 36 + m] += 1
    for region in range(2):
        n = counts[region, 36:].sum()
        for p in range(44):
            out[44 * region + p] = counts[region, p] / n if n else np.nan


@kernel(fastmath=False)
def _median(counts):
    """Return the lower median of counted values."""
    n = counts.sum()
    seen = 0
    for v in range(counts.size):
        seen += counts[v]
        if 2 * seen >= n:
            return v
    return 0


@kernel(fastmath=False)
def _drop_open(labels, areas, image, codes, box):
    """Set the area of parts that touch the outside of the cell to 0."""
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            if labels[y, x] == 0:
                continue
            for ny in range(y - 1, y + 2):
                for nx in range(x - 1, x + 2):
                    iy = ny - 1 + box[0]
                    ix = nx - 1 + box[1]
                    beyond = iy < 0 or ix < 0 or iy >= image.shape[0] or ix >= image.shape[1]
                    if beyond:
                        areas[labels[y, x]] = 0
                    elif image[iy, ix, 3] != codes[0] and image[iy, ix, 3] != codes[1]:
                        areas[labels[y, x]] = 0
