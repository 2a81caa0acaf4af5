"""Synthetic smears: boxes, maps and truth agree, and tiles leave no seam."""

import cv2
import numpy as np
import pytest

from hemaest.datasets import _glass, make_smear
from hemaest.datasets._microscope import new_canvas


@pytest.fixture(scope="module")
def smear():
    return make_smear((300, 420), n_cells=12, random_state=3)


def test_boxes_hold_the_cells_exactly(smear):
    number = (smear.cell_map.astype(int) + 1) // 2
    assert set(np.unique(number)) - {0} == set(smear.truth.cell)
    for cell, (x0, y0, x1, y1) in zip(smear.truth.cell, smear.boxes, strict=True):
        ys, xs = np.nonzero(number == cell)
        assert (x0, y0, x1, y1) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_truth_agrees_with_the_map(smear):
    for row in smear.truth.itertuples():
        assert row.nucleus_area == (smear.cell_map == 2 * row.cell).sum()
        assert row.cytoplasm_area == (smear.cell_map == 2 * row.cell - 1).sum()
        assert row.cell_area == row.nucleus_area + row.cytoplasm_area
    np.testing.assert_array_equal(smear.target, smear.truth.cell_type)


def test_the_differential_is_kept():
    shares = {"neutrophil": 0.5, "eosinophil": 0.25, "lymphocyte": 0.25}
    smear = make_smear(600, n_cells=16, differential=shares, random_state=0)
    names, counts = np.unique(smear.target, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "neutrophil": 8, "eosinophil": 4, "lymphocyte": 4,
    }  # fmt: skip


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_same_seed_same_bytes(smear, n_jobs):
    again = make_smear((300, 420), n_cells=12, random_state=3, n_jobs=n_jobs)
    np.testing.assert_array_equal(again.image, smear.image)
    np.testing.assert_array_equal(again.cell_map, smear.cell_map)


def test_tiles_leave_no_seam(smear, monkeypatch):
    """Drawn in small tiles the map is the same, and colors differ by sensor noise alone."""
    monkeypatch.setattr("hemaest.datasets._film.TILE", 96)
    tiled = make_smear((300, 420), n_cells=12, random_state=3)
    np.testing.assert_array_equal(tiled.cell_map, smear.cell_map)
    change = np.abs(tiled.image.astype(float) - smear.image).mean(axis=2)[:, 96:]
    seam, inside = change[[191, 192]].mean(), change[120:170].mean()
    assert seam < inside + 0.6
    assert change.max() < 20  # a displaced edge would differ by far more


def test_draws_into_the_array_that_is_given(smear):
    out = np.zeros((300, 420, 3), np.uint8)
    given = make_smear((300, 420), n_cells=12, random_state=3, out=out)
    assert given.image is out
    np.testing.assert_array_equal(out, smear.image)
    with pytest.raises(ValueError, match="out must be uint8 of shape"):
        make_smear(64, out=out)


def test_more_cells_than_a_byte_can_number():
    smear = make_smear(500, n_cells=140, micrometres_per_pixel=1.0, random_state=0)
    assert smear.cell_map.dtype == np.uint16
    assert len(smear.truth) > 127
    assert smear.cell_map.max() in (279, 280)


def test_where_there_is_no_room_names_stay_with_their_cells():
    """Platelets alone have no nucleus, so a slip of names would show."""
    shares = {"platelet": 0.5, "monocyte": 0.5}
    smear = make_smear(160, n_cells=60, differential=shares, random_state=0)
    assert 10 < len(smear.truth) < 60
    whole = smear.truth.cell_area > 60
    has_nucleus = smear.truth.nucleus_area[whole] > 0
    np.testing.assert_array_equal(smear.target[whole] == "monocyte", has_nucleus)


def test_an_empty_field():
    smear = make_smear(64, n_cells=0, random_state=0)
    assert smear.boxes.shape == (0, 4)
    assert smear.cell_map.max() == 0


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="Did you mean 'monocyte'"):
        make_smear(64, differential={"monocite": 1.0})
    with pytest.raises(ValueError, match="shares >= 0"):
        make_smear(64, differential={"monocyte": 0.0})


@pytest.fixture(scope="module")
def worst():
    """Return fields of several laboratories at full severity."""
    return [
        make_smear(200, micrometres_per_pixel=0.3, severity=1.0, random_state=k) for k in range(8)
    ]


def test_everything_that_is_drawn_is_in_the_maps(worst, smear):
    kinds = set()
    for field in [smear, *worst]:
        owners = (field.cell_map > 0).astype(int) + (field.red_cell_map > 0)
        assert (owners + (field.platelet_map > 0)).max() <= 1  # each pixel has one owner
        for row in field.others.itertuples():
            numbers = field.red_cell_map if row.kind == "red_cell" else field.platelet_map
            ys, xs = np.nonzero(numbers == row.number)
            box = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
            assert (row.x0, row.y0, row.x1, row.y1) == box
            assert row.area == len(ys)
            kinds.add(row.kind)
        listed = field.others[field.others.kind == "red_cell"].number
        assert set(listed) == set(np.unique(field.red_cell_map)) - {0}
    assert kinds == {"red_cell", "platelet"}


def test_red_cells_are_where_hemoglobin_is():
    """On a clean, sharp film the map of red cells is what differs from the glass."""
    smear = make_smear(256, n_cells=0, stain="wright", random_state=2)
    inside = smear.red_cell_map > 0
    glass = np.median(smear.image[(smear.red_cell_map == 0) & (smear.platelet_map == 0)], axis=0)
    apart = np.abs(smear.image - glass).sum(axis=2)
    assert np.median(apart[inside]) > 4 * np.median(apart[~inside & (smear.platelet_map == 0)])


def test_severity_spreads_the_laboratories():
    """The color of fields varies much more at full severity than in good laboratories."""
    spread = [
        np.std(
            [
                np.median(
                    make_smear(64, lab_effect=1.0, severity=severity, random_state=k).image,
                    axis=(0, 1),
                )
                for k in range(40)
            ],
            axis=0,
        ).mean()
        for severity in (0.0, 1.0)
    ]
    assert spread[1] > 2 * spread[0]


def test_severe_tiles_leave_no_seam(monkeypatch):
    """Light, blur, marks and the round view depend on the place alone, not on the tile."""
    for seed in (2, 4, 9):
        whole = make_smear((192, 288), severity=1.0, random_state=seed)
        with monkeypatch.context() as patch:
            patch.setattr("hemaest.datasets._film.TILE", 96)
            tiled = make_smear((192, 288), severity=1.0, random_state=seed)
        for name in ("cell_map", "red_cell_map", "platelet_map"):
            np.testing.assert_array_equal(tiled[name], whole[name])
        blurred = [cv2.blur(s.image.astype(np.float32), (9, 9)) for s in (whole, tiled)]
        assert np.abs(blurred[0] - blurred[1]).max() < 25


def test_a_round_view_hides_what_lies_outside_of_it():
    for seed in range(60):
        smear = make_smear(96, severity=1.0, random_state=seed)
        dark = smear.image[:4, :4].max() < 40 and smear.image[48, 48].min() > 60
        if dark:
            assert smear.cell_map[:4, :4].max() == smear.red_cell_map[:4, :4].max() == 0
            return
    pytest.fail("no field had a round view")


@pytest.fixture
def pressed(monkeypatch):
    """Let every severe film be a sheet of red cells."""
    draw = _glass.draw_glass
    monkeypatch.setattr(
        "hemaest.datasets._film.draw_glass",
        lambda rng, severity: _glass._pressed(draw(rng, severity), rng),
    )


def test_in_a_sheet_each_pixel_is_of_the_nearest_red_cell():
    rng = np.random.default_rng(0)
    cells = np.zeros((12, 15), np.float32)
    cells[:, :2] = rng.uniform(0, 60, (12, 2))
    cells[:, 2], cells[:, 6], cells[:, 7] = 12.0, 0.5, 1.0
    canvas, numbers = new_canvas(60, 60), np.zeros((60, 60), np.int32)
    sheet = (1.5, 0.0, 0.3, 0.0)
    _glass.paint_red(canvas, 1.0, cells, sheet, 0.0, 0.0, numbers, np.arange(1, 13))
    gaps = np.hypot(*(np.mgrid[:60, :60][::-1, None] - cells[:, :2].T[..., None, None]))
    np.testing.assert_array_equal(numbers, np.where(gaps.min(axis=0) < 18, gaps.argmin(0) + 1, 0))
    np.testing.assert_array_equal(canvas[..., 3] > 0.5, numbers > 0)


@pytest.mark.usefixtures("pressed")
def test_sheets_cover_the_film_and_tiles_leave_no_seam(monkeypatch):
    covered = []
    for seed in range(12):  # seven of ten have holes
        at = {"severity": 1.0, "micrometres_per_pixel": 0.3, "random_state": seed}
        whole = make_smear((192, 288), **at)
        with monkeypatch.context() as patch:
            patch.setattr("hemaest.datasets._film.TILE", 96)
            tiled = make_smear((192, 288), **at)
        np.testing.assert_array_equal(tiled.red_cell_map, whole.red_cell_map)
        covered.append(float((whole.red_cell_map > 0).mean()))
    assert max(covered) > 0.85
