"""The published systems as recipes: what their authors said, and fields in, types out."""

import numpy as np
import pytest
from scipy.ndimage import rotate
from sklearn.base import clone

from hemaest.balance import ACDBGAN
from hemaest.datasets import make_smear
from hemaest.deep import (
    FCMAEPretrainer,
    ResNet24Classifier,
    ResNet50Classifier,
    ViTClassifier,
    WPATClassifier,
)
from hemaest.images import to_object_array
from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer
from hemaest.recipes import make_recipe
from hemaest.stain import ReinhardNormalizer

TINY = {"channels": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}


def field(kind, seed):
    """One leukocyte of a kind among red cells."""
    return make_smear((240, 320), n_cells=1, differential={kind: 1.0}, random_state=seed).image


@pytest.fixture(scope="module")
def fields():
    kinds = ["lymphocyte", "neutrophil"]
    X = to_object_array([field(kinds[i % 2], i) for i in range(32)])
    return X, np.array([kinds[i % 2] for i in range(32)])


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("r0-reinhard-resnet50", ResNet50Classifier, {"lr": 1e-3, "max_epochs": 5}),
        ("r2-resnet50", ResNet50Classifier, {"pretrained": False, "max_epochs": 25}),
        ("r2-vit", ViTClassifier, {"pretrained": True, "max_epochs": 25}),
        ("r3-resnet24", ResNet24Classifier, {"norm": "batch"}),
    ],
)
def test_the_authors_settings_are_the_defaults_and_can_be_changed(name, kind, said):
    recipe = make_recipe(name)
    assert type(recipe[-1]) is kind
    assert said.items() <= recipe[-1].get_params().items()
    changed = clone(make_recipe(name, image_size=96, max_epochs=2, random_state=7))[-1]
    assert (changed.image_size, changed.max_epochs, changed.random_state) == (96, 2, 7)


def test_the_whole_of_the_leukemia_system_is_one_recipe():
    recipe = make_recipe("r4-alhe-acdbgan-fcmae-wpat", image_size=64, random_state=3)
    net = clone(recipe)[-1]
    assert isinstance(recipe[0], AdaptiveLocalHistogramEnhancer)
    assert isinstance(net, WPATClassifier) and isinstance(net.pretrained, FCMAEPretrainer)
    # it balances after the net has held out what it validates on
    assert isinstance(net.resampler, ACDBGAN) and net.resampler.image_size == 64
    odd = make_recipe("r4-alhe-acdbgan-fcmae-wpat", image_size=72)[-1]
    assert odd.resampler.image_size == 64  # the GAN makes no 72 pixels
    other = make_recipe("r4-alhe-acdbgan-fcmae-wpat", balance="weights")[-1]
    assert other.resampler is None and other.class_weight == "balanced"


def test_the_normalizer_learns_inside_the_recipe():
    assert isinstance(make_recipe("r0-reinhard-resnet50")[0], ReinhardNormalizer)


@pytest.mark.slow
def test_fields_go_in_and_the_type_of_their_leukocyte_comes_out(fields):
    X, y = fields
    recipe = make_recipe("r1-detect-segment-classify", image_size=32, max_epochs=2, random_state=0)
    recipe.set_params(
        classify__deep__net__backbone_options=TINY, classify__deep__net__pretrained=False
    )
    recipe.fit(X[:24], y[:24])
    found = recipe[0].transform(X[24:])
    assert all(max(crop.shape[:2]) < 160 for crop in found)  # the cell, not the field
    assert (recipe.predict(X[24:]) == y[24:]).mean() >= 7 / 8
    empty = np.full((240, 320, 3), 235, np.uint8)
    assert recipe.predict(to_object_array([empty]))[0] in set(y)


def test_rows_of_measures_are_balanced_not_images():
    members = dict(make_recipe("r1-detect-segment-classify")[-1].estimators)
    assert members["handcrafted"]["balance"].method == "smote"
    assert members["deep"]["net"].resampler is None
    other = dict(make_recipe("r1-detect-segment-classify", balance="oversample")[-1].estimators)
    assert other["handcrafted"]["balance"].method == "oversample"
    plain = dict(make_recipe("ensemble-mixed")[-1].estimators)
    assert "balance" not in plain["handcrafted"].named_steps


def test_fields_turned_onto_black_are_read_as_if_they_were_not(fields):
    detector = make_recipe("r1-detect-segment-classify")[0].fit(fields[0])
    copies = [
        to_object_array([rotate(f, 30, reshape=False, order=1, **fill) for f in fields[0][:12]])
        for fill in ({"cval": 0}, {"mode": "nearest"})
    ]
    black, filled = (detector.predict(copy) for copy in copies)
    # turning cuts off some leukocytes, whatever the corners are filled with
    lost = [sum(len(boxes) == 0 for boxes in found) for found in (black, filled)]
    assert lost[1] <= 2 and lost[0] <= lost[1] + 1
    pairs = [(a[0], b[0]) for a, b in zip(black, filled, strict=True) if len(a) and len(b)]
    assert sum(overlap(a, b) > 0.45 for a, b in pairs) >= len(pairs) - 1


def overlap(a, b):
    """Return the intersection over the union of two boxes."""
    sides = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2]) - shared)
