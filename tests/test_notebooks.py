"""What estimators look like in a notebook: a diagram that names the class and what was set."""

import re

import pytest
from public import estimator_classes, make
from sklearn.utils import estimator_html_repr

from hemaest.recipes import list_recipes, make_recipe


def text_of(html):
    return " ".join(
        re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S)).split()
    )


@pytest.mark.parametrize("name", sorted(estimator_classes()))
def test_estimators_have_a_diagram(name):
    estimator = make(name)
    html = estimator._repr_html_()
    assert name in text_of(html)
    for parameter in estimator.get_params(deep=False):
        assert parameter in html
    assert " at 0x" not in html
    assert len(html) < 100_000


def test_a_recipe_shows_its_steps():
    for name in list_recipes():
        recipe = make_recipe(name)
        text = text_of(estimator_html_repr(recipe))
        for _, step in recipe.steps:
            assert type(step).__name__ in text
