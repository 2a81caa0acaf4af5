"""Recipes by name: what is refused, and how."""

import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from hemaest.base import ImageEstimator
from hemaest.recipes import ImagePipeline, get_recipe, list_recipes, make_recipe
from hemaest.segmentation import CellSegmenter


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_a_pipeline_whose_grid_fits(name):
    recipe = make_recipe(name, random_state=0)
    assert isinstance(recipe, ImagePipeline)
    clone(recipe)
    grid = get_recipe(name).param_grid
    for parameter, values in grid.items():
        for value in values:
            clone(recipe).set_params(**{parameter: value})


@pytest.mark.parametrize("name", list_recipes())
def test_threads_reach_every_step_that_has_them(name):
    accepted = get_recipe(name).accepts
    stains = ["reinhard", "macenko", "vahadane"] if "stain" in accepted else [None]
    for stain in stains:
        parts = make_recipe(name, stain=stain, n_jobs=2, random_state=0).get_params().values()
        images = [part for part in parts if isinstance(part, ImageEstimator)]
        assert {part.n_jobs for part in images if hasattr(part, "n_jobs")} <= {2}


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'color-knn'"):
        make_recipe("colour-knn")


def test_an_option_without_effect_is_refused():
    with pytest.raises(ValueError, match=r"no step that segmenter=.* could change; it takes stain"):
        make_recipe("color-knn", segmenter=CellSegmenter())


def test_misspelt_options_are_answered():
    with pytest.raises(ValueError, match="Did you mean 'macenko'"):
        make_recipe("color-knn", stain="macenco")
    with pytest.raises(ValueError, match="Did you mean 'smote'"):
        make_recipe("handcrafted-forest", balance="smot")


def test_whose_a_way_of_balancing_is_is_said():
    with pytest.raises(ValueError, match="That is for recipes of nets"):
        make_recipe("ensemble-voting", balance="acdbgan")
    with pytest.raises(ValueError, match=r"or a sampler\.$"):
        make_recipe("ensemble-voting", balance="weights")


def test_a_bare_fitted_part_is_refused(cells):
    fitted = CellSegmenter().fit(cells[0])
    with pytest.raises(ValueError, match=r"fitted CellSegmenter.*FrozenEstimator\(segmenter\)"):
        make_recipe("handcrafted-forest", segmenter=fitted)
    make_recipe("handcrafted-forest", segmenter=FrozenEstimator(fitted))
    make_recipe("handcrafted-forest", segmenter=CellSegmenter())


def test_named_stains_are_those_that_serve_single_cells():
    normalizer = make_recipe("color-knn", stain="macenko").named_steps["stain"]
    assert (normalizer.basis, normalizer.preserve_background) == ("giemsa", False)
    assert not make_recipe("color-knn", stain="vahadane").named_steps["stain"].preserve_background
