"""Morphology: the shape of nucleus and cell, and how the one lies in the other."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hemaest.features._cells import CellFeatures, Family

RELATION_DEFINITIONS = {
    "nc_ratio": "nucleus_area / cell_area",
    "nc_diameter_ratio": "nucleus_feret_max / cell_feret_max",
    "nucleus_offset": "distance of the centroids of nucleus and cell / cell radius sqrt(A / pi)",
    "cytoplasm_area": "number of pixels of the cell that are not nucleus",
    "cytoplasm_width_min": "least distance from nucleus outline to cell outline / cell radius",
    "cytoplasm_width_mean": "mean distance from nucleus outline to cell outline / cell radius",
    "cytoplasm_width_max": "largest distance from nucleus outline to cell outline / cell radius",
    "nucleus_contact": "share of the nucleus outline that is within 1 pixel of the cell outline",
    "cell_cut": "cell pixels on the border of the image / cell_perimeter_crofton",
}


@cache
def shape_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every shape feature, in order."""
    from hemaest.features import _lobes, _outline, _region

    outline = {**_region.DEFINITIONS, **_outline.LOOP_DEFINITIONS, **_outline.FOURIER_DEFINITIONS}
    nucleus = {**outline, **_outline.INDENTATION_DEFINITIONS, **_lobes.DEFINITIONS}
    return {
        **{f"nucleus_{name}": f"nucleus: {text}" for name, text in nucleus.items()},
        **{f"cell_{name}": f"nucleus and cytoplasm: {text}" for name, text in outline.items()},
        **RELATION_DEFINITIONS,
    }


def measure_shape(
    image: NDArray[np.uint8], k: int, box: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Write the shape features of cell ``k``."""
    from hemaest.features._shape_kernel import shape

    shape(image, k, box, out)


@cache
def shape_family() -> Family:
    """Return the shape family."""
    return Family(shape_definitions(), measure_shape)


class MorphologyFeatures(CellFeatures):
    """Shape of nucleus and cell, N:C ratio and lobes, from the cell map alone.

    ``nc_ratio`` is nucleus area / cell area. Lengths are in pixels and areas in pixel counts;
    ratios have no unit. What scikit-image's ``regionprops`` computes too has its value to 1e-9
    (both perimeters, axes, eccentricity, extent, solidity, Euler number, Hu moments); the Feret
    diameters are those of the true convex hull, not of its pixels.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        Which cells of a map to measure: the one nearest to the middle, or all of them, summed up
        as count, area-weighted mean, spread and maximum.
    n_jobs : int, optional
        Threads; None means all that are available.

    See Also
    --------
    HandcraftedFeatures : Shape, chromatin and colour at once.

    Notes
    -----
    The flags ``cell_missing`` and ``nucleus_missing`` are 1 where there is nothing to measure; the
    features of what is missing are NaN. :meth:`table` with ``per_cell=True`` gives every cell.

    Examples
    --------
    A nucleus of 8 x 8 in a cell of 16 x 16:

    >>> import numpy as np
    >>> from hemaest.features import MorphologyFeatures
    >>> image = np.zeros((24, 24, 4), np.uint8)
    >>> image[4:20, 4:20, 3] = 1
    >>> image[8:16, 8:16, 3] = 2
    >>> shape = MorphologyFeatures().set_output(transform="pandas")
    >>> row = shape.fit_transform(image[None]).iloc[0]
    >>> row[["nc_ratio", "nucleus_area", "cytoplasm_area", "nucleus_lobe_count"]].tolist()
    [0.25, 64.0, 192.0, 1.0]
    """

    def _families(self) -> list[Family]:
        return [shape_family()]
