"""The comparison: same folds for all, no split group, scores that scikit-learn gives as well."""

import itertools
import pickle
import signal
import sys

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn import metrics as reference
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hemaest.datasets import make_cells
from hemaest.evaluation import compare, split
from hemaest.groups import Split
from hemaest.recipes import ImagePipeline, make_recipe


def means(X):
    return np.asarray([image.mean((0, 1)) / 255 for image in X])


def color(C=1.0):
    return make_pipeline(FunctionTransformer(means), LogisticRegression(C=C, max_iter=2000))


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    y = np.array(["blast", "lymphocyte", "monocyte"])[np.arange(120) % 3]
    groups = np.arange(120) // 4
    X = rng.integers(0, 150, (120, 8, 8, 3))
    X[..., 0] += (20 * (np.arange(120) % 3) + rng.integers(0, 30, 120))[:, None, None]
    return X.astype(np.uint8), y, groups


@pytest.fixture(scope="module")
def result(cells):
    X, y, groups = cells
    recipes = {"color": color(), "weak": color(1e-4), "chance": DummyClassifier()}
    return compare(
        recipes, X, y, groups, cv=4, n_repeats=2, group_source="patient", positive=["blast"]
    )


def test_scores_are_those_of_scikit_learn(result):
    assert set(result.table["recipe"]) == {"color", "weak", "chance", "color-logistic"}
    for name, rows in result.predictions.groupby("recipe"):
        row = result.table.set_index("recipe").loc[name]
        true, predicted = rows["true"], rows["predicted"]
        expected = {
            "accuracy": reference.accuracy_score(true, predicted),
            "balanced_accuracy": reference.balanced_accuracy_score(true, predicted),
            "macro_f1": reference.f1_score(true, predicted, average="macro"),
            "macro_precision": reference.precision_score(
                true, predicted, average="macro", zero_division=0
            ),
            "mcc": reference.matthews_corrcoef(true, predicted),
        }
        for key, value in expected.items():
            assert row[key] == pytest.approx(value), (name, key)
        assert row["low"] <= row["balanced_accuracy"] <= row["high"]
        own = result.per_class.set_index(["recipe", "class"]).loc[name]
        report = reference.classification_report(true, predicted, output_dict=True, zero_division=0)
        for label in own.index:
            assert own.loc[label, "sensitivity"] == pytest.approx(report[label]["recall"])
            assert own.loc[label, "precision"] == pytest.approx(report[label]["precision"])
            assert own.loc[label, "f1"] == pytest.approx(report[label]["f1-score"])
            assert own.loc[label, "specificity"] == pytest.approx(
                reference.recall_score(true != label, predicted != label)
            )
        two = result.binary.set_index("recipe").loc[name]
        assert two["sensitivity"] == pytest.approx(report["blast"]["recall"])
        assert two["specificity"] == pytest.approx(
            reference.recall_score(true != "blast", predicted != "blast")
        )


def test_the_interval_of_macro_f1_is_that_of_drawing_patients_by_hand(result, cells):
    patient = cells[2]
    rng = np.random.default_rng(1)
    rows = result.predictions.query("recipe == 'weak'")
    of = [np.flatnonzero(patient[rows["image"]] == p) for p in np.unique(patient)]
    true, predicted = rows["true"].to_numpy(), rows["predicted"].to_numpy()
    draws = []
    for _ in range(400):
        drawn = np.concatenate([of[p] for p in rng.integers(0, len(of), len(of))])
        draws.append(reference.f1_score(true[drawn], predicted[drawn], average="macro"))
    row = result.table.set_index("recipe").loc["weak"]
    # a little wider: percentiles are expanded for so few patients
    assert row["macro_f1_low"] == pytest.approx(np.quantile(draws, 0.02), abs=0.025)
    assert row["macro_f1_high"] == pytest.approx(np.quantile(draws, 0.98), abs=0.025)
    assert row["macro_f1_low"] < row["macro_f1"] < row["macro_f1_high"]


def test_folds_are_shared_and_whole(result, cells):
    _, _, groups = cells
    for train, test in result.design.folds:
        assert not set(groups[train]) & set(groups[test])
    by_recipe = [
        rows.set_index("fold")["image"].tolist() for _, rows in result.predictions.groupby("recipe")
    ]
    assert all(images == by_recipe[0] for images in by_recipe)


def test_control_is_found_out_and_chance_is_beaten(result):
    table = result.table.set_index("recipe")
    assert "control" in table.loc["color-logistic", "note"]
    verdicts = result.tests.set_index(["recipe", "against"])["verdict"]
    best = result.table["recipe"].iloc[0]
    assert verdicts[best, "chance"] == f"{best} is better"
    assert any(flag["name"] == "color shortcut" for flag in result.claim().flags)
    assert table.loc["chance", "auc"] == 0.5


def test_first_line_names_the_split_unit(result, cells):
    X, y, _ = cells
    assert repr(result).startswith("Split by patient: 30 patients, 120 images tested; 4 stratified")
    alone = compare({"chance": DummyClassifier()}, X, y, "image", cv=3, control=False)
    assert alone.summary().startswith("Split by image") and "inflated" in alone.summary()
    assert any(flag["name"] == "split by image" for flag in alone.claim().flags)


def test_same_call_same_result_and_input_untouched(cells):
    X, y, groups = cells
    before = X.copy(), y.copy(), groups.copy()
    model = color()
    first, again = (compare({"m": model}, X, y, groups, cv=3, control=False) for _ in range(2))
    drop = ["fit_s", "predict_ms"]
    assert first.table.drop(columns=drop).equals(again.table.drop(columns=drop))
    for kept, now in zip(before, (X, y, groups), strict=True):
        np.testing.assert_array_equal(kept, now)
    assert not hasattr(model, "classes_") and not hasattr(model[-1], "coef_")


class Breaks(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        raise RuntimeError("no memory left")

    def predict(self, X): ...


class Recorder(ClassifierMixin, BaseEstimator):
    """Notes on disk that it was fitted, and with which groups."""

    def __init__(self, log=None):
        self.log = log

    def fit(self, X, y, groups=None):
        self.classes_ = np.unique(y)
        assert groups is not None and len(groups) == len(X)
        with open(self.log, "a") as file:
            file.write(f"{len(X)}\n")
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_a_failing_recipe_is_named_and_the_rest_is_done(cells):
    X, y, groups = cells
    with pytest.warns(UserWarning, match="no memory left"):
        result = compare({"b": Breaks(), "ok": color()}, X, y, groups, cv=2, control=False)
    table = result.table.set_index("recipe")
    assert "no memory left" in table.loc["b", "note"] and np.isnan(table.loc["b", "accuracy"])
    assert table.loc["ok", "accuracy"] > 0
    assert "no memory left" in result.to_html()
    with pytest.raises(RuntimeError, match="no memory left"):
        compare({"b": Breaks()}, X, y, groups, cv=2, control=False)


def test_cache_resumes_where_it_stopped(cells, tmp_path):
    X, y, groups = cells
    log, cache = tmp_path / "log", tmp_path / "cache"
    recipes = {"r": Recorder(str(log))}
    options = {"cv": 4, "control": False, "cache_dir": cache}
    first = compare(recipes, X, y, groups, **options)
    assert len(log.read_text().split()) == 4
    sorted(cache.iterdir())[0].unlink()
    (cache / "r-0-left.123.part").write_bytes(b"half")
    again = compare(recipes, X, y, groups, **options)
    assert len(log.read_text().split()) == 5
    assert first.predictions.equals(again.predictions)
    compare(recipes, X, np.roll(y, 1), groups, **options)
    assert len(log.read_text().split()) == 9


class Planted:
    """Runs when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("kind", ["pickle", "joblib", "object array", "other images"])
def test_a_planted_fold_file_runs_no_code_and_is_not_believed(cells, tmp_path, kind):
    X, y, groups = cells
    log, cache, mark = tmp_path / "log", tmp_path / "cache", tmp_path / "mark"
    options = {"cv": 2, "control": False, "cache_dir": cache}
    first = compare({"r": Recorder(str(log))}, X, y, groups, **options)
    target = sorted(cache.iterdir())[0]
    if kind == "pickle":
        target.write_bytes(pickle.dumps(Planted(mark)))
    elif kind == "joblib":
        joblib.dump(Planted(mark), target)
    elif kind == "object array":
        with open(target, "wb") as file:
            np.savez(file, meta=np.array([Planted(mark)], dtype=object))
    else:
        with np.load(target) as kept:
            arrays = dict(kept)
        with open(target, "wb") as file:
            np.savez(file, **{**arrays, "predicted": arrays["predicted"][:-1]})
    mark.unlink(missing_ok=True)
    with pytest.warns(UserWarning, match="fitted again"):
        again = compare({"r": Recorder(str(log))}, X, y, groups, **options)
    assert not mark.exists()
    assert first.predictions.equals(again.predictions)


def test_what_is_kept_is_what_was_computed(cells, tmp_path):
    X, y, groups = cells
    grid = {"logisticregression__C": [0.5, 1.0]}
    options = {"cv": 2, "control": False, "cache_dir": tmp_path, "search": {"c": grid}}
    first = compare({"c": color()}, X, y, groups, **options)
    again = compare({"c": color()}, X, y, groups, **options)
    for a, b in zip(first.results["c"], again.results["c"], strict=True):
        np.testing.assert_array_equal(a.probability, b.probability)
        assert (a.best_params, a.fit_seconds) == (b.best_params, b.fit_seconds)
    assert first.table.equals(again.table)


class Swallows(DummyClassifier):
    """Receives Ctrl-C while it is fitted and continues, as training loops that stop early do."""

    def fit(self, X, y):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass
        return super().fit(X, y)


def test_a_swallowed_interrupt_stops_and_keeps_nothing(cells, tmp_path):
    X, y, groups = cells
    with pytest.raises(KeyboardInterrupt):
        compare({"s": Swallows()}, X, y, groups, cv=2, control=False, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Counts(TransformerMixin, BaseEstimator):
    """Learns nothing, and notes how many images it transformed."""

    def __init__(self, log=None):
        self.log = log

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        with open(self.log, "a") as file:
            file.write(f"{len(X)}\n")
        return means(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


def test_steps_that_learn_nothing_run_once_and_change_no_score(cells, tmp_path):
    X, y, groups = cells
    log = tmp_path / "log"
    shared = ImagePipeline([("see", Counts(log)), ("model", LogisticRegression(max_iter=2000))])
    options = {"cv": 4, "control": False}
    found = compare({"a": shared, "b": clone(shared)}, X, y, groups, **options)
    # all images once; beyond that only the few that are shown
    assert sorted(log.read_text().split(), key=int)[-1] == "120"
    assert log.read_text().split().count("120") == 1 and "90" not in log.read_text().split()
    alone = compare({"c": color()}, X, y, groups, **options)
    for name in "ab":
        for mine, other in zip(found.results[name], alone.results["c"], strict=True):
            np.testing.assert_array_equal(mine.probability, other.probability)
    log.unlink()
    grid = {"see__log": [log]}
    compare({"a": shared}, X, y, groups, **options, search={"a": grid})
    assert len(log.read_text().split()) > 4


@pytest.mark.parametrize("recipe", ["handcrafted-logistic", "color-knn", "fcmae-wpat"])
def test_a_recipe_scores_as_by_hand_whatever_is_shared(recipe):
    cells = make_cells(
        24, classes=["lymphocyte", "neutrophil"], image_size=48, n_patients=6, random_state=0
    )
    X, y, groups = cells.images, cells.target, cells.groups
    params = {"max_epochs": 1, "image_size": 32} if recipe == "fcmae-wpat" else {}
    model = make_recipe(recipe, random_state=0, **params)
    if recipe == "fcmae-wpat":
        model.set_params(classify__pretrained__rendered=8)
    found = compare({"r": model}, X, y, groups, cv=2, control=False)
    for (train, test), fold in zip(found.design.folds, found.results["r"], strict=True):
        by_hand = clone(model).fit(X[train], y[train], groups=groups[train])
        np.testing.assert_array_equal(by_hand.predict_proba(X[test]), fold.probability)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no program that ends at once")
def test_processes_change_no_score_and_may_die(cells, monkeypatch):
    X, y, groups = cells
    recipes = {"chance": DummyClassifier()}
    alone = compare(recipes, X, y, groups, cv=3).predictions
    beside = compare(recipes, X, y, groups, cv=3, n_jobs=2).predictions
    pd.testing.assert_frame_equal(alone, beside)
    get_reusable_executor().shutdown(wait=True)
    monkeypatch.setattr(sys, "executable", "/bin/false")  # workers that die when they are started
    with pytest.warns(UserWarning, match="was ended from outside"):
        left = compare(recipes, X, y, groups, cv=3, n_jobs=2).predictions
    get_reusable_executor().shutdown(wait=True)
    pd.testing.assert_frame_equal(alone, left)


def test_a_recipe_is_never_compared_with_itself(cells):
    X, y, groups = cells
    alone = compare("color-logistic", X, y, groups, cv=3)
    names = {flag["name"] for flag in alone.claim().flags}
    assert "color only" in names and "color shortcut" not in names
    assert not len(alone.tests) and "the control" in alone.to_html()


def test_further_metrics_are_columns(cells):
    X, y, groups = cells
    kappa = reference.cohen_kappa_score
    found = compare({"c": color()}, X, y, groups, cv=3, metrics={"kappa": kappa})
    own = found.predictions.query("recipe == 'c'")
    row = found.table.set_index("recipe").loc["c"]
    assert row["kappa"] == pytest.approx(kappa(own["true"], own["predicted"]))


def test_the_verdict_is_explained_and_follows_the_interval(result):
    for row in result.tests.itertuples(index=False):
        assert row.explanation.startswith(f"{row.recipe} is ")
        assert (f"{row.recipe} is better" == row.verdict) == (row.p_holm < 0.05)
        assert row.low <= row.difference <= row.high


def test_a_damaged_cache_file_costs_its_fold_only(cells, tmp_path):
    X, y, groups = cells
    log, cache = tmp_path / "log", tmp_path / "cache"
    options = {"cv": 4, "control": False, "cache_dir": cache}
    first = compare({"r": Recorder(str(log))}, X, y, groups, **options)
    damaged = sorted(cache.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.warns(UserWarning, match=f"{damaged.name}.*fitted again"):
        again = compare({"r": Recorder(str(log))}, X, y, groups, **options)
    assert len(log.read_text().split()) == 5
    assert first.predictions.equals(again.predictions)


def test_another_validation_part_is_other_work(cells, tmp_path):
    X, y, groups = cells
    train, validation, test = split(X, y, groups, random_state=0)
    cache = tmp_path / "cache"
    for chosen_on in (validation, validation[1:]):
        parts = Split([train, chosen_on, test])
        compare({"c": color()}, X, y, groups, cv=parts, control=False, cache_dir=cache)
    assert len(list(cache.iterdir())) == 2


def test_search_tunes_inside_the_training_part(cells, tmp_path):
    X, y, groups = cells
    grid = {"logisticregression__C": [1e-6, 1.0]}
    result = compare(
        {"tuned": color(1e-6)}, X, y, groups, cv=3, search={"tuned": grid}, control=False
    )
    picked = [r.best_params["logisticregression__C"] for r in result.results["tuned"]]
    assert picked == [1.0] * 3
    parts = split(X, y, groups, random_state=0)
    log = tmp_path / "log"
    once = compare(
        {"r": Recorder(str(log))},
        X,
        y,
        groups,
        cv=parts,
        search={"r": {"log": [str(log)]}},
        control=False,
    )
    assert log.read_text().split() == [str(len(parts.train))] * 2
    assert set(once.predictions["image"]) == set(parts.test)


def test_single_split_says_that_it_holds_for_two_fitted_models(cells):
    X, y, groups = cells
    parts = split(X, y, groups, sizes=(0.6, 0.4), random_state=1)
    result = compare({"a": color(), "c": DummyClassifier()}, X, y, groups, cv=parts, control=False)
    row = result.tests.iloc[0]
    assert row["low"] < row["difference"] < row["high"]
    assert row["explanation"].endswith("this holds for these two fitted models.")
    assert "one split" in result.summary()


def test_torn_or_overlapping_folds_are_refused(cells):
    X, y, groups = cells
    model = {"c": DummyClassifier()}
    with pytest.raises(ValueError, match=r"\d+ group\(s\) both in training and in test"):
        compare(model, X, y, groups, cv=KFold(3, shuffle=True, random_state=0), control=False)
    with pytest.raises(ValueError, match="at once"):
        compare(model, X, y, "image", cv=[([0, 1, 2], [2, 3])], control=False)
    with pytest.raises(ValueError, match="both in training and in test"):
        compare(model, X, y, groups, cv=split(X, y, random_state=0), control=False)


def test_wrong_input_is_explained(cells):
    X, y, groups = cells
    model = {"c": DummyClassifier()}
    with pytest.raises(ValueError, match="one label each"):
        compare(model, X, y[:-1], groups)
    with pytest.raises(ValueError, match=r"1 of 120 labels are missing .* of images 5"):
        compare(model, X, [None if i == 5 else label for i, label in enumerate(y)], groups)
    for option in ({"confidence_level": 95}, {"calibrate": "platt"}, {"n_repeats": 0}):
        with pytest.raises(ValueError, match=next(iter(option))):
            compare(model, X, y, groups, **option)
    with pytest.raises(ValueError, match="one class only"):
        compare(model, X, np.zeros(len(X)), groups)
    with pytest.raises(ValueError, match="some, but not all"):
        compare(model, X, y, groups, cv=2, positive=["blats"], control=False)
    with pytest.raises(ValueError, match="color-logistic"):
        compare("color-logistik", X, y, groups)
    with pytest.raises(TypeError, match="classifier"):
        compare({"c": 3}, X, y, groups)
    with pytest.raises(ValueError, match="would change none"):
        compare(model, X, y, groups, recipe_params={"image_size": 8})


def test_numbers_of_numpy_and_single_labels_are_taken(cells):
    X, _, groups = cells
    y = np.arange(120) % 3
    model = {"c": DummyClassifier()}
    found = compare(model, X, y, groups, cv=np.int64(2), positive=np.int64(1), control=False)
    assert found.design.positive == [1] and len(found.design.folds) == 2


def test_page_and_card_say_the_same(result, tmp_path):
    html = result.to_html(tmp_path / "page.html")
    best = result.table.iloc[0]
    assert f"{best['balanced_accuracy']:.3f}" in html
    assert result.design.data_hash in html
    card = result.claim()
    assert result.design.data_hash in card.to_markdown() and "patient" in card.to_json()


def test_mistakes_are_wrong_once_each_and_the_surest_first(result):
    rows = result.mistakes("color")
    assert (rows["true"] != rows["predicted"]).all() and rows["image"].is_unique
    assert rows["confidence"].is_monotonic_decreasing
    if len(result.mistakes()):
        assert "Right and wrong" in result.to_html()


def test_images_by_other_paths_have_one_hash(cells, tmp_path):
    from PIL import Image

    from hemaest.evaluation import hash_images
    from hemaest.images import ImageRef

    X, _, _ = cells
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(X[0]).save(tmp_path / folder / "cell.png")
    refs = [[ImageRef(tmp_path / folder / "cell.png")] for folder in ("a", "b")]
    assert hash_images(refs[0]) == hash_images(refs[1])
    assert hash_images(X) != hash_images(X[::-1])


class Boasts(ClassifierMixin, BaseEstimator):
    """Is as right as color lets it be, and far too sure."""

    def fit(self, X, y):
        self.model_ = color().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        sure = self.model_.predict_proba(X) ** 40
        return sure / sure.sum(1, keepdims=True)

    def predict(self, X):
        return self.model_.predict(X)


def test_calibration_inside_the_fold_lowers_the_error_and_not_the_score(cells):
    X, y, groups = cells
    options = {"cv": 3, "control": False}
    plain = compare({"m": Boasts()}, X, y, groups, **options).table.iloc[0]
    warm = compare({"m": Boasts()}, X, y, groups, **options, calibrate="temperature").table.iloc[0]
    assert warm["ece"] < 0.7 * plain["ece"]
    assert warm["accuracy"] == pytest.approx(plain["accuracy"])


class Interrupted(DummyClassifier):
    """Is stopped by Ctrl-C while compiled code runs, which Python reports as a SystemError."""

    def fit(self, X, y):
        raise SystemError("returned a result with an exception set") from KeyboardInterrupt()


def test_ctrl_c_in_compiled_code_stops_and_is_no_failed_fold(cells):
    X, y, groups = cells
    with pytest.raises(KeyboardInterrupt):
        compare({"stopped": Interrupted()}, X, y, groups, cv=2)


def test_a_long_name_leaves_the_axes_their_room(cells):
    X, y, groups = cells
    named = {"short": color(), "a name of many words " * 6: color(1e-4)}
    ax = compare(named, X, y, groups, cv=3).plot()
    figure = ax.figure
    figure.draw_without_rendering()
    assert ax.get_position().width > 0.4
    # two lines of one name stay apart from the next name's
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in itertools.pairwise(boxes))
    plt.close(figure)
