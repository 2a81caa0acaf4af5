"""Crops of any cell, laboratory and framing: their truth, their seeds, their breadth."""

import numpy as np
import pytest
from renderer_data import CELL_TYPES

from hemaest.datasets import list_cell_types
from hemaest.datasets.crops import NOTHING, TRAITS, draw_crop, draw_unrelated

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


def test_unrelated_images_are_of_many_kinds():
    rng = np.random.default_rng(0)
    images = [draw_unrelated(32, rng) for _ in range(30)]
    assert all(i.shape == (32, 32, 3) and i.dtype == np.uint8 for i in images)
    assert np.std([i.mean() for i in images]) > 20
