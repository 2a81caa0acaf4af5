"""What a segmentation of one image found: soft maps, the cell map, and what speaks against it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap


@dataclass(frozen=True, slots=True)
class Found:
    """The result for one image.

    Attributes
    ----------
    nucleus, cell : float32 array (h, w)
        Soft maps; the cell holds its nucleus.
    labels : uint8 array (h, w), uint16 where a field holds more than 127 cells
        The cell map: cell k has cytoplasm 2k-1 and nucleus 2k.
    agreement : float
        How well the voters agree on the nucleus, 0 to 1; NaN where nothing was found.
    """

    nucleus: NDArray[np.float32]
    cell: NDArray[np.float32]
    labels: NDArray[np.unsignedinteger[Any]]
    agreement: float

    def probabilities(self) -> NDArray[np.float32]:
        """Return background, cytoplasm and nucleus as (h, w, 3); they add up to 1."""
        cell = np.maximum(self.cell, self.nucleus)
        return np.stack([1 - cell, cell - self.nucleus, self.nucleus], axis=-1)


def nothing(size: tuple[int, ...]) -> Found:
    """Return the result for an image without a cell."""
    nucleus, cell = np.zeros(size, np.float32), np.zeros(size, np.float32)
    return Found(nucleus, cell, np.zeros(size, np.uint8), float("nan"))


def one_cell(
    nucleus: NDArray[np.float32], cell: NDArray[np.float32], agreement: float = 1.0
) -> Found:
    """Cut two soft maps at one half into the map of a single cell."""
    nucleus = np.clip(nucleus, 0, 1)
    cell = np.clip(cell, 0, 1)
    inner = nucleus > 0.5
    labels = cellmap.encode((cell > 0.5) | inner, inner)
    return Found(nucleus, cell, labels, agreement if inner.any() else float("nan"))


def agreement_of(masks: list[NDArray[np.bool_]], majority: NDArray[np.bool_]) -> float:
    """Return the mean Dice of the voters with their majority.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([1, 1, 0, 0], bool); b = np.array([1, 0, 0, 0], bool)
    >>> round(agreement_of([a, a, b], a), 3)
    0.889
    """
    total = majority.sum()
    dice = [2 * (m & majority).sum() / max(m.sum() + total, 1) for m in masks]
    return float(np.mean(dice))
