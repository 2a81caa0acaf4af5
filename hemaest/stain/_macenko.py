"""Macenko's normalization: the stains are the extreme directions in a plane of densities."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest._color import STAIN_BASES, stain_basis
from hemaest.base import Interval, StrOptions
from hemaest.stain._kernels import Mask, Pixels, kernels
from hemaest.stain._normalizer import pooled
from hemaest.stain._optical import OpticalNormalizer, ordered, quantiles

BINS = 1 << 15


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
    k, rows = kernels(), frame.astype(np.float32)
    counts = pooled([k.angle_counts(*p.where, rows, -rows @ p.light, BINS) for p in pixels])
    ends = np.array([alpha / 100, 1 - alpha / 100])
    places, share = quantiles(counts, sum(p.n for p in pixels), ends)
    low, high = _angle((np.array(places) + 0.5) * (4 / BINS) - 2)
    angles = low + share * (high - low)
    return ordered(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ frame[:2])


def _angle(diamond: NDArray[Any]) -> NDArray[np.float64]:
    """Return the angles of diamond angles."""
    y = np.where(np.abs(diamond) <= 1, diamond, np.sign(diamond) * 2 - diamond)
    return np.arctan2(y, 1 - np.abs(diamond))


class MacenkoNormalizer(OpticalNormalizer):
    """Replace the two stains of an image, and how strong they are, by the target's.

    In optical density a pixel is a sum of stains. Their colours are the extreme directions in the
    plane that holds most of the densities; their strengths are scaled so that the 99th percentile
    becomes the target's. On blood the two are the nuclear stain (azure, methylene blue) and
    eosin; nothing here expects haematoxylin.

    A picture of one cell may hold too little to learn two stains from, and then cytoplasm and red
    cells can take on a wrong colour. For single cells prefer ``basis="giemsa"`` (or ``"wright"``)
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
        What happens to colour off the plane of the stains. The textbook drops it; haemoglobin and
        the violet of Romanowsky stains lie off it, and on blood that costs 2 to 12 levels.
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
