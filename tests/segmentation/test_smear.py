"""The detector: boxes of drawn leukocytes, counts, crops that know where they come from."""

import numpy as np
import pandas as pd
import pytest
from boxes import iou, n_matched
from skimage.transform import resize

from hemaest.datasets import make_smear
from hemaest.datasets.unrelated import draw_unrelated
from hemaest.segmentation import SmearDetector

PLASMA, CYTOPLASM, NUCLEUS, RED_CELL = (
    (245, 228, 208),
    (190, 188, 216),
    (95, 55, 140),
    (225, 165, 160),
)
REDS = [(40, 60), (45, 250), (60, 150), (120, 40), (200, 50), (210, 160), (190, 290), (100, 300)]


def disk(shape, center, radius):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(yy - center[0], xx - center[1]) < radius


def draw_field(
    cells=((120, 110), (130, 220)), platelets=(), shape=(240, 320), seed=0, red=RED_CELL
):
    image = np.full((*shape, 3), PLASMA, float)
    for center in REDS:
        image[disk(shape, center, 18)] = red
        image[disk(shape, center, 6)] = np.add(red, PLASMA) / 2
    for center in platelets:
        image[disk(shape, center, 4)] = NUCLEUS
    for center in cells:
        image[disk(shape, center, 30)] = CYTOPLASM
    for center in cells:
        image[disk(shape, center, 21)] = NUCLEUS
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    boxes = np.array([[x - 29, y - 29, x + 30, y + 30] for y, x in cells], float).reshape(-1, 4)
    return np.clip(image + noise, 0, 255).astype(np.uint8), boxes


def test_all_leukocytes_are_found_where_they_are():
    field, truth = draw_field()
    (boxes,) = SmearDetector().fit([field]).predict([field])
    assert boxes.shape == (2, 5) and n_matched(boxes, truth, 0.8) == 2
    assert (np.diff(boxes[:, 4]) <= 0).all() and (boxes[:, 4] > 0.5).all()


@pytest.mark.parametrize("red", [RED_CELL, (205, 190, 150)])
def test_red_cells_of_any_colour_are_no_leukocytes(red):
    field, truth = draw_field(red=red)
    empty, _ = draw_field(cells=(), red=red)
    detector = SmearDetector().fit([field])
    found, none = detector.predict([field, empty])
    assert len(found) == 2 and n_matched(found, truth) == 2
    assert none.shape == (0, 5)


def test_touching_leukocytes_are_two():
    field, truth = draw_field(cells=((120, 130), (120, 186)))
    (boxes,) = SmearDetector().fit([field]).predict([field])
    assert len(boxes) == 2 and n_matched(boxes, truth, 0.7) == 2


def test_a_leukocyte_cut_by_the_border():
    field, _ = draw_field(cells=((120, 0), (120, 200)))
    (boxes,) = SmearDetector().fit([field]).predict([field])
    assert len(boxes) == 2 and boxes[:, 0].min() == 0


@pytest.mark.parametrize("scale", [0.5, 2.0, 6.0])
def test_the_magnification_does_not_matter(scale):
    field, truth = draw_field()
    size = (round(240 * scale), round(320 * scale))
    other = (255 * resize(field, size, anti_aliasing=True)).astype(np.uint8)
    (boxes,) = SmearDetector().fit([other]).predict([other])
    assert len(boxes) == 2 and n_matched(boxes, scale * truth, 0.7) == 2


@pytest.mark.parametrize("stain", ["wright", "leishman", "may-gruenwald-giemsa"])
def test_a_film_without_leukocytes_has_none(stain):
    films = [make_smear((240, 320), n_cells=0, stain=stain, random_state=k).image for k in range(3)]
    assert [len(boxes) for boxes in SmearDetector().fit(films).predict(films)] == [0, 0, 0]


def test_counts():
    smears = [make_smear((300, 400), n_cells=3, random_state=k) for k in range(12)]
    films = [smear.image for smear in smears]
    table = SmearDetector().fit(films).count(films)
    # a nucleus of two far lobes may be taken for two cells
    off = (table["leukocytes"] - 3).abs()
    assert (off == 0).sum() >= 11 and off.max() <= 1
    drawn = np.array([(smear.others.kind == "red_cell").sum() for smear in smears])
    # those that lie under others count as one: in rolls that is every other one
    gap = abs(np.log(table["red_cells"] / drawn))
    assert (gap[:4] < 0.35).all() and gap.median() < 0.2 and gap.max() < np.log(2)
    away = abs(np.log(table["red_cell_radius"] * 0.2 / 3.65))
    assert away.median() < 0.1 and away.max() < 0.35


def test_crops_know_their_place():
    fields = [draw_field()[0], draw_field(cells=())[0], draw_field(cells=((60, 200),), seed=1)[0]]
    cells = SmearDetector().fit(fields).detect_cells(fields)
    assert cells.groups.tolist() == [0, 0, 2] and len(cells.images) == len(cells.maps) == 3
    for crop, labels, row in zip(cells.images, cells.maps, cells.table.itertuples(), strict=True):
        place = np.s_[row.crop_y0 : row.crop_y1, row.crop_x0 : row.crop_x1]
        np.testing.assert_array_equal(crop, fields[row.field][place])
        assert labels.shape == crop.shape[:2] and set(np.unique(labels)) == {0, 1, 2}
        assert abs((labels > 0).sum() / (np.pi * 30**2) - 1) < 0.1


def test_transform_gives_the_best_cell_or_the_whole_field():
    field, _ = draw_field(cells=((120, 110),))
    empty, _ = draw_field(cells=())
    crop, whole = SmearDetector(margin=0).fit([field]).transform([field, empty])
    assert abs(np.array(crop.shape[:2]) - 60).max() <= 4
    np.testing.assert_array_equal(whole, empty)


@pytest.mark.parametrize("size", [8, 60])
def test_any_input_has_an_answer(size):
    rng = np.random.default_rng(0)
    X = np.stack(
        [
            np.zeros((size, size, 3), np.uint8),
            np.full((size, size, 3), 255, np.uint8),
            rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
        ]
    )
    detector = SmearDetector().fit(X)
    boxes = detector.predict(X)
    assert [b.shape for b in boxes[:2]] == [(0, 5)] * 2
    assert detector.count(X)["leukocytes"][:2].tolist() == [0, 0]
    assert len(detector.detect_cells(X[:2]).images) == 0
    assert len(detector.transform(X)) == 3


def test_boxes_train_the_edges():
    fields, truths = zip(*[draw_field(seed=s) for s in range(3)], strict=True)
    wider = [t + [-6, -6, 6, 6] for t in truths]
    plain = SmearDetector().fit(fields).predict(fields)
    fitted = SmearDetector().fit(fields, boxes=wider).predict(fields)
    before = np.mean([iou(p, w).max(axis=0).mean() for p, w in zip(plain, wider, strict=True)])
    after = np.mean([iou(p, w).max(axis=0).mean() for p, w in zip(fitted, wider, strict=True)])
    assert after > 0.93 > before


def test_wrong_boxes_are_refused_and_nothing_is_forgotten():
    field, truth = draw_field()
    detector = SmearDetector(n_jobs=np.int64(1)).fit([field], boxes=[truth + [-6, -6, 6, 6]])
    before = detector.predict([field])[0]
    with pytest.raises(ValueError, match="2 items, X has 1"):
        detector.fit([field], boxes=[truth, truth])
    with pytest.raises(ValueError, match="x1 must be larger"):
        detector.fit([field], boxes=[truth[:, [2, 1, 0, 3]]])
    with pytest.raises(ValueError, match=r"boxes\[0\] holds NaN"):
        detector.fit([field], boxes=[np.vstack([truth, [np.nan] * 4])])
    np.testing.assert_array_equal(detector.predict([field])[0], before)


def test_a_given_scale_is_obeyed():
    """With a pixel of 1 um, the detector takes these large cells for nothing of the kind."""
    field, truth = draw_field()
    for known in ({"um_per_pixel": 0.2}, {"red_cell_radius": 18}):
        (boxes,) = SmearDetector(**known).fit([field]).predict([field])
        assert n_matched(boxes, truth, 0.7) == len(boxes) == 2
    table = SmearDetector(um_per_pixel=1.0).fit([field]).quality([field])
    assert table.loc[0, "scale_source"] == "given" and table.loc[0, "um_per_pixel"] == 1.0
    assert "implausible radius of red cells" in table.loc[0, "warning"]
    with pytest.raises(ValueError, match="um_per_pixel"):
        SmearDetector(um_per_pixel=0).fit([field])


def test_quality_knows_films_from_what_is_none():
    films = [make_smear((300, 400), lab_effect=1.0, random_state=k).image for k in range(5)]
    rng = np.random.default_rng(0)
    others = [np.repeat(np.repeat(draw_unrelated(100, rng), 3, 0), 3, 1) for _ in range(8)]
    negatives = [255 - film for film in films]
    table = SmearDetector().fit(films).quality([*films, *others, *negatives])
    assert table.columns.tolist() == [
        "n_leukocytes", "um_per_pixel", "scale_source", "familiarity", "warning",
    ]  # fmt: skip
    assert table["familiarity"].between(0, 1).all()
    assert (table["warning"][:5] == "").mean() >= 0.8
    strange = table["warning"].str.contains("unlike the films") & (table["familiarity"] < 0.5)
    assert not strange[:5].any()
    assert strange[5:13].mean() >= 0.7
    assert strange[13:].all()
    assert (table["scale_source"][:5] == "red cells").all()


def test_quality_names_uneven_light_and_a_field_of_nothing():
    field, _ = draw_field()
    shade = np.linspace(0.3, 1, field.shape[1])[None, :, None]
    dark = (field * shade).astype(np.uint8)
    empty = np.full_like(field, 240)
    table = SmearDetector().fit([field]).quality([dark, empty])
    assert "uneven light" in table.loc[0, "warning"]
    assert "no cell that shows the scale" in table.loc[1, "warning"]


def test_every_laboratory():
    """Rendered fields of any laboratory that training did not draw: most cells, few others."""
    found = true = hits = 0
    for seed in range(900, 912):
        smear = make_smear(
            256, micrometres_per_pixel=0.25, n_cells=3, severity=0.7, random_state=seed
        )
        (boxes,) = SmearDetector().fit([smear.image]).predict([smear.image])
        found, true = found + len(boxes), true + len(smear.boxes)
        hits += n_matched(boxes, smear.boxes.astype(float))
    assert hits / true > 0.8 and hits / max(found, 1) > 0.8


def test_cells_and_quality_of_one_search_are_those_of_two():
    fields = [make_smear(300, n_cells=3, random_state=k).image for k in range(2)]
    fields.append(255 - fields[0])
    detector = SmearDetector().fit(fields)
    both, cells = detector.detect_cells(fields, quality=True), detector.detect_cells(fields)
    pd.testing.assert_frame_equal(both.quality, detector.quality(fields))
    pd.testing.assert_frame_equal(both.table, cells.table)
    assert "quality" not in cells
