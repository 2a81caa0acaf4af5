"""Colour features: of the whole picture, or of nucleus, cytoplasm and surround."""

from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest import cellmap
from hemaest.base import checked_fit
from hemaest.features._cells import CellFeatures, Family
from hemaest.images import Channels

REGIONS = ("surround", "cytoplasm", "nucleus")
CONTRASTS = (("nucleus", "cytoplasm"), ("cytoplasm", "surround"))
CONTRASTED = ("r", "g", "b", "od_r", "od_g", "od_b", "lightness", "lab_a", "lab_b")


@cache
def color_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every colour feature of a cell, in order."""
    from hemaest.features._color_stats import definitions
    from hemaest.features._granules import definitions as granule_definitions

    base = definitions()
    lines = {f"{r}_{name}": f"{r}: {text}" for r in REGIONS for name, text in base.items()}
    for one, other in CONTRASTS:
        for c in CONTRASTED:
            lines[f"{one}_minus_{other}_{c}"] = f"{one}_{c}_mean - {other}_{c}_mean"
    return {**lines, **granule_definitions()}


@cache
def image_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every colour feature of a whole picture."""
    from hemaest.features._color_stats import definitions

    return {f"image_{name}": f"whole picture: {text}" for name, text in definitions().items()}


def measure_color(
    image: NDArray[np.uint8], k: int, box: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Write the colour features of cell ``k``."""
    from hemaest.features._color_stats import N_STATISTICS, TABLES, region_statistics, region_table
    from hemaest.features._granules import measure_granules

    statistics, histograms = region_statistics(image, image[..., 3], region_table(k), 3)
    out[: 3 * N_STATISTICS] = statistics.ravel()
    places = 3 * np.arange(len(CONTRASTED))
    means = dict(zip(REGIONS, statistics[:, places], strict=True))
    start = 3 * N_STATISTICS
    for one, other in CONTRASTS:
        out[start : start + len(CONTRASTED)] = means[one] - means[other]
        start += len(CONTRASTED)
    measure_granules(image, cellmap.codes(k), box, histograms[0], *TABLES, out[start:])


@cache
def color_family() -> Family:
    """Return the colour family."""
    return Family(color_definitions(), measure_color)


class ColorFeatures(CellFeatures):
    """Colour statistics in RGB, optical density and CIELAB.

    RGB images give the statistics of the whole picture (``image_...``): the shortcut control that
    every score of a morphology should be shown beside. Images with a cell map give those of the
    nucleus, the cytoplasm and the surround (no cell at all), the contrasts between them, the
    shares of colours, granules and vacuoles.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        Which cells of a map to measure: the one nearest to the middle, or all of them, summed up
        as count, area-weighted mean, spread and maximum. Ignored for RGB.
    n_jobs : int, optional
        Threads; None means all that are available.

    Attributes
    ----------
    n_channels_ : int
        3 or 4, as in the images of ``fit``.

    See Also
    --------
    HandcraftedFeatures : Shape, chromatin and colour at once.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.features import ColorFeatures
    >>> X = np.full((2, 8, 8, 3), 200, np.uint8)
    >>> color = ColorFeatures().set_output(transform="pandas")
    >>> color.fit_transform(X)[["image_r_mean", "image_lightness_mean"]].round(1)
       image_r_mean  image_lightness_mean
    0         200.0                  80.6
    1         200.0                  80.6
    """

    _channels: ClassVar[Channels] = "any"
    _stateless: ClassVar[bool] = False

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Note whether the images have a cell map.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : ignored
            For pipelines.

        Returns
        -------
        self : object
        """
        self.n_channels_ = _n_channels(self._check_images(X))
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return one row of features for each image.

        Parameters
        ----------
        X : images
            As in ``fit``: all with a cell map, or all without.

        Returns
        -------
        features : float array of shape (n, n_features)
        """
        check_is_fitted(self)
        X = self._check_images(X)
        got = _n_channels(X)
        if got != self.n_channels_:
            raise ValueError(
                f"ColorFeatures was fitted on images of {self.n_channels_} channels and got {got}; "
                "give it the same kind, all with a cell map or all without."
            )
        return super().transform(X)

    def _families(self) -> list[Family]:
        return [color_family()]

    def _feature_names(self) -> list[str]:
        check_is_fitted(self)
        return list(image_definitions()) if self.n_channels_ == 3 else super()._feature_names()

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        if self.n_channels_ == 4:
            return super()._features(image)
        from hemaest.features._color_stats import image_statistics

        return image_statistics(image)


def _n_channels(X: NDArray[Any]) -> int:
    """Return the channels of checked images; a file is RGB."""
    if X.dtype != object:
        return X.shape[3]
    return X[0].shape[2] if isinstance(X[0], np.ndarray) else 3
