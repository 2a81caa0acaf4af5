"""Every recipe is made of classes that can be saved, and answers the same after it was loaded."""

import contextlib
import inspect

import numpy as np
import pytest
from public import public_names
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier

from hemaest.persistence import load, load_data, save, save_data
from hemaest.recipes import list_recipes, make_recipe


def is_estimator(item):
    """Return whether a public name is an estimator that can be made."""
    return (
        inspect.isclass(item)
        and issubclass(item, BaseEstimator)
        and item.__module__ not in ("hemaest.base", "sklearn.base")
        and not inspect.isabstract(item)
    )


def small(name):
    """Return a recipe that trains for a moment, from scratch."""
    recipe = None
    # not every recipe has an image size or epochs
    for options in ({"max_epochs": 1, "image_size": 32}, {"max_epochs": 1}, {"image_size": 32}, {}):
        with contextlib.suppress(ValueError):
            recipe = make_recipe(name, random_state=0, device="cpu", **options)
            break
    assert recipe is not None
    parameters = recipe.get_params()
    quick = {"pretrained": False, "max_steps": 2, "max_epochs": 1, "rendered": 8}
    for key, value in parameters.items():
        end = key.rpartition("__")[2]
        if end in quick and type(value) in (bool, int):
            recipe.set_params(**{key: quick[end]})
    return recipe


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_is_made_of_known_classes(name, tmp_path):
    recipe = make_recipe(name, random_state=0)
    again = load_data(save_data(recipe, tmp_path / "recipe"))
    assert repr(again) == repr(recipe)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_answers_the_same_after_loading(name, cells, tmp_path):
    X, y, _ = cells
    model = small(name).fit(X, y)
    again = load(save(model, tmp_path / "model.hemaest"))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("name", sorted({n for _, n, item in public_names() if is_estimator(item)}))
def test_every_public_estimator_is_registered(name, tmp_path):
    (cls,) = {item for _, n, item in public_names() if n == name and is_estimator(item)}
    needed = [p for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
    parts = {"steps": [("model", DummyClassifier())]}
    estimator = cls(*(parts.get(p.name, DummyClassifier()) for p in needed))
    again = load_data(save_data(estimator, tmp_path / "estimator"))
    assert type(again) is cls and repr(again) == repr(estimator)
