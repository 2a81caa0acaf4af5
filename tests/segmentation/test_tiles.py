"""Large fields: their scale is measured in windows, and tiles see what one look sees."""

import numpy as np
import pytest

from hemaest import cellmap
from hemaest.datasets import make_smear
from hemaest.nets.fieldnet import shipped_field_net
from hemaest.segmentation import CellSegmenter, SmearDetector
from hemaest.segmentation._fields import Scale, find_field, find_tiled, measure_scale, tiles
from hemaest.segmentation._smear import iou, match_boxes


@pytest.fixture(scope="module")
def smear():
    return make_smear((700, 2200), n_cells=14, random_state=2)


@pytest.mark.parametrize("size", [(100, 100), (257, 1000), (3, 2)])
def test_cores_part_the_picture(size):
    seen = np.zeros(size, int)
    for core, view in tiles(size, 90, 7):
        seen[core] += 1
        for inner, outer, n in zip(core, view, size, strict=True):
            assert outer.start == max(0, inner.start - 7) and outer.stop == min(n, inner.stop + 7)
    assert (seen == 1).all()


def test_a_large_field_is_found_in_tiles(smear):
    field, scale = find_field(smear.image)
    assert scale.source == "red cells" and abs(np.log2(scale.um_per_pixel / 0.2)) < 0.6
    assert len(match_boxes(field.boxes, smear.boxes.astype(float))) == len(smear.boxes)
    labels = field.segmentation.labels
    for box, number in zip(field.boxes, field.owners, strict=True):
        ys, xs = np.nonzero(cellmap.cells(labels) == number)
        np.testing.assert_array_equal(box[:4], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    np.testing.assert_array_equal(labels > 0, (labels > 0) & (field.segmentation.cell > 0.5))


def test_tiles_see_what_one_look_sees(smear):
    part = np.ascontiguousarray(smear.image[:, 300:1300])
    whole, _ = find_field(part, Scale(0.2, "given", 0.0))
    tiled = find_tiled(part, shipped_field_net(), 0.2, side=400)
    overlap = iou(whole.boxes, tiled.boxes)
    assert len(whole.boxes) == len(tiled.boxes)
    assert (overlap.max(axis=1) > 0.8).all()
    assert abs(len(tiled.red_cell_places) / len(whole.red_cell_places) - 1) < 0.15


@pytest.mark.parametrize("um_per_pixel", [0.12, 0.3, 0.7])
def test_the_scale_is_read_from_the_field(um_per_pixel):
    seen = []
    for seed in range(3):
        image = make_smear((600, 800), micrometres_per_pixel=um_per_pixel, random_state=seed).image
        seen.append(measure_scale(image, shipped_field_net()).um_per_pixel)
    assert abs(np.log2(np.median(seen) / um_per_pixel)) < 0.5


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
