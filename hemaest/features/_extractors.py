"""The feature extractors: images with a cell map in, one row of named floats for each image out."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest.base import FeatureExtractor, checked_fit, did_you_mean
from hemaest.features._cells import CellFeatures, Family
from hemaest.features._chromatin import chromatin_definitions, texture
from hemaest.features._color import (
    color_definitions,
    image_definitions,
    image_statistics,
    measure_color,
)
from hemaest.features._patterns import CIRCLES, LBP_TABLES, PAD, lbp_definitions, measure_lbp
from hemaest.features._shape import shape, shape_definitions
from hemaest.images import Channels, rgb

__all__ = [
    "ChromatinTexture",
    "ColorFeatures",
    "HandcraftedFeatures",
    "MorphologyFeatures",
    "PatternHistogram",
]

FAMILIES = {
    "shape": Family(shape_definitions(), shape),
    "chromatin": Family(chromatin_definitions(), texture),
    "color": Family(color_definitions(), measure_color),
}


class MorphologyFeatures(CellFeatures):
    """Shape of nucleus and cell, N:C ratio and lobes, from the cell map alone.

    ``nc_ratio`` is nucleus area / cell area. Lengths are in pixels and areas in pixel counts;
    ratios have no unit. What scikit-image's ``regionprops`` computes too has its value to 1e-9
    (both perimeters, axes, eccentricity, extent, solidity, Euler number, Hu moments); the Feret
    diameters are those of the true convex hull, not of its pixels.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        Which cells of a map to measure: the one nearest to the middle, or all of them, summed up
        as count, area-weighted mean, spread and maximum.
    n_jobs : int, optional
        Threads; None means all that are available.

    See Also
    --------
    HandcraftedFeatures : Shape, chromatin and color at once.

    Notes
    -----
    The flags ``cell_missing`` and ``nucleus_missing`` are 1 where there is nothing to measure; the
    features of what is missing are NaN. :meth:`table` with ``per_cell=True`` gives every cell.

    Examples
    --------
    A nucleus of 8 x 8 in a cell of 16 x 16:

    >>> import numpy as np
    >>> from hemaest.features import MorphologyFeatures
    >>> image = np.zeros((24, 24, 4), np.uint8)
    >>> image[4:20, 4:20, 3] = 1
    >>> image[8:16, 8:16, 3] = 2
    >>> shape = MorphologyFeatures().set_output(transform="pandas")
    >>> row = shape.fit_transform(image[None]).iloc[0]
    >>> row[["nc_ratio", "nucleus_area", "cytoplasm_area", "nucleus_lobe_count"]].tolist()
    [0.25, 64.0, 192.0, 1.0]
    """

    def _families(self) -> list[Family]:
        return [FAMILIES["shape"]]


class ChromatinTexture(CellFeatures):
    """Texture of nucleus and cytoplasm inside their true masks.

    The image is the green channel, where the dyes of blood stains absorb most. Gray levels are
    fixed (32 levels of 8 values), so a feature means the same in every image. Co-occurrence
    (4 angles, distances 1, 3 and 5) and uniform binary patterns have the values of scikit-image
    to 1e-9; entropies and information measures use natural logarithms. Of a cell that is cut off
    by the border of the image, the image beyond repeats its edge.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        Which cells of a map to measure: the one nearest to the middle, or all of them, summed up
        as count, area-weighted mean, spread and maximum.
    n_jobs : int, optional
        Threads; None means all that are available.

    See Also
    --------
    HandcraftedFeatures : Shape, chromatin and color at once.

    Examples
    --------
    A flat nucleus has no contrast and no entropy:

    >>> import numpy as np
    >>> from hemaest.features import ChromatinTexture
    >>> image = np.full((24, 24, 4), 90, np.uint8)
    >>> image[..., 3] = 0
    >>> image[4:20, 4:20, 3] = 2
    >>> texture = ChromatinTexture().set_output(transform="pandas")
    >>> row = texture.fit_transform(image[None]).iloc[0]
    >>> row[["nucleus_glcm_contrast_d1_mean", "nucleus_gray_entropy"]].tolist()
    [0.0, 0.0]
    """

    def _families(self) -> list[Family]:
        return [FAMILIES["chromatin"]]


class ColorFeatures(CellFeatures):
    """Color statistics in RGB, optical density and CIELAB.

    RGB images give the statistics of the whole image (``image_...``): the shortcut control that
    every score of a morphology should be shown beside. Images with a cell map give those of the
    nucleus, the cytoplasm and the surround (no cell at all), the contrasts between them, the
    shares of colors, granules and vacuoles.

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
    HandcraftedFeatures : Shape, chromatin and color at once.

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
        return [FAMILIES["color"]]

    def _feature_names(self) -> list[str]:
        check_is_fitted(self)
        return list(image_definitions()) if self.n_channels_ == 3 else super()._feature_names()

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        if self.n_channels_ == 4:
            return super()._features(image)
        return image_statistics(image)


def _n_channels(X: NDArray[Any]) -> int:
    """Return the channels of checked images; a file is RGB."""
    if X.dtype != object:
        return X.shape[3]
    return X[0].shape[2] if isinstance(X[0], np.ndarray) else 3


class HandcraftedFeatures(CellFeatures):
    """Shape, chromatin texture and color of a cell: every handcrafted feature, named.

    Parameters
    ----------
    families : sequence of {"shape", "chromatin", "color"}
        What to measure, in this order; all of them by default.
    cells : {"central", "all"}, default="central"
        Which cells of a map to measure: the one nearest to the middle, or all of them, summed up
        as count, area-weighted mean, spread and maximum.
    n_jobs : int, optional
        Threads; None means all that are available.

    See Also
    --------
    MorphologyFeatures : The family "shape".
    ChromatinTexture : The family "chromatin".
    ColorFeatures : The family "color".

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.features import HandcraftedFeatures
    >>> image = np.full((24, 24, 4), 90, np.uint8)
    >>> image[..., 3] = 0
    >>> image[4:20, 4:20, 3] = 1
    >>> image[8:16, 8:16, 3] = 2
    >>> features = HandcraftedFeatures(families=("shape", "color")).fit(image[None])
    >>> row = dict(zip(features.get_feature_names_out(), features.transform(image[None])[0]))
    >>> float(row["nc_ratio"]), float(row["nucleus_g_mean"])
    (0.25, 90.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "families": ["array-like"],
        **CellFeatures._parameter_constraints,
    }

    def __init__(
        self,
        families: Sequence[str] = ("shape", "chromatin", "color"),
        *,
        cells: str = "central",
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(cells=cells, n_jobs=n_jobs)
        self.families = families

    def _families(self) -> list[Family]:
        chosen = [self.families] if isinstance(self.families, str) else list(self.families)
        for name in chosen:
            if name not in FAMILIES:
                raise ValueError(
                    f"HandcraftedFeatures: families has {name!r}; allowed are {sorted(FAMILIES)}."
                    f"{did_you_mean(name, FAMILIES)}"
                )
        if not chosen:
            raise ValueError(
                f"HandcraftedFeatures: families is empty; choose of {sorted(FAMILIES)}."
            )
        return [FAMILIES[name] for name in dict.fromkeys(chosen)]

    def _validate_params(self) -> None:
        super()._validate_params()
        self._families()


class PatternHistogram(FeatureExtractor):
    """Histograms of uniform local binary patterns of the whole image, without segmentation.

    Patterns of 8 points at radius 1 and of 16 points at radius 2, in the green channel.

    Parameters
    ----------
    n_jobs : int, optional
        Threads; None means all that are available.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.features import PatternHistogram
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
        return [f"image_{name}" for name in lbp_definitions(CIRCLES)]

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        gray = rgb(image)[..., 1]
        framed = np.pad(gray.astype(float), PAD, mode="edge")
        everywhere = np.ones(gray.shape, np.uint8)
        rows = []
        for (points, _), circle in zip(CIRCLES, LBP_TABLES, strict=True):
            out = np.empty((2, points + 2))
            measure_lbp(framed, everywhere, circle, out)
            rows.append(out[0])
        return np.concatenate(rows)
