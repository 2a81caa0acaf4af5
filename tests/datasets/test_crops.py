"""Crops of any cell, laboratory and framing: their truth, their seeds, their breadth."""

from dataclasses import replace

import numpy as np
import pytest
from renderer_data import CELL_TYPES

from hemaest.datasets import list_cell_types
from hemaest.datasets._anatomy import build_cell, paint_cell
from hemaest.datasets._microscope import new_canvas
from hemaest.datasets._recipes import load_recipes
from hemaest.datasets.crops import NOTHING, TRAITS, draw_crop

NAMES = [*list_cell_types(), NOTHING]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(name):
    one, same, other = (draw_crop(name, 48, random_state=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.traits, same.traits)
    assert (one.image != other.image).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_traits_are_those_of_the_map(name):
    for seed in range(5):
        crop = draw_crop(name, 64, random_state=seed)
        nucleus, cell = (crop.cell_map == 2).sum(), np.isin(crop.cell_map, (1, 2)).sum()
        if name == NOTHING:
            assert cell == 0 and np.isnan(crop.traits).all()
            continue
        ratio = crop.traits[TRAITS.index("nc_ratio")]
        # the field may end inside the crop after the cell was measured
        if (crop.image[0] == crop.image[0, 0]).all() or cell == 0:
            continue
        assert ratio == pytest.approx(2 * nucleus / cell - 1, abs=0.25)


def test_a_crop_is_cut_at_every_scale():
    widths = [48 * draw_crop("monocyte", 48, random_state=s).micrometers_per_pixel
              for s in range(80)]  # fmt: skip
    assert min(widths) < 18 and max(widths) > 38


def test_a_bad_name_is_answered_with_the_likely_one():
    with pytest.raises(ValueError, match="Did you mean 'monocyte'"):
        draw_crop("monocyt")


def test_crops_go_beyond_the_textbook_and_no_cell_is_impossible():
    """They stretch the ranges of the types, and add what disease and films do to cells."""
    beyond = []
    for name in list_cell_types():
        low, high = CELL_TYPES[name]["cell"]["diameter"]
        for seed in range(10):
            crop = draw_crop(name, 32, random_state=seed)
            assert (np.abs(crop.traits) <= 2.5).all(), name
            diameter = 12 * np.exp(crop.traits[TRAITS.index("diameter")])
            beyond.append(not 0.98 * low <= diameter <= 1.02 * high)
    assert 0.02 < np.mean(beyond) < 0.5


def test_pale_sap_takes_dye_from_the_nucleus_alone():
    cell = build_cell(load_recipes()["monocyte"], np.random.default_rng(0))
    painted = []
    for sap in (0.0, 0.4):
        look = cell.look.copy()
        look[-2] = sap
        canvas, map_ = new_canvas(96, 96), np.zeros((96, 96), np.uint8)
        paint_cell(canvas, map_, 1, replace(cell, look=look), 48, 48, 4.0)
        painted.append(canvas[..., 0])
    gone = painted[0] - painted[1]
    assert (gone >= -1e-6).all() and gone[map_ == 2].mean() > 0.02
    np.testing.assert_allclose(gone[map_ == 0], 0, atol=1e-6)


def test_the_granules_of_sick_eosinophils_hold_more_eosin_than_those_of_neutrophils():
    def eosin(name, seed):
        cell = build_cell(load_recipes()[name], np.random.default_rng(seed), wide=1.2, sick=True)
        return sum(
            float(dyes[2] * cover * np.pi * np.sum(grains[:, 2] ** 2))
            for grains, dyes, cover, _ in cell.granules
        )

    some, others = ([eosin(n, s) for s in range(60)] for n in ("eosinophil", "neutrophil"))
    assert np.quantile(some, 0.2) > np.quantile(others, 0.8)
