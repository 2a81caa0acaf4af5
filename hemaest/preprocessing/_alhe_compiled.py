"""The two passes of ALHE over the pixels, in numba.

OpenCV's CLAHE takes one clip limit for all tiles and wants a conversion to LAB and back, which
costs more than the equalization; here both passes work on the RGB bytes.
"""

import numpy as np

from hemaest._numba import kernel

F32 = np.float32
I32 = np.int32


@kernel
def _to_luma(row, luma):
    """Write the luma of a row of pixels; 32-bit sums, since 64-bit ones are twice the work."""
    step = 4 if row.shape[1] == 4 else 3
    flat = row.reshape(-1)
    for x in range(len(luma)):
        r, g, b = I32(flat[step * x]), I32(flat[step * x + 1]), I32(flat[step * x + 2])
        luma[x] = (I32(77) * r + I32(150) * g + I32(29) * b + I32(128)) >> I32(8)


@kernel
def _scale(row, step, luma, new, target):
    """Multiply all channels of a pixel by new luma / luma, as far as none exceeds 255."""
    for x in range(len(luma)):
        r, g, b = F32(row[step * x]), F32(row[step * x + 1]), F32(row[step * x + 2])
        room = F32(255) / max(max(r, g), max(b, F32(1)))
        factor = min(new[x] / F32(max(luma[x], I32(1))), room)
        target[step * x] = np.uint8(I32(r * factor + F32(0.5)))
        target[step * x + 1] = np.uint8(I32(g * factor + F32(0.5)))
        target[step * x + 2] = np.uint8(I32(b * factor + F32(0.5)))


@kernel
def tile_counts(image, tops, lefts):
    """Return the histogram of the luma of each tile."""
    counts = np.zeros((len(tops) - 1, len(lefts) - 1, 256), np.int32)
    columns = image.shape[1]
    luma = np.empty(columns, I32)
    for i in range(len(tops) - 1):
        for y in range(tops[i], tops[i + 1]):
            _to_luma(image[y], luma)
            for j in range(len(lefts) - 1):
                count = counts[i, j]
                for x in range(lefts[j], lefts[j + 1]):
                    count[luma[x]] += 1
    return counts


@kernel
def apply_curves(image, curves, upper, down, left, right, out):
    """Write the image with each pixel's luma taken through the curves of the tiles around it.

    ``upper[y]`` is the tile row above and ``down[y]`` the share of the next one; ``left`` and
    ``right`` say the same of columns. All channels of a pixel are multiplied by one ratio, no
    larger than what makes its brightest channel 255, so hue and saturation stay.
    """
    rows, columns, channels = image.shape
    tile_columns = curves.shape[1]
    mixed = np.empty((tile_columns, 256), F32)
    flat = mixed.reshape(-1)
    luma, new = np.empty(columns, I32), np.empty(columns, F32)
    for y in range(rows):
        above = curves[upper[y]].reshape(-1)
        below = curves[min(upper[y] + 1, curves.shape[0] - 1)].reshape(-1)
        share = down[y]
        for k in range(flat.size):
            flat[k] = above[k] + share * (below[k] - above[k])
        row, target = image[y], out[y]
        _to_luma(row, luma)
        for x in range(columns):
            at, v = 256 * left[x], luma[x]
            a = flat[at + v]
            b = flat[min(at + 256, flat.size - 256) + v]
            new[x] = a + right[x] * (b - a)
        if channels == 3:
            _scale(row.reshape(-1), 3, luma, new, target.reshape(-1))
        else:
            _scale(row.reshape(-1), 4, luma, new, target.reshape(-1))
            for x in range(columns):
                target[x, 3] = row[x, 3]
