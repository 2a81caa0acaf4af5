"""Cell maps: the one place that knows how nuclei and cytoplasm are coded in a map.

A cell map is an array of unsigned integers with the shape of its image: 0 is background, cell
``k`` (counted from 1) has cytoplasm ``2k - 1`` and nucleus ``2k``. As the fourth channel of an
image it is uint8 and holds at most 127 cells; a map of a whole field may be wider. Segmenters
write maps; features, cropping and figures read them. All of them call the functions of this module.

Examples
--------
>>> import numpy as np
>>> labels = np.array([[0, 1, 2, 1], [0, 3, 4, 4]], np.uint8)
>>> n_cells(labels)
2
>>> areas(labels)
      nucleus_area  cytoplasm_area  cell_area
cell
1                1               2          3
2                2               1          3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MAX_CELLS",
    "areas",
    "cells",
    "check",
    "codes",
    "cytoplasm",
    "encode",
    "first_cells",
    "n_cells",
    "nuclei",
    "select",
]

# of a map of 8 bits
MAX_CELLS = 127

Labels = NDArray[np.unsignedinteger[Any]]


def codes(cell: int) -> tuple[int, int]:
    """Return the values that stand for the cytoplasm and the nucleus of a cell.

    For compiled loops, which cannot call the other functions of this module.

    Parameters
    ----------
    cell : int
        The number of the cell, from 1.

    Returns
    -------
    cytoplasm, nucleus : int

    Examples
    --------
    >>> codes(1), codes(2)
    ((1, 2), (3, 4))
    """
    return 2 * cell - 1, 2 * cell


def encode(cells: ArrayLike, nuclei: ArrayLike) -> Labels:
    """Return the cell map of cells and their nuclei.

    Parameters
    ----------
    cells : bool or int array
        The number of the cell that each pixel belongs to, nucleus and cytoplasm, 0 for none. A
        mask means a single cell.
    nuclei : bool array of the same shape
        Where nuclei are. Outside of all cells it is ignored.

    Returns
    -------
    labels : uint8 array, uint16 or uint32 for more than 127 or 32,767 cells

    Examples
    --------
    >>> import numpy as np
    >>> encode(np.array([0, 1, 1, 2]), np.array([False, False, True, True]))
    array([0, 1, 2, 4], dtype=uint8)
    """
    numbers, inner = np.asarray(cells), np.asarray(nuclei)
    if numbers.shape != inner.shape:
        raise ValueError(
            f"cells has shape {numbers.shape} and nuclei {inner.shape}; both have the shape of "
            "the image."
        )
    if numbers.dtype.kind not in "biu" or numbers.min(initial=0) < 0:
        raise ValueError("cells holds the number of each pixel's cell: integers from 0, or a mask.")
    if inner.dtype != bool:
        raise ValueError(f"nuclei is {inner.dtype}; it must be a mask (bool).")
    kind = _dtype_for(int(numbers.max(initial=0)))
    values = numbers.astype(kind)
    return np.where(values > 0, 2 * values - 1 + inner, 0).astype(kind)


def _dtype_for(n: int) -> Any:
    """Return the narrowest type that holds n cells."""
    return np.min_scalar_type(max(2 * n, 1))


def nuclei(labels: Labels) -> NDArray[np.bool_]:
    """Return the mask of all nuclei.

    Parameters
    ----------
    labels : unsigned integer array
        A cell map.

    Returns
    -------
    mask : bool array

    Examples
    --------
    >>> import numpy as np
    >>> nuclei(np.array([0, 1, 2, 3, 4], np.uint8))
    array([False, False,  True, False,  True])
    """
    return (labels > 0) & (labels % 2 == 0)


def cytoplasm(labels: Labels) -> NDArray[np.bool_]:
    """Return the mask of the cytoplasm of all cells.

    Parameters
    ----------
    labels : unsigned integer array
        A cell map.

    Returns
    -------
    mask : bool array

    Examples
    --------
    >>> import numpy as np
    >>> cytoplasm(np.array([0, 1, 2, 3, 4], np.uint8))
    array([False,  True, False,  True, False])
    """
    return labels % 2 == 1


def cells(labels: Labels) -> Labels:
    """Return the number of the cell that each pixel belongs to, 0 for background.

    Parameters
    ----------
    labels : unsigned integer array
        A cell map.

    Returns
    -------
    numbers : array of the type of `labels`

    Examples
    --------
    >>> import numpy as np
    >>> cells(np.array([0, 1, 2, 3, 4], np.uint8))
    array([0, 1, 1, 2, 2], dtype=uint8)
    """
    # a sum with 1 could leave the range of the type
    return labels // 2 + labels % 2


def n_cells(labels: Labels) -> int:
    """Return how many cells a map holds; numbers that do not occur are not counted.

    Parameters
    ----------
    labels : unsigned integer array
        A cell map.

    Returns
    -------
    n : int

    Examples
    --------
    >>> import numpy as np
    >>> n_cells(np.array([[0, 1, 2], [0, 0, 6]], np.uint8))
    2
    """
    return int(np.count_nonzero(np.bincount(cells(labels).ravel())[1:]))


def select(labels: Labels, cell: int) -> NDArray[np.uint8]:
    """Return the map of one cell alone, as cell 1.

    Parameters
    ----------
    labels : unsigned integer array
        A cell map.
    cell : int
        The number of the cell; one that does not occur gives an empty map.

    Returns
    -------
    labels : uint8 array

    Examples
    --------
    >>> import numpy as np
    >>> select(np.array([[0, 1, 2], [3, 4, 4]], np.uint8), 2)
    array([[0, 0, 0],
           [1, 2, 2]], dtype=uint8)
    """
    own = cells(labels) == cell if cell > 0 else np.zeros(labels.shape, bool)
    return encode(own, nuclei(labels)).astype(np.uint8, copy=False)


def first_cells(labels: Labels) -> NDArray[np.uint8]:
    """Return the map without the cells that do not fit into 8 bits, as uint8.

    Parameters
    ----------
    labels : unsigned integer array
        A cell map.

    Returns
    -------
    labels : uint8 array

    Examples
    --------
    >>> import numpy as np
    >>> first_cells(np.array([0, 2, 254, 255], np.uint16))
    array([  0,   2, 254,   0], dtype=uint8)
    """
    return np.where(cells(labels) > MAX_CELLS, 0, labels).astype(np.uint8)


def areas(labels: Labels) -> pd.DataFrame:
    """Count the pixels of each cell.

    Parameters
    ----------
    labels : unsigned integer array (h, w)
        A cell map.

    Returns
    -------
    table : DataFrame
        ``nucleus_area``, ``cytoplasm_area`` and ``cell_area`` (their sum), one row for each cell
        that occurs, indexed by its number.

    Examples
    --------
    >>> import numpy as np
    >>> table = areas(np.array([[0, 5, 6, 6]], np.uint8))
    >>> table.loc[3].to_dict()
    {'nucleus_area': 2, 'cytoplasm_area': 1, 'cell_area': 3}
    """
    import pandas as pd

    numbers = cells(labels)
    count = np.bincount(numbers.ravel())
    inner = np.bincount(numbers[nuclei(labels)], minlength=len(count))
    found = np.flatnonzero(count[1:]) + 1
    count, inner = count[found], inner[found]
    return pd.DataFrame(
        {"nucleus_area": inner, "cytoplasm_area": count - inner, "cell_area": count},
        index=pd.Index(found, name="cell"),
    )


def check(labels: Any, *, shape: tuple[int, ...] | None = None, name: str = "labels") -> Labels:
    """Return a cell map as an array of unsigned integers; refuse what is none.

    Parameters
    ----------
    labels : array
        Integers from 0, or a mask (True is then cytoplasm of one cell).
    shape : tuple of int, optional
        The shape that it must have: that of its image.
    name : str, default="labels"
        Named in errors.

    Returns
    -------
    labels : unsigned integer array
        uint8 where the values allow.

    Raises
    ------
    ValueError
        For another shape, negative or broken values, and for what looks like an alpha channel: a
        map is made of regions, alpha is full or changes from pixel to pixel.

    Examples
    --------
    >>> import numpy as np
    >>> check([[0, 1], [2, 2]])
    array([[0, 1],
           [2, 2]], dtype=uint8)
    >>> check(np.full((4, 4), 255, np.uint8))
    Traceback (most recent call last):
    ...
    ValueError: labels looks like alpha (it holds 255)...
    """
    labels = np.asarray(labels)
    if shape is not None and labels.shape != tuple(shape):
        raise ValueError(f"{name} has shape {labels.shape}, its image {tuple(shape)}.")
    if labels.dtype.kind not in "biu":
        raise ValueError(f"{name} is {labels.dtype}; a cell map holds integers.")
    low = int(labels.min(initial=0)) if labels.dtype.kind == "i" else 0
    top = int(labels.max(initial=0))
    if low < 0:
        raise ValueError(f"{name} holds values from {low} to {top}; a cell map holds {_RULE}.")
    if labels.dtype.kind != "u":
        labels = labels.astype(np.min_scalar_type(top))
    if labels.dtype == np.uint8 and top > codes(1)[1]:
        _refuse_alpha(labels, top, name)
    return labels


_RULE = (
    "0 (background), 1 (cytoplasm), 2 (nucleus), and 2k-1, 2k for cell k (at most 127 in 8 bits)"
)


def _refuse_alpha(labels: NDArray[np.uint8], top: int, name: str) -> None:
    """Refuse a fourth channel that is no cell map, above all an alpha channel."""
    rule = f"a cell map holds {_RULE}; alpha is dropped with image[..., :3]"
    if top > codes(MAX_CELLS)[1]:
        raise ValueError(f"{name} looks like alpha (it holds {top}); {rule}.")
    # a map is made of regions; an alpha ramp or noise has a new value at nearly every pixel
    if labels.size >= 64:
        steps = np.count_nonzero(labels[:, 1:] != labels[:, :-1]) / max(labels[:, 1:].size, 1)
        falls = np.count_nonzero(labels[1:] != labels[:-1]) / max(labels[1:].size, 1)
        if max(steps, falls) > 0.75 or labels.min() == top:
            raise ValueError(f"{name} looks like alpha; {rule}.")
