"""Synthetic smears: boxes, maps and truth agree, and tiles leave no seam."""

import numpy as np
import pytest

from hemaest.datasets import _film, make_smear


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
    """Drawn in small tiles the map is the same, and colours differ by sensor noise alone."""
    monkeypatch.setattr(_film, "TILE", 96)
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
