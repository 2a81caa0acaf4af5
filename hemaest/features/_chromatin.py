"""Chromatin and cytoplasm texture: co-occurrence, binary patterns, granularity, clumps."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from hemaest.features._cells import CellFeatures, Family


@cache
def chromatin_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every texture feature, in order."""
    from hemaest.features._chromatin_kernel import definitions

    return definitions()


def measure_chromatin(
    image: NDArray[np.uint8], k: int, box: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Write the texture features of cell ``k``."""
    from hemaest.features._chromatin_kernel import texture

    texture(image, k, box, out)


@cache
def chromatin_family() -> Family:
    """Return the chromatin family."""
    return Family(chromatin_definitions(), measure_chromatin)


class ChromatinTexture(CellFeatures):
    """Texture of nucleus and cytoplasm inside their true masks.

    The picture is the green channel, where the dyes of blood stains absorb most. Grey levels are
    fixed (32 levels of 8 values), so a feature means the same in every image. Co-occurrence
    (4 angles, distances 1, 3 and 5) and uniform binary patterns have the values of scikit-image
    to 1e-9; entropies and information measures use natural logarithms. Of a cell that is cut off
    by the border of the image, the picture beyond repeats its edge.

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

    Examples
    --------
    A flat nucleus has no contrast and no entropy:

    >>> import numpy as np
    >>> from hemaest.features import ChromatinTexture
    >>> image = np.full((24, 24, 4), 90, np.uint8)
    >>> image[..., 3] = 0
    >>> image[4:20, 4:20, 3] = 2
    >>> texture = ChromatinTexture().set_output(transform="pandas")
    >>> row = texture.fit_transform(image[None]).iloc[0]
    >>> row[["nucleus_glcm_contrast_d1_mean", "nucleus_grey_entropy"]].tolist()
    [0.0, 0.0]
    """

    def _families(self) -> list[Family]:
        return [chromatin_family()]
