"""Normalization by optical density: two stains, their concentrations, one 3 x 3 operator."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest._color import stain_basis, with_normal
from hemaest.base import StrOptions
from hemaest.stain._kernels import (
    DENSITY_LIMITS,
    Pixels,
    flatten,
    kernels,
    limits,
    select,
)
from hemaest.stain._normalizer import StainNormalizer, Statistics, moments, pooled

HIGH = np.array([0.99])  # the quantile that counts as the strongest
ALIKE = 0.05  # sine of the smallest angle between two stains
SPREAD = 1e-4  # smallest variance across the plane of the stains
FLOOR = 0.02  # of a maximal concentration
CAP = 4.0  # of a gain
# concentrations are counted in bins of equal ratio: 2**-7 to 2**7, 1024 bins an octave
LOW, SHIFT, BINS = np.float32(2.0**-7), 13, 14 << 10


def quantiles(
    counts: NDArray[Any], n: int, shares: NDArray[Any]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    """Return the bins below and above each quantile of n counts, and the way between them.

    These are the bins of the two order statistics, so few pixels that lie far apart are no
    different from many.
    """
    ranks = (n - 1) * shares
    return kernels().at_ranks(counts, ranks), ranks % 1


def max_concentrations(pixels: Sequence[Pixels], basis: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 99th percentiles of the two concentrations of a pool of pixels."""
    unmix = np.zeros((3, 3), np.float32)
    unmix[:2] = np.linalg.inv(with_normal(basis)).T[:2]
    k = kernels()
    counts = pooled(
        [
            k.concentration_counts(*p.where, unmix, -unmix @ p.light, LOW, SHIFT, BINS)
            for p in pixels
        ]
    )
    n = sum(p.n for p in pixels)
    first = int(LOW.view(np.int32)) >> SHIFT
    result = []
    for count in counts:
        places, share = quantiles(count, n, HIGH)
        middle = ((np.concatenate(places) + first) << SHIFT) + (1 << (SHIFT - 1))
        low, high = middle.astype(np.int32).view(np.float32).tolist()
        result.append(low + share[0] * (high - low))
    return np.array(result)


def ordered(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two unit stain vectors that point to density; the nuclear stain comes first.

    It takes up more red and less blue: so do azure, methylene blue and haematoxylin beside eosin,
    and, unlike by red alone, beside the haemoglobin of grey red cells. A mean of many images'
    stains makes sense only where all are in one order.
    """
    vectors = vectors * np.where(vectors.sum(axis=1, keepdims=True) < 0, -1, 1)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors[np.argsort(vectors[:, 2] - vectors[:, 0], kind="stable")]


def density_operator(source: Statistics, target: Statistics, residual: str) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix that takes densities of the source to those of the target.

    The target's stain vectors stand in for the source's; a concentration is scaled so that its
    99th percentile is the target's; what lies off the plane of the stains is kept or dropped.
    """
    if _swapped(source["basis"], target["basis"]):
        source = {k: v[::-1] for k, v in source.items()}
    gain = np.maximum(target["concentrations"], FLOOR) / np.maximum(source["concentrations"], FLOOR)
    scale = np.array([*np.minimum(gain, CAP), 1.0 if residual == "keep" else 0.0])
    from_, to = with_normal(source["basis"]).T, with_normal(target["basis"]).T
    return to @ (scale[:, None] * np.linalg.inv(from_))


def _swapped(source: NDArray[Any], target: NDArray[Any]) -> bool:
    """Return whether the stains of the source look like those of the target in reverse order.

    Two stains that are much alike may be told apart one way here and the other way there.
    """
    alike = source @ target.T
    return bool(alike[0, 1] + alike[1, 0] > alike[0, 0] + alike[1, 1])


class OpticalNormalizer(StainNormalizer):
    """Template of the normalizers by optical density; a leaf learns the two stain vectors."""

    _shapes: ClassVar[dict[str, tuple[int, ...]]] = {
        "basis": (2, 3),
        "concentrations": (2,),
        "light": (3,),
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "residual": [StrOptions({"keep", "drop"})],
        "light": [StrOptions({"image", "white"})],
        **StainNormalizer._parameter_constraints,
    }

    residual: Literal["keep", "drop"]
    light: Literal["image", "white"]

    @abstractmethod
    def _basis(
        self, pixels: Sequence[Pixels], mean: NDArray[Any], main: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return two stain vectors as rows, of densities with this mean and main directions."""

    def _fixed_basis(self) -> NDArray[np.float64] | None:
        """Return the stain vectors where they are given and not learned."""
        return None

    def _select(self, image: NDArray[np.uint8]) -> Pixels:
        return select(image, self.mask, find_light=self.light == "image")

    def _measure(self, pixels: Sequence[Pixels]) -> tuple[Statistics, bool]:
        fixed = self._fixed_basis()
        sums = [kernels().density_moments(*p.where, p.light) for p in pixels]
        n, mean, covariance = moments(pooled(sums))
        parts = [p.n / n if n else 1 / len(pixels) for p in pixels]
        light = np.array(parts) @ np.array([p.light for p in pixels], np.float64)
        nothing = {"basis": np.zeros((2, 3)), "concentrations": np.zeros(2), "light": light}
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
        measured = {"basis": basis, "concentrations": concentrations, "light": light}
        return measured, degenerate

    def _complete(self, statistics: Statistics, pixels: Sequence[Pixels]) -> Statistics:
        assert self.target_ is not None
        if sum(p.n for p in pixels) < 3:
            return {**self.target_, "light": statistics["light"]}
        basis = self.target_["basis"]
        return {**statistics, "basis": basis, "concentrations": max_concentrations(pixels, basis)}

    def _mean(self, stacked: Statistics) -> Statistics:
        mean = super()._mean(stacked)
        mean["basis"] /= np.linalg.norm(mean["basis"], axis=1, keepdims=True)
        return mean

    def _read(self, numbers: dict[str, Any]) -> Statistics:
        statistics = super()._read(numbers)
        statistics["basis"] = stain_basis(statistics["basis"])[:2]
        return statistics

    def _paint(
        self,
        image: NDArray[np.uint8],
        source: Statistics,
        target: Statistics,
        out: NDArray[np.uint8],
    ) -> None:
        matrix = density_operator(source, target, self.residual)
        # a slide's one operator still sees each picture in the slide's one light
        light = target["light"] if not self.preserve_background else source["light"]
        move = light - matrix @ source["light"]
        near, far = limits(self.mask, self.preserve_background, DENSITY_LIMITS)
        if far:
            dim = np.float32(source["light"].mean())
            near, far = near + dim, far + dim
        flat, step, _ = flatten(image).where
        rows, shift = matrix.astype(np.float32), move.astype(np.float32)
        kernels().apply_density(flat, step, rows, shift, near, far, out.reshape(-1))
