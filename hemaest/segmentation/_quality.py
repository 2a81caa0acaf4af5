"""What speaks against a cell map."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest.segmentation._found import Found

# shares of the image that a leukocyte and its nucleus take in a crop around one cell
NUCLEUS_RANGE = (0.01, 0.75)
CELL_RANGE = (0.02, 0.9)
MIN_AGREEMENT = 0.75
MAX_BORDER = 0.1


def judge(found: Found) -> dict[str, Any]:
    """Return one row of the quality table."""
    nucleus = cellmap.nuclei(found.labels)
    cell = found.labels > 0
    n_cells = cellmap.n_cells(found.labels)
    areas = int(nucleus.sum()), int(cell.sum())
    fractions = areas[0] / nucleus.size, areas[1] / cell.size
    border = border_share(cell)
    agreement = found.agreement
    problems = []
    if n_cells == 0:
        problems.append("nothing found")
    else:
        if n_cells == 1 and not NUCLEUS_RANGE[0] <= fractions[0] <= NUCLEUS_RANGE[1]:
            problems.append("nucleus area outside the plausible range")
        if n_cells == 1 and not CELL_RANGE[0] <= fractions[1] <= CELL_RANGE[1]:
            problems.append("cell area outside the plausible range")
        if agreement < MIN_AGREEMENT:
            problems.append("the methods disagree")
        if n_cells == 1 and border > MAX_BORDER:
            problems.append("touches the border")
    return {
        "trusted": not problems,
        "problems": "; ".join(problems),
        "n_cells": n_cells,
        "nucleus_fraction": fractions[0],
        "cell_fraction": fractions[1],
        "nc_ratio": areas[0] / areas[1] if areas[1] else float("nan"),
        "agreement": agreement,
        "border_share": border,
    }


def border_share(cell: NDArray[np.bool_]) -> float:
    """Return the part of the image's edge that the cell covers."""
    edge = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
    return float(edge.mean())
