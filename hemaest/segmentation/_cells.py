"""The segmenter: images in, cell maps out."""

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, StrOptions, checked_fit
from hemaest.images import pack, rgb
from hemaest.segmentation._found import Found

__all__ = ["CellSegmenter"]


class CellSegmenter(ImageTransformer):
    """Find nucleus and cytoplasm and write them as a cell map.

    Without masks the method needs no labels: five voters on the nucleus, then colour models and
    a distance prior for the cytoplasm.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        ``"central"`` finds the one cell that a crop shows in its middle, ``"all"`` every
        leukocyte of a field (at most 127).
    n_jobs : int, optional
        Threads over images.

    Attributes
    ----------
    method_ : str
        ``"label-free"`` or ``"learned"``.

    Examples
    --------
    >>> import numpy as np
    >>> yy, xx = np.mgrid[:96, :96]
    >>> radius = np.hypot(yy - 48, xx - 48)
    >>> image = np.full((96, 96, 3), (245, 225, 205), np.uint8)
    >>> image[radius < 32] = (195, 190, 215)
    >>> image[radius < 20] = (95, 55, 135)
    >>> segmenter = CellSegmenter().fit(image[None])
    >>> labels = segmenter.predict(image[None])[0]
    >>> labels[0, 0], labels[48, 76], labels[48, 48]
    (np.uint8(0), np.uint8(1), np.uint8(2))
    >>> segmenter.transform(image[None]).shape
    (1, 96, 96, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cells": [StrOptions({"central", "all"})],
        "n_jobs": [None, int],
    }

    def __init__(self, cells: str = "central", *, n_jobs: int | None = None) -> None:
        self.cells = cells
        self.n_jobs = n_jobs

    @checked_fit
    def fit(self, X: Any, y: Any = None, masks: Any = None) -> Self:
        """Choose the method; learn it where masks are given.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; a map that is there is not read.
        y : ignored
            For pipelines.
        masks : array of n cell maps, optional
            The truth for each image, to learn from.

        Returns
        -------
        self : object
        """
        X = self._check_images(X)
        if masks is not None:
            raise NotImplementedError("Learning from masks comes with the next version.")
        self.method_ = "label-free"
        return self

    def _find(self, image: NDArray[np.uint8]) -> Found:
        from hemaest.segmentation._central import segment_central
        from hemaest.segmentation._field import segment_field

        return (segment_central if self.cells == "central" else segment_field)(rgb(image))

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.dstack([rgb(image), self._find(image).labels])

    def _map(self, X: Any, function: Any) -> list[Any]:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return map_images(lambda image: function(self._find(image)), X, n_jobs=self.n_jobs)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the cell map of each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        maps : uint8 array (n, H, W) or 1-D object array
            0 is background; cell k has cytoplasm 2k-1 and nucleus 2k.
        """
        X = self._check_images(X)
        return pack(self._map(X, lambda found: found.labels), dense=X.dtype != object)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the soft maps: background, cytoplasm and nucleus of each pixel.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        maps : float32 array (n, H, W, 3) or 1-D object array
            They add up to 1 in every pixel.
        """
        X = self._check_images(X)
        return pack(self._map(X, Found.probabilities), dense=X.dtype != object)

    def quality(self, X: Any) -> pd.DataFrame:
        """Say of each image whether its cell map can be trusted, and what speaks against it.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        table : DataFrame
            One row an image: ``trusted``, ``problems`` (in words), ``n_cells``,
            ``nucleus_fraction`` and ``cell_fraction`` of the image, ``nc_ratio``, ``agreement``
            of the voters, ``border_share`` of the image's edge under the cell.
        """
        from hemaest.segmentation._quality import judge

        return pd.DataFrame(self._map(self._check_images(X), judge))
