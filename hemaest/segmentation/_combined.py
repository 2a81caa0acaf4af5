"""Two methods that err differently, averaged: the voters and the network."""

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._cytoplasm import filled, touching
from hemaest.segmentation._found import Found, one_cell

Mask = NDArray[np.bool_]

# below this overlap the two methods speak of different cells
SAME_CELL = 0.4


def combine(voters: Found, network: Found) -> Found:
    """Return the mean of two results for the central cell of one image.

    The agreement is the worse of that between the nuclei and that between the cells: it tells good
    maps from bad ones far better than the agreement among the voters, who err together. Where
    only one method found a cell, or each found another, the agreement is low and the network's
    cell is taken.
    """
    if not voters.labels.any() or not network.labels.any():
        one = network if network.labels.any() else voters
        return Found(one.nucleus, one.cell, one.labels, 0.0 if one.labels.any() else float("nan"))
    cells = dice(voters.labels > 0, network.labels > 0)
    if cells < SAME_CELL:
        return Found(network.nucleus, network.cell, network.labels, cells)
    nuclei = dice(voters.labels == 2, network.labels == 2)
    agreement = min(cells, nuclei)
    nucleus = 0.5 * (voters.nucleus + network.nucleus)
    cell = 0.5 * (voters.cell + network.cell)
    return tidy(nucleus, cell, agreement)


def tidy(nucleus: NDArray[np.float32], cell: NDArray[np.float32], agreement: float) -> Found:
    """Leave one cell without holes, and a nucleus without specks and pinholes."""
    inner = nucleus > 0.5
    if not inner.any():
        return one_cell(nucleus, cell, agreement)
    inner = without_specks(inner, 0.04)
    inner = ~without_specks(~inner, 0.04, of=inner.sum())
    whole = filled(touching((cell > 0.5) | inner, inner))
    nucleus = np.where(inner, np.maximum(nucleus, 0.501), np.minimum(nucleus, 0.5))
    cell = np.where(whole, np.maximum(cell, 0.501), np.minimum(cell, 0.5))
    return one_cell(nucleus.astype(np.float32), cell.astype(np.float32), agreement)


def without_specks(mask: Mask, share: float, of: float | None = None) -> Mask:
    """Drop components smaller than a share of the largest one (or of ``of`` pixels).

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((9, 9), bool); mask[:6, :6] = mask[8, 8] = True
    >>> int(without_specks(mask, 0.1).sum())
    36
    """
    import cv2

    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if n < 2:
        return mask
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    area[0] = 0
    return (area >= share * (area.max() if of is None else of))[labels] & mask


def dice(a: Mask, b: Mask) -> float:
    """Return the overlap of two masks: 1 for equal ones, also where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0
