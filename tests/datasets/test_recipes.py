"""Recipes and stains as data, and the effects whose strength is a knob."""

import cv2
import numpy as np
import pytest
from renderer_data import CELL_TYPES, STAINS

from hemaest.datasets import list_cell_types, make_cells


def lobes_by_flooding(nucleus, neck=0.7, least=0.3):
    """Count parts joined by necks narrower than ``neck`` of the smaller part, largest first."""
    depth = cv2.distanceTransform(np.pad(nucleus.astype(np.uint8), 1), cv2.DIST_L2, 5)
    peaks = []  # (height, pixels) of basins found so far, flooded downwards
    label = np.zeros(depth.shape, int)
    lobes = 0
    for flat in np.argsort(-depth.ravel(), kind="stable"):
        y, x = np.unravel_index(flat, depth.shape)
        if depth[y, x] <= 0:
            break
        around = {int(v) for v in np.unique(label[y - 1 : y + 2, x - 1 : x + 2])} - {0}
        if not around:
            peaks.append(depth[y, x])
            label[y, x] = len(peaks)
            continue
        tallest = max(around, key=lambda k: peaks[k - 1])
        for other in around - {tallest}:
            high = peaks[other - 1] > least * peaks[0]
            lobes += high and depth[y, x] < neck * peaks[other - 1]
            label[label == other] = tallest
        label[y, x] = tallest
    parts = {int(v) for v in np.unique(label)} - {0}
    return lobes + sum(peaks[k - 1] > least * peaks[0] for k in parts)


def test_lobes_can_be_counted_in_the_map():
    types = ["neutrophil", "eosinophil", "basophil", "band_neutrophil", "lymphocyte"]
    cells = make_cells(50, classes=types, image_size=160, field=20.0, random_state=0)
    counted = [lobes_by_flooding(m == 2) for m in cells.masks]
    np.testing.assert_array_equal(cells.truth.n_lobes, counted)
    assert set(cells.truth.n_lobes[cells.target == "lymphocyte"]) == {1}
    assert cells.truth.n_lobes[cells.target == "neutrophil"].min() >= 2


@pytest.mark.parametrize("name", list_cell_types())
def test_every_type_can_be_drawn(name):
    cells = make_cells(3, classes=[name], image_size=64, field=24.0, random_state=0)
    assert (cells.truth.cell_area > 0).all()
    has_nucleus = min(map(int, CELL_TYPES[name]["nucleus"]["lobes"])) > 0
    assert (cells.truth.nucleus_area > 0).all() == has_nucleus


@pytest.mark.parametrize("name", ["neutrophil", "lymphocyte", "monocyte", "eosinophil"])
def test_traits_stay_in_their_written_ranges(name):
    (narrow, wide), nucleus = CELL_TYPES[name]["cell"]["diameter"], CELL_TYPES[name]["nucleus"]
    low, high = nucleus["nc_ratio"]
    cells = make_cells(40, classes=[name], image_size=256, field=30.0, random_state=1)
    unit = 30.0 / 256
    diameter = 2 * np.sqrt(cells.truth.cell_area / np.pi) * unit
    assert diameter.between(narrow * 0.98, wide * 1.02).all()
    # a rough nuclear edge, and the membrane that cuts it, move the ratio a little
    ratio = cells.truth.nc_ratio
    assert ratio.between(low - 0.07, high + 0.07).all()
    assert set(cells.truth.n_lobes) <= set(map(int, nucleus["lobes"]))


def test_a_cell_is_the_same_at_every_magnification():
    """Twice the pixels, the same cell: areas in micrometers agree."""
    coarse = make_cells(12, image_size=96, field=30.0, random_state=5)
    fine = make_cells(12, image_size=288, field=30.0, random_state=5)
    np.testing.assert_allclose(coarse.truth.cell_area * 9, fine.truth.cell_area, rtol=0.03)
    np.testing.assert_array_equal(coarse.truth.n_lobes, fine.truth.n_lobes)
    assert (coarse.truth.micrometres_per_pixel == 30 / 96).all()


def spread(values, groups):
    """Return the variance of group means over the mean variance within groups."""
    names = np.unique(groups)
    means = np.array([values[groups == g].mean() for g in names])
    within = np.mean([values[groups == g].var(ddof=1) for g in names])
    size = len(values) / len(names)
    return size * means.var(ddof=1) / within  # 1 where groups mean nothing


def test_patients_differ_when_the_knob_is_on_and_not_when_it_is_off():
    ratios = {}
    for effect in (0.0, 1.0):
        cells = make_cells(
            200, classes=["lymphocyte"], image_size=48, field=24.0, patient_effect=effect,
            random_state=3,
        )  # fmt: skip
        light = np.array([np.quantile(i, 0.95) for i in cells.images])
        ratios[effect] = spread(light, cells.groups), spread(cells.truth.cell_area, cells.groups)
    assert max(ratios[0.0]) < 2.5  # F(9, 190) exceeds 2.5 once in a hundred
    assert min(ratios[1.0]) > 3.0


def test_shifts_are_in_the_truth():
    cells = make_cells(40, n_labs=4, image_size=32, confound=2.0, random_state=0)
    assert (cells.truth[["lab_shift", "patient_shift", "confound_shift"]] > 0).all(axis=None)
    assert cells.truth.groupby("patient").lab.nunique().max() == 1
    off = make_cells(
        40, n_labs=4, image_size=32, lab_effect=0.0, patient_effect=0.0, random_state=0
    )
    assert (off.truth[["lab_shift", "patient_shift", "confound_shift"]] == 0).all(axis=None)


def test_a_confound_gives_the_class_away_by_color():
    """Where there is no cell, color says nothing of the class, unless it is confounded."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    scores = {}
    for strength in (0.0, 2.0):
        cells = make_cells(
            120, classes=["lymphocyte", "monocyte"], image_size=48, confound=strength,
            patient_effect=0.2, random_state=0,
        )  # fmt: skip
        corner = np.quantile(cells.images[:, :8].reshape(120, -1, 3), 0.9, axis=1)
        scores[strength] = cross_val_score(LogisticRegression(), corner, cells.target).mean()
    assert scores[0.0] < 0.65
    assert scores[2.0] > 0.9


def test_labs_take_the_stains_in_turn():
    stains = ["wright", "quick"]
    cells = make_cells(24, n_labs=4, n_patients=8, stain=stains, image_size=32, random_state=0)
    used = cells.truth.groupby("lab").stain.unique()
    assert [used[f"lab{k}"].tolist() for k in range(4)] == [["wright"], ["quick"]] * 2
    mixed = make_cells(24, n_labs=6, stain="mixed", image_size=32, random_state=0)
    assert set(mixed.truth.stain) == set(STAINS)


def test_neighbors_are_cell_two():
    cells = make_cells(30, neighbors=1.0, image_size=96, random_state=0)
    assert {3, 4} & set(np.unique(cells.masks))
    alone = make_cells(30, image_size=96, random_state=0)
    assert set(np.unique(alone.masks)) == {0, 1, 2}


def test_a_stronger_effect_shifts_every_laboratory_more():
    weak, strong = (
        make_cells(12, n_labs=4, image_size=32, lab_effect=effect, random_state=0).truth
        for effect in (0.5, 1.0)
    )
    assert (weak.lab == strong.lab).all()
    assert ((0 < weak.lab_shift) & (weak.lab_shift < strong.lab_shift)).all()
