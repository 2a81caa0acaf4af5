"""What compares real, synthetic and training images in the space of one encoder.

``generative_report`` calls :class:`ImageSets`. The measures below it also take the embeddings of
any other encoder: how alike two sets of points are, how varied, and which synthetic cells are
copies, that is, nearer to a training cell than unseen real cells come.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from hemaest.balance._judges import NEAR, nearest

__all__ = [
    "ImageSets",
    "copy_limit",
    "frechet_distance",
    "kernel_distance",
    "nearness",
    "pairs",
    "perceptual_distance",
    "structural_similarity",
    "support",
]

NEIGHBORS = 5

Points = NDArray[np.float64]
# of a class, for the variety of pairs
MOST_IMAGES = 200
# no label can be this one
ALL = object()
# of the spread of the training images: what rounding leaves between an image and itself
SAME = 1e-3


class ImageSets:
    """Three sets of images in the space of one encoder.

    Parameters
    ----------
    encoder : FittedEncoder or Inception
    sets : list of 3 uint8 arrays
        Real, synthetic, and training.
    labels : list of 3 arrays
        Of those.
    genuine : bool array
        Which of the real images are none of the training images.
    seed : int
        Of pairs and subsets.
    """

    def __init__(
        self,
        encoder: Any,
        sets: list[Any],
        labels: list[Any],
        genuine: NDArray[np.bool_],
        seed: int,
    ) -> None:
        self.encoder, self.sets, self.labels, self.seed = encoder, sets, labels, seed
        self.genuine = genuine
        self.features = [encoder.features(images) for images in sets[:2]]
        self.points = [encoder.invariant(images) for images in sets]
        self.classes = sorted(set(labels[0].tolist()) | set(labels[1].tolist()))
        self.near = {label: self._nearness(label) for label in self.classes}
        self.limit, self.by_chance = copy_limit(self.near.values())

    @property
    def n_seen(self) -> int:
        """How many real images are training images too."""
        return sum(near.n_seen for near in self.near.values())

    def rows(self, side: int, label: Any) -> NDArray[np.intp]:
        """Return the rows of one class of a set; all of them for ``ALL``."""
        labels = self.labels[side]
        return np.arange(len(labels)) if label is ALL else np.flatnonzero(labels == label)

    def table(self) -> list[dict[str, Any]]:
        """Return the values of each class, and of all together where there are several."""
        rows = [{"class": label} | self.row(label) for label in self.classes]
        if len(rows) == 1:
            return rows
        name = "all" if "all" not in self.classes else "all together"
        return [*rows, {"class": name} | self.row(ALL)]

    def row(self, label: Any) -> dict[str, Any]:
        """Return the values of one class."""
        real, synthetic = self.rows(0, label), self.rows(1, label)
        found: dict[str, Any] = {
            "real": len(real),
            "synthetic": len(synthetic),
        }
        if min(len(real), len(synthetic)) < 4:
            return found
        one, other = self.features[0][real], self.features[1][synthetic]
        kid = kernel_distance(one, other, self.seed)
        found |= {"fid": frechet_distance(one, other)}
        found |= dict(zip(("kid", "kid_low", "kid_high"), kid, strict=True))
        found |= support(one, other)
        found |= self._variety((real, synthetic))
        found["memorized"] = self._memorized(label)
        found["memorized_by_chance"] = self.by_chance
        return found

    def _variety(self, rows: tuple[NDArray[np.intp], NDArray[np.intp]]) -> dict[str, float]:
        found = {}
        for name, side in (("real", 0), ("synthetic", 1)):
            rng = np.random.default_rng([self.seed, side])
            # labels may be sorted: the first rows may be those of one class
            images = self.sets[side][rng.permutation(rows[side])[:MOST_IMAGES]]
            chosen = pairs(len(images), rng)
            found[f"ssim_{name}"] = structural_similarity(images, chosen)
            found[f"distance_{name}"] = perceptual_distance(self.encoder.maps(images), chosen)
        return found

    def _nearness(self, label: Any) -> Nearness:
        real, synthetic, training = (self.rows(side, label) for side in range(3))
        real = real[self.genuine[real]]
        return nearness(self.points[0][real], self.points[1][synthetic], self.points[2][training])

    def _memorized(self, label: Any) -> float:
        """Return the share of copies, each class against its own training images."""
        near = self.near.values() if label is ALL else [self.near[label]]
        flags = np.concatenate([n.copies(self.limit) for n in near])
        return float(flags.mean()) if len(flags) else float("nan")

    def images(self, label: Any, n: int) -> tuple[NDArray[np.uint8], ...]:
        """Return some real and synthetic cells, and the training cell nearest to each of those."""
        real, synthetic = (
            rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int)]
            for rows in (self.rows(0, label), self.rows(1, label))
        )
        near = self.rows(2, label)
        if len(near):
            apart = cdist(self.points[1][synthetic], self.points[2][near])
            near = near[apart.argmin(axis=1)]
        return self.sets[0][real], self.sets[1][synthetic], self.sets[2][near]


def frechet_distance(real: Points, synthetic: Points) -> float:
    """Return the FID of two sets of features, through torchmetrics.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(200, 4))
    >>> round(frechet_distance(points, points), 6)
    0.0
    """
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_as_they_are(real.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(synthetic), real=False)
    return max(0.0, float(metric.compute()))


def kernel_distance(
    real: Points, synthetic: Points, seed: int, n_subsets: int = 100
) -> tuple[float, float, float]:
    """Return the KID and its 95% interval, through torchmetrics.

    The scores of halves without replacement spread as the score of the whole set does (the
    delete-half jackknife), so their spread gives the interval.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(200, 4))
    >>> kid, low, high = kernel_distance(points[:100], points[100:] + 1, 0)
    >>> low < kid < high, low > 0
    (True, True)
    """
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    n = min(len(real), len(synthetic))
    rng = np.random.default_rng(seed)
    real, synthetic = (p[np.sort(rng.permutation(len(p))[:n])] for p in (real, synthetic))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features in memory
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_as_they_are(real.shape[1]), subsets=n_subsets, subset_size=max(2, n // 2)
        )
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(synthetic), real=False)
        mean, spread = (float(value) for value in metric.compute())
    return mean, mean - 1.96 * spread, mean + 1.96 * spread


def _as_they_are(n_features: int) -> Any:
    """Return the encoder that hands on what is already features."""
    from torch import nn

    identity = nn.Identity()
    identity.num_features = n_features  # type: ignore[assignment]
    return identity


def support(real: Points, synthetic: Points, k: int = NEIGHBORS) -> dict[str, float]:
    """Return precision, recall, density and coverage over balls of k-th neighbors.

    Precision is the share of synthetic points within the ball of any real one, recall the share
    of real points within the ball of any synthetic one; density counts how many real balls hold a
    synthetic point (over k), coverage the real balls that hold any.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 3))
    >>> support(points, points)["coverage"], support(points, points + 99)["precision"]
    (1.0, 0.0)
    """
    k = min(k, len(real) - 1, len(synthetic) - 1)
    if k < 1:
        return dict.fromkeys(("precision", "recall", "density", "coverage"), np.nan)
    real_radius = np.sort(cdist(real, real), axis=1)[:, k]
    synthetic_radius = np.sort(cdist(synthetic, synthetic), axis=1)[:, k]
    between = cdist(real, synthetic)
    inside = between <= real_radius[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between <= synthetic_radius[None]).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / k),
        "coverage": float(inside.any(axis=1).mean()),
    }


def pairs(n: int, rng: np.random.Generator, most: int = 200) -> NDArray[np.intp]:
    """Return pairs of different rows; none where there is one row.

    Examples
    --------
    >>> chosen = pairs(5, np.random.default_rng(0))
    >>> bool((chosen[:, 0] != chosen[:, 1]).all()), int(chosen.max())
    (True, 4)
    >>> len(pairs(1, np.random.default_rng(0)))
    0
    """
    if n < 2:
        return np.empty((0, 2), np.intp)
    first = rng.integers(n, size=most)
    return np.stack([first, (first + rng.integers(1, n, size=most)) % n], axis=1)


def structural_similarity(images: NDArray[np.uint8], chosen: NDArray[np.intp]) -> float:
    """Return the mean SSIM of pairs of images, through torchmetrics: 1 where all are one.

    Examples
    --------
    >>> images = np.full((2, 16, 16, 3), 9, np.uint8)
    >>> round(structural_similarity(images, np.array([[0, 1]])), 3)
    1.0
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if not len(chosen):
        return float("nan")
    one, other = (
        torch.from_numpy(images[chosen[:, i]]).permute(0, 3, 1, 2).float() / 255 for i in (0, 1)
    )
    found: Any = structural_similarity_index_measure(one, other, data_range=1.0)
    return float(found)


def perceptual_distance(maps: list[NDArray[np.float32]] | None, chosen: NDArray[np.intp]) -> float:
    """Return the mean distance of pairs over feature maps, as LPIPS does without its weights."""
    if maps is None or not len(chosen):
        return float("nan")
    each = [((m[chosen[:, 0]] - m[chosen[:, 1]]) ** 2).sum(axis=1).mean() for m in maps]
    return float(np.mean(each))


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
