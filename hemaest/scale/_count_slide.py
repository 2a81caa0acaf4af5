"""Find and name the leukocytes of a whole slide, tile by tile.

The slide is cut into tiles that own what has its center in them; each is read with a margin, so a
cell at a seam is seen whole by both neighbors and kept by one. Tiles without cells, out of focus
or too thick are left out and listed with the reason.
"""

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._files import write_whole
from hemaest._parallel import map_items
from hemaest._progress import track
from hemaest.base import labels_and_probabilities
from hemaest.images import to_object_array
from hemaest.scale._slide import Slide
from hemaest.scale._tiles import find_scale, grid_of, with_focus
from hemaest.segmentation import SmearDetector

__all__ = ["SlideCount", "count_slide"]

# a leukocyte is at most about 30 micrometers wide; the margin shows the largest whole
MARGIN_UM = 24.0
# the scale at which the detector looks, so that a slide is shrunk once, and that of crops; on the
# fields of bccd it finds 369 of 372 leukocytes at 0.4 (10 false), 371 at 0.3 (13 false)
WORKING_UM_PER_PIXEL = 0.4
CROP_UM_PER_PIXEL = 0.2
BOX = ["x0", "y0", "x1", "y1"]


@dataclass(frozen=True)
class SlideCount:
    """The leukocytes of a slide.

    Parameters
    ----------
    cells : DataFrame
        A row for each cell: ``x0``, ``y0``, ``x1``, ``y1`` in pixels of full resolution,
        ``score``, ``tile``, and with a classifier ``label``, ``confidence`` and the probabilities.
    tiles : DataFrame
        A row for each tile: place, ``tissue`` (share of the tile that is covered), ``focus``
        (relative to the slide's median), ``used``, ``reason`` where it was left out, ``n_cells``.
    differential : DataFrame or None
        The count by type with intervals.
    um_per_pixel : float or None
        Scale of the slide.
    scale_source : str
        Where the scale is from: "given", "file", "red cells" or "unknown".
    thumbnail : uint8 array
        The slide, small.
    size : tuple of int
        Width and height at full resolution.
    finished : bool
        False where counting stopped because the interval was narrow enough.

    Examples
    --------
    :func:`count_slide` makes them:

    >>> from hemaest.scale import SlideCount
    >>> "differential" in SlideCount.__dataclass_fields__
    True
    """

    cells: pd.DataFrame
    tiles: pd.DataFrame
    differential: pd.DataFrame | None
    um_per_pixel: float | None
    scale_source: str
    thumbnail: NDArray[np.uint8] = field(repr=False)
    size: tuple[int, int]
    finished: bool = True

    def plot(self, *, ax: Any = None) -> Any:
        """Draw where the cells lie, and which tiles were left out.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Drawn on. None makes a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle

        if ax is None:
            _, ax = plt.subplots(figsize=(8, 8 * self.size[1] / self.size[0] + 0.6))
        width, height = self.size
        ax.imshow(self.thumbnail, extent=(0, width, height, 0))
        for tile in self.tiles[~self.tiles["used"]].itertuples():
            ax.add_patch(
                Rectangle(
                    (tile.x, tile.y), tile.width, tile.height, color="#5b6470", alpha=0.35, lw=0
                )
            )
        x = (self.cells["x0"] + self.cells["x1"]) / 2
        y = (self.cells["y0"] + self.cells["y1"]) / 2
        ax.scatter(x, y, s=9, c="#d55e00", edgecolors="white", linewidths=0.3)
        ax.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        left = int((~self.tiles["used"]).sum())
        ax.set_title(f"{len(self.cells)} leukocytes; {left} of {len(self.tiles)} tiles left out")
        return ax

    def to_geojson(self, path: str | os.PathLike[str]) -> Path:
        """Write the cells as QuPath opens them.

        Parameters
        ----------
        path : path
            The file, ending in ``.geojson``.

        Returns
        -------
        path : Path
        """
        features = []
        for cell in self.cells.to_dict("records"):
            x0, y0, x1, y1 = (float(cell[k]) for k in BOX)
            ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
            properties: dict[str, Any] = {
                "objectType": "detection",
                "measurements": {"score": float(cell["score"])},
            }
            if "label" in cell:
                properties["classification"] = {"name": str(cell["label"])}
            if "confidence" in cell:
                properties["measurements"]["confidence"] = float(cell["confidence"])
            features.append(
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [ring]},
                    "properties": properties,
                }
            )
        content = {"type": "FeatureCollection", "features": features}
        return write_whole(path, json.dumps(content).encode())


def count_slide(
    slide: Slide | str | os.PathLike[str],
    *,
    detector: Any = None,
    classifier: Any = None,
    counter: Any = None,
    um_per_pixel: float | None = None,
    tile_size: int = 1440,
    min_focus: float = 0.25,
    max_tissue: float = 0.97,
    stop_width: float | None = None,
    target: str | None = None,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> SlideCount:
    """Find the leukocytes of a whole slide, name them and count them.

    Parameters
    ----------
    slide : Slide or path
        The slide.
    detector : fitted SmearDetector, optional
        Finds the leukocytes. None: ``SmearDetector()``.
    classifier : fitted classifier, optional
        Names the crops of the cells.
    counter : fitted DifferentialCounter, optional
        Turns the names into percentages with intervals. It needs the classifier.
    um_per_pixel : float, optional
        Scale of the slide, where the file does not say. Without any it is measured from the red
        cells.
    tile_size : int, default=1440
        Side of a tile in pixels of the working resolution (0.4 micrometers a pixel, or that of the
        slide where it is coarser). The default is the largest that the detector sees at once.
    min_focus : float, default=0.25
        Tiles whose sharpness is below this share of the slide's median are left out.
    max_tissue : float, default=0.97
        Tiles that are covered by more than this are too thick to separate cells.
    stop_width : float, optional
        Count on until the interval of `target` is narrower than this many percentage points. Tiles
        are then taken in random order. It needs a counter and a target.
    target : str, optional
        The type whose interval decides when to stop.
    n_jobs : int, optional
        Tiles that are worked on at once. None: all available threads.
    random_state : int, RandomState instance or None, default=None
        The order of the tiles with `stop_width`.

    Returns
    -------
    result : SlideCount

    Examples
    --------
    >>> import tempfile
    >>> import tifffile
    >>> from hemaest.datasets import make_smear
    >>> from hemaest.scale import count_slide
    >>> smear = make_smear(640, n_cells=4, random_state=0)
    >>> path = tempfile.mkdtemp() + "/slide.tif"
    >>> tifffile.imwrite(path, smear.image, tile=(256, 256), photometric="rgb")
    >>> result = count_slide(path, um_per_pixel=0.2, tile_size=240)
    >>> len(result.tiles), result.scale_source
    (4, 'given')
    """
    if not isinstance(slide, Slide):
        slide = Slide(slide, um_per_pixel=um_per_pixel)
    _check(tile_size, stop_width, target, classifier, counter)
    detector = detector if detector is not None else SmearDetector().fit(_blank())
    thumbnail = slide.thumbnail()
    scale, source = find_scale(slide, thumbnail, detector)
    factor = max(1.0, WORKING_UM_PER_PIXEL / scale) if scale else 1.0
    if scale and isinstance(detector, SmearDetector) and not _knows_scale(detector):
        # otherwise each tile would be measured for itself
        detector = copy.copy(detector).set_params(um_per_pixel=scale * factor)
    tiles = grid_of(slide, thumbnail, factor, tile_size, max_tissue)
    tiles = with_focus(slide, tiles, factor, min_focus, n_jobs)
    margin = MARGIN_UM / scale if scale else 0.15 * tile_size * factor
    finer = max(1.0, CROP_UM_PER_PIXEL / scale) if scale else 1.0
    work = _Work(slide, detector, classifier, factor, round(margin), finer, scale)
    order = np.flatnonzero(tiles["used"].to_numpy())
    if stop_width is not None:
        order = np.random.default_rng(_seed(random_state)).permutation(order)
    cells, done, table = _count(work, tiles, order, counter, stop_width, target, n_jobs)
    left = ~tiles.index.isin(done) & tiles["used"]
    tiles.loc[left, ["used", "reason"]] = [False, "not needed"]
    tiles["n_cells"] = cells["tile"].value_counts().reindex(tiles.index, fill_value=0)
    return SlideCount(
        cells, tiles, table, scale, source, thumbnail, slide.size, finished=not left.any()
    )


def _check(
    tile_size: int, stop_width: float | None, target: str | None, classifier: Any, counter: Any
) -> None:
    if tile_size < 128:
        raise ValueError(f"tile_size is {tile_size}; it must be at least 128 pixels.")
    if counter is not None and classifier is None:
        raise ValueError("a counter needs the classifier whose names it counts.")
    if stop_width is not None and (counter is None or target is None):
        raise ValueError("stop_width needs a counter, and the target whose interval decides.")


def _knows_scale(detector: SmearDetector) -> bool:
    return detector.um_per_pixel is not None or detector.red_cell_radius is not None


def _seed(random_state: Any) -> int | None:
    from sklearn.utils import check_random_state

    if random_state is None:
        return None
    return int(check_random_state(random_state).randint(2**31 - 1))


def _blank() -> NDArray[np.uint8]:
    """Return what the detector is fitted on: without boxes it learns nothing from images."""
    return np.full((1, 64, 64, 3), 235, np.uint8)


# ---------------------------------------------------------------------------------- the work


@dataclass(frozen=True)
class _Work:
    """What is done to each tile."""

    slide: Slide
    detector: Any
    classifier: Any
    factor: float
    margin: int
    crop_factor: float
    um_per_pixel: float | None


def _count(
    work: _Work,
    tiles: pd.DataFrame,
    order: NDArray[np.intp],
    counter: Any,
    stop_width: float | None,
    target: str | None,
    n_jobs: int | None,
) -> tuple[pd.DataFrame, list[int], pd.DataFrame | None]:
    """Work through the tiles, in groups where a narrow interval may end it."""
    group = 256 if stop_width is None else 16
    found: list[pd.DataFrame] = []
    done: list[int] = []
    table = None
    for start in track(range(0, len(order), group), "Tiles", -(-len(order) // group)):
        numbers = [int(n) for n in order[start : start + group]]
        rows = [tiles.loc[n] for n in numbers]
        found += map_items(lambda n, row: _cells_of(work, n, row), numbers, rows, n_jobs=n_jobs)
        done += numbers
        if stop_width is not None:
            table = _differential(_merged(found, work.margin), counter)
            if table is not None and target in table.index:
                width = table.loc[target, "high"] - table.loc[target, "low"]
                if width < stop_width:
                    break
    cells = _merged(found, work.margin)
    return cells, done, _differential(cells, counter)


def _cells_of(work: _Work, number: int, tile: Mapping[str, Any]) -> pd.DataFrame:
    """Return the cells whose center lies in a tile, or so near that a neighbor may miss them."""
    x, y = int(tile["x"]) - work.margin, int(tile["y"]) - work.margin
    width, height = int(tile["width"]) + 2 * work.margin, int(tile["height"]) + 2 * work.margin
    image = work.slide.read(x, y, width, height, downsample=work.factor)
    found = work.detector.detect_cells(to_object_array([image]))
    table = found.table[[*BOX, "score"]].copy()
    table[BOX] *= work.factor
    table[["x0", "x1"]] += x
    table[["y0", "y1"]] += y
    table["tile"] = number
    near = 0.1 * work.margin  # what both tiles see a little differently, both keep
    cx, cy = (table["x0"] + table["x1"]) / 2, (table["y0"] + table["y1"]) / 2
    own = (
        (cx >= tile["x"] - near) & (cx < tile["x"] + tile["width"] + near)
        & (cy >= tile["y"] - near) & (cy < tile["y"] + tile["height"] + near)
    ).to_numpy()  # fmt: skip
    table = table[own].reset_index(drop=True)
    if work.classifier is not None and len(table):
        crops = to_object_array([_crop(work, box) for box in table[BOX].to_numpy()])
        um = work.um_per_pixel and work.um_per_pixel * work.crop_factor
        table["label"], probabilities = labels_and_probabilities(
            work.classifier, crops, um_per_pixel=um
        )
        if probabilities is not None:
            table["confidence"] = probabilities.max(axis=1)
            names = [f"p_{name}" for name in work.classifier.classes_]
            table[names] = probabilities
    return table


def _crop(work: _Work, box: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Read a cell, finer than the detector saw it, with the detector's margin around it."""
    more = getattr(work.detector, "margin", 0.15) * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = (int(np.floor(v - more)) for v in box[:2])
    x1, y1 = (int(np.ceil(v + more)) for v in box[2:])
    return work.slide.read(x0, y0, x1 - x0, y1 - y0, downsample=work.crop_factor)


def _merged(found: list[pd.DataFrame], margin: int) -> pd.DataFrame:
    """Join the tables of the tiles; of a cell that two tiles kept the better one stays."""
    filled = [table for table in found if len(table)]
    if not filled:
        return pd.DataFrame(columns=[*BOX, "score", "tile"]).astype({"tile": int})
    cells = pd.concat(filled, ignore_index=True)
    cells = cells.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    box = cells[BOX].to_numpy()
    center = np.column_stack([(box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2])
    side = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    tile = cells["tile"].to_numpy()
    from scipy.spatial import cKDTree

    kept = np.ones(len(cells), bool)
    pairs = cKDTree(center).query_pairs(max(margin / 2, 1.0), output_type="ndarray")
    for i, j in sorted(map(tuple, np.sort(pairs, axis=1))):  # by score: i before j
        close = np.hypot(*(center[i] - center[j])) < 0.35 * min(side[i], side[j])
        if kept[i] and kept[j] and tile[i] != tile[j] and close:
            kept[j] = False
    return cells[kept].sort_values(["y0", "x0"], kind="stable", ignore_index=True)


def _differential(cells: pd.DataFrame, counter: Any) -> pd.DataFrame | None:
    if counter is None or not len(cells):
        return None
    return counter.count(cells[[f"p_{c}" for c in counter.classes_]].to_numpy(float))
