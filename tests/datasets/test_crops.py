"""Crops of any cell, laboratory and framing: their truth, their seeds, their breadth."""

import numpy as np
import pytest

from hemaest.datasets._anatomy import build_cell
from hemaest.datasets._recipes import load_recipes
from hemaest.datasets.crops import NOTHING, TRAITS, draw_crop, draw_unrelated

NAMES = [*load_recipes(), NOTHING]


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


def test_no_cell_is_impossible_however_wide_the_ranges():
    for name, recipe in load_recipes().items():
        for seed in range(20):
            rng = np.random.default_rng(seed)
            traits = build_cell(recipe, rng, wide=1.8, sick=True).traits
            assert all(v >= 0 for t, v in traits.items() if t != "nucleus.apart"), name
            assert traits["nucleus.nc_ratio"] <= 0.96 and traits["cell.stretch"] >= 1


def test_textbook_cells_are_as_before_and_sick_ones_go_beyond():
    recipe = load_recipes()["neutrophil"]
    plain = [build_cell(recipe, np.random.default_rng(s)) for s in range(300)]
    sick = [build_cell(recipe, np.random.default_rng(s), wide=1.4, sick=True) for s in range(300)]
    low, high = (dict(zip(recipe.traits, e, strict=True)) for e in (recipe.low, recipe.high))
    for trait in recipe.traits:
        assert all(low[trait] - 1e-9 <= c.traits[trait] <= high[trait] + 1e-9 for c in plain)
    assert max(c.n_lobes for c in plain) <= 5 < max(c.n_lobes for c in sick)
    granules = "granules0.number"
    assert min(c.traits[granules] for c in sick) < 0.5 * low[granules]


def test_unrelated_images_are_of_many_kinds():
    rng = np.random.default_rng(0)
    images = [draw_unrelated(32, rng) for _ in range(30)]
    assert all(i.shape == (32, 32, 3) and i.dtype == np.uint8 for i in images)
    assert np.std([i.mean() for i in images]) > 20
