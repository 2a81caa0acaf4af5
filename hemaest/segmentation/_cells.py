"""The segmenter of single cells and fields: images in, cell maps out, and how far to trust them.

A crop goes through this module, ``_network`` (the network), ``_voters`` (the label-free method,
and both combined), ``_color_models``, ``_working_image``, and ``_instances`` where cells touch.
Fields go to ``_fields``, which has a network of its own.
"""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest import cellmap
from hemaest._frame import paint_frame
from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, Interval, StrOptions, checked_fit
from hemaest.images import iter_arrays, pack, rgb
from hemaest.segmentation._voters import combine_with_voters, segment_by_voters
from hemaest.segmentation._working_image import SegmentationResult, dice

__all__ = ["CellSegmenter"]

# shares of the image that a leukocyte and its nucleus take in a crop around one cell
NUCLEUS_RANGE = (0.01, 0.75)
CELL_RANGE = (0.02, 0.9)
MIN_AGREEMENT = 0.75
MAX_BORDER = 0.1


class CellSegmenter(ImageTransformer):
    """Find nucleus and cytoplasm and write them as a cell map.

    Without masks nothing is learned from the images. A small network, trained on synthetic cells
    alone, finds the cell. The colors of the image at hand move its borders, and so do five voters
    on color where they agree with the network. With masks the network is fine-tuned on them.

    Parameters
    ----------
    cells : {"central", "all"}, default="central"
        ``"central"`` finds the one cell that a crop shows in its middle, ``"all"`` every
        leukocyte of a field (at most 127).
    method : {"auto", "voters", "network", "both"}, default="auto"
        ``"voters"`` uses no network and no torch, ``"network"`` nothing else, ``"both"`` combines
        them. ``"auto"`` is ``"both"`` for single cells, and ``"network"``, the only method there
        is, for fields.
    um_per_pixel, red_cell_radius : float, optional
        The scale of fields where it is known, in micrometers a pixel or as the radius of a red
        cell in pixels; see :class:`SmearDetector`. Single cells need none.
    max_epochs : int, default=30
        Passes over the images when masks are given.
    n_jobs : int, optional
        Threads over images; None means all that are available.
    random_state : int, RandomState or None, default=None
        Seed of the training.

    Attributes
    ----------
    method_ : {"voters", "network", "both"}
        The method in use.
    net_ : torch module or None
        The fine-tuned network, None without masks.

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
        "method": [StrOptions({"auto", "voters", "network", "both"})],
        "um_per_pixel": [None, Interval(Real, 0, None, closed="neither")],
        "red_cell_radius": [None, Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [None, Integral],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        cells: str = "central",
        *,
        method: str = "auto",
        um_per_pixel: float | None = None,
        red_cell_radius: float | None = None,
        max_epochs: int = 30,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.cells = cells
        self.method = method
        self.um_per_pixel = um_per_pixel
        self.red_cell_radius = red_cell_radius
        self.max_epochs = max_epochs
        self.n_jobs = n_jobs
        self.random_state = random_state

    @checked_fit
    def fit(self, X: Any, y: Any = None, masks: Any = None) -> Self:
        """Choose the method; fine-tune the network where masks are given.

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
        fields = self.cells == "all"
        if fields and self.method not in {"auto", "network"}:
            raise ValueError(
                f'method={self.method!r} is for single cells; cells="all" takes method="network".'
            )
        if masks is not None and self.method == "voters":
            raise ValueError(
                'method="voters" learns nothing; use method="auto" with masks, or leave masks out.'
            )
        self.net_ = None if masks is None else self._trained(X, _check_maps(masks, X, "masks"))
        self.method_ = ("network" if fields else "both") if self.method == "auto" else self.method
        return self

    def _trained(self, X: NDArray[Any], masks: list[NDArray[Any]]) -> Any:
        if self.cells == "all":
            from hemaest.segmentation._field_training import fine_tune_fields

            return fine_tune_fields(
                X, masks, scale=self._scale(), epochs=self.max_epochs,
                random_state=self.random_state,
            )  # fmt: skip
        from hemaest.segmentation._training import fine_tune

        return fine_tune(X, masks, epochs=self.max_epochs, random_state=self.random_state)

    def _scale(self) -> Any:
        from hemaest.segmentation._fields import Scale

        return Scale.given(self.um_per_pixel, self.red_cell_radius)

    def _segment(self, image: NDArray[np.uint8]) -> SegmentationResult:
        """Segment one image by the method in use."""
        image = paint_frame(rgb(image))
        if self.cells == "all":
            from hemaest.segmentation._fields import segment_field

            return segment_field(image, self._scale(), self.net_)
        if self.method_ == "voters":
            return segment_by_voters(image)
        from hemaest.segmentation._network import default_network, segment_by_network

        result = segment_by_network(default_network() if self.net_ is None else self.net_, image)
        return result if self.method_ == "network" else combine_with_voters(image, result)

    def _map(self, function: Any, X: NDArray[Any]) -> list[Any]:
        check_is_fitted(self)
        # the pool limits the threads of what is loaded when it starts
        if self.cells == "all":
            import hemaest.segmentation._fields  # noqa: F401
        elif self.method_ != "voters":
            import hemaest.segmentation._network  # noqa: F401
        return map_images(function, X, n_jobs=self.n_jobs)

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.dstack([rgb(image), self._segment(image).labels])

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the images with their cell map as fourth channel.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        images : uint8 array (n, H, W, 4) or 1-D object array
            A map that was there is replaced.
        """
        X = self._check_images(X)
        return pack(self._map(self._transform_image, X), dense=X.dtype != object)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the cell map of each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        maps : uint8 array (n, H, W) or 1-D object array
            Cell maps, see :mod:`hemaest.cellmap`.
        """
        X = self._check_images(X)
        return pack(
            self._map(lambda image: self._segment(image).labels, X), dense=X.dtype != object
        )

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
        return pack(
            self._map(lambda image: self._segment(image).probabilities(), X),
            dense=X.dtype != object,
        )

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
        X = self._check_images(X)
        return pd.DataFrame(self._map(lambda image: quality_row(self._segment(image)), X))

    def score(self, X: Any, y: Any = None, masks: Any = None) -> float:
        """Return the mean Dice of nucleus and cell against true maps.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array or sequence of n cell maps
            The truth.
        masks : array or sequence of n cell maps, optional
            The truth where ``y`` holds something else, such as the types of the cells.

        Returns
        -------
        dice : float
        """
        truth, name = (y, "y") if masks is None else (masks, "masks")
        if truth is None:
            raise ValueError("score needs the true cell map of each image, as y or as masks.")
        X = self._check_images(X)
        values = []
        for labels, true in zip(self.predict(X), _check_maps(truth, X, name), strict=True):
            nuclei = dice(cellmap.nuclei(labels), cellmap.nuclei(true))
            values.append((nuclei + dice(labels > 0, true > 0)) / 2)
        return float(np.mean(values))


def _check_maps(maps: Any, X: NDArray[Any], name: str) -> list[NDArray[Any]]:
    """Return the true maps as a list; each must fit its image."""
    if len(maps) != len(X):
        raise ValueError(f"{name} has {len(maps)} items, X has {len(X)}; give one for each image.")
    return [
        cellmap.check(labels, shape=image.shape[:2], name=f"{name}[{i}]")
        for i, (labels, image) in enumerate(zip(maps, iter_arrays(X), strict=True))
    ]


def quality_row(result: SegmentationResult) -> dict[str, Any]:
    """Return one row of the quality table."""
    nucleus, cell = cellmap.nuclei(result.labels), result.labels > 0
    n_cells = cellmap.n_cells(result.labels)
    areas = int(nucleus.sum()), int(cell.sum())
    fractions = areas[0] / nucleus.size, areas[1] / cell.size
    edge = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
    border = float(edge.mean())
    problems = []
    if n_cells == 0:
        problems.append("nothing found")
    else:
        if n_cells == 1 and not NUCLEUS_RANGE[0] <= fractions[0] <= NUCLEUS_RANGE[1]:
            problems.append("nucleus area outside the plausible range")
        if n_cells == 1 and not CELL_RANGE[0] <= fractions[1] <= CELL_RANGE[1]:
            problems.append("cell area outside the plausible range")
        if result.agreement < MIN_AGREEMENT:
            problems.append("the methods disagree")
        if n_cells == 1 and border > MAX_BORDER:
            problems.append("touches the border")
    return {
        "trusted": not problems,
        "problems": "; ".join(problems),
        "n_cells": n_cells,
        "nucleus_fraction": fractions[0],
        "cell_fraction": fractions[1],
        "nc_ratio": areas[0] / areas[1] if areas[1] else float("nan"),
        "agreement": result.agreement,
        "border_share": border,
    }
