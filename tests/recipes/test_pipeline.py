"""ImagePipeline: groups, samplers, caching, and every form of input under scikit-learn's tools."""

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import joblib
import numpy as np
import pytest
import sklearn
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from sklearn import model_selection
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from hemaest.base import TakesGroups
from hemaest.evaluation import compare
from hemaest.features import ColorFeatures
from hemaest.images import to_object_array
from hemaest.preprocessing import Resize
from hemaest.recipes import ImagePipeline, InnerFolds, make_recipe

FORMS = ("dense", "ragged", "files", "list")


class Witness(TakesGroups, ClassifierMixin, BaseEstimator):
    """Remembers what its fit was given."""

    def fit(self, X, y, groups=None, sample_indices=None):
        self.classes_ = np.unique(y)
        self.X_, self.y_, self.groups_, self.sample_indices_ = X, y, groups, sample_indices
        return self

    def predict(self, X):
        check_is_fitted(self)
        return np.repeat(self.classes_[:1], len(X))


class GroupWitness(TakesGroups, TransformerMixin, BaseEstimator):
    """A transformer that remembers its groups."""

    def fit(self, X, y=None, groups=None):
        self.groups_ = groups
        return self

    def transform(self, X):
        return X


@pytest.fixture
def forms(cells, as_refs):
    X = cells[0]
    return {
        "dense": X,
        "ragged": to_object_array(list(X)),
        "files": as_refs(X),
        "list": list(X),
    }


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


def cross_validate(estimator, X, y, groups, routing):
    """Score with groups, as each setting of scikit-learn's metadata routing wants them."""
    if groups is None:
        return cross_val_score(estimator, X, y, cv=KFold(3))
    if routing:
        return cross_val_score(estimator, X, y, cv=GroupKFold(3), params={"groups": groups})
    return cross_val_score(
        estimator, X, y, groups=groups, cv=GroupKFold(3), params={"groups": groups}
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grouped", [True, False])
def test_cross_val_score(forms, cells, form, grouped, routing):
    _, y, groups = cells
    scores = cross_validate(
        make_recipe("color-logistic"), forms[form], y, groups if grouped else None, routing
    )
    np.testing.assert_array_equal(scores, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_grid_search_in_two_processes(forms, cells, form, routing):
    _, y, groups = cells
    search = GridSearchCV(
        make_recipe("color-logistic"), {"classify__C": [0.1, 1.0]}, cv=GroupKFold(3), n_jobs=2
    )
    search.fit(forms[form], y, groups=groups)
    assert search.best_score_ == 1.0
    np.testing.assert_array_equal(search.predict(forms[form]), y)


@pytest.fixture
def heard():
    """What reaches each fit of a Listener: its groups, and how many images it was given."""
    Listener.heard = []
    return Listener.heard


class Listener(Witness):
    """Records the groups of every clone of it, since a search keeps but one."""

    heard: ClassVar[list] = []

    def __init__(self, scale=1):
        self.scale = scale

    def fit(self, X, y, groups=None, sample_indices=None):
        self.heard.append((groups, len(X)))
        return super().fit(X, y, groups, sample_indices)


def test_a_grid_search_hands_groups_on_under_metadata_routing(cells, heard, routing):
    X, y, groups = cells
    search = GridSearchCV(
        ImagePipeline([("end", Listener())]), {"end__scale": [1, 2]}, cv=GroupKFold(3)
    )
    search.fit(X, y, groups=groups)
    assert [n for _, n in heard] == [16] * 6 + [24]  # three folds of two settings, and the best
    for given, n in heard:
        assert (given is None) if not routing else (len(given) == n)
    if routing:
        np.testing.assert_array_equal(heard[-1][0], groups)


def test_a_search_of_compare_hands_groups_on_by_itself(cells, heard):
    X, y, groups = cells
    model = {"a": ImagePipeline([("end", Listener())])}
    grid = {"a": {"end__scale": [1, 2]}}
    compare(model, X, y, groups, cv=3, search=grid, control=False)
    assert len(heard) > 3 and all(len(given) == n for given, n in heard)


def test_inner_folds_of_a_stack_split_no_group_in_a_search_and_in_cross_validate(cells):
    X, y, groups = cells
    stack = InnerFolds(
        StackingClassifier([("svm", SVC())], LogisticRegression()), n_folds=2, random_state=0
    )
    model = ImagePipeline(
        [("features", ColorFeatures()), ("scale", StandardScaler()), ("s", stack)]
    )

    def divided(fitted, own):
        return [set(own[train]) & set(own[test]) for train, test in fitted[-1].folds_]

    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, {"s__n_folds": [2]}, cv=GroupKFold(3))
        assert divided(search.fit(X, y, groups=groups).best_estimator_, groups) == [set(), set()]
        found = model_selection.cross_validate(
            model, X, y, cv=GroupKFold(3), params={"groups": groups},
            return_estimator=True, return_indices=True,
        )  # fmt: skip
    for fitted, train in zip(found["estimator"], found["indices"]["train"], strict=True):
        assert divided(fitted, groups[train]) == [set(), set()]


@pytest.mark.parametrize("form", FORMS)
def test_memory_gives_the_same_and_spares_work(forms, cells, form, tmp_path):
    X, y = forms[form], cells[1]
    plain = make_recipe("color-logistic").fit(X, y)
    cached = make_recipe("color-logistic", memory=str(tmp_path / "cache"))
    for _ in range(2):
        np.testing.assert_array_equal(cached.fit(X, y).predict_proba(X), plain.predict_proba(X))
    stored = list((tmp_path / "cache").rglob("output.pkl"))
    # features and scale, fitted and applied: once each although all was done twice
    assert len(stored) == 4


class Tally(TransformerMixin, BaseEstimator):
    """Counts in a file how many images it had to transform."""

    def __init__(self, path=None, scale=1):
        self.path = path
        self.scale = scale

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        with open(self.path, "a") as file:
            file.write("." * len(X))
        return X

    def count(self):
        return len(Path(self.path).read_text())


def test_a_grid_with_memory_runs_each_step_once_a_fold(cells, tmp_path):
    X, y, groups = cells
    tally = Tally(str(tmp_path / "tally"))
    pipeline = ImagePipeline(
        [
            ("tally", tally),
            ("features", ColorFeatures()),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(max_iter=5000)),
        ],
        memory=str(tmp_path / "cache"),
    )
    folds = list(GroupKFold(3).split(X, y, groups))
    for grid in (
        {"classify__C": [0.01, 0.1, 1.0, 10.0]},
        {"classify__C": [0.02, 5.0], "scale__with_mean": [True, False]},
    ):
        GridSearchCV(pipeline, grid, cv=folds, refit=False).fit(X, y)
    assert tally.count() == 3 * len(X)  # train and test part of each of three folds
    GridSearchCV(pipeline, {"tally__scale": [2]}, cv=folds, refit=False).fit(X, y)
    assert tally.count() == 6 * len(X)  # what changes the first step is run again


def test_memory_forgets_no_setting_made_after_the_fit(cells, tmp_path):
    X, y, _ = cells
    pipeline = ImagePipeline(
        [("features", ColorFeatures()), ("scale", StandardScaler()), ("classify", SVC())],
        memory=str(tmp_path / "cache"),
    ).fit(X, y)
    before = pipeline.decision_function(X)
    pipeline.set_params(scale__with_mean=False)
    assert np.abs(pipeline.decision_function(X) - before).max() > 0.01


@pytest.mark.slow
def test_a_fitted_recipe_lives_on_in_a_new_process(forms, cells, tmp_path):
    jobs = [(make_recipe("color-logistic").fit(X, cells[1]), X) for X in forms.values()]
    joblib.dump(jobs, tmp_path / "jobs")
    code = (
        "import sys, joblib; jobs = joblib.load(sys.argv[1]); "
        "joblib.dump([recipe.predict_proba(X) for recipe, X in jobs], sys.argv[2])"
    )
    command = [sys.executable, "-c", code, tmp_path / "jobs", tmp_path / "answers"]
    subprocess.run(command, check=True)
    for (recipe, X), answer in zip(jobs, joblib.load(tmp_path / "answers"), strict=True):
        np.testing.assert_array_equal(answer, recipe.predict_proba(X))


def test_clone_is_unfitted_and_equal(cells):
    recipe = make_recipe("color-logistic", random_state=3).fit(*cells[:2])
    copy = clone(recipe)
    with pytest.raises(NotFittedError):
        check_is_fitted(copy[-1])
    np.testing.assert_array_equal(
        copy.fit(*cells[:2]).predict_proba(cells[0]), recipe.predict_proba(cells[0])
    )


def test_recipes_vote(cells):
    X, y, _ = cells
    vote = VotingClassifier(
        [("a", make_recipe("color-logistic")), ("b", make_recipe("color-knn"))], voting="soft"
    )
    np.testing.assert_array_equal(vote.fit(X, y).predict(X), y)


def test_set_output_reaches_the_tables(cells):
    recipe = ImagePipeline([("resize", Resize(16)), ("features", ColorFeatures())])
    table = recipe.set_output(transform="pandas").fit_transform(cells[0])
    assert "image_r_mean" in table.columns and len(table) == 24


# groups


def test_groups_reach_the_steps_that_take_them(cells, routing):
    X, y, groups = cells
    pipeline = ImagePipeline(
        [("resize", Resize(8)), ("witness", GroupWitness()), ("classify", Witness())]
    )
    pipeline.fit(X, y, groups=groups)
    np.testing.assert_array_equal(pipeline["witness"].groups_, groups)
    np.testing.assert_array_equal(pipeline["classify"].groups_, groups)
    assert pipeline["classify"].sample_indices_ is None
    assert pipeline.fit(X, y)["classify"].groups_ is None


def test_groups_are_those_of_the_training_fold(cells, routing):
    X, y, groups = cells
    seen = []

    class Recorder(Witness):
        def fit(self, X, y, groups=None, sample_indices=None):
            seen.append(np.unique(groups))
            return super().fit(X, y, groups, sample_indices)

    pipeline = ImagePipeline([("features", ColorFeatures()), ("classify", Recorder())])
    cross_validate(pipeline, X, y, groups, routing)
    assert sorted(tuple(s) for s in seen) == sorted(
        tuple(np.unique(groups[train])) for train, _ in GroupKFold(3).split(X, y, groups)
    )


def test_groups_of_a_wrong_length_and_missing_ones_are_refused(cells):
    X, y, groups = cells
    with pytest.raises(ValueError, match=r"groups has shape \(3,\), but there are 24 images"):
        make_recipe("color-logistic").fit(X, y, groups=[1, 2, 3])
    # behind a sampler a missing one would be a group of the name "nan"
    unknown = [*map(str, groups[:-1]), np.nan]
    with pytest.raises(ValueError, match="1 of 24 groups are missing"):
        make_recipe("handcrafted-forest", balance="oversample").fit(X, y, groups=unknown)


@pytest.mark.parametrize("memory", [None, "cache"])
@pytest.mark.parametrize(
    "sampler",
    [RandomOverSampler(random_state=0), RandomUnderSampler(random_state=0), SMOTE(random_state=0)],
)
def test_groups_follow_their_rows_through_a_sampler(cells, sampler, memory, tmp_path):
    X, y, groups = cells
    keep = np.r_[np.flatnonzero(y == "blast"), np.flatnonzero(y != "blast")[:7]]
    X, y, groups = X[keep], y[keep], groups[keep]
    pipeline = ImagePipeline(
        [("features", ColorFeatures()), ("balance", sampler), ("classify", Witness())],
        memory=memory and str(tmp_path / memory),
    ).fit(X, y, groups=groups)
    seen = pipeline["classify"]
    rows = seen.sample_indices_
    assert len(rows) == len(seen.X_) == len(seen.groups_)
    original = ColorFeatures().fit_transform(X)
    real = rows >= 0
    np.testing.assert_array_equal(seen.X_[real], original[rows[real]])
    np.testing.assert_array_equal(seen.groups_[real], groups[rows[real]])
    is_smote = isinstance(sampler, SMOTE)
    assert (~real).sum() == (5 if is_smote else 0)
    # synthetic rows belong to no patient
    assert not set(seen.groups_[~real]) & set(groups)


def test_a_sampler_runs_in_fit_only(cells):
    X, y, _ = cells
    pipeline = ImagePipeline(
        [
            ("features", ColorFeatures()),
            ("balance", RandomUnderSampler(random_state=0)),
            ("classify", LogisticRegression(max_iter=5000)),
        ]
    ).fit(X[:20], y[:20])
    assert len(pipeline.predict(X)) == 24


def test_two_samplers_in_a_row_name_the_first_rows(cells):
    X, y, groups = cells
    keep = np.r_[np.flatnonzero(y == "blast"), np.flatnonzero(y != "blast")[:7]]
    pipeline = ImagePipeline(
        [
            ("features", ColorFeatures()),
            ("under", RandomUnderSampler(sampling_strategy={"blast": 9}, random_state=1)),
            ("over", SMOTE(k_neighbors=3, random_state=1)),
            ("classify", Witness()),
        ]
    ).fit(X[keep], y[keep], groups=groups[keep])
    seen = pipeline["classify"]
    real = seen.sample_indices_ >= 0
    assert (~real).sum() == 2
    original = ColorFeatures().fit_transform(X[keep])
    np.testing.assert_array_equal(seen.X_[real], original[seen.sample_indices_[real]])


def test_a_memory_given_after_the_fit_confuses_no_two_pipelines(cells, tmp_path):
    X, y, _ = cells
    scaled = []
    for part in (slice(9, None), slice(None)):
        steps = [("scale", StandardScaler()), ("classify", LogisticRegression(max_iter=5000))]
        rows = X.reshape(len(X), -1)
        pipeline = ImagePipeline(steps).fit(rows[part], y[part])
        plain = pipeline.predict_proba(rows)
        pipeline.set_params(memory=str(tmp_path / "cache"))
        np.testing.assert_array_equal(pipeline.predict_proba(rows), plain)
        scaled.append(plain)
    assert np.abs(scaled[0] - scaled[1]).max() > 0
