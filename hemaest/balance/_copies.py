"""Which synthetic cells are copies: nearer to a training cell than unseen real cells come."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hemaest.balance._judges import NEAR, nearest

Points = NDArray[np.float64]

# of the spread of the training images: what rounding leaves between an image and itself
SAME = 1e-3


@dataclass
class Nearness:
    """How near one class comes to its training images.

    Parameters
    ----------
    unseen, synthetic : float arrays
        Distances of unseen real and of synthetic images to the nearest training image, as parts of
        what is usual for unseen ones; 0 for the same image.
    n_seen : int
        Real images that are training images too.
    """

    unseen: Points
    synthetic: Points
    n_seen: int = 0

    def copies(self, limit: float) -> NDArray[np.bool_]:
        """Return which synthetic images are nearer than a limit."""
        return self.synthetic < limit


def nearness(real: Points, synthetic: Points, training: Points) -> Nearness:
    """Return how near real and synthetic points of one class come to its training points.

    How far the nearest of n points is depends on n and on the class; as part of the median the
    distances of all classes spread alike, and can be pooled.

    Examples
    --------
    >>> real, training = np.array([[0.0], [3.0], [6.0]]), np.array([[1.0], [6.0]])
    >>> near = nearness(real, np.array([[1.75], [6.0]]), training)
    >>> near.synthetic, near.n_seen
    (array([0.5, 0. ]), 1)
    """
    if not len(training):
        return Nearness(np.empty(0), np.empty(0))
    own, made = (_distances(points, training) for points in (real, synthetic))
    unseen = own[own > 0]
    n_seen = len(own) - len(unseen)
    if len(unseen) < 2:
        return Nearness(np.empty(0), np.empty(0), n_seen)
    usual = np.median(unseen)
    return Nearness(unseen / usual, made / usual, n_seen)


def _distances(points: Points, training: Points) -> Points:
    spread = np.linalg.norm(training - training.mean(axis=0), axis=1).mean()
    apart = nearest(points, training)
    return np.where(apart <= SAME * spread, 0.0, apart)


def copy_limit(near: Iterable[Nearness]) -> tuple[float, float]:
    """Return below which distance an image is a copy, and how many are so by chance.

    The limit is the 1st percentile of unseen real images of all classes. Of m unseen images the
    k-th nearest has k of m + 1 further ones below it on the average, so the percentile is looked
    for at that place; with fewer than 99 it is the nearest, and chance is 1 of m + 1.

    Examples
    --------
    >>> thirty = Nearness(np.arange(1, 31) / 15, np.empty(0))
    >>> copy_limit([thirty]) == (1 / 15, 1 / 31)
    True
    """
    unseen = np.concatenate([np.empty(0), *(n.unseen for n in near)])
    if not len(unseen):
        return float("nan"), float("nan")
    limit = np.quantile(unseen, NEAR, method="weibull")
    return float(limit), max(NEAR, 1 / (len(unseen) + 1))
