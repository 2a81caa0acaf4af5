"""Vahadane's normalization: the stains are a sparse, non-negative factorization."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest.base import Interval
from hemaest.stain._kernels import Mask, Pixels, kernels
from hemaest.stain._macenko import macenko_basis
from hemaest.stain._optical import OpticalNormalizer, ordered

MAX_ITER = 200
TOLERANCE = 1e-4


def sample_densities(pixels: Sequence[Pixels], size: int) -> NDArray[np.float32]:
    """Return three planes of the densities of at most ``size`` pixels of a pool."""
    total, first, parts = sum(p.n for p in pixels), 0, []
    for p in pixels:
        planes = kernels().spread_densities(*p.where, first, total, size)
        parts.append(planes - p.light[:, None])
        first += p.n
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


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
        What happens to colour off the plane of the stains. The textbook drops it; on blood, where
        haemoglobin lies off the plane, that costs 2 to 6 levels.
    light : {"image", "white"}, default="image"
        What counts as no stain: the colour of the glass of each image, or white as in the
        textbook, for which a yellow lamp is a stain. With ``preserve_background=False`` the glass
        takes the colour of the target's.
    target : dict, optional
        ``{"basis": (2, 3) numbers, "concentrations": (2,), "light": (3,)}``, as
        ``to_dict()["target"]`` gives it. By default the target is learned in ``fit``.
    source : {"image", "fitted"}, default="image"
        Whether each image is measured by itself, or the images of ``fit`` are measured as one and
        every image gets that one correction; then give a ``target``.
    aggregate : {"mean", "concat", "medoid"}, default="mean"
        How many images become one target: the mean of their statistics, the statistics of their
        pooled pixels, or the one image that is nearest to all others.
    mask : {"od", "luminosity"}, callable or None, default="od"
        Which pixels count: those of a mean optical density of at least 0.15, of a lightness of at
        most 80, those where ``mask(rgb)`` is True, or all.
    preserve_background : bool, default=True
        With a mask, whether the background stays as it is, with a smooth passage.
    on_degenerate : {"passthrough", "target", "raise"}, default="passthrough"
        What happens to an image without two stains (see ``is_degenerate``): it stays as it is,
        the target's stain vectors are used for it, or an error is raised.
    n_jobs : int, optional
        Threads.

    Attributes
    ----------
    target_ : dict
        ``"basis"`` (nuclear stain, eosin), ``"concentrations"`` (their 99th percentiles) and
        ``"light"`` (density of the glass); None where all images of ``fit`` were degenerate.
    source_ : dict or None
        The same of the source, with ``source="fitted"``.

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
        return ordered(kernels().sparse_basis(density, start, self.sparsity, MAX_ITER, TOLERANCE))
