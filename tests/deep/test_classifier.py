import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

from hemaest.deep import ImageClassifier
from hemaest.images import ImageRef, pack


def small(**changes):
    params = {
        "backbone": "cellnet",
        "backbone_options": {"channels": (8, 16, 16, 16)},
        "image_size": 32,
        "max_epochs": 4,
        "batch_size": 8,
        "lr": 3e-3,
        "random_state": 0,
    }
    return ImageClassifier(**(params | changes))


@pytest.fixture(scope="module")
def cells():
    """Dark discs are large or small; the size is the label."""
    rng = np.random.default_rng(0)
    y = np.repeat(["large", "small"], 20)
    X = rng.integers(180, 220, (40, 36, 36, 3)).astype(np.uint8)
    rows, columns = np.mgrid[:36, :36]
    for image, label in zip(X, y, strict=True):
        center = rng.integers(15, 21, 2)
        disc = np.hypot(rows - center[0], columns - center[1]) < (13 if label == "large" else 6)
        image[disc] -= np.array([90, 120, 60], np.uint8)
    return X, y


@pytest.fixture(scope="module")
def fitted(cells):
    return small(max_epochs=8).fit(*cells)


def test_it_learns_what_is_easy(cells, fitted):
    assert fitted.score(*cells) == 1
    assert fitted.history_["train_loss"].iloc[-1] < fitted.history_["train_loss"].iloc[0]


def test_probabilities_sum_to_one_and_do_not_depend_on_company(cells, fitted):
    X, _ = cells
    proba = fitted.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(fitted.predict_proba(X[5:6]), proba[5:6], atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(X[::-1]), proba[::-1], atol=1e-5)


def test_one_seed_gives_the_same_bits(cells):
    X, y = cells
    options = {"augment": "strong", "mixup": 0.2, "cutmix": 1.0, "drop_path": 0.1}
    first = small(**options).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(first, small(**options).fit(X, y).predict_proba(X))
    assert (first != small(**options, random_state=1).fit(X, y).predict_proba(X)).any()


def test_fit_leaves_the_global_generators_alone(cells):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small(max_epochs=1).fit(*cells)
    assert torch.equal(torch.rand(3), expected)


def test_dense_ragged_and_files_give_one_result(cells, fitted, tmp_path):
    from PIL import Image

    X, y = cells
    refs = np.empty(len(X), dtype=object)
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        refs[i] = ImageRef(tmp_path / f"{i}.png")
    expected = fitted.predict_proba(X)
    for other in (pack(list(X), dense=False), refs):
        again = small(max_epochs=8).fit(other, y)
        np.testing.assert_array_equal(again.predict_proba(other), expected)


def test_a_cell_map_changes_nothing(cells, fitted):
    X, _ = cells
    maps = np.ones((*X.shape[:3], 1), np.uint8)
    maps[:, 10:20, 10:20] = 2
    with_map = np.concatenate([X, maps], axis=3)
    np.testing.assert_array_equal(fitted.predict_proba(with_map), fitted.predict_proba(X))


@pytest.mark.parametrize(
    "labels", [np.array([10, 20]), np.array([-1, 7], np.int32), np.array([True, False])]
)
def test_labels_of_any_kind_come_back(cells, labels):
    X, y = cells
    y = labels[(y == "small").astype(int)]
    model = small(max_epochs=1).fit(X, y)
    assert set(model.predict(X)) <= set(labels.tolist())
    assert model.classes_.dtype == y.dtype


def test_a_pickle_from_a_gpu_machine_loads_without_one(cells, fitted):
    model = pickle.loads(pickle.dumps(fitted))
    model.device = "cuda:0"
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(cells[0]), fitted.predict_proba(cells[0]))
    assert again.history_.equals(fitted.history_)


def test_importing_it_loads_no_torch():
    code = (
        "import sys; import hemaest.deep, hemaest.nets; from hemaest.deep import ImageClassifier;"
        "ImageClassifier(); assert not {'torch', 'timm', 'skorch', 'xgboost'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scikit_learn_takes_it_anywhere(cells):
    X, y = cells
    groups = np.arange(len(y)) % 10
    model = small(max_epochs=2)
    scores = cross_val_score(
        model, X, y, groups=groups, cv=GroupKFold(2), params={"groups": groups}
    )
    assert scores.shape == (2,)
    search = GridSearchCV(model, {"lr": [1e-3, 3e-3]}, cv=2).fit(X, y)
    assert search.best_estimator_.predict(X).shape == y.shape
    vote = VotingClassifier([("a", model), ("b", clone(model))], voting="soft").fit(X, y)
    np.testing.assert_allclose(vote.predict_proba(X).sum(axis=1), 1)
    calibrated = CalibratedClassifierCV(model, cv=2, method="sigmoid").fit(X, y)
    assert set(calibrated.predict(X)) <= set(y)


def test_weights_of_one_are_no_weights_and_large_ones_pull(cells):
    X, y = cells
    plain = small(max_epochs=2).fit(X, y).predict_proba(X)
    ones = small(max_epochs=2).fit(X, y, sample_weight=np.full(len(y), 7.0)).predict_proba(X)
    np.testing.assert_array_equal(plain, ones)
    heavy = small(max_epochs=2).fit(X, y, sample_weight=np.where(y == "large", 50.0, 1.0))
    assert heavy.predict_proba(X)[:, 0].mean() > plain[:, 0].mean()
    by_class = small(max_epochs=2, class_weight={"large": 50.0, "small": 1.0}).fit(X, y)
    np.testing.assert_array_equal(by_class.predict_proba(X), heavy.predict_proba(X))


def test_embeddings_are_what_the_last_layer_sees(cells, fitted):
    X, _ = cells
    embedded = fitted.transform(X)
    assert embedded.shape == (40, 16)
    assert len(fitted.get_feature_names_out()) == 16
    last = fitted.net_.module_.backbone.get_classifier()
    logits = embedded @ last.weight.detach().numpy().T + last.bias.detach().numpy()
    np.testing.assert_array_equal(fitted.classes_[logits.argmax(axis=1)], fitted.predict(X))


def test_averaging_views_makes_a_turned_cell_the_same_cell(cells):
    X, y = cells
    model = small(max_epochs=2, tta=True).fit(X, y)
    np.testing.assert_allclose(
        model.predict_proba(np.rot90(X, axes=(1, 2)).copy()), model.predict_proba(X), atol=1e-5
    )


def test_partial_fit_learns_from_a_stream(cells):
    X, y = cells
    model = small(lr=1e-2)
    with pytest.raises(ValueError, match="needs classes="):
        model.partial_fit(X, y)
    for _ in range(6):
        for part in np.array_split(np.random.default_rng(1).permutation(len(y)), 2):
            model.partial_fit(X[part], y[part], classes=["large", "small"])
    assert len(model.history_) == 12
    assert model.history_["train_loss"].iloc[-2:].mean() < model.history_["train_loss"][0]
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X[:2], ["other", "small"])


def test_a_stream_weighs_classes_as_requested(cells):
    X, y = cells

    def chance(**changes):
        model = small(lr=1e-2, augment=None, **changes)
        for part in np.array_split(np.random.default_rng(1).permutation(len(y)), 4):
            model.partial_fit(X[part], y[part], classes=["large", "small"])
        return model.predict_proba(X)[:, 0]

    plain = chance()
    np.testing.assert_array_equal(chance(class_weight={"large": 5, "small": 5}), plain)
    assert chance(class_weight={"large": 50, "small": 1}).mean() > plain.mean()


def test_class_weights_hold_where_a_part_has_one_class_alone(cells):
    from hemaest.deep.batches import make_training_set

    X, _ = cells
    per_class = np.array([0.5, 1.5])
    part = make_training_set(X[:3], np.ones(3, int), np.array([2.0, 4, 6]), 32, per_class=per_class)
    np.testing.assert_allclose(part.weight, [0.75, 1.5, 2.25])
    with pytest.raises(ValueError, match="weight of 0"):
        make_training_set(X[:3], np.ones(3, int), np.zeros(3), 32)


@pytest.mark.parametrize(
    "changes", [{"class_weight": "balanced"}, {"resampler": "balanced"}, {"loss": "logit-adjusted"}]
)
def test_a_stream_cannot_be_balanced_by_shares(cells, changes):
    with pytest.raises(ValueError, match="partial_fit does not know; call fit, or give"):
        small(**changes).partial_fit(*cells, classes=["large", "small"])


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"large": 0, "small": 0}, "at least one of them above 0"),
        ({"large": -1, "small": 2}, "0 or more"),
        ({"large": np.inf, "small": 2}, "finite"),
        ({"lorge": 1}, "not in class_weight"),
    ],
)
def test_class_weights_that_no_loss_can_use_are_refused(cells, class_weight, message):
    model = small(class_weight=class_weight)
    with pytest.raises(ValueError, match=message):
        model.fit(*cells)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(*cells, classes=["large", "small"])
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (None, "1 of 40 labels are missing .* of images 3"),
        (7, "int, str.*Row 3 has 7"),
        (np.nan, "1 of 40 labels are missing"),
    ],
)
@pytest.mark.parametrize("kind", [list, lambda y: np.array(y, dtype=object)])
def test_labels_that_cannot_be_sorted_are_named(cells, odd, message, kind):
    X, y = cells
    y = y.tolist()
    y[3] = odd
    with pytest.raises(ValueError, match=message):
        small().fit(X, kind(y))


def test_one_image_is_too_few(cells):
    X, y = cells
    with pytest.raises(ValueError, match="cannot be trained on 1 sample"):
        small().fit(X[:1], y[:1])
    with pytest.raises(ValueError, match="cannot be trained on 1 sample"):
        small().partial_fit(X[:1], y[:1], classes=["large", "small"])


@pytest.mark.parametrize("labels", ["small", 3])
def test_one_class_is_too_few(cells, labels):
    X, _ = cells
    y = np.full(len(X), labels)
    with pytest.raises(ValueError, match="one class only"):
        small().fit(X, y)
    with pytest.raises(ValueError, match="one class only"):
        small().partial_fit(X, y, classes=[labels])
    # a part of a stream may hold one class
    model = small().partial_fit(X, y, classes=[labels, labels * 2])
    assert len(model.classes_) == 2


def test_warm_start_continues(cells):
    X, y = cells
    model = small(warm_start=True, max_epochs=2)
    first = model.fit(X, y).history_["train_loss"].iloc[0]
    assert model.fit(X, y).history_["train_loss"].iloc[2] < first
    with pytest.raises(ValueError, match="did not have"):
        model.fit(X, np.where(y == "large", "huge", y))


def test_images_of_any_shape_are_taken(fitted):
    rng = np.random.default_rng(2)
    shapes = [(2, 3), (36, 36), (10, 90), (200, 31)]
    X = [rng.integers(0, 255, (*shape, 3)).astype(np.uint8) for shape in shapes]
    together = fitted.predict_proba(X)
    for i in range(len(X)):
        np.testing.assert_allclose(fitted.predict_proba(X[i : i + 1])[0], together[i], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet42"}, "Did you mean"),
        ({"resampler": "balanced", "class_weight": "balanced"}, "correct it twice"),
        ({"device": "gpu"}, "not a device"),
        ({"augment": "stong"}, "Did you mean 'strong'"),
        ({"max_epochs": -1}, "max_epochs"),
        ({"pretrained": True}, "no published weights"),
        ({"pretrained": "nowhere.pth"}, "there is no file"),
    ],
)
def test_errors_say_what_to_do(cells, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        small(**changes).fit(*cells)


def test_a_gpu_that_is_absent_is_named():
    code = "from hemaest.nets.devices import resolve_device; resolve_device('cuda')"
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], env=hidden, capture_output=True, text=True)
    assert done.returncode == 1
    assert "torch finds no GPU; give device='auto' or 'cpu'" in done.stderr


def test_no_epochs_leave_the_net_untrained(cells):
    X, y = cells
    proba = small(max_epochs=0).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
