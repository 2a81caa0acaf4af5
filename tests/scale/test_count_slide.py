"""Counting a slide: no cell is lost or counted twice at a seam; what is left out is listed."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tifffile
from sklearn.utils import Bunch

from hemaest.clinical import DifferentialCounter
from hemaest.datasets import make_smear
from hemaest.images import to_object_array
from hemaest.scale import Slide, count_slide
from hemaest.segmentation import SmearDetector


class SpotDetector:
    """Finds dark spots exactly, so that the seams alone decide what is found."""

    def detect_cells(self, X):
        import cv2

        rows, crops = [], []
        for image in X:
            dark = (image.max(axis=2) < 100).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(dark)
            for x, y, w, h, _ in stats[1:]:
                touches = x == 0 or y == 0 or x + w == image.shape[1] or y + h == image.shape[0]
                rows.append((x, y, x + w, y + h, 0.4 if touches else 0.9))
                crops.append(image[y : y + h, x : x + w])
        table = pd.DataFrame(rows, columns=["x0", "y0", "x1", "y1", "score"])
        return Bunch(images=to_object_array(crops), table=table.astype(float))


def spots(path, n, size=1500, radius=20, seed=0):
    """Write a slide of dark spots that do not touch; return their centers."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), 235, np.uint8)
    centers: list[np.ndarray] = []
    while len(centers) < n:
        center = rng.integers(radius, size - radius, 2)
        if all(np.hypot(*(center - c)) > 2 * radius + 4 for c in centers):
            centers.append(center)
            cv2.circle(image, tuple(int(v) for v in center), radius, (60, 40, 90), -1)
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb")
    return np.array(centers)


@pytest.mark.parametrize("tile_size", [130, 200, 511, 2000])
def test_no_cell_is_lost_or_counted_twice_at_a_seam(tmp_path, tile_size):
    centers = spots(tmp_path / "s.tif", 250)
    result = count_slide(
        tmp_path / "s.tif", detector=SpotDetector(), um_per_pixel=0.3, tile_size=tile_size,
        min_focus=0.0,
    )  # fmt: skip
    found = result.cells[["x0", "y0", "x1", "y1"]].to_numpy()
    middle = np.column_stack([(found[:, 0] + found[:, 2]) / 2, (found[:, 1] + found[:, 3]) / 2])
    assert len(found) == len(centers)
    away = np.hypot(*(middle[:, None] - centers[None]).transpose(2, 0, 1))
    assert (away.min(axis=1) < 3).all() and (away.min(axis=0) < 3).all()
    assert result.tiles["n_cells"].sum() == len(centers)
    assert result.finished and result.differential is None


def test_cells_that_lie_close_are_both_kept(tmp_path):
    import cv2

    image = np.full((600, 600, 3), 235, np.uint8)
    for x in (276, 322):  # on both sides of the seam at 300
        cv2.circle(image, (x, 300), 20, (60, 40, 90), -1)
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb")
    result = count_slide(
        tmp_path / "s.tif", detector=SpotDetector(), um_per_pixel=0.3, tile_size=300
    )
    assert len(result.cells) == 2


def test_empty_and_blurred_tiles_are_left_out_with_the_reason(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    image = np.full((1200, 1200, 3), 240, np.uint8)
    for _ in range(500):
        x, y = rng.integers(20, 1180, 2)
        if x < 780:
            cv2.circle(image, (int(x), int(y)), 14, (170, 120, 160), -1)
    image[:400, :400] = cv2.GaussianBlur(image[:400, :400], (0, 0), 12)
    tifffile.imwrite(tmp_path / "s.tif", image, tile=(256, 256), photometric="rgb")
    tiles = count_slide(
        tmp_path / "s.tif", detector=SpotDetector(), um_per_pixel=0.4, tile_size=400
    ).tiles
    reasons = {(t.x, t.y): t.reason for t in tiles.itertuples()}
    assert [reasons[800, y] for y in (0, 400, 800)] == ["empty"] * 3
    assert reasons[0, 0] == "out of focus"
    assert sum(r == "" for r in reasons.values()) == 5


class BySize:
    """Names spots without a doubt."""

    classes_ = np.array(["lymphocyte", "monocyte"])

    def predict_proba(self, X):
        return np.tile([0.8, 0.2], (len(X), 1))

    def predict(self, X):
        return np.array(["lymphoid"] * len(X))


def counter():
    rng = np.random.default_rng(0)
    y = np.repeat(["lymphocyte", "monocyte"], 150)
    p = np.where(y == "lymphocyte", 0.8, 0.2) + rng.normal(0, 0.05, 300)
    return DifferentialCounter().fit(np.column_stack([p, 1 - p]), y, groups=np.arange(300) % 15)


@pytest.mark.slow
def test_counting_stops_when_the_interval_is_narrow_enough(tmp_path):
    spots(tmp_path / "s.tif", 400, size=2600)
    options = {
        "detector": SpotDetector(), "classifier": BySize(), "counter": counter(),
        "um_per_pixel": 0.3, "tile_size": 130, "min_focus": 0.0, "random_state": 0,
    }  # fmt: skip
    whole = count_slide(tmp_path / "s.tif", **options)
    early = count_slide(tmp_path / "s.tif", stop_width=25.0, target="monocyte", **options)
    assert whole.finished and not early.finished
    assert len(early.cells) < len(whole.cells)
    row = early.differential.loc["monocyte"]
    assert row["high"] - row["low"] < 25.0
    assert (early.tiles["reason"] == "not needed").any()
    with pytest.raises(ValueError, match="stop_width needs"):
        count_slide(tmp_path / "s.tif", stop_width=2.0)


def test_results_are_drawn_and_opened_elsewhere(tmp_path):
    spots(tmp_path / "s.tif", 30, size=800)
    result = count_slide(
        tmp_path / "s.tif", detector=SpotDetector(), classifier=BySize(), um_per_pixel=0.3,
        tile_size=300,
    )  # fmt: skip
    features = json.loads(result.to_geojson(tmp_path / "s.geojson").read_text())["features"]
    assert len(features) == len(result.cells)
    assert set(result.cells["label"]) == {"lymphoid"} and set(result.cells["confidence"]) == {0.8}
    ring = features[0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] and features[0]["properties"]["classification"]["name"]
    ax = result.plot()
    assert len(ax.collections[0].get_offsets()) == len(result.cells)
    plt.close(ax.figure)


@pytest.mark.slow
def test_a_slide_gives_the_cells_that_the_field_detector_finds(tmp_path):
    smear = make_smear(1400, n_cells=14, random_state=4)
    tifffile.imwrite(tmp_path / "s.tif", smear.image, tile=(256, 256), photometric="rgb")
    detector = SmearDetector().fit(smear.image[None])
    whole = detector.predict(smear.image[None])[0]
    slide = Slide(tmp_path / "s.tif", um_per_pixel=0.2)
    tiled = count_slide(slide, detector=detector, tile_size=500).cells

    def middle(box):
        return np.column_stack([(box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2])

    true = middle(np.asarray(smear.boxes, float)[:, :4])
    for found in (whole, tiled[["x0", "y0", "x1", "y1"]].to_numpy()):
        away = np.hypot(*(middle(found)[:, None] - true[None]).transpose(2, 0, 1))
        assert (away.min(axis=0) < 15).mean() >= 0.9
    slide.close()
