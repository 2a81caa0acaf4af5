"""The scale of a slide, and which of its tiles are worth looking at.

The thumbnail shows where cells lie and where they lie too thick; a piece of each tile shows whether
it is sharp. Used by ``count_slide``.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._parallel import map_items
from hemaest.images import to_object_array
from hemaest.scale._slide import Slide

__all__ = ["find_scale", "grid_of", "with_focus"]

RED_CELL_RADIUS_UM = 3.7


def find_scale(
    slide: Slide, thumbnail: NDArray[np.uint8], detector: Any
) -> tuple[float | None, str]:
    """Return micrometers a pixel and their source; red cells say where the file does not."""
    if slide.um_per_pixel is not None:
        return slide.um_per_pixel, slide.scale_source
    side = 1024
    import cv2

    width, height = slide.size
    covered = _tissue(thumbnail)
    places = np.argwhere(cv2.erode(covered.astype(np.uint8), np.ones((3, 3))))
    if not len(places):
        places = np.argwhere(np.ones(covered.shape, bool))
    step = max(1, len(places) // 9)
    fields = []
    for row, column in places[step // 2 :: step][:9]:
        x = int(column * width / covered.shape[1]) - side // 2
        y = int(row * height / covered.shape[0]) - side // 2
        fields.append(
            slide.read(
                min(max(x, 0), max(width - side, 0)), min(max(y, 0), max(height - side, 0)),
                min(side, width), min(side, height),
            )
        )  # fmt: skip
    radius = detector.count(to_object_array(fields))["red_cell_radius"].median()
    if not np.isfinite(radius) or radius <= 0:
        return None, "unknown"
    return RED_CELL_RADIUS_UM / float(radius), "red cells"


def _tissue(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where the thumbnail shows something: darker than the glass around it."""
    light = np.percentile(thumbnail.reshape(-1, 3), 95, axis=0)
    density = np.log((light + 1) / (thumbnail.astype(float) + 1)).max(axis=2)
    return density > max(0.04, 0.25 * float(np.percentile(density, 90)))


def grid_of(
    slide: Slide, thumbnail: NDArray[np.uint8], factor: float, tile_size: int, max_tissue: float
) -> pd.DataFrame:
    """Return the grid of tiles with the share of each that is covered."""
    width, height = slide.size
    side = round(tile_size * factor)
    covered = _tissue(thumbnail).astype(np.float32)
    rows = []
    for y in range(0, height, side):
        for x in range(0, width, side):
            w, h = min(side, width - x), min(side, height - y)
            x0, x1 = (int(v * covered.shape[1] / width) for v in (x, x + w))
            y0, y1 = (int(v * covered.shape[0] / height) for v in (y, y + h))
            part = covered[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
            tissue = float(part.mean()) if part.size else 0.0
            reason = "" if tissue else "empty"  # one cell alone covers very little
            rows.append((x, y, w, h, tissue, reason))
    tiles = pd.DataFrame(rows, columns=["x", "y", "width", "height", "tissue", "reason"])
    # on a small slide a pixel of the thumbnail may lie inside one cell: then it says nothing
    if thumbnail.shape[1] * 20 < width:
        tiles.loc[tiles["tissue"] > max_tissue, "reason"] = "too thick"
    tiles["used"] = tiles["reason"] == ""
    return tiles


def with_focus(
    slide: Slide, tiles: pd.DataFrame, factor: float, least: float, n_jobs: int | None
) -> pd.DataFrame:
    """Measure how sharp each tile is, relative to the slide; leave out the blurred."""
    import cv2

    def sharpness(number: int) -> float:
        tile = tiles.loc[number]
        side = min(int(tile["width"]), int(tile["height"]), round(512 * factor))
        x = int(tile["x"] + (tile["width"] - side) / 2)
        y = int(tile["y"] + (tile["height"] - side) / 2)
        gray = slide.read(x, y, side, side, downsample=factor).astype(np.float32).mean(axis=2)
        contrast = float(cv2.GaussianBlur(gray, (0, 0), 2).std())
        detail = float((gray - cv2.GaussianBlur(gray, (0, 0), 1)).std())
        return detail / max(contrast, 1.0)

    used = tiles.index[tiles["used"]].to_numpy()
    values = map_items(sharpness, used, n_jobs=n_jobs)
    tiles["focus"] = np.nan
    if len(used):
        tiles.loc[used, "focus"] = np.array(values) / max(float(np.median(values)), 1e-9)
    blurred = tiles["focus"] < least
    tiles.loc[blurred, "reason"] = "out of focus"
    tiles["used"] = tiles["reason"] == ""
    return tiles
