"""Masked pretraining as an estimator, and classifiers that begin with it."""

import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from hemaest.datasets import make_cells
from hemaest.deep import DeepEmbedding, FCMAEPretrainer, ImageClassifier, WPATClassifier
from hemaest.deep.training import TrainingDiverged
from hemaest.images import to_object_array
from hemaest.persistence import load, save

TINY = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
WINDOWS = {"dim": 16, "heads": 2}


def small(**changes):
    params = {
        "backbone_options": TINY,
        "image_size": 32,
        "max_epochs": 2,
        "batch_size": 8,
        "lr": 3e-3,
        "decoder_dim": 16,
        "device": "cpu",
        "random_state": 0,
    }
    return FCMAEPretrainer(**(params | changes))


def wpat(pretrained=False, **changes):
    params = {
        "backbone_options": {**WINDOWS, **({} if pretrained else {"convnet_options": TINY})},
        "image_size": 32,
        "max_epochs": 1,
        "batch_size": 8,
        "device": "cpu",
        "random_state": 0,
    }
    return WPATClassifier(pretrained=pretrained, **(params | changes))


@pytest.fixture(scope="module")
def data():
    """Stripes across or along: a guess at hidden patches follows from the seen ones."""
    rng = np.random.default_rng(0)
    y = np.array(["across", "along"] * 20)
    wave = np.sin((np.arange(32) + rng.uniform(0, 6, (40, 1))) * 1.2)
    X = np.repeat(wave[:, :, None], 32, axis=2)
    X = np.where((y == "along")[:, None, None], X.transpose(0, 2, 1), X)
    X = 128 + 60 * X[..., None] + rng.normal(0, 8, (40, 32, 32, 3))
    return X.clip(0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def fitted(data):
    return small().fit(data[0])


def weights(module):
    return joblib.hash({k: v.numpy() for k, v in module.state_dict().items()})


@pytest.mark.slow
def test_it_learns_to_paint_in_what_follows_from_the_rest(data):
    X, _ = data
    model = small(max_epochs=40, augment=None, mask_ratio=0.4, backbone_options={**TINY}).fit(X)
    losses = model.history_["train_loss"]
    assert losses.iloc[0] > 0.9 and losses.iloc[-1] < 0.5
    original, masked, painted = model.reconstruct(X).transpose(1, 0, 2, 3, 4).astype(float)
    np.testing.assert_array_equal(original, X)
    hidden = (masked != original).any(axis=-1)
    assert 0.3 < hidden.mean() < 0.45
    np.testing.assert_array_equal(painted[~hidden], original[~hidden])
    # mean and contrast are given; the stripes are not
    flat = np.abs(original[hidden] - 128).mean()
    assert np.abs(painted[hidden] - original[hidden]).mean() < 0.7 * flat


def test_embeddings_are_those_of_the_saved_encoder(data, fitted, tmp_path):
    X, y = data
    path = fitted.save(tmp_path / "encoder.safetensors")
    with safe_open(path, framework="np") as file:
        stored = json.loads(file.metadata()["hemaest"])
    assert stored["backbone"] == "convnextv2_atto" and stored["options"]["stride"] == 4
    untouched = {"image_size": 32, "max_epochs": 0, "device": "cpu", "random_state": 0}
    for start in (path, str(path), FrozenEstimator(fitted)):
        model = ImageClassifier("convnextv2_atto", pretrained=start, **untouched).fit(X, y)
        np.testing.assert_allclose(model.transform(X), fitted.transform(X), atol=1e-6)
        around = ImageClassifier("wpat", pretrained=start, **untouched).fit(X, y)
        np.testing.assert_allclose(around.transform(X)[:, :16], fitted.transform(X), atol=1e-6)
        assert "stem.0.weight" in around.pretrained_report_["loaded"]
    embedding = DeepEmbedding("convnextv2_atto", pretrained=path, image_size=32).fit(X)
    path.unlink()
    again = pickle.loads(pickle.dumps(embedding))
    np.testing.assert_allclose(again.transform(X), fitted.transform(X), atol=1e-6)
    with pytest.raises(ValueError, match="end so"):
        fitted.save(tmp_path / "encoder.pth")


def test_an_unfitted_pretrainer_learns_from_the_training_part_alone(data):
    X, y = data
    options = {"max_epochs": 0, "early_stopping": True, "validation_fraction": 0.25}
    model = wpat(small(), **options).fit(X, y)
    kept = np.setdiff1d(np.arange(40), model.held_out_)
    alone = small().fit(X[kept])
    assert weights(model.net_.module_.backbone.encoder) == weights(alone.encoder_)
    assert weights(model.net_.module_.backbone.encoder) != weights(small().fit(X).encoder_)


def test_a_bare_fitted_pretrainer_is_refused_before_a_clone_empties_it(data, fitted):
    X, y = data
    model = wpat(fitted)
    with pytest.raises(ValueError, match=r"FrozenEstimator\(pretrained\).*path of"):
        model.fit(X, y)
    with pytest.raises(ValueError, match="FrozenEstimator"):
        clone(model)
    with pytest.raises(ValueError, match="FrozenEstimator"):
        cross_val_score(make_pipeline(model), X, y, cv=2)
    frozen = wpat(FrozenEstimator(fitted), max_epochs=0)
    copy = clone(frozen).fit(X, y)
    assert weights(copy.net_.module_.backbone.encoder) == weights(fitted.encoder_)


def test_in_a_pipeline_it_is_fitted_on_each_training_fold(data):
    X, y = data
    seen = []

    class Watch(FCMAEPretrainer):
        def fit(self, X, y=None):
            seen.append(len(X))
            return super().fit(X, y)

    watch = Watch(**small(max_epochs=1).get_params())
    cross_val_score(make_pipeline(watch, LogisticRegression()), X, y, cv=4)
    assert seen == [30] * 4


def test_an_outer_pool_is_learned_from_too(data):
    X, _ = data
    whole = small().fit(X)
    for pool in (X[10:], to_object_array(list(X[10:])), list(X[10:])):
        assert weights(small(extra_images=pool).fit(X[:10]).net_.module_) == weights(
            whole.net_.module_
        )
    small(extra_images=[np.zeros((50, 20, 3), np.uint8)]).fit(X[:10])


def test_labels_are_not_looked_at(data):
    X, y = data
    one, other = small().fit(X, y), small().fit(X, y[::-1])
    assert weights(one.net_.module_) == weights(other.net_.module_)


def test_a_killed_run_ends_with_the_same_weights(data, tmp_path):
    X, _ = data

    class Killed(BaseException):
        pass

    class Kill(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if len(net.history) == 2:
                raise Killed

    expected = small(max_epochs=3).fit(X)
    with pytest.raises(Killed):
        small(max_epochs=3, checkpoint_dir=tmp_path, callbacks=[Kill()]).fit(X)
    again = small(max_epochs=3, checkpoint_dir=tmp_path).fit(X)
    assert weights(again.net_.module_) == weights(expected.net_.module_)
    assert len(again.history_) == 3
    # another pool is another run
    small(max_epochs=1, checkpoint_dir=tmp_path, extra_images=X[:5]).fit(X)
    small(max_epochs=1, checkpoint_dir=tmp_path, extra_images=X[5:10]).fit(X)
    assert len(list(tmp_path.glob("*.ckpt"))) == 3


def test_checkpoints_tell_pretrained_weights_apart(data, fitted, tmp_path):
    X, y = data
    for start in (fitted, small(max_epochs=0).fit(X)):
        wpat(FrozenEstimator(start), checkpoint_dir=tmp_path).fit(X, y)
    assert len(list(tmp_path.glob("*.ckpt"))) == 2


def test_a_diverged_run_keeps_good_weights(data):
    def poison(images, generator):
        poison.calls += 1
        return images * (float("nan") if poison.calls == 7 else 1.0)

    poison.calls = 0
    model = small(augment=poison)
    with pytest.raises(TrainingDiverged, match="lower lr"):
        model.fit(data[0])
    assert np.isfinite(model.transform(data[0])).all()


def test_half_precision_runs_where_a_cpu_has_it(data):
    X, _ = data
    model = small(precision="bfloat16").fit(X)
    assert np.isfinite(model.history_["train_loss"]).all()
    assert np.isfinite(model.transform(X)).all()


def test_resnet24_is_pretrained_with_statistics_of_whole_images(data):
    X, y = data
    model = small(backbone="resnet24", backbone_options={"width": 8}).fit(X)
    norm = model.encoder_.stem[1]
    x = model.net_.prepare(torch.from_numpy(X))
    with torch.no_grad():
        maps = model.encoder_.stem[0](model.net_.module_.encoder.normalize(x))
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3)), atol=0.05, rtol=0.1)
    classifier = ImageClassifier(
        "resnet24", pretrained=FrozenEstimator(model), image_size=32, max_epochs=0
    )
    np.testing.assert_allclose(classifier.fit(X, y).transform(X), model.transform(X), atol=1e-5)


def test_the_encoder_is_frozen_first_and_learns_more_slowly_after(data, fitted):
    X, y = data
    model = wpat(FrozenEstimator(fitted), max_epochs=10)
    assert model._freeze_epochs() == 1 and model._layer_decay() == 0.75
    assert wpat()._freeze_epochs() == 0 and wpat()._layer_decay() is None
    # never the whole run
    epochs = [wpat(FrozenEstimator(fitted), max_epochs=n)._freeze_epochs() for n in (0, 1, 2, 30)]
    assert epochs == [0, 0, 1, 3]
    frozen = wpat(FrozenEstimator(fitted), max_epochs=2, freeze_epochs=2, ema=False).fit(X, y)
    backbone = frozen.net_.module_.backbone
    assert weights(backbone.encoder) == weights(fitted.encoder_)
    start = wpat(FrozenEstimator(fitted), max_epochs=0).fit(X, y).net_.module_.backbone
    assert weights(backbone.branches) != weights(start.branches)
    free = wpat(FrozenEstimator(fitted), max_epochs=2, freeze_epochs=1).fit(X, y)
    assert weights(free.net_.module_.backbone.encoder) != weights(fitted.encoder_)
    assert all(parameter.requires_grad for parameter in free.net_.module_.parameters())
    on = wpat(FrozenEstimator(fitted), max_epochs=2, warm_start=True).fit(X, y)
    assert on._freeze_epochs() == 0


def test_a_frozen_encoder_keeps_its_statistics(data):
    X, y = data
    start = small(backbone="resnet24", backbone_options={"width": 8}).fit(X)
    for ema in (False, True):
        model = wpat(FrozenEstimator(start), max_epochs=2, freeze_epochs=2, ema=ema)
        encoder = model.fit(255 - X, y).net_.module_.backbone.encoder
        assert weights(encoder) == weights(start.encoder_)


def test_classifiers_survive_without_the_file_they_began_with(data, fitted, tmp_path):
    X, y = data
    path = fitted.save(tmp_path / "encoder.safetensors")
    for start in (path, FrozenEstimator(fitted), small(max_epochs=1)):
        model = wpat(start).fit(X, y)
        save(model, tmp_path / "model.hemaest")
        path.unlink(missing_ok=True)
        again = load(tmp_path / "model.hemaest")
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        again.set_params(warm_start=True, max_epochs=1).fit(X, y)


def test_what_does_not_go_together_is_answered(data, fitted):
    X, y = data
    frozen = FrozenEstimator(fitted)
    with pytest.raises(ValueError, match="backbone='convnextv2_atto', or 'wpat'"):
        ImageClassifier("resnet24", pretrained=frozen, image_size=32).fit(X, y)
    with pytest.raises(ValueError, match="give convnet=None"):
        wpat(frozen, convnet="resnet24").fit(X, y)
    with pytest.raises(ValueError, match=r"convnet='resnet24' .*ImageClassifier\('resnet24'\)"):
        WPATClassifier("resnet24", image_size=32).fit(X, y)
    with pytest.raises(ValueError, match="ConvNeXt V2"):
        small(backbone="resnet10t", backbone_options=None).fit(X)


def test_wpat_learns_what_is_easy(data):
    X, y = data
    model = wpat(max_epochs=12, augment=None, lr=3e-3).fit(X, y)
    assert model.score(X, y) == 1


@pytest.fixture(scope="module")
def cells():
    made = make_cells(24, classes=["neutrophil", "lymphocyte"], image_size=64, random_state=0)
    return made.images, np.asarray(made.target)


def adapting(**changes):
    params = {
        "backbone": "cellnet",
        "pretrained": "synthetic",
        "image_size": 64,
        "max_epochs": 1,
        "batch_size": 8,
        "rendered": 16,
        "device": "cpu",
        "random_state": 0,
    }
    return FCMAEPretrainer(**(params | changes))


def test_without_an_epoch_it_is_the_network_that_ships(cells):
    X, _ = cells
    before = DeepEmbedding("cellnet", pretrained="synthetic", image_size=64).fit_transform(X)
    model = adapting(max_epochs=0).fit(X)
    np.testing.assert_allclose(model.transform(X), before, atol=1e-6)
    assert np.abs(adapting().fit(X).transform(X) - before).max() > 1e-3


def test_what_is_adapted_is_saved_and_starts_classifiers(cells, tmp_path):
    X, y = cells
    model = adapting().fit(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.transform(X), model.transform(X), atol=1e-6)
    path = model.save(tmp_path / "adapted.safetensors")
    embedding = DeepEmbedding("cellnet", pretrained=path, image_size=64).fit_transform(X)
    np.testing.assert_allclose(embedding, model.transform(X), atol=1e-6)
    untouched = {"image_size": 64, "max_epochs": 0, "device": "cpu", "random_state": 0}
    around = WPATClassifier(pretrained=path, backbone_options=WINDOWS, **untouched).fit(X, y)
    np.testing.assert_allclose(around.transform(X)[:, :160], embedding, atol=1e-5)


@pytest.mark.slow
def test_two_adaptations_agree_and_a_stopped_one_goes_on(cells, tmp_path):
    X, _ = cells
    whole = adapting(max_epochs=2).fit(X)
    assert weights(whole.encoder_) == weights(adapting(max_epochs=2).fit(X).encoder_)

    class Stop(Callback):
        def on_epoch_end(self, net, **_):
            if len(net.history) == 1:
                raise KeyboardInterrupt

    kept = {"max_epochs": 2, "checkpoint_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        adapting(**kept, callbacks=[Stop()]).fit(X)
    assert weights(adapting(**kept).fit(X).encoder_) == weights(whole.encoder_)


def test_features_are_no_pixels(cells):
    X, _ = cells
    with pytest.raises(ValueError, match="set target='pixels'"):
        adapting(max_epochs=0).fit(X).reconstruct(X)
    shown = adapting(target="pixels", image_size=96, max_epochs=0).fit(X).reconstruct(X[:2])
    assert shown.shape == (2, 3, 96, 96, 3)


def test_types_need_the_network_that_ships(cells, tmp_path):
    X, _ = cells
    path = adapting(max_epochs=0).fit(X).save(tmp_path / "adapted.safetensors")
    with pytest.raises(ValueError, match="take target='features'"):
        adapting(pretrained=path, target="types").fit(X)


@pytest.mark.parametrize("target", ["features", "types"])
def test_both_targets_train_and_give_embeddings_of_one_length(cells, target):
    X, _ = cells
    model = adapting(target=target, max_epochs=1).fit(X)
    assert np.isfinite(model.history_["train_loss"]).all()
    assert model.transform(X).shape == (len(X), 160)
