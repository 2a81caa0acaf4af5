"""Reinhard's normalization: the mean and spread of LAB become the target's."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest._color import F_TO_LAB, LAB_TO_F
from hemaest._docs import fill_doc
from hemaest.base import StrOptions
from hemaest.stain import _kernels
from hemaest.stain._normalizer import SHARED_DOCS, StainNormalizer, Statistics, moments, pooled
from hemaest.stain._pixels import LAB_LIMITS, Mask, Pixels, flatten, limits

FLAT = 2.0  # lightness of a smaller spread is a blank tile and its noise
FLOOR = 0.5  # of a standard deviation of L, a or b
CAP = 5.0  # of a gain
OFFSET = np.array([16.0, 0.0, 0.0])


def lab_statistics(pixels: Sequence[Pixels]) -> tuple[Statistics, int]:
    """Return mean and standard deviation of CIELAB of a pool of pixels, and their count.

    LAB is linear in f(X), f(Y), f(Z), so the moments of these are enough.
    """
    n, mean, covariance = moments(pooled([_kernels.lab_moments(*p.where) for p in pixels]))
    variance = ((F_TO_LAB @ covariance) * F_TO_LAB).sum(axis=1)
    mean = F_TO_LAB @ mean - OFFSET if n else mean
    return {"mean": mean, "std": np.sqrt(np.maximum(variance, 0))}, n


def reinhard_transfer(
    source: Statistics, target: Statistics, method: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gain and offset of L, a, b that take the source's statistics to the target's."""
    from_std, to_std = np.maximum(source["std"], FLOOR), np.maximum(target["std"], FLOOR)
    if method == "plain":
        gain, center = np.minimum(to_std / from_std, CAP), target["mean"]
    else:
        contrast = 1 - from_std[0] / to_std[0]
        gain = np.array([1 + (contrast if contrast > 0 else 0.05), 1.0, 1.0])
        center = np.array([source["mean"][0], *target["mean"][1:]])
    return gain, center - gain * source["mean"]


@fill_doc(**SHARED_DOCS)
class ReinhardNormalizer(StainNormalizer):
    """Give images the mean and the spread of a target's lightness and color (CIELAB).

    It needs no model of the stains. It does move what has no stain along with the rest, and a
    image with a larger nucleus gets another correction than its neighbor; a ``mask`` helps with
    the first, :func:`normalize_together` with the second.

    Parameters
    ----------
    method : {"plain", "modified"}, default="plain"
        ``"plain"`` matches mean and standard deviation of L, a and b. ``"modified"`` keeps the
        brightness, raises the contrast of L towards the target's, and matches the means of a and
        b only.
    target : dict, optional
        ``{"mean": (L, a, b), "std": (L, a, b)}``, as ``to_dict()["target"]`` gives it. By
        default the target is learned in ``fit``.
    %(source)s
    mask : {"od", "luminosity"}, callable or None, default=None
        %(mask)s
    %(background)s
    on_degenerate : {"passthrough", "target", "raise"}, default="passthrough"
        What happens to an image without contrast (see ``is_degenerate``): it stays as it is,
        what it does not determine is taken from the target, or an error is raised.
    %(n_jobs)s

    Attributes
    ----------
    target_ : dict
        ``"mean"`` and ``"std"`` of L, a, b; None where all images of ``fit`` were degenerate.
    %(source_)s

    References
    ----------
    E. Reinhard et al., Color transfer between images, IEEE CG&A 21 (2001) 34-41.
    S. Roy et al., Modified Reinhard algorithm for color normalization of colorectal cancer
    histopathology images, EUSIPCO 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.stain import ReinhardNormalizer
    >>> rng = np.random.default_rng(0)
    >>> blue = rng.integers(100, 200, (2, 32, 32, 3)).astype(np.uint8)
    >>> pink = np.minimum(blue + np.array([40, 0, 20]), 255).astype(np.uint8)
    >>> normalizer = ReinhardNormalizer().fit(blue)
    >>> before = pink.mean(axis=(0, 1, 2)) - blue.mean(axis=(0, 1, 2))
    >>> after = normalizer.transform(pink).mean(axis=(0, 1, 2)) - blue.mean(axis=(0, 1, 2))
    >>> bool(np.abs(after).max() < 2 < np.abs(before).max())
    True
    """

    _shapes: ClassVar[dict[str, tuple[int, ...]]] = {"mean": (3,), "std": (3,)}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions({"plain", "modified"})],
        **StainNormalizer._parameter_constraints,
    }

    def __init__(
        self,
        *,
        method: Literal["plain", "modified"] = "plain",
        target: dict[str, Any] | None = None,
        source: Literal["image", "fitted"] = "image",
        aggregate: Literal["mean", "concat", "medoid"] = "mean",
        mask: Mask = None,
        preserve_background: bool = True,
        on_degenerate: Literal["passthrough", "target", "raise"] = "passthrough",
        n_jobs: int | None = None,
    ):
        self.method = method
        self.target = target
        self.source = source
        self.aggregate = aggregate
        self.mask = mask
        self.preserve_background = preserve_background
        self.on_degenerate = on_degenerate
        self.n_jobs = n_jobs

    def _measure(self, pixels: Sequence[Pixels]) -> tuple[Statistics, bool]:
        statistics, n = lab_statistics(pixels)
        return statistics, n < 3 or statistics["std"][0] < FLAT

    def _complete(self, statistics: Statistics, pixels: Sequence[Pixels]) -> Statistics:
        assert self.target_ is not None
        stained = sum(p.n for p in pixels) >= 3 and self.mask is not None
        mean = statistics["mean"] if stained else self.target_["mean"]
        return {"mean": mean, "std": self.target_["std"]}

    def _paint(
        self,
        image: NDArray[np.uint8],
        source: Statistics,
        target: Statistics,
        out: NDArray[np.uint8],
    ) -> None:
        gain, offset = reinhard_transfer(source, target, self.method)
        matrix = LAB_TO_F @ (gain[:, None] * F_TO_LAB)
        # L + 16 is what is linear in f
        move = LAB_TO_F @ (offset + OFFSET - gain * OFFSET)
        near, far = limits(self.mask, self.preserve_background, LAB_LIMITS)
        flat, step, _ = flatten(image).where
        rows, shift = matrix.astype(np.float32), move.astype(np.float32)
        _kernels.apply_lab(flat, step, rows, shift, near, far, out.reshape(-1))
