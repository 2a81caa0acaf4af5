"""Near-duplicates among images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.images import check_images, iter_arrays


def near_duplicate_groups(X: Any) -> NDArray[np.intp]:
    """Return a group for each image; equal images share one.

    Parameters
    ----------
    X : images
        As :func:`hemaest.images.check_images` takes them.

    Returns
    -------
    groups : int array of shape (n_samples,)

    Examples
    --------
    >>> near_duplicate_groups(np.zeros((2, 4, 4, 3), np.uint8))
    array([0, 0])
    """
    keys: dict[tuple[Any, ...], int] = {}
    return np.array(
        [keys.setdefault((a.shape, a.tobytes()), len(keys)) for a in iter_arrays(check_images(X))]
    )
