"""Binary patterns of whole pictures: texture without any segmentation."""

from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hemaest.base import FeatureExtractor
from hemaest.images import Channels, rgb


class PatternHistogram(FeatureExtractor):
    """Histograms of uniform local binary patterns of the green channel, 8 and 16 points.

    Parameters
    ----------
    n_jobs : int, optional
        Threads; None means all that are available.

    Examples
    --------
    >>> X = np.full((1, 12, 12, 3), 80, np.uint8)
    >>> histogram = PatternHistogram().fit_transform(X)
    >>> histogram.shape, histogram.sum().round(6)
    ((1, 28), np.float64(2.0))
    """

    _channels: ClassVar[Channels] = "any"
    _parameter_constraints: ClassVar = {"n_jobs": [Integral, None]}

    def __init__(self, *, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def _feature_names(self) -> list[str]:
        from hemaest.features._lbp import CIRCLES, definitions

        return [f"image_{name}" for name in definitions(CIRCLES)]

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        from hemaest.features import _lbp

        grey = rgb(image)[..., 1]
        framed = np.pad(grey.astype(float), _lbp.PAD, mode="edge")
        everywhere = np.ones(grey.shape, np.uint8)
        rows = []
        for (points, _), circle in zip(_lbp.CIRCLES, _lbp.TABLES, strict=True):
            out = np.empty((2, points + 2))
            _lbp.measure_lbp(framed, everywhere, circle, out)
            rows.append(out[0])
        return np.concatenate(rows)
