"""The segmenter: images in, cell maps out."""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest import cellmap
from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, Interval, StrOptions, checked_fit
from hemaest.images import pack, rgb
from hemaest.segmentation._found import Found

__all__ = ["CellSegmenter"]


class CellSegmenter(ImageTransformer):
    """Find nucleus and cytoplasm and write them as a cell map.

    Without masks nothing is learned from the images. A small network that was trained on synthetic
    cells alone finds the cell, the colours of the picture at hand move its borders, and five
    voters on colour have a say where they agree with it. With masks the network is trained
    further on them.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        ``"central"`` finds the one cell that a crop shows in its middle, ``"all"`` every
        leukocyte of a field (at most 127).
    method : {"auto", "voters", "network"}, default="auto"
        ``"auto"`` asks both, but in a field the network alone where masks taught it.
        ``"network"`` is the quickest; ``"voters"`` uses no network and no torch.
    max_epochs : int, default=30
        Passes over the images when masks are given.
    n_jobs : int, optional
        Threads over images.
    random_state : int, RandomState or None, default=None
        Seed of the training.

    Attributes
    ----------
    method_ : str
        ``"voters"``, ``"network"``, ``"both"`` or ``"learned"``.
    net_ : torch module or None
        The network that masks taught.

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> from hemaest.segmentation import CellSegmenter
    >>> cells = make_cells(2, random_state=0)
    >>> segmenter = CellSegmenter().fit(cells.images)
    >>> maps = segmenter.predict(cells.images)
    >>> maps.shape, int(maps.max())
    ((2, 128, 128), 2)
    >>> segmenter.transform(cells.images).shape
    (2, 128, 128, 4)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cells": [StrOptions({"central", "all"})],
        "method": [StrOptions({"auto", "voters", "network"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        cells: str = "central",
        *,
        method: str = "auto",
        max_epochs: int = 30,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.cells = cells
        self.method = method
        self.max_epochs = max_epochs
        self.n_jobs = n_jobs
        self.random_state = random_state

    @checked_fit
    def fit(self, X: Any, y: Any = None, masks: Any = None) -> Self:
        """Choose the method; train the network further where masks are given.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them; a map that is there is not read.
        y : ignored
            For pipelines.
        masks : array or sequence of n cell maps, optional
            The truth for each image, to learn from: 0 background, 1 cytoplasm, 2 nucleus (and
            3, 4 for a second cell, and so on).

        Returns
        -------
        self : object
        """
        X = self._check_images(X)
        if masks is None:
            self.net_ = None
            self.method_ = {"auto": "both"}.get(self.method, self.method)
            return self
        if self.method == "voters":
            raise ValueError(
                'method="voters" learns nothing; use method="auto" with masks, or leave masks out.'
            )
        from hemaest.segmentation._fine_tune import check_masks, fine_tune

        self.net_ = fine_tune(
            X,
            check_masks(masks, X),
            fields=self.cells == "all",
            epochs=self.max_epochs,
            random_state=self.random_state,
        )
        self.method_ = "network" if self.method == "network" else "learned"
        return self

    def _find(self, image: NDArray[np.uint8]) -> Found:
        from hemaest.segmentation._frame import paint_frame
        from hemaest.segmentation._methods import find

        return find(paint_frame(rgb(image)), self.cells, self.method_, self.net_)

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.dstack([rgb(image), self._find(image).labels])

    def _map(self, X: Any, function: Any) -> list[Any]:
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
            (the worse of nucleus and cell Dice between the two methods; where one method works
            alone, the Dice among the voters or the network's certainty, which say less),
            ``border_share`` of the image's edge under the cell.
        """
        from hemaest.segmentation._quality import judge

        return pd.DataFrame(self._map(self._check_images(X), judge))

    def score(self, X: Any, y: Any = None, masks: Any = None) -> float:
        """Return the mean Dice of nucleus and cell against true maps.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : ignored
            For pipelines.
        masks : array or sequence of n cell maps
            The truth.

        Returns
        -------
        dice : float
        """
        from hemaest.segmentation._combined import dice
        from hemaest.segmentation._fine_tune import check_masks

        if masks is None:
            raise ValueError("score needs masks, the true cell map of each image.")
        X = self._check_images(X)
        truth, values = check_masks(masks, X), []
        for labels, true in zip(self.predict(X), truth, strict=True):
            nuclei = dice(cellmap.nuclei(labels), cellmap.nuclei(true))
            values.append((nuclei + dice(labels > 0, true > 0)) / 2)
        return float(np.mean(values))
