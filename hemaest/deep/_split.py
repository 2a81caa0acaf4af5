"""Hold out a part of the training images so that nothing of it is also trained on."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hemaest.groups import check_groups, grouped_holdout
from hemaest.images import ImageRef


def copy_codes(X: NDArray[Any]) -> NDArray[np.intp]:
    """Return a number for each image, the same for exact copies.

    A sampler in front of an estimator may have made copies; they must not lie on both sides of a
    split. A file counts by its path.

    Examples
    --------
    >>> copy_codes(np.array([0, 9, 0], np.uint8).reshape(3, 1, 1, 1))
    array([0, 1, 0])
    """
    seen: dict[Any, int] = {}
    keys = (
        image
        if isinstance(image, ImageRef)
        else hashlib.sha1(np.ascontiguousarray(image).tobytes()).digest()
        for image in X
    )
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def join_groups(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the finest groups that tear neither a group of ``a`` nor one of ``b``.

    Examples
    --------
    >>> join_groups(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
    array([0, 0, 0, 1])
    """
    n_a, n_b = a.max() + 1, b.max() + 1
    links = coo_array((np.ones(len(a)), (a, n_a + b)), shape=(n_a + n_b, n_a + n_b))
    parts = connected_components(links, directed=False)[1][a]
    return np.unique(parts, return_inverse=True)[1]


def hold_out(
    X: NDArray[Any], y: NDArray[Any], groups: Any, fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows into (training, held out) by group; exact copies stay together too.

    Parameters
    ----------
    X : array
        Checked images.
    y : array
        Labels, to balance.
    groups : array-like or None
        Patients, smears.
    fraction : float
        Share to hold out.
    seed : int
        Decides which.
    """
    if len(X) < 2:
        raise ValueError(
            "early_stopping=True holds images out, but there is only 1 sample; set "
            "early_stopping=False."
        )
    codes = copy_codes(X)
    given = check_groups(groups, len(X))
    joined = codes if given is None else join_groups(given, codes)
    try:
        return grouped_holdout(y, joined, fraction, random_state=seed)
    except ValueError as error:
        raise ValueError(
            f"nothing can be held out for early_stopping: {error} Or set early_stopping=False."
        ) from error
