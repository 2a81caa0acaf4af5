"""Lobes of a nucleus: the peaks of its distance map that stand clear of the necks between them."""

import numpy as np
from numba import njit

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


@njit(cache=True, nogil=True, error_model="numpy")
def squared_distance(mask):
    """Return the exact squared distance of each pixel to the nearest zero; the frame is zero.

    Column distances first. Then the columns at one offset after the other are looked at for a
    whole row at once, until the square of the offset is as large as any distance in the row. That
    is many pixels an instruction, and so quicker than the lower envelope of parabolas, which needs
    fewer steps, for nuclei up to a thousand pixels wide.
    """
    height, width = mask.shape
    column = np.zeros((height, width), np.int32)
    for y in range(1, height):
        above, here, inside = column[y - 1], column[y], mask[y]
        for x in range(width):
            here[x] = (above[x] + np.int32(1)) * np.int32(inside[x])
    for y in range(height - 2, -1, -1):
        below, here = column[y + 1], column[y]
        for x in range(width):
            here[x] = min(here[x], below[x] + np.int32(1))
    # what lies beyond the picture is zero too
    row = np.zeros(3 * width, np.int32)
    result = np.empty((height, width), np.int32)
    for y in range(height):
        middle, best = row[width : 2 * width], result[y]
        top = np.int32(0)
        for x in range(width):
            middle[x] = column[y, x] * column[y, x]
            best[x] = middle[x]
            top = max(top, middle[x])
        offset = 1
        while offset * offset < top:
            far = np.int32(offset * offset)
            before = row[width - offset : 2 * width - offset]
            behind = row[width + offset : 2 * width + offset]
            top = np.int32(0)
            for x in range(width):
                best[x] = min(best[x], far + min(before[x], behind[x]))
                top = max(top, best[x])
            offset += 1
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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
