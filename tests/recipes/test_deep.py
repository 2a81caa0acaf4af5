import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import BaseEstimator, clone

from hemaest.deep import ImageClassifier, ResNet24Classifier, ResNet50Classifier, ViTClassifier
from hemaest.images import to_object_array
from hemaest.nets import build_net
from hemaest.nets.devices import seeded
from hemaest.preprocessing import CropToCell
from hemaest.recipes import make_recipe
from hemaest.segmentation import CellSegmenter
from hemaest.stain import ReinhardNormalizer

TINY = {"channels": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    y = np.repeat(["dark", "pale"], 12)
    X = rng.integers(200, 230, (24, 40, 40, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:40, :40]
    X[:, np.hypot(rows - 20, columns - 20) < 12] = (150, 110, 170)
    for image, label in zip(X, y, strict=True):
        image[np.hypot(rows - 20, columns - 20) < (9 if label == "dark" else 5)] = (80, 40, 120)
    return X, y


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        ("deep-small", ImageClassifier, 64),
        ("resnet24", ResNet24Classifier, 128),
        ("resnet50", ResNet50Classifier, 224),
        ("vit", ViTClassifier, 224),
        ("convnext", ImageClassifier, 224),
    ],
)
def test_options_reach_the_net(name, kind, size):
    plain = make_recipe(name)[-1]
    assert type(plain) is kind and plain.image_size == size
    changed = make_recipe(
        name, image_size=32, max_epochs=3, device="cpu", random_state=7, balance="weights"
    )
    net = clone(changed)[-1]
    assert (net.image_size, net.max_epochs, net.device, net.random_state) == (32, 3, "cpu", 7)
    assert net.class_weight == "balanced" and net.resampler is None
    assert make_recipe(name, balance="oversample")[-1].resampler == "balanced"
    with pytest.raises(ValueError, match="Did you mean 'weights'"):
        make_recipe(name, balance="weight")


def test_small_recipe_behind_a_stain_normalizer(cells):
    X, y = cells
    recipe = make_recipe("deep-small", stain="reinhard", image_size=32, max_epochs=1)
    recipe.set_params(
        classify__backbone_options=TINY, classify__pretrained=False, classify__random_state=0
    )
    normalized = ReinhardNormalizer().fit_transform(X)
    assert (normalized != X).any()
    alone = clone(recipe[-1]).fit(normalized, y)
    np.testing.assert_array_equal(
        recipe.fit(X, y).predict_proba(X), alone.predict_proba(normalized)
    )


@pytest.mark.parametrize("name", ["deep-small", "resnet24"])
def test_with_a_segmenter_a_net_sees_the_cell_cut_out(name, cells):
    X, y = cells
    segmenter = CellSegmenter(method="voters")
    recipe = make_recipe(name, segmenter=segmenter, image_size=32, max_epochs=1, random_state=0)
    recipe.fit(X, y)
    outlined = segmenter.fit_transform(X)
    cut = CropToCell(margin=0.05, side="common").fit_transform(outlined)
    assert cut.shape[1] < X.shape[1]
    np.testing.assert_array_equal(recipe.predict_proba(X), recipe[-1].predict_proba(cut))
    alone = clone(recipe[-1]).fit(cut, y)
    np.testing.assert_array_equal(recipe.predict_proba(X), alone.predict_proba(cut))


class ColorsOnly(BaseEstimator):
    """A sampler that, as a GAN, can do nothing with cell maps."""

    def fit_resample(self, X, y):
        assert {image.shape[-1] for image in X} == {3}
        return X, y


def test_a_sampler_of_a_net_gets_no_cell_maps(mapped_cells):
    X, y, _ = mapped_cells
    ragged = to_object_array([image[k % 2 :] for k, image in enumerate(X)])
    net = ImageClassifier("cellnet", image_size=32, max_epochs=1, backbone_options=TINY)
    for images in (X, ragged):
        net.set_params(resampler=ColorsOnly(), random_state=0).fit(images, y)
        plain = clone(net).set_params(resampler=None).fit(images, y)
        np.testing.assert_array_equal(net.predict_proba(images), plain.predict_proba(images))


def test_two_views_of_a_cell_vote(cells):
    X, y = cells
    segmenter = CellSegmenter(method="voters")
    recipe = make_recipe("ensemble-views", segmenter=segmenter, image_size=32, max_epochs=1)
    recipe.set_params(classify__image__random_state=0, classify__cell__net__random_state=0)
    recipe.fit(X, y)
    mapped = recipe[:-1].transform(X)
    views = [view.predict_proba(mapped) for view in recipe[-1].estimators_]
    np.testing.assert_allclose(recipe.predict_proba(X), np.mean(views, axis=0))
    whole = clone(recipe[-1].estimators[0][1]).fit(X, recipe[-1].le_.transform(y))
    np.testing.assert_array_equal(views[0], whole.predict_proba(X))
    cut = make_recipe("deep-small", segmenter=clone(segmenter), image_size=32, max_epochs=1)
    cut.set_params(classify__random_state=0).fit(X, y)
    np.testing.assert_array_equal(views[1], cut.predict_proba(X))


@pytest.mark.slow
def test_mixed_ensemble_averages_net_and_handcrafted_features(cells):
    X, y = cells
    recipe = make_recipe("ensemble-mixed", image_size=32, max_epochs=2, random_state=0)
    recipe.set_params(
        classify__deep__net__backbone_options=TINY, classify__deep__net__pretrained=False
    )
    recipe.fit(X, y)
    vote = recipe[-1]
    mapped = recipe[:-1].transform(X)
    parts = [part.predict_proba(mapped) for part in vote.estimators_]
    np.testing.assert_allclose(recipe.predict_proba(X), np.mean(parts, axis=0))


def test_embedding_recipe_takes_weights_from_a_file(cells, tmp_path):
    X, y = cells
    with seeded(0, torch.device("cpu")):
        net, _ = build_net("cellnet", 3, **TINY)
    save_file(net.backbone.state_dict(), tmp_path / "weights.safetensors")
    recipe = make_recipe("embedding-logistic", image_size=32, random_state=0).set_params(
        embed__backbone="cellnet",
        embed__backbone_options=TINY,
        embed__pretrained=str(tmp_path / "weights.safetensors"),
    )
    assert recipe.fit(X, y).score(X, y) > 0.9


def test_options_reach_the_pretraining():
    for name, step in (("fcmae-wpat", "classify__pretrained"), ("fcmae-linear", "embed")):
        params = clone(make_recipe(name, image_size=32, max_epochs=1, device="cpu")).get_params()
        given = [params[f"{step}__{key}"] for key in ("image_size", "max_epochs", "device")]
        assert given == [32, 1, "cpu"]
    assert make_recipe("fcmae-wpat", balance="oversample")[-1].resampler == "balanced"


@pytest.mark.parametrize("name", ["fcmae-wpat", "fcmae-linear"])
def test_with_a_segmenter_pretraining_sees_the_cell_cut_out(name, cells):
    X, y = cells
    segmenter = CellSegmenter(method="voters")
    recipe = make_recipe(name, segmenter=segmenter, image_size=32, max_epochs=1, random_state=0)
    step = "classify__pretrained" if name == "fcmae-wpat" else "embed"
    recipe.set_params(**{f"{step}__rendered": 8})
    recipe.fit(X, y)
    cut = CropToCell(margin=0.05, side="common").fit_transform(segmenter.fit_transform(X))
    rest = clone(recipe)[2:].fit(cut, y)
    np.testing.assert_array_equal(recipe.predict_proba(X), rest.predict_proba(cut))
