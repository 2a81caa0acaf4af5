"""Large fields: their scale is measured in windows, and tiles see what one look sees."""

import numpy as np
import pytest
from boxes import iou, n_matched

from hemaest import cellmap
from hemaest.datasets import make_smear
from hemaest.segmentation import CellSegmenter, SmearDetector


@pytest.fixture(scope="module")
def smear():
    return make_smear((700, 2200), n_cells=14, random_state=2)


def test_a_large_field_is_found_in_tiles(smear):
    detector = SmearDetector().fit([smear.image])
    (boxes,) = detector.predict([smear.image])
    row = detector.quality([smear.image]).iloc[0]
    assert row["scale_source"] == "red cells" and abs(np.log2(row["um_per_pixel"] / 0.2)) < 0.6
    # one cell may be missed: of a monocyte, drawn out to three arms, nothing is found
    assert n_matched(boxes, smear.boxes) >= len(smear.boxes) - 1 and len(boxes) <= 14
    (labels,) = CellSegmenter("all").fit([smear.image]).predict([smear.image])
    in_map = set()
    for number in range(1, cellmap.n_cells(labels) + 1):
        ys, xs = np.nonzero(cellmap.cells(labels) == number)
        in_map.add((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
    # the map holds what the detector is less sure of, too
    (boxes,) = SmearDetector(min_score=0).fit([smear.image]).predict([smear.image])
    assert {tuple(box[:4].astype(int)) for box in boxes} == in_map


def test_tiles_see_what_one_look_sees(smear, monkeypatch):
    part = np.ascontiguousarray(smear.image[:, 300:1300])
    detector = SmearDetector(um_per_pixel=0.2).fit([part])
    (whole,), seen = detector.predict([part]), detector.count([part])
    monkeypatch.setattr("hemaest.segmentation._fields.LARGEST", 400)
    monkeypatch.setattr("hemaest.segmentation._fields.TILE", 400)
    (tiled,), again = detector.predict([part]), detector.count([part])
    assert not np.array_equal(whole, tiled)
    for one, other in ((whole, tiled), (tiled, whole)):
        sure = one[one[:, 4] > 0.65]  # the edge of a tile may decide about the others
        assert len(sure) >= 4 and (iou(sure, other).max(axis=1) > 0.8).all()
    assert abs(again["red_cells"][0] / seen["red_cells"][0] - 1) < 0.15


@pytest.mark.parametrize("um_per_pixel", [0.12, 0.3, 0.7])
def test_the_scale_is_read_from_the_field(um_per_pixel):
    fields = [
        make_smear((600, 800), micrometres_per_pixel=um_per_pixel, random_state=seed).image
        for seed in range(3)
    ]
    seen = SmearDetector().fit(fields).quality(fields)["um_per_pixel"]
    assert abs(np.log2(seen.median() / um_per_pixel)) < 0.5


def test_more_cells_than_a_map_can_name():
    y, x = np.mgrid[:720, :720]
    off = np.hypot(y % 60 - 29.5, x % 60 - 29.5)
    image = np.full((720, 720, 3), (245, 228, 208), np.uint8)
    image[off < 19], image[off < 13] = (190, 188, 216), (95, 55, 140)
    between = np.hypot((y + 30) % 60 - 29.5, (x + 30) % 60 - 29.5) < 13
    image[between] = (225, 165, 160)
    detector = SmearDetector().fit([image])
    assert len(detector.predict([image])[0]) == 144
    crops = detector.detect_cells([image])
    assert len(crops.maps) == 144 and {m.max() for m in crops.maps} == {2}
    labels = CellSegmenter("all").fit([image]).predict([image])[0]
    assert labels.dtype == np.uint8 and labels.max() == 254
