"""Normalization by optical density: two stains, their concentrations, one 3 x 3 operator.

:class:`MacenkoNormalizer` finds the stains as extreme directions in a plane of densities,
:class:`VahadaneNormalizer` by a sparse factorization.
"""

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest._color import STAIN_BASES, stain_basis, with_normal
from hemaest._docs import fill_doc
from hemaest.base import Interval, StrOptions
from hemaest.stain import _kernels
from hemaest.stain._normalizer import (
    SHARED_DOCS,
    StainNormalizer,
    Statistics,
    moments,
    pooled,
)
from hemaest.stain._pixels import DENSITY_LIMITS, Mask, Pixels, flatten, limits, select

HIGH = np.array([0.99])  # the quantile that counts as the strongest
ALIKE = 0.05  # sine of the smallest angle between two stains
SPREAD = 1e-4  # smallest variance across the plane of the stains
FLOOR = 0.02  # of a maximal concentration
CAP = 4.0  # of a gain
MOST = 1e6  # of a concentration for a density of 1
# concentrations are counted in bins of equal ratio: 2**-7 to 2**7, 1024 bins an octave
LOW, SHIFT, BINS = np.float32(2.0**-7), 13, 14 << 10
ANGLE_BINS = 1 << 15
# of the factorization
MAX_ITER = 200
TOLERANCE = 1e-4

OPTICAL_DOCS = {
    **SHARED_DOCS,
    "light": """
        light : {"image", "white"}, default="image"
            What counts as no stain: the color of the glass of each image, or white as in the
            textbook, for which a yellow lamp is a stain. With ``preserve_background=False`` the
            glass takes the color of the target's.
        target : dict, optional
            ``{"basis": (2, 3) numbers, "concentrations": (2,), "light": (3,)}``, as
            ``to_dict()["target"]`` gives it. By default the target is learned in ``fit``.
        """,
    "degenerate": """
        on_degenerate : {"passthrough", "target", "raise"}, default="passthrough"
            What happens to an image without two stains (see ``is_degenerate``): it stays as it is,
            the target's stain vectors are used for it, or an error is raised.
        """,
    "target_": """
        target_ : dict
            ``"basis"`` (nuclear stain, eosin), ``"concentrations"`` (their 99th percentiles) and
            ``"light"`` (density of the glass); None where all images of ``fit`` were degenerate.
        """,
}


def quantiles(
    counts: NDArray[Any], n: int, shares: NDArray[Any]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    """Return the bins below and above each quantile of n counts, and the way between them.

    These are the bins of the two order statistics, so few pixels that lie far apart are no
    different from many.
    """
    ranks = (n - 1) * shares
    return _kernels.at_ranks(counts, ranks), ranks % 1


def max_concentrations(pixels: Sequence[Pixels], basis: NDArray[Any]) -> NDArray[np.float64]:
    """Return the 99th percentiles of the two concentrations of a pool of pixels."""
    unmix = np.zeros((3, 3), np.float32)
    unmix[:2] = np.linalg.inv(with_normal(basis)).T[:2]
    if not (np.abs(unmix) < MOST).all():  # the kernel would count beyond its bins
        raise ValueError(
            f"{basis.tolist()} are no two stain vectors: they are alike, or not finite."
        )
    counts = pooled(
        [
            _kernels.concentration_counts(*p.where, unmix, -unmix @ p.light, LOW, SHIFT, BINS)
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
    and, unlike by red alone, beside the haemoglobin of gray red cells. A mean of many images'
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

    Two stains that are much alike may be separated one way here and the other way there.
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
        sums = [_kernels.density_moments(*p.where, p.light) for p in pixels]
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
        # a slide's one operator still sees each image in the slide's one light
        light = target["light"] if not self.preserve_background else source["light"]
        move = light - matrix @ source["light"]
        near, far = limits(self.mask, self.preserve_background, DENSITY_LIMITS)
        if far:
            dim = np.float32(source["light"].mean())
            near, far = near + dim, far + dim
        flat, step, _ = flatten(image).where
        rows, shift = matrix.astype(np.float32), move.astype(np.float32)
        _kernels.apply_density(flat, step, rows, shift, near, far, out.reshape(-1))


def macenko_basis(
    pixels: Sequence[Pixels], mean: NDArray[Any], main: NDArray[Any], alpha: float
) -> NDArray[np.float64]:
    """Return two stain vectors: the alpha-th and (100 - alpha)-th percentile of the angle.

    The angle is measured in the plane of the two main directions of the densities, from the mean
    density, so that no pixel comes near the cut of the angle.
    """
    toward = main @ mean
    toward = toward / max(np.linalg.norm(toward), 1e-12)
    frame = np.zeros((3, 3))
    frame[0] = toward @ main
    frame[1] = np.array([-toward[1], toward[0]]) @ main
    rows = frame.astype(np.float32)
    counts = pooled(
        [_kernels.angle_counts(*p.where, rows, -rows @ p.light, ANGLE_BINS) for p in pixels]
    )
    ends = np.array([alpha / 100, 1 - alpha / 100])
    places, share = quantiles(counts, sum(p.n for p in pixels), ends)
    low, high = _angle((np.array(places) + 0.5) * (4 / ANGLE_BINS) - 2)
    angles = low + share * (high - low)
    return ordered(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ frame[:2])


def _angle(diamond: NDArray[Any]) -> NDArray[np.float64]:
    """Return the angles of diamond angles."""
    y = np.where(np.abs(diamond) <= 1, diamond, np.sign(diamond) * 2 - diamond)
    return np.arctan2(y, 1 - np.abs(diamond))


@fill_doc(**OPTICAL_DOCS)
class MacenkoNormalizer(OpticalNormalizer):
    """Replace the two stains of an image, and how strong they are, by the target's.

    In optical density a pixel is a sum of stains. Their colors are the extreme directions in the
    plane that holds most of the densities; their strengths are scaled so that the 99th percentile
    becomes the target's. On blood the two are the nuclear stain (azure, methylene blue) and
    eosin; nothing here expects haematoxylin.

    One cell may have too little stain to estimate two stain vectors, and then cytoplasm and red
    cells can take on a wrong color. For single cells prefer ``basis="giemsa"`` (or ``"wright"``)
    with ``preserve_background=False``, as ``make_recipe(name, stain="macenko")`` does; for fields,
    one correction for a whole slide (:func:`normalize_together`, ``source="fitted"``).

    Parameters
    ----------
    basis : {"learned", "giemsa", "wright", "he"} or array of shape (2, 3), default="learned"
        The stain vectors: learned for each image, or the same known ones for all, so that only
        the strengths are matched.
    alpha : float, default=1
        The percentile of the angle that counts as extreme.
    residual : {"keep", "drop"}, default="keep"
        What happens to color off the plane of the stains. The textbook drops it; haemoglobin and
        the violet of Romanowsky stains lie off it, and on blood that costs 2 to 12 levels.
    %(light)s
    %(source)s
    mask : {"od", "luminosity"}, callable or None, default="od"
        %(mask)s
    %(background)s
    %(degenerate)s
    %(n_jobs)s

    Attributes
    ----------
    %(target_)s
    %(source_)s

    References
    ----------
    M. Macenko et al., A method for normalizing histology slides for quantitative analysis,
    ISBI 2009.

    Examples
    --------
    >>> import json
    >>> import numpy as np
    >>> from hemaest.stain import MacenkoNormalizer
    >>> rng = np.random.default_rng(0)
    >>> cells = rng.integers(60, 240, (3, 32, 32, 3)).astype(np.uint8)
    >>> normalizer = MacenkoNormalizer().fit(cells)
    >>> numbers = json.dumps(normalizer.to_dict())
    >>> again = MacenkoNormalizer.from_dict(json.loads(numbers))
    >>> bool((again.transform(cells) == normalizer.transform(cells)).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "basis": [StrOptions({"learned", *STAIN_BASES}), "array-like"],
        "alpha": [Interval(Real, 0, 50, closed="left")],
        **OpticalNormalizer._parameter_constraints,
    }

    def __init__(
        self,
        *,
        basis: Literal["learned", "giemsa", "wright", "he"] | ArrayLike = "learned",
        alpha: float = 1.0,
        residual: Literal["keep", "drop"] = "keep",
        light: Literal["image", "white"] = "image",
        target: dict[str, Any] | None = None,
        source: Literal["image", "fitted"] = "image",
        aggregate: Literal["mean", "concat", "medoid"] = "mean",
        mask: Mask = "od",
        preserve_background: bool = True,
        on_degenerate: Literal["passthrough", "target", "raise"] = "passthrough",
        n_jobs: int | None = None,
    ):
        self.basis = basis
        self.alpha = alpha
        self.residual = residual
        self.light = light
        self.target = target
        self.source = source
        self.aggregate = aggregate
        self.mask = mask
        self.preserve_background = preserve_background
        self.on_degenerate = on_degenerate
        self.n_jobs = n_jobs

    def _validate_params(self) -> None:
        super()._validate_params()
        self._fixed_basis()

    def _fixed_basis(self) -> NDArray[np.float64] | None:
        learned = isinstance(self.basis, str) and self.basis == "learned"
        return None if learned else stain_basis(self.basis)[:2]

    def _basis(
        self, pixels: Sequence[Pixels], mean: NDArray[Any], main: NDArray[Any]
    ) -> NDArray[np.float64]:
        return macenko_basis(pixels, mean, main, self.alpha)


def sample_densities(pixels: Sequence[Pixels], size: int) -> NDArray[np.float32]:
    """Return three planes of the densities of at most ``size`` pixels of a pool."""
    total, first, parts = sum(p.n for p in pixels), 0, []
    for p in pixels:
        planes = _kernels.spread_densities(*p.where, first, total, size)
        parts.append(planes - p.light[:, None])
        first += p.n
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


@fill_doc(**OPTICAL_DOCS)
class VahadaneNormalizer(OpticalNormalizer):
    """Replace the two stains of an image, and how strong they are, by the target's.

    Like :class:`MacenkoNormalizer`, but the two stain vectors are learned by a non-negative
    factorization of the densities in which a pixel prefers one stain to a mixture of both.

    Parameters
    ----------
    sparsity : float, default=0.1
        How much a pixel prefers one stain.
    max_pixels : int, default=50_000
        The factorization looks at no more stained pixels than these, evenly chosen.
    residual : {"keep", "drop"}, default="keep"
        What happens to color off the plane of the stains. The textbook drops it; on blood, where
        haemoglobin lies off the plane, that costs 2 to 6 levels.
    %(light)s
    %(source)s
    mask : {"od", "luminosity"}, callable or None, default="od"
        %(mask)s
    %(background)s
    %(degenerate)s
    %(n_jobs)s

    Attributes
    ----------
    %(target_)s
    %(source_)s

    References
    ----------
    A. Vahadane et al., Structure-preserving color normalization and sparse stain separation for
    histological images, IEEE Trans. Med. Imaging 35 (2016) 1962-1971.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.stain import VahadaneNormalizer
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(4, image_size=48, random_state=0).images
    >>> normalizer = VahadaneNormalizer().fit(cells[:2])
    >>> normalizer.transform(cells).shape
    (4, 48, 48, 3)
    >>> sorted(normalizer.target_)
    ['basis', 'concentrations', 'light']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sparsity": [Interval(Real, 0, None, closed="left")],
        "max_pixels": [Interval(Integral, 100, None, closed="left")],
        **OpticalNormalizer._parameter_constraints,
    }

    def __init__(
        self,
        *,
        sparsity: float = 0.1,
        max_pixels: int = 50_000,
        residual: Literal["keep", "drop"] = "keep",
        light: Literal["image", "white"] = "image",
        target: dict[str, Any] | None = None,
        source: Literal["image", "fitted"] = "image",
        aggregate: Literal["mean", "concat", "medoid"] = "mean",
        mask: Mask = "od",
        preserve_background: bool = True,
        on_degenerate: Literal["passthrough", "target", "raise"] = "passthrough",
        n_jobs: int | None = None,
    ):
        self.sparsity = sparsity
        self.max_pixels = max_pixels
        self.residual = residual
        self.light = light
        self.target = target
        self.source = source
        self.aggregate = aggregate
        self.mask = mask
        self.preserve_background = preserve_background
        self.on_degenerate = on_degenerate
        self.n_jobs = n_jobs

    def _basis(
        self, pixels: Sequence[Pixels], mean: NDArray[Any], main: NDArray[Any]
    ) -> NDArray[np.float64]:
        start = np.maximum(macenko_basis(pixels, mean, main, alpha=1.0), 0)
        start /= np.maximum(np.linalg.norm(start, axis=1, keepdims=True), 1e-12)
        density = sample_densities(pixels, self.max_pixels)
        return ordered(_kernels.sparse_basis(density, start, self.sparsity, MAX_ITER, TOLERANCE))
