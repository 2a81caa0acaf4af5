"""What is measured of an image without knowing its type: its stain, and how large its cell is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._parallel import map_images
from hemaest.images import cell_map, rgb

STRENGTH, TINT, SIZE = "stain strength", "stain tint", "cell size"
# enough for quarters of a set, and a few seconds' work
SAMPLE = 240
# a cell's share of its picture does not need more pixels
SIDE = 112
STAINED = 0.12


def measured(X: NDArray[Any], rows: NDArray[np.intp], *, n_jobs: int | None = 2) -> pd.DataFrame:
    """Return stain and cell size, a row for each image of X; NaN for those not looked at.

    Parameters
    ----------
    X : array
        Checked images.
    rows : int array
        Which to look at; evenly spaced ones of them, where they are many.
    n_jobs : int, optional
        Threads.
    """
    at = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int))
    chosen = rows[at]
    table = pd.DataFrame(np.nan, index=range(len(X)), columns=[STRENGTH, TINT, SIZE])
    table.iloc[chosen] = map_images(_measures, X[chosen], n_jobs=n_jobs)
    return table


def stain(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return how much light the stained pixels absorb, and which share of that is red light.

    A bluer stain absorbs more of the red.

    Examples
    --------
    >>> picture = np.full((20, 20, 3), 240, np.uint8)
    >>> picture[5:15, 5:15] = [120, 60, 160]
    >>> [round(value, 2) for value in stain(picture)]
    [0.82, 0.28]
    """
    from hemaest._color import density_over_plasma

    density = density_over_plasma(image).clip(min=0)
    stained = density.mean(axis=2) > STAINED
    if not stained.any():
        return float("nan"), float("nan")
    red, green, blue = density[stained].mean(axis=0).tolist()
    total = red + green + blue
    return total / 3, red / total


def cell_size(image: NDArray[np.uint8]) -> float:
    """Return the cell's area in pixels of the image; NaN where none is found."""
    from hemaest._geometry import scale_to
    from hemaest.segmentation import CellSegmenter

    labels, scale = cell_map(image), 1.0
    if labels is None:
        height, width = image.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        small = scale_to(rgb(image), max(2, round(height * scale)), max(2, round(width * scale)))
        segmenter = CellSegmenter(method="voters")
        labels = cell_map(segmenter.fit_transform(small[None])[0])
    area = 0 if labels is None else int((labels > 0).sum())
    return area / scale**2 if area else float("nan")


def _measures(image: NDArray[np.uint8]) -> tuple[float, float, float]:
    try:
        return (*stain(rgb(image)), cell_size(image))
    except ValueError:  # a picture too small or too plain to be measured
        return (float("nan"),) * 3
