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
    """Return how much each class needs help: 1 where half is missed or more, near 0 where nothing.

    A recall from few images is drawn toward one half, so that no class is trusted for 5 hits of 5;
    one that is not known (NaN) counts as one half.

    Examples
    --------
    >>> need([1.0, 0.9, 0.5, np.nan], [998, 998, 998, 10]).round(3)
    array([0.002, 0.202, 1.   , 1.   ])

    It falls with the recall, and five hits of five are less sure than fifty of fifty:

    >>> bool((np.diff(need(np.linspace(0.5, 1, 11), np.full(11, 20))) < 0).all())
    True
    >>> bool(need(1.0, 5) > need(1.0, 50))
    True
    """
    counts, recall = np.asarray(counts, dtype=float), np.asarray(recall, dtype=float)
    known = np.where(np.isnan(recall), 0.5, recall)
    misses = ((1 - known) * counts + 1) / (counts + 2)
    return np.minimum(1.0, 2 * misses)


def quotas(
    counts: ArrayLike, recall: ArrayLike | None = None, target: float = 1.0
) -> NDArray[np.intp]:
    """Return how many images to make of each class.

    Parameters
    ----------
    counts : int array
        Images of each class.
    recall : float array, optional
        What was recognized of each class on inner folds: the deficit is filled to the share that
        :func:`need` gives. By default it is filled.
    target : float, default=1.0
        Share of the largest class to fill up to.

    Examples
    --------
    >>> quotas([100, 10, 10]), quotas([100, 10, 10], [0.9, 1.0, 0.2])
    (array([ 0, 90, 90]), array([ 0, 15, 90]))

    What counts is the class's own recall, not that of the worst:

    >>> quotas([100, 10], [1.0, 0.0]), quotas([100, 10, 10], [0.99, 0.4, np.nan])
    (array([ 0, 90]), array([ 0, 90, 90]))
    >>> bool(quotas([100, 10], [1.0, 1.0])[1] == quotas([100, 10, 10], [1, 1, 0])[1])
    True
    """
    counts = np.asarray(counts)
    lacking = deficits(counts, target)
    if recall is None:
        return lacking
    return np.ceil(lacking * need(recall, counts)).astype(np.intp)
