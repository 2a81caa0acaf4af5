"""Recipes that begin with the shipped network, and adapting it with a few labels."""

import numpy as np
import pytest

from hemaest.datasets import make_cells
from hemaest.deep import DeepEmbedding, ImageClassifier
from hemaest.persistence import load, save
from hemaest.recipes import adapt, default_recipe, make_recipe

TYPES = ["eosinophil", "lymphocyte", "neutrophil"]


@pytest.fixture(scope="module")
def few():
    return make_cells(15, classes=TYPES, image_size=64, n_patients=5, random_state=0)


@pytest.fixture(scope="module")
def unseen():
    return make_cells(24, classes=TYPES, image_size=64, random_state=9)


@pytest.mark.slow
def test_five_labels_a_class_are_enough_for_what_is_easy(few, unseen, tmp_path):
    model = adapt(few.images, few.target, groups=few.groups, random_state=0)
    assert model.score(unseen.images, unseen.target) > 0.8
    back = load(save(model, tmp_path / "model.hemaest"))
    np.testing.assert_array_equal(
        back.predict_proba(unseen.images), model.predict_proba(unseen.images)
    )


@pytest.mark.slow
def test_two_fits_agree_bit_for_bit(few, unseen):
    one, other = (
        adapt(few.images, few.target, augment=True, random_state=3).predict_proba(unseen.images)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


def test_labels_may_be_any_and_must_be_of_two_types(few):
    y = np.array([10, 20, 30])[np.unique(few.target, return_inverse=True)[1]]
    assert set(adapt(few.images, y).classes_) == {10, 20, 30}
    with pytest.raises(ValueError, match="one class only"):
        adapt(few.images, ["a"] * len(few.images))


@pytest.mark.slow
def test_the_network_itself_can_be_trained_further(few):
    recipe = make_recipe("synthetic-finetune", max_epochs=2, random_state=0)
    recipe.fit(few.images, few.target)
    assert recipe.predict_proba(few.images).shape == (15, 3)


def test_the_shipped_encoder_is_where_a_cellnet_starts(few):
    fixed = DeepEmbedding("cellnet", pretrained="synthetic", image_size=96).fit(few.images)
    other = DeepEmbedding("cellnet", pretrained="synthetic", image_size=96).fit(few.images)
    np.testing.assert_array_equal(fixed.transform(few.images), other.transform(few.images))
    assert fixed.pretrained_report_["missing"] == [] or all(
        name.endswith("num_batches_tracked") or name.startswith("fc.")
        for name in fixed.pretrained_report_["missing"]
    )
    with pytest.raises(ValueError, match="the pretrained network is a 'cellnet'"):
        ImageClassifier("resnet24", pretrained="synthetic", max_epochs=1).fit(
            few.images, few.target
        )


def test_rare_types_choose_the_recipe_for_few_labels():
    assert default_recipe([1] * 100 + [2] * 100) == "handcrafted-xgboost"
    assert default_recipe([1] * 100 + [2] * 99) == "synthetic-linear"
