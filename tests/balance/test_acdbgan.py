import copy
import re

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback

from hemaest import persistence
from hemaest.balance import ACDBGAN
from hemaest.datasets import make_cells
from hemaest.deep import ImageClassifier
from hemaest.groups import GroupedFolds
from hemaest.images import ImageRef, to_object_array
from hemaest.recipes import ImagePipeline

SMALL = {
    "backbone_options": {"channels": (8, 8, 16, 16)},
    "image_size": 16,
    "batch_size": 8,
    "precision": "float32",
    "device": "cpu",
}
ENCODER = ImageClassifier("cellnet", max_epochs=6, lr=3e-3, **SMALL)


def tiny(**changes):
    params = {
        "image_size": 16,
        "max_steps": 4,
        "batch_size": 4,
        "width": 4,
        "latent_size": 8,
        "adaptive": False,
        "realism_filter": False,
        "encoder": ENCODER,
        "device": "cpu",
        "random_state": 0,
    }
    return ACDBGAN(**(params | changes))


def draw(n, color, rng):
    """Draw n discs of one color, each of its own size and place."""
    rows, columns = np.mgrid[:16, :16]
    images = np.full((n, 16, 16, 3), 230, float)
    for image in images:
        middle = 8 + rng.uniform(-2, 2, 2)
        disc = np.hypot(rows - middle[0], columns - middle[1]) < rng.uniform(3, 6)
        image[disc] = np.array(color) + rng.normal(0, 12, 3)
    return np.clip(images + rng.normal(0, 5, images.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def discs():
    """Give 30 common and 12 rare discs of another color, three to a patient."""
    rng = np.random.default_rng(0)
    X = np.concatenate([draw(30, (90, 60, 150), rng), draw(12, (190, 80, 60), rng)])
    y = np.repeat(["common", "rare"], [30, 12])
    return X, y, np.arange(42) // 3


def known(X):
    return {image.tobytes() for image in X}


class Listener(ClassifierMixin, BaseEstimator):
    """Remembers what it was fitted on and everything that it predicted."""

    fitted_on: list = []
    predicted: list = []

    def fit(self, X, y, groups=None, sample_indices=None):
        self.classes_ = np.unique(y)
        Listener.fitted_on.append((X, y, groups, sample_indices))
        return self

    def predict(self, X):
        Listener.predicted.extend(X)
        return np.repeat(self.classes_[:1], len(X))


def interrupt(gan, X, y, monkeypatch):
    """Fit and break off when the first samples are written."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("PIL.Image.Image.save", stop)
        gan.fit(X, y)


def test_predict_and_score_see_no_synthetic_row(discs):
    X, y, groups = discs
    Listener.fitted_on.clear()
    Listener.predicted.clear()
    gan = tiny(min_images=3)
    pipeline = ImagePipeline([("balance", gan), ("classify", Listener())])
    cross_val_score(pipeline, X, y, groups=groups, cv=GroupedFolds(2), params={"groups": groups})
    assert len(Listener.predicted) == len(X)
    assert known(Listener.predicted) <= known(X)
    for X_new, y_new, given_groups, rows in Listener.fitted_on:
        assert (rows == -1).any() and (y_new == "rare").sum() == (y_new == "common").sum()
        assert known(X_new[rows == -1]).isdisjoint(known(X))
        assert known(X_new[rows >= 0]) <= known(X)
        # what is synthetic belongs to no patient
        assert set(given_groups[rows == -1]).isdisjoint(set(given_groups[rows >= 0]))


class Overhear(Callback):
    """Keeps the two sets of a run."""

    def on_train_begin(self, net, X=None, **kwargs):
        Overhear.train, Overhear.valid = X


class Spy(ACDBGAN):
    """Remembers what it was given."""

    given: list = []

    def fit_resample(self, X, y, groups=None):
        Spy.given.append((X, groups))
        return super().fit_resample(X, y, groups)


def test_an_inner_hold_out_sees_no_synthetic_row_and_the_gan_sees_nothing_of_it(discs):
    X, y, groups = discs
    Spy.given.clear()
    model = ImageClassifier(
        "cellnet",
        **SMALL,
        max_epochs=1,
        early_stopping=True,
        validation_fraction=0.3,
        resampler=Spy(**tiny().get_params(deep=False)),
        callbacks=[Overhear()],
        random_state=0,
    ).fit(X, y, groups)
    held = X[model.held_out_]
    np.testing.assert_array_equal(Overhear.valid.images.X, held)
    ((given, given_groups),) = Spy.given
    assert known(given).isdisjoint(known(held)) and len(given) + len(held) == len(X)
    assert set(given_groups).isdisjoint(set(groups[model.held_out_]))
    made = known(Overhear.train.images.X) - known(given)
    assert made and made.isdisjoint(known(held))


def test_behind_the_gan_early_stopping_is_off_and_says_so(discs):
    X, y, groups = discs
    net = ImageClassifier("cellnet", **SMALL, max_epochs=1, early_stopping=True, random_state=0)
    with pytest.warns(UserWarning, match="early stopping is off"):
        pipeline = ImagePipeline([("balance", tiny()), ("classify", net)]).fit(X, y, groups)
    assert pipeline[-1].held_out_ is None


def test_inner_folds_get_the_groups(discs):
    X, y, groups = discs
    gan = tiny(adaptive=True, encoder=Folded(image_size=16), inner_folds=2)
    Folded.seen.clear()
    ImagePipeline([("balance", gan), ("classify", Listener())]).fit(X, y, groups)
    of = {image.tobytes(): g for image, g in zip(X, groups, strict=True)}
    assert len(Folded.seen) == 2
    for one, other in (Folded.seen, Folded.seen[::-1]):
        assert {of[b] for b in one} | {of[b] for b in other} == set(groups)
        assert {of[b] for b in one}.isdisjoint({of[b] for b in other})


class Folded(ClassifierMixin, BaseEstimator):
    """An encoder that remembers which images each fold gave it."""

    seen: list = []

    def __init__(self, image_size=16, random_state=None):
        self.image_size = image_size
        self.random_state = random_state

    def fit(self, X, y):
        Folded.seen.append(known(X))
        self.classes_ = np.unique(y)
        return self

    def transform(self, X):
        return X.mean(axis=(1, 2))

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


@pytest.fixture(scope="module")
def judged(discs):
    X, y, groups = discs
    return tiny(adaptive=True, realism_filter=True).fit(X, y, groups)


def test_the_filter_drops_copies_and_what_is_no_cell(discs, judged):
    X, y, _ = discs
    rare = X[y == "rare"]
    _, copies = judged.judges_.verdict(rare, 1)
    assert copies.all()
    turned = np.ascontiguousarray(np.rot90(rare, axes=(1, 2))[:, :, ::-1])
    assert judged.judges_.verdict(turned, 1)[1].all()
    far, _ = judged.judges_.verdict(X[y == "common"], 1)
    assert far.mean() > 0.8
    unseen = draw(40, (190, 80, 60), np.random.default_rng(5))
    far, copies = judged.judges_.verdict(unseen, 1)
    assert far.mean() < 0.3 and copies.mean() < 0.2


def test_recall_says_who_needs_help(discs, judged):
    assert judged.recall_.shape == (2,) and (judged.recall_ >= 0).all()
    assert (judged.recall_ <= 1).all()
    # the deficit of 18 is filled to the share that misses, drawn toward one half, call for
    share = min(1, 2 * ((1 - judged.recall_[1]) * 12 + 1) / (12 + 2))
    assert judged.quota_.tolist() == [0, np.ceil(18 * share)]


def test_a_class_of_one_patient_has_no_recall_and_gets_all_it_lacks(discs):
    X, y, groups = discs
    of_one = np.where(y == "rare", 99, groups)
    gan = tiny(adaptive=True).fit(X, y, of_one)
    assert np.isnan(gan.recall_).tolist() == [False, True]
    assert gan.quota_.tolist() == [0, 18]


def test_inner_folds_need_two_groups(discs):
    X, y, _ = discs
    with pytest.raises(ValueError, match="all 42 images are of one group.*Give finer groups"):
        tiny(adaptive=True).fit(X, y, np.zeros(42))
    tiny().fit(X, y, np.zeros(42))


class Unseeded(Folded):
    """An encoder whose result is no matter of chance."""

    def __init__(self, image_size=16):
        self.image_size = image_size


@pytest.mark.parametrize("encoder", ["unseeded", "frozen"])
def test_an_encoder_need_not_take_a_seed(discs, encoder):
    X, y, groups = discs
    frozen = FrozenEstimator(clone(ENCODER).set_params(random_state=0).fit(X, y))
    given = Unseeded() if encoder == "unseeded" else frozen
    gan = tiny(adaptive=True, realism_filter=True, encoder=given).fit(X, y, groups)
    assert np.isfinite(gan.recall_).all()
    if encoder == "frozen":
        np.testing.assert_array_equal(
            gan.judges_.members[0].encoder.transform(X), frozen.transform(X)
        )


def test_an_encoder_that_cannot_judge_is_refused_at_once(discs):
    X, y, _ = discs
    fitted = clone(ENCODER).set_params(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"encoder is a fitted .*FrozenEstimator\(encoder\)"):
        tiny(adaptive=True, encoder=fitted).fit(X, y)

    class Sizeless(Folded):
        def __init__(self):
            pass

    with pytest.raises(ValueError, match="Sizeless without image_size"):
        tiny(adaptive=True, encoder=Sizeless()).fit(X, y)


def test_one_class_is_drawn_without_a_filter_and_with_a_warning(discs):
    X, y, _ = discs
    gan = tiny(realism_filter=True, adaptive=True)
    with pytest.warns(UserWarning, match="only one class, 'common'.*not filtered"):
        gan.fit(X[:30], y[:30])
    assert gan.sample(2, "common").shape == (2, 16, 16, 3)
    with pytest.raises(ValueError, match="no filter was fitted"):
        gan.sample(2, "common", filtered=True)


def test_how_many_to_draw_is_a_whole_number(discs, judged):
    X, y, _ = discs
    with pytest.warns(UserWarning, match="too few"):
        few = tiny().fit(X[:33], y[:33])
    for gan in (judged, few):
        for label in gan.classes_:
            assert gan.sample(0, label).shape == (0, 16, 16, 3)
    with pytest.raises(ValueError, match="n == -1, must be >= 0"):
        judged.sample(-1, "rare")
    with pytest.raises(TypeError, match="n must be an instance of int"):
        judged.sample(2.5, "rare")


def test_the_filter_reports_what_it_leaves_and_sampling_changes_no_state(judged):
    strict = copy.deepcopy(judged)
    strict.judges_.far[:] = strict.judges_.near
    before = joblib.hash(vars(strict))
    with pytest.warns(UserWarning, match="0 of 5 images of class 'rare' pass") as warned:
        assert strict.sample(5, "rare").shape == (0, 16, 16, 3)
    found = re.search(r"(\d+) drawn, (\d+) too far .*, (\d+) copies", str(warned[0].message))
    drawn, far, copies = map(int, found.groups())
    assert far + copies >= drawn > 5
    assert joblib.hash(vars(strict)) == before
    assert len(strict.sample(5, "rare", filtered=False)) == 5
    generous = copy.deepcopy(judged)
    generous.judges_.far[:], generous.judges_.near = 9, 0
    np.testing.assert_array_equal(
        generous.sample(5, "rare"), generous.sample(16, "rare", filtered=False)[:5]
    )


def test_few_images_get_augmented_copies_with_a_warning(discs):
    X, y, _ = discs
    keep = np.r_[:30, 30:33]
    gan = tiny()
    with pytest.warns(UserWarning, match=r"min_images=8\): 'rare' \(3\)"):
        X_new, y_new = gan.fit_resample(X[keep], y[keep])
    rows = gan.sample_indices_
    assert (y_new == "rare").sum() == 30 and not (rows == -1).any()
    np.testing.assert_array_equal(y_new, y[keep][rows])
    made = X_new[len(keep) :]
    assert len(known(made)) == 27 and known(made).isdisjoint(known(X))
    distance = np.abs(np.median(made, axis=(1, 2)) - np.median(X[30:33], axis=(1, 2)).mean(0))
    assert distance.mean() < 25


def test_files_stay_files(discs, as_refs):
    X, y, _ = discs
    refs = as_refs(X)
    gan = tiny()
    X_new, _ = gan.fit_resample(refs, y)
    assert all(isinstance(item, ImageRef) for item in X_new[:42])
    assert X_new.shape == (60,) and X_new[-1].shape == (16, 16, 3)
    dense, _ = tiny().fit_resample(X, y)
    ragged, _ = tiny().fit_resample(to_object_array(list(X)), y)
    assert joblib.hash(list(dense)) == joblib.hash(list(ragged))
    np.testing.assert_array_equal(X_new[-1], dense[-1])


def test_one_seed_gives_one_set_and_another_gives_another(discs):
    X, y, _ = discs
    first, again, other = (
        tiny(random_state=seed).fit_resample(X, y)[0].tobytes() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_caller_s_random_state_is_not_touched(discs):
    X, y, _ = discs
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    tiny().fit_resample(X, y)
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_is_saved_and_loaded(discs, judged, tmp_path):
    path = tmp_path / "gan.hemaest"
    persistence.save(judged, path)
    loaded = persistence.load(path)
    kwargs = {"filtered": False, "random_state": 7}
    np.testing.assert_array_equal(
        loaded.sample(3, "rare", **kwargs), judged.sample(3, "rare", **kwargs)
    )
    assert not hasattr(clone(judged), "weights_")
    FrozenEstimator(judged)


def test_a_run_that_was_stopped_continues_as_if_it_had_not(discs, tmp_path, monkeypatch):
    X, y, _ = discs
    options = {"max_steps": 9, "report_every": 4}
    whole = tiny(**options).fit(X, y)
    assert whole.history_["step"].tolist() == [4, 8, 9]
    options["checkpoint_dir"] = tmp_path / "state"
    interrupt(tiny(image_dir=tmp_path / "seen", **options), X, y, monkeypatch)
    rest = tiny(**options).fit(X, y)
    assert joblib.hash(rest.weights_) == joblib.hash(whole.weights_)
    assert rest.history_["step"].tolist() == [4, 8, 9]


def test_the_estimator_continues_from_its_checkpoint(discs, tmp_path):
    X, y, _ = discs
    options = {"checkpoint_dir": tmp_path / "state", "random_state": None}
    first = tiny(**options).fit(X, y)
    again = tiny(**options).fit(X, y)
    assert joblib.hash(first.weights_) == joblib.hash(again.weights_)
    other = tiny(**options, lr=1e-3).fit(X, y)
    assert joblib.hash(first.weights_) != joblib.hash(other.weights_)


@pytest.mark.slow
def test_all_that_is_drawn_is_of_the_seed_with_which_the_run_began(discs, tmp_path):
    X, y, groups = discs
    options = {
        "checkpoint_dir": tmp_path / "state",
        "random_state": None,
        "adaptive": True,
        "encoder": None,
        "inner_folds": 2,
        "min_images": 8,
    }
    first, again = tiny(**options), tiny(**options)
    made = [gan.fit_resample(X, y, groups)[0] for gan in (first, again)]
    np.testing.assert_array_equal(first.recall_, again.recall_)
    np.testing.assert_array_equal(*made)
    assert len(made[0]) > len(X)


def test_images_and_history(discs, tmp_path):
    from PIL import Image

    X, y, _ = discs
    gan = tiny(image_dir=tmp_path / "seen", report_every=2, penalty_every=1).fit(X, y)
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["step-000002.png", "step-000004.png"]
    with Image.open(tmp_path / "seen" / names[0]) as sheet:
        assert sheet.size == (8 * 16, 2 * 16)
    assert gan.history_["step"].tolist() == [2, 4]
    assert np.isfinite(gan.history_.to_numpy()).all()


@pytest.mark.slow
def test_it_learns_the_color_of_each_class(discs):
    X, y, _ = discs
    gan = tiny(max_steps=160, batch_size=16, width=8, lr=4e-3, latent_size=16).fit(X, y)
    means = {
        label: (
            gan.sample(32, label).mean(axis=(0, 1, 2)),
            X[y == label].mean(axis=(0, 1, 2)),
        )
        for label in gan.classes_
    }
    apart = np.abs(means["common"][1] - means["rare"][1]).max()
    for made, real in means.values():
        assert np.abs(made - real).max() < 0.6 * apart
    assert means["rare"][0][0] > means["common"][0][0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 34}, "image_size=34 is not 4, 5, 6 or 7 times"),
        ({"min_images": 99}, "no class has min_images=99"),
        ({"device": "cude"}, "is not a device"),
        ({"precision": "float16"}, "precision"),
    ],
)
def test_errors_say_what_is_allowed(discs, changes, words):
    X, y, _ = discs
    with pytest.raises(ValueError, match=words):
        tiny(**changes).fit_resample(X, y)


def test_more_errors(discs, judged):
    X, y, _ = discs
    with pytest.raises(ValueError, match="not among the classes"):
        judged.sample(1, "basophil")
    with pytest.raises(ValueError, match="no filter was fitted"):
        tiny().fit(X, y).sample(1, "rare", filtered=True)
    with pytest.raises(ValueError, match="before the segmenter"):
        tiny().fit_resample(np.concatenate([X, np.zeros_like(X[..., :1])], axis=-1), y)


def test_a_loss_that_is_not_finite_is_an_error(discs):
    from hemaest.deep.training import TrainingDiverged

    X, y, _ = discs
    gan = tiny(lr=1e30, max_steps=12, report_every=4)
    with pytest.raises(TrainingDiverged, match="no longer finite at step 4; the weights of step 0"):
        gan.fit(X, y)
    untrained = tiny(lr=1e-30, max_steps=1).fit(X, y)
    for name, weight in untrained.weights_.items():
        np.testing.assert_allclose(gan.weights_[name], weight, rtol=0, atol=1e-20)
    assert gan.sample(2, "rare").shape == (2, 16, 16, 3) and len(gan.history_) == 1


@pytest.fixture(scope="module")
def cells():
    """Give rendered cells of a laboratory with yellow light, monocytes rare."""
    made = make_cells(
        40, classes=["neutrophil", "lymphocyte", "monocyte"], class_weights=[4, 4, 1],
        image_size=32, field=20.0, random_state=1,
    )  # fmt: skip
    yellow = made.images * np.array([1.0, 0.9, 0.6])
    return yellow.astype(np.uint8), np.asarray(made.target)


def refiner(**changes):
    return tiny(source="rendered", image_size=32, min_images=3, **changes)


@pytest.mark.slow
def test_a_refined_cell_keeps_the_shape_of_a_rendered_one_and_takes_the_colors_of_the_fold(cells):
    X, y = cells
    gan = refiner(max_steps=20)
    images, labels = gan.fit_resample(X, y)
    counts = {label: int((labels == label).sum()) for label in gan.classes_}
    assert len(set(counts.values())) == 1 and (gan.sample_indices_[len(y) :] == -1).all()
    made, real = images[len(y) :], X[y == "monocyte"]
    # glass: the brightest tenth of all pixels
    glass = [np.quantile(part.reshape(-1, 3), 0.9, axis=0) for part in (made, real)]
    assert np.abs(glass[0] - glass[1]).max() < 30
    # nothing was learned yet that could undo a shape
    source = gan.renderer_.draw(8, "monocyte", random_state=0)
    assert source.shape == (8, 32, 32, 3)
    spread = [part.astype(float).std(axis=(1, 2)).mean() for part in (made, source)]
    assert 0.6 < spread[0] / spread[1] < 1.6


@pytest.mark.slow
def test_refined_cells_follow_the_seed_and_survive_a_file(cells, tmp_path):
    X, y = cells
    gan = refiner().fit(X, y)
    one = gan.sample(3, "monocyte", random_state=1)
    np.testing.assert_array_equal(one, refiner().fit(X, y).sample(3, "monocyte", random_state=1))
    assert (one != gan.sample(3, "monocyte", random_state=2)).any()
    path = persistence.save(gan, tmp_path / "gan.hemaest")
    again = persistence.load(path).sample(3, "monocyte", random_state=1)
    np.testing.assert_array_equal(one, again)


@pytest.mark.slow
def test_a_stopped_refiner_continues_as_if_it_had_not(cells, tmp_path, monkeypatch):
    X, y = cells
    options = {"max_steps": 6, "report_every": 3}
    whole = refiner(**options).fit(X, y).weights_
    options["checkpoint_dir"] = tmp_path / "state"
    interrupt(refiner(image_dir=tmp_path / "seen", **options), X, y, monkeypatch)
    assert joblib.hash(refiner(**options).fit(X, y).weights_) == joblib.hash(whole)


@pytest.mark.slow
def test_a_class_that_lacks_images_and_cannot_be_drawn_is_refused_by_name(cells):
    X, y = cells
    other = np.where(y == "monocyte", "unicorn", y)
    with pytest.raises(ValueError, match="the renderer cannot draw 'unicorn'"):
        refiner().fit(X, other)
    gan = refiner(names={"unicorn": "monocyte"}).fit(X, other)
    assert gan.drawable_.all()
    # one that lacks nothing takes no part
    common = np.where(y == max(np.unique(y), key=lambda c: (y == c).sum()), "unicorn", y)
    assert refiner().fit(X, common).drawable_.tolist().count(False) == 1
