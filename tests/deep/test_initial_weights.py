"""A classifier that starts from the network of another one, trained on other images."""

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from hemaest.deep import DeepEmbedding, FCMAEPretrainer, ImageClassifier, WPATClassifier
from hemaest.persistence import load, save
from hemaest.preprocessing import Resize

HOW = {"image_size": 32, "device": "cpu", "random_state": 0, "verbose": False}
TINY = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}


def small(backbone="resnet24", **options):
    width = {"backbone_options": {"width": 8}} if backbone == "resnet24" else {}
    return ImageClassifier(backbone, **{**HOW, "batch_size": 8, "max_epochs": 1} | width | options)


@pytest.fixture(scope="module")
def data():
    """Return striped images, and along which side the stripes run: three kinds, or two."""
    rng = np.random.default_rng(0)
    across = np.sin(np.arange(32) / 2 + rng.uniform(0, 6, (36, 1)))[:, None, :].repeat(32, 1)
    y = np.array(["along", "across", "flat"] * 12)
    X = np.where((y == "along")[:, None, None], across.transpose(0, 2, 1), across)
    X = np.where((y == "flat")[:, None, None], 0, X)
    X = 128 + 60 * X[..., None] + rng.normal(0, 8, (36, 32, 32, 3))
    return X.clip(0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def trained(data):
    return small().fit(*data)


def weights(module):
    return {name: joblib.hash(value.numpy()) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("classes", [2, 3])
def test_all_but_the_last_layer_is_kept(data, trained, classes):
    X, y = data
    kept = y != "flat" if classes == 2 else y != ""
    model = small(pretrained=FrozenEstimator(trained), max_epochs=0, random_state=1)
    model.fit(X[kept], y[kept])
    old, new = (weights(m.net_.module_.backbone) for m in (trained, model))
    assert {name for name in old if old[name] != new[name]} == {"fc.weight", "fc.bias"}
    np.testing.assert_array_equal(model.transform(X), trained.transform(X))


def test_the_net_is_built_as_it_was(data, trained):
    X, y = data
    model = small(pretrained=FrozenEstimator(trained), backbone_options=None, max_epochs=0)
    np.testing.assert_array_equal(model.fit(X, y).transform(X), trained.transform(X))


def test_any_kind_of_net_can_be_started_from(data):
    X, y = data
    pretrainer = FCMAEPretrainer(max_epochs=0, backbone_options=TINY, **HOW).fit(X)
    first = WPATClassifier(pretrained=FrozenEstimator(pretrainer), max_epochs=1, **HOW).fit(X, y)
    second = WPATClassifier(pretrained=FrozenEstimator(first), max_epochs=0, **HOW).fit(X, y)
    np.testing.assert_array_equal(second.transform(X), first.transform(X))
    plain = small("vit_tiny_patch16_224", max_epochs=1).fit(X, y)
    again = small("vit_tiny_patch16_224", pretrained=FrozenEstimator(plain), max_epochs=0)
    np.testing.assert_array_equal(again.fit(X, y).transform(X), plain.transform(X))
    inner = small(max_epochs=1).fit(X, y)
    around = WPATClassifier(pretrained=FrozenEstimator(inner), max_epochs=0, **HOW).fit(X, y)
    old = weights(inner.net_.module_.backbone)
    new = weights(around.net_.module_.backbone.encoder)
    assert {name for name in old if old[name] != new.get(name)} == {"fc.weight", "fc.bias"}


def test_it_goes_through_clones_folds_and_files(data, trained, tmp_path):
    X, y = data
    model = make_pipeline(Resize(32), small(pretrained=FrozenEstimator(trained), max_epochs=0))
    again = clone(model).fit(X, y)
    np.testing.assert_array_equal(again[-1].transform(X), trained.transform(X))
    assert np.isfinite(cross_val_score(model, X, y, cv=2)).all()
    save(again, tmp_path / "model.hemaest")
    loaded = load(tmp_path / "model.hemaest")
    np.testing.assert_array_equal(loaded.predict_proba(X), again.predict_proba(X))
    # the net that was started from stays as it was
    longer = small(pretrained=FrozenEstimator(trained), max_epochs=1).fit(X, y)
    assert weights(longer.net_.module_) != weights(trained.net_.module_)
    np.testing.assert_array_equal(again[-1].transform(X), trained.transform(X))


def test_fewer_labels_are_enough_for_a_net_that_knows_the_task(data):
    X, y = data
    trained = small(max_epochs=30, lr=3e-3, augment=None).fit(X[6:21], y[6:21])
    few = {"max_epochs": 3, "augment": None}
    continued = small(pretrained=FrozenEstimator(trained), **few).fit(X[:6], y[:6])
    alone = small(**few).fit(X[:6], y[:6])
    assert continued.score(X[21:], y[21:]) > alone.score(X[21:], y[21:]) + 0.2


def test_what_cannot_be_started_from_is_refused(data, trained):
    X, y = data
    with pytest.raises(ValueError, match=r"fitted ImageClassifier.*FrozenEstimator\(pretrained\)"):
        small(pretrained=trained).fit(X, y)
    with pytest.raises(ValueError, match=r"fitted ImageClassifier.*FrozenEstimator\(pretrained\)"):
        clone(small(pretrained=trained))
    with pytest.raises(ValueError, match="unfitted ImageClassifier.*labels of its own"):
        small(pretrained=small()).fit(X, y)
    with pytest.raises(ValueError, match="backbone='resnet24', or 'wpat'"):
        small("cellnet", pretrained=FrozenEstimator(trained)).fit(X, y)
    pipeline = make_pipeline(Resize(32), trained)
    with pytest.raises(ValueError, match="FrozenEstimator of Pipeline"):
        small(pretrained=FrozenEstimator(pipeline)).fit(X, y)
    for stranger in (PCA(), FrozenEstimator(PCA()), DeepEmbedding("cellnet", pretrained=False)):
        with pytest.raises(ValueError, match=r"pretrained is a (Froz|PCA|DeepE).*FCMAEPretrainer"):
            small(pretrained=stranger).fit(X, y)
    other = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match="pretrained"):
        small(pretrained=FrozenEstimator(other)).fit(X, y)
