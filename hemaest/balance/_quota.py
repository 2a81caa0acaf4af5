"""How many images to make of each class: its deficit, less where it is recognized anyway."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def deficits(counts: ArrayLike, target: float = 1.0) -> NDArray[np.intp]:
    """Return how many images each class lacks to a share of the largest one.

    Examples
    --------
    >>> deficits([100, 40, 90], 0.5)
    array([ 0, 10,  0])
    """
    counts = np.asarray(counts)
    wanted = np.ceil(target * counts.max())
    return np.maximum(wanted - counts, 0).astype(np.intp)


def need(recall: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Return how much each class needs help, 0 to 1: its misses among those of the worst class.

    A recall from few images is drawn toward one half, so that no class is trusted for 5 hits of 5.

    Examples
    --------
    >>> need([1.0, 0.5], [998, 998]).round(3)
    array([0.002, 1.   ])
    """
    counts = np.asarray(counts, dtype=float)
    misses = ((1 - np.asarray(recall)) * counts + 1) / (counts + 2)
    return misses / misses.max()


def quotas(
    counts: ArrayLike, recall: ArrayLike | None = None, target: float = 1.0
) -> NDArray[np.intp]:
    """Return how many images to make of each class.

    Parameters
    ----------
    counts : int array
        Images of each class.
    recall : float array, optional
        What was recognized of each class on inner folds; the need is measured among the classes
        that lack images. By default every deficit is filled.
    target : float, default=1.0
        Share of the largest class to fill up to.

    Examples
    --------
    >>> quotas([100, 10, 10]), quotas([100, 10, 10], [0.9, 0.8, 0.2])
    (array([ 0, 90, 90]), array([ 0, 30, 90]))
    """
    counts = np.asarray(counts)
    lacking = deficits(counts, target)
    if recall is None or not lacking.any():
        return lacking
    short = lacking > 0
    share = np.zeros(len(counts))
    share[short] = need(np.asarray(recall)[short], counts[short])
    return np.ceil(lacking * share).astype(np.intp)
