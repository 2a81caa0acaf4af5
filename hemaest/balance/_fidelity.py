"""Figures that compare two sets of points: how alike, how varied."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

NEIGHBOURS = 5

Points = NDArray[np.float64]


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


def support(real: Points, synthetic: Points, k: int = NEIGHBOURS) -> dict[str, float]:
    """Return precision, recall, density and coverage over balls of k-th neighbours.

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
    """Return pairs of different rows."""
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
