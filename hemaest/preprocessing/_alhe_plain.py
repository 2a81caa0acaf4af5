"""The two passes of ALHE over the pixels in NumPy, for where numba cannot be had."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def luma(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the luma, 0 to 255, in the integer arithmetic of the compiled passes."""
    r, g, b = np.moveaxis(image[..., :3].astype(np.int32), -1, 0)
    return (77 * r + 150 * g + 29 * b + 128) >> 8


def tile_counts(image: NDArray[np.uint8], tops: NDArray[Any], lefts: NDArray[Any]) -> Any:
    """Return the histogram of the luma of each tile."""
    values = luma(image)
    return np.array(
        [
            [
                np.bincount(values[t0:t1, l0:l1].ravel(), minlength=256)
                for l0, l1 in zip(lefts[:-1], lefts[1:], strict=True)
            ]
            for t0, t1 in zip(tops[:-1], tops[1:], strict=True)
        ]
    )


def apply_curves(
    image: NDArray[np.uint8],
    curves: NDArray[np.float32],
    upper: NDArray[Any],
    down: NDArray[np.float32],
    left: NDArray[Any],
    right: NDArray[np.float32],
    out: NDArray[np.uint8],
) -> None:
    """Write the image with each pixel's luma taken through the curves of the tiles around it."""
    values = luma(image)
    lower = np.minimum(upper + 1, curves.shape[0] - 1)[:, None]
    after = np.minimum(left + 1, curves.shape[1] - 1)
    upper, share = upper[:, None], down[:, None]
    one = curves[upper, left, values]
    one = one + share * (curves[lower, left, values] - one)
    other = curves[upper, after, values]
    other = other + share * (curves[lower, after, values] - other)
    new = one + right * (other - one)
    brightest = image[..., :3].max(axis=-1)
    factor = np.minimum(new / np.maximum(values, 1), 255 / np.maximum(brightest, 1))
    out[...] = image
    out[..., :3] = (image[..., :3] * factor[..., None] + 0.5).astype(np.uint8)
