"""From a cell map to rows: find the cells, measure them, and sum up fields with several.

A family of features measures one cell; everything else (which cell, what to do with many, flags,
names) is here, once for all extractors of :mod:`hemaest.features._extractors`.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest import cellmap
from hemaest._numba import kernel
from hemaest._parallel import map_images
from hemaest.base import FeatureExtractor, StrOptions
from hemaest.images import Channels, check_images

VALUES = np.arange(256, dtype=np.uint8)
CELL_OF = cellmap.cells(VALUES).astype(np.int64)
IS_NUCLEUS = cellmap.nuclei(VALUES).astype(np.int64)

MISSING = {
    "cell_missing": "1 where the map holds no cell (all other features are then NaN), else 0",
    "nucleus_missing": "1 where the cell has no nucleus (its features are then NaN), else 0",
}


@dataclass(frozen=True)
class Family:
    """Names with their one-line definitions, and the function that measures one cell.

    ``measure(image, k, box, out)`` writes one value per definition; ``box`` is the half-open
    (y0, x0, y1, x1) of cell ``k`` in the map.
    """

    definitions: dict[str, str]
    measure: Callable[[NDArray[np.uint8], int, NDArray[np.int64], NDArray[np.float64]], None]


def cell_table(cell_map: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return one row for each cell: k, y0, x0, y1, x1, cytoplasm area, nucleus area."""
    return _cell_table(cell_map, CELL_OF, IS_NUCLEUS)


@kernel(fastmath=False)
def _cell_table(cell_map, cell_of, is_nucleus):
    """Return one row for each cell: k, y0, x0, y1, x1 (half-open), cytoplasm and nucleus area."""
    height, width = cell_map.shape
    found = np.zeros((129, 7), np.int64)
    found[:, 1] = height
    found[:, 2] = width
    for y in range(height):
        x = 0
        while x < width:
            value = cell_map[y, x]
            start = x
            while x < width and cell_map[y, x] == value:
                x += 1
            if value:
                k = cell_of[value]
                found[k, 1] = min(found[k, 1], y)
                found[k, 2] = min(found[k, 2], start)
                found[k, 3] = y + 1
                found[k, 4] = max(found[k, 4], x)
                found[k, 5 + is_nucleus[value]] += x - start
    n = 0
    for k in range(1, 129):
        if found[k, 3]:
            for c in range(1, 7):
                found[n, c] = found[k, c]
            found[n, 0] = k
            n += 1
    return found[:n].copy()


def central(table: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the row of the cell whose box is centered nearest to the middle of the image."""
    if len(table) == 1:
        return table[0]
    dy = table[:, 1] + table[:, 3] - shape[0]
    dx = table[:, 2] + table[:, 4] - shape[1]
    return table[np.argmin(dy * dy + dx * dx)]


def summarize(values: NDArray[np.float64], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the area-weighted mean, the spread and the maximum of each column, NaN left out."""
    known = ~np.isnan(values)
    weights = areas[:, None] * known
    filled = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=0)
        mean = (weights * filled).sum(axis=0) / total
        spread = np.sqrt((weights * (filled - mean) ** 2).sum(axis=0) / total)
    top = np.where(known, values, -np.inf).max(axis=0)
    return np.concatenate([mean, spread, np.where(known.any(axis=0), top, np.nan)])


class CellFeatures(FeatureExtractor):
    """Template of an extractor that reads the cell map; a leaf writes ``_families``."""

    _channels: ClassVar[Channels] = "map"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cells": [StrOptions({"central", "all"})],
        "n_jobs": [Integral, None],
    }

    def __init__(self, *, cells: str = "central", n_jobs: int | None = None) -> None:
        self.cells = cells
        self.n_jobs = n_jobs

    @abstractmethod
    def _families(self) -> list[Family]:
        """Return the families of features, which depend on the parameters only."""

    def _cell_names(self) -> list[str]:
        return [name for family in self._families() for name in family.definitions]

    def _feature_names(self) -> list[str]:
        names = self._cell_names()
        if self.cells == "all":
            names = ["cell_count"] + [f"{n}_{s}" for s in ("mean", "std", "max") for n in names]
        return [*names, *MISSING]

    def _measure(self, image: NDArray[np.uint8], table: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features of each cell in the table, without flags."""
        families = self._families()
        widths = [len(family.definitions) for family in families]
        values = np.full((len(table), sum(widths)), np.nan)
        for row, out in zip(table, values, strict=True):
            start = 0
            for family, width in zip(families, widths, strict=True):
                family.measure(image, int(row[0]), row[1:5], out[start : start + width])
                start += width
        return values

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        table = cell_table(image[..., 3])
        if len(table) == 0:
            nothing = np.full(len(self._feature_names()), np.nan)
            nothing[-2:] = 1
            if self.cells == "all":
                nothing[0] = 0
            return nothing
        if self.cells == "central":
            row = central(table, image.shape[:2])[None]
            return np.append(self._measure(image, row)[0], [0.0, float(row[0, 6] == 0)])
        values = summarize(self._measure(image, table), table[:, 5] + table[:, 6])
        flags = [0.0, float((table[:, 6] == 0).all())]
        return np.concatenate([[len(table)], values, flags])

    def table(self, X: Any, *, per_cell: bool = False) -> pd.DataFrame:
        """Return the features as a table, of images or of the cells in them.

        Parameters
        ----------
        X : images with a cell map
            As :func:`hemaest.images.check_images` takes them.
        per_cell : bool, default=False
            False gives the rows of ``transform``. True gives one row for every cell of every
            image, with its provenance: ``image`` (position in X), ``cell`` (k in the map) and the
            half-open box ``y0, x0, y1, x1``.

        Returns
        -------
        table : DataFrame
        """
        check_is_fitted(self)
        self._validate_params()
        if not per_cell:
            return pd.DataFrame(np.asarray(self.transform(X)), columns=self._feature_names())
        X = check_images(X, channels="map", estimator=self)

        def measure(image: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
            found = cell_table(image[..., 3])
            return found, self._measure(image, found)

        parts = map_images(measure, X, n_jobs=self.n_jobs)
        found = np.concatenate([part[0] for part in parts])
        table = pd.DataFrame(np.concatenate([part[1] for part in parts]))
        table.columns = pd.Index(self._cell_names())
        table["nucleus_missing"] = (found[:, 6] == 0).astype(float)
        where = pd.DataFrame(found[:, :5], columns=["cell", "y0", "x0", "y1", "x1"])
        where.insert(0, "image", np.repeat(np.arange(len(X)), [len(part[0]) for part in parts]))
        return pd.concat([where, table], axis=1)
