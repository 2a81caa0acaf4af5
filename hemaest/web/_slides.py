"""Whole slides on the page: what is found on them, and the tiles that the browser shows.

The workers call :func:`analyze_slide`; the routes read tiles and cells through
:class:`OpenSlides`. Counting itself is that of :func:`hemaest.scale.count_slide`.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest.clinical.reading import familiar_cells, field_warnings
from hemaest.images import to_object_array
from hemaest.scale import Slide, SlideCount, count_slide
from hemaest.segmentation import SmearDetector
from hemaest.web._analysis import FieldAnalyzer, describe_cell

__all__ = ["TILE", "OpenSlides", "analyze_slide"]

TILE = 512
KEPT_OPEN = 4
BATCH = 32
WORKING_UM_PER_PIXEL = 0.2
UNKNOWN_SCALE = "no scale in the file, and too few red cells to measure it"


def analyze_slide(
    analyzer: FieldAnalyzer, path: str | Path, report: Callable[[int], None]
) -> dict[str, Any]:
    """Return size, warnings and cells of a slide, as ``FieldAnalyzer.analyze`` does of a field.

    Parameters
    ----------
    analyzer : FieldAnalyzer
        Its detector and its classifier do the work.
    path : path
        The slide.
    report : callable
        Called with the number of tiles that are done, after each.
    """
    with Slide(path) as slide:
        detector = _Reporting(analyzer.detector, report)
        found = count_slide(slide, detector=detector, classifier=analyzer.classifier)
        cells: list[dict[str, Any]] = []
        for start in range(0, len(found.cells), BATCH):
            cells += _described(analyzer, slide, found, found.cells.iloc[start : start + BATCH])
            report(len(found.tiles))
        width, height = slide.size
        warnings = _warnings(analyzer, slide, found)
    return {
        "width": width,
        "height": height,
        "warnings": warnings,
        "cells": cells,
        "model": analyzer.name,
    }


class _Reporting:
    """A detector that says how many tiles it has seen."""

    def __init__(self, detector: SmearDetector, report: Callable[[int], None]) -> None:
        self._detector, self._report = detector, report
        self._lock, self._n = threading.Lock(), 0

    def detect_cells(self, fields: Any) -> Any:
        found = self._detector.detect_cells(fields)
        with self._lock:
            self._n += len(fields)
            self._report(self._n)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)


def _described(
    analyzer: FieldAnalyzer, slide: Slide, found: SlideCount, rows: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return what the page shows of some cells: outlines, crops, nearest reference cells."""
    factor = _working_factor(found)
    scale = None if found.um_per_pixel is None else found.um_per_pixel * factor
    outliner = SmearDetector(um_per_pixel=scale).fit(np.full((1, 64, 64, 3), 235, np.uint8))
    corners, fields, crops = [], [], []
    for row in rows.itertuples():
        wide, high = row.x1 - row.x0, row.y1 - row.y0
        x, y = round(row.x0 - wide / 2), round(row.y0 - high / 2)
        field = slide.read(x, y, round(2 * wide), round(2 * high), downsample=factor)
        corners.append((x, y))
        fields.append(field)
        # the box with the margin of the detector
        top, left = (round(0.175 * n) for n in field.shape[:2])
        crops.append(field[top : field.shape[0] - top, left : field.shape[1] - left])
    outlines = outliner.detect_cells(to_object_array(fields))
    probabilities = rows[[f"p_{c}" for c in analyzer.classifier.classes_]].to_numpy(float)
    kept = to_object_array(crops)
    shown = analyzer.compared(kept, probabilities, familiar_cells(analyzer.classifier, kept))
    cells = []
    for i, row in enumerate(rows.to_dict("records")):
        nucleus, cell, x0, y0 = _middle_cell(outlines, i, fields[i])
        place = (corners[i][0] + factor * x0, corners[i][1] + factor * y0)
        cells.append(
            describe_cell(row, kept[i], (nucleus, cell), place, factor)
            | analyzer.named(probabilities[i])
            | shown[i]
        )
    return cells


def _middle_cell(
    outlines: Any, number: int, field: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float, float]:
    """Return nucleus and cell in the middle of a small field, and the corner of their masks."""
    nothing = np.zeros((1, 1), bool)
    table = outlines.table[outlines.table["field"] == number]
    height, width = field.shape[:2]
    away = np.hypot(
        (table["x0"] + table["x1"] - width) / 2, (table["y0"] + table["y1"] - height) / 2
    )
    if not len(table) or away.min() > 0.15 * max(height, width):
        return nothing, nothing, 0.0, 0.0
    best = away.idxmin()
    labels = outlines.maps[best]
    nucleus = np.asarray(cellmap.nuclei(labels)) > 0
    cell = nucleus | (np.asarray(cellmap.cytoplasm(labels)) > 0)
    row = outlines.table.loc[best]
    return nucleus, cell, float(row["crop_x0"]), float(row["crop_y0"])


def _working_factor(found: SlideCount) -> float:
    """Return how much smaller than the slide the pixels are in which ``count_slide`` sees it."""
    if found.um_per_pixel is None:
        return 1.0
    return max(1.0, WORKING_UM_PER_PIXEL / found.um_per_pixel)


def _warnings(analyzer: FieldAnalyzer, slide: Slide, found: SlideCount) -> list[str]:
    """Return what speaks against the slide: tiles left out, scale, light of the fullest tile."""
    warnings = []
    left = found.tiles[~found.tiles["used"] & (found.tiles["reason"] != "empty")]
    for reason, n in left["reason"].value_counts().items():
        warnings.append(f"{n} of {len(found.tiles)} tiles left out: {reason}")
    if found.scale_source == "unknown":
        warnings.append(UNKNOWN_SCALE)
    if len(found.cells):
        tile = found.tiles.loc[found.tiles["n_cells"].idxmax()]
        place = (int(tile[k]) for k in ("x", "y", "width", "height"))
        field = slide.read(*place, downsample=_working_factor(found))
        warnings += field_warnings(analyzer.detector.quality(to_object_array([field])))
    return warnings


class OpenSlides:
    """The slides that the page shows: a few stay open, since each view needs many tiles.

    Examples
    --------
    >>> import tempfile
    >>> import tifffile
    >>> from hemaest.web._slides import OpenSlides
    >>> path = tempfile.mkdtemp() + "/slide.tif"
    >>> tifffile.imwrite(path, np.full((600, 800, 3), 9, np.uint8), tile=(256, 256))
    >>> OpenSlides().tile(path, level=0, column=1, row=1).shape
    (88, 288, 3)
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, Slide] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def _slide(self, path: str | Path) -> Iterator[Slide]:
        with self._lock:
            slide = self._open.pop(str(path), None) or Slide(path)
            self._open[str(path)] = slide
            while len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)  # another request may read it: it closes unused
        yield slide

    def read(self, path: str | Path, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a part of a slide at full resolution."""
        with self._slide(path) as slide:
            return slide.read(x, y, width, height)

    def thumbnail(self, path: str | Path, side: int) -> NDArray[np.uint8]:
        """Return a slide reduced to a longest side."""
        with self._slide(path) as slide:
            return slide.thumbnail(side)

    def tile(self, path: str | Path, *, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Return a tile of a level; level k is reduced by 2**k. Those at the edges are smaller.

        Raises
        ------
        LookupError
            Where the slide has no such tile.
        """
        with self._slide(path) as slide:
            reach = TILE << level
            width, height = slide.size
            x, y = column * reach, row * reach
            if x >= width or y >= height:
                raise LookupError(f"there is no tile {level}/{column}/{row}.")
            across, down = min(reach, width - x), min(reach, height - y)
            return slide.read(x, y, across, down, downsample=2.0**level)

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            for slide in self._open.values():
                slide.close()
            self._open.clear()
