"""Granules and vacuoles of the cytoplasm, and where the colours of a cell lie in CIELAB.

Optical densities here are over the bright background (95th percentile of each channel of the
surround), so what is measured is the stain of the cell and not the lamp.

numba keys a cache by this file alone: after a change in a kernel that is called from here, delete
``__pycache__`` (an installed package gets all its files at once).
"""

import numpy as np
from numba import njit

from hemaest.features._color_stats import _lab_f, percentile
from hemaest.features._parts import parts

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
BINS = 6
LIGHT_BINS = 8


def histogram_definitions() -> dict[str, str]:
    """Return the name and one-line definition of the shares of colours, in order."""
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


def definitions() -> dict[str, str]:
    """Return the name and one-line definition of the features of this file, in order."""
    return {**GRANULE_DEFINITIONS, **histogram_definitions()}


SIZE = len(definitions())
_N_GRANULES = len(GRANULE_DEFINITIONS)


@njit(cache=True, nogil=True, error_model="numpy")
def _shares(image, codes, box, xyz, roots, out):
    """Write the shares of colour bins of cytoplasm and nucleus."""
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


@njit(cache=True, nogil=True, error_model="numpy")
def _median(counts):
    """Return the lower median of counted values."""
    n = counts.sum()
    seen = 0
    for v in range(counts.size):
        seen += counts[v]
        if 2 * seen >= n:
            return v
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def measure_granules(image, codes, box, surround, density, parts_of_xyz, roots, out):
    """Write the values of :func:`definitions`; ``surround`` has its channel histograms."""
    _granules(image, codes, box, surround, density, out[:8])
    _shares(image, codes, box, parts_of_xyz, roots, out[8:])
