"""Normalization by optical density: two stains, their concentrations, one 3 x 3 operator."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest._color import stain_basis, with_normal
from hemaest.base import StrOptions
from hemaest.stain._kernels import DENSITY_LIMITS, Pixels, flatten, kernels, limits
from hemaest.stain._normalizer import StainNormalizer, Statistics

PERCENTILE = 99.0
ALIKE = 0.05  # sine of the smallest angle between two stains
SPREAD = 1e-4  # smallest variance across the plane of the stains
FLOOR = 0.02  # of a maximal concentration
CAP = 4.0  # of a gain
# concentrations are counted in bins of equal ratio: 2**-7 to 2**7, 2048 bins an octave
LOW, SHIFT, BINS = np.float32(2.0**-7), 12, 14 << 11


def density_moments(
    pixels: Sequence[Pixels],
) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    """Return count, mean and covariance of the optical densities of a pool of pixels."""
    sums = np.sum([kernels().density_moments(*p) for p in pixels], axis=0)
    n = int(sums[0])
    if n == 0:
        return 0, np.zeros(3), np.zeros((3, 3))
    mean = sums[1:4] / n
    covariance = np.zeros((3, 3))
    covariance[np.triu_indices(3)] = sums[4:] / n - np.outer(mean, mean)[np.triu_indices(3)]
    return n, mean, covariance + np.triu(covariance, 1).T


def quantiles(
    counts: NDArray[Any], n: int, shares: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the bins below and above each quantile of n counts, and the way between them.

    These are the bins of the two order statistics, so few pixels that lie far apart are no
    different from many.
    """
    ranks = (n - 1) * np.asarray(shares)
    lower = np.floor(ranks).astype(np.int64)
    upper = np.ceil(ranks).astype(np.int64)
    places = kernels().at_ranks(counts, np.stack([lower, upper], axis=1).ravel()).reshape(-1, 2)
    return places.T, ranks - lower


def pooled(counts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the sum of histograms, which need not fit 32 bits."""
    return counts[0] if len(counts) == 1 else np.sum(counts, axis=0, dtype=np.int64)


def max_concentrations(pixels: Sequence[Pixels], basis: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 99th percentiles of the two concentrations of a pool of pixels."""
    unmix = np.zeros((3, 3), np.float32)
    unmix[:2] = np.linalg.inv(with_normal(basis)).T[:2]
    k = kernels()
    counts = pooled([k.concentration_counts(*p, unmix, LOW, SHIFT, BINS) for p in pixels])
    n = sum(p.n for p in pixels)
    first = int(LOW.view(np.int32)) >> SHIFT
    result = []
    for count in counts:
        places, share = quantiles(count, n, [PERCENTILE / 100])
        middle = ((places[:, 0] + first) << SHIFT) + (1 << (SHIFT - 1))
        ends = middle.astype(np.int32).view(np.float32).astype(np.float64)
        result.append(ends[0] + share[0] * (ends[1] - ends[0]))
    return np.array(result)


def ordered(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two unit stain vectors that point to density; the one that takes up red comes first.

    That is the nuclear stain: methylene blue and azure as well as haematoxylin.
    """
    vectors = vectors * np.where(vectors.sum(axis=1, keepdims=True) < 0, -1, 1)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors[np.argsort(-vectors[:, 0], kind="stable")]


def density_operator(source: Statistics, target: Statistics, residual: str) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix that takes densities of the source to those of the target.

    The target's stain vectors stand in for the source's; a concentration is scaled so that its
    99th percentile is the target's; what lies off the plane of the stains is kept or dropped.
    """
    gain = np.maximum(target["concentrations"], FLOOR) / np.maximum(source["concentrations"], FLOOR)
    scale = np.array([*np.minimum(gain, CAP), 1.0 if residual == "keep" else 0.0])
    from_, to = with_normal(source["basis"]).T, with_normal(target["basis"]).T
    return to @ (scale[:, None] * np.linalg.inv(from_))


class OpticalNormalizer(StainNormalizer):
    """Template of the normalizers by optical density; a leaf learns the two stain vectors."""

    _shapes: ClassVar[dict[str, tuple[int, ...]]] = {"basis": (2, 3), "concentrations": (2,)}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "residual": [StrOptions({"keep", "drop"})],
        **StainNormalizer._parameter_constraints,
    }

    residual: Literal["keep", "drop"]

    @abstractmethod
    def _basis(
        self, pixels: Sequence[Pixels], mean: NDArray[Any], main: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return two stain vectors as rows, of densities with this mean and main directions."""

    def _fixed_basis(self) -> NDArray[np.float64] | None:
        """Return the stain vectors where they are given and not learned."""
        return None

    def _measure(self, pixels: Sequence[Pixels]) -> tuple[Statistics, bool]:
        fixed = self._fixed_basis()
        n, mean, covariance = density_moments(pixels)
        nothing = {"basis": np.zeros((2, 3)), "concentrations": np.zeros(2)}
        if n < 3:
            return nothing, True
        if fixed is None:
            variances, directions = np.linalg.eigh(covariance)
            if variances[1] < SPREAD:
                return nothing, True
            basis = self._basis(pixels, mean, directions[:, :0:-1].T)
            if 1 - (basis[0] @ basis[1]) ** 2 < ALIKE**2:
                return nothing, True
        else:
            basis = fixed
        concentrations = max_concentrations(pixels, basis)
        degenerate = bool((concentrations < FLOOR).all())
        return {"basis": basis, "concentrations": concentrations}, degenerate

    def _complete(self, statistics: Statistics, pixels: Sequence[Pixels]) -> Statistics:
        assert self.target_ is not None
        if sum(p.n for p in pixels) < 3:
            return self.target_
        basis = self.target_["basis"]
        return {"basis": basis, "concentrations": max_concentrations(pixels, basis)}

    def _mean(self, stacked: Statistics) -> Statistics:
        mean = super()._mean(stacked)
        mean["basis"] /= np.linalg.norm(mean["basis"], axis=1, keepdims=True)
        return mean

    def _read(self, numbers: dict[str, Any]) -> Statistics:
        statistics = super()._read(numbers)
        statistics["basis"] = stain_basis(statistics["basis"])[:2]
        return statistics

    def _paint(
        self, image: NDArray[np.uint8], source: Statistics, target: Statistics
    ) -> NDArray[np.uint8]:
        matrix = density_operator(source, target, self.residual).astype(np.float32)
        near, far = limits(self.mask, self.preserve_background, DENSITY_LIMITS)
        flat, step, _ = flatten(image)
        out = np.empty_like(flat)
        kernels().apply_density(flat, step, matrix, np.zeros(3, np.float32), near, far, out)
        return out.reshape(image.shape)
