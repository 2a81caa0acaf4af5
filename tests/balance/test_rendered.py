"""Rendered cells fill rare classes at the scale and in the colors of the fold."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from hemaest.balance import RenderedCellSampler
from hemaest.datasets import list_cell_types, make_cells
from hemaest.images import to_object_array
from hemaest.recipes import ImagePipeline, make_recipe

TYPES = ["neutrophil", "lymphocyte", "monocyte"]


@pytest.fixture(scope="module")
def fold():
    cells = make_cells(
        36, classes=TYPES, class_weights=[6, 5, 1], image_size=64, field=20.0, random_state=1
    )
    return cells.images, cells.target, cells.masks


def mapped(fold):
    return np.concatenate([fold[0], fold[2][..., None]], axis=-1)


def test_rare_classes_are_filled_and_what_is_real_comes_first(fold):
    X, y, _ = fold
    sampler = RenderedCellSampler(target=0.5, random_state=0)
    images, labels = sampler.fit_resample(X, y)
    np.testing.assert_array_equal(images[: len(X)], X)
    real = sampler.sample_indices_ >= 0
    np.testing.assert_array_equal(sampler.sample_indices_[real], np.arange(len(X)))
    counts = dict(zip(*np.unique(y, return_counts=True), strict=True))
    filled = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    half = -(-max(counts.values()) // 2)
    assert filled == {name: max(n, half) for name, n in counts.items()}
    again = clone(sampler).fit_resample(X, y)
    np.testing.assert_array_equal(again[0], images)


@pytest.mark.parametrize("field", [15.0, 26.0])
def test_the_scale_of_the_fold_is_recovered(field):
    cells = make_cells(24, classes=TYPES[:2], class_weights=[5, 1], image_size=96, field=field,
                       random_state=2)  # fmt: skip
    X = np.concatenate([cells.images, cells.masks[..., None]], axis=-1)
    sampler = RenderedCellSampler(random_state=0)
    sampler.fit_resample(X, cells.target)
    assert sampler.field_ == pytest.approx(field, rel=0.15)


def test_colors_of_the_fold_are_matched(fold):
    images, _, masks = fold
    yellow = np.clip(mapped(fold) * np.array([1.0, 0.9, 0.6, 1.0]), 0, 255).astype(np.uint8)
    y = fold[1]
    sampler = RenderedCellSampler(random_state=0)
    X, labels = sampler.fit_resample(yellow, y)
    made = X[sampler.sample_indices_ < 0]
    real = yellow[y == "neutrophil"]
    glass = [np.median(part[..., :3][part[..., 3] == 0], axis=0) for part in (real, made)]
    assert np.abs(glass[0] - glass[1]).max() < 25
    before = np.median(images[masks == 0], axis=0)
    assert np.abs(before - glass[1]).max() > 50


def test_images_with_maps_get_cells_with_maps(fold):
    X, y, _ = fold
    sampler = RenderedCellSampler(random_state=0)
    images, _ = sampler.fit_resample(mapped(fold), y)
    made = images[sampler.sample_indices_ < 0]
    assert made.shape[-1] == 4 and all((image[..., 3] == 2).any() for image in made)


def test_ragged_images_stay_ragged(fold):
    X, y, _ = fold
    ragged = to_object_array([image[: 60 + i % 4] for i, image in enumerate(X)])
    sampler = RenderedCellSampler(random_state=0)
    images, labels = sampler.fit_resample(ragged, y)
    assert images.dtype == object and len(images) == len(labels)
    assert images[-1].shape == (61, 64, 3) or images[-1].shape[1:] == (64, 3)


def test_a_class_that_cannot_be_drawn_is_refused_by_name(fold):
    X, y, _ = fold
    odd = np.where(y == "monocyte", "monocite", y)
    with pytest.raises(ValueError, match="cannot draw 'monocite'.*Did you mean 'monocyte'.*names="):
        RenderedCellSampler().fit_resample(X, odd)
    with pytest.raises(ValueError, match="platelet"):  # the list
        RenderedCellSampler().fit_resample(X, odd)
    # where it lacks nothing it is not drawn
    common = np.where(y == "neutrophil", "ig", y)
    assert len(RenderedCellSampler(random_state=0).fit_resample(X, common)[0]) > len(X)


def test_labels_of_other_words_are_drawn_by_names(fold):
    X, y, _ = fold
    codes = np.select([y == "neutrophil", y == "lymphocyte"], [1, 2], 3)
    names = {2: "lymphocyte", 3: ["monocyte", "promyelocyte"]}
    images, labels = RenderedCellSampler(names=names, random_state=0).fit_resample(X, codes)
    assert np.ptp(np.unique(labels, return_counts=True)[1]) == 0
    plural = np.where(y == "monocyte", "Monocytes", y)
    assert len(RenderedCellSampler(random_state=0).fit_resample(X, plural)[0]) == len(images)
    assert "band_neutrophil" in list_cell_types()


def test_balanced_classes_stay_as_they_are(fold):
    X = fold[0][:4]
    sampler = RenderedCellSampler()
    images, _ = sampler.fit_resample(X, ["x", "x", "z", "z"])
    assert len(images) == 4 and sampler.field_ is None


def test_recipes_put_rendered_cells_where_the_images_are():
    recipe = make_recipe("handcrafted-xgboost", balance="rendered", random_state=3)
    assert isinstance(recipe.steps[0][1], RenderedCellSampler)
    assert recipe.steps[0][1].random_state == 3 and not recipe[-1].early_stopping
    net = make_recipe("deep-small", balance="rendered")["classify"]
    assert isinstance(net.resampler, RenderedCellSampler)
    with pytest.raises(ValueError, match="takes whole fields"):
        make_recipe("r1-detect-segment-classify", balance="rendered")


def test_a_pipeline_predicts_without_rendering(fold):
    X, y, _ = fold
    recipe = make_recipe("lbp-svm", balance="rendered", random_state=0)
    assert isinstance(recipe, ImagePipeline)
    fitted = recipe.fit(X, y)
    assert len(fitted.predict(X[:5])) == 5


def test_a_matched_sampler_draws_what_it_would_fill_with(fold):
    X, y, _ = fold
    filled, labels = RenderedCellSampler(random_state=0).fit_resample(X, y)
    sampler = RenderedCellSampler(random_state=0)
    with pytest.raises(NotFittedError, match=r"call match\(X, y\) first"):
        sampler.draw(1, "monocyte")
    sampler.match(X, y)
    one = sampler.draw(5, "monocyte", random_state=3)
    assert one.shape == (5, *X.shape[1:]) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, sampler.draw(5, "monocyte", random_state=3))
    assert (one != sampler.draw(5, "monocyte", random_state=4)).any()
    # the same scale, and the same colors
    made = filled[len(X) :][labels[len(X) :] == "monocyte"]
    glass = [np.quantile(part.reshape(-1, 3), 0.9, axis=0) for part in (made, one)]
    assert np.abs(glass[0] - glass[1]).max() < 15
    with pytest.raises(ValueError, match="cannot draw 'unicorn'"):
        sampler.draw(1, "unicorn")
