"""Classical recipes: labels, groups, resampling after the split, names, the whole list."""

import os
import subprocess
import sys

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE, RandomOverSampler
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from hemaest.datasets import make_cells
from hemaest.features import HandcraftedFeatures
from hemaest.groups import GroupedFolds
from hemaest.recipes import BoostedTrees, ImagePipeline, InnerFolds, make_recipe
from hemaest.segmentation import CellSegmenter

CLASSICAL = [
    "handcrafted-xgboost",
    "handcrafted-svm",
    "handcrafted-forest",
    "handcrafted-logistic",
    "lbp-svm",
    "color-knn",
    "color-logistic",
    "ensemble-voting",
    "ensemble-stacking",
]
# trees draw other rows when rows are repeated than when they weigh double
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "replaced by test_weights_change_the_model",
}
TREES = {"n_estimators": 25, "patience": 5, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(240, 12, n_informative=6, n_classes=3, class_sep=1.5, random_state=0)
    return X, np.array(["blast", "lymphocyte", "monocyte"])[y], np.arange(240) // 4


@parametrize_with_checks(
    [BoostedTrees(n_estimators=8, random_state=0)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_trees_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_weights_change_the_model(data):
    X, y, _ = data
    plain = BoostedTrees(**TREES).fit(X, y)
    heavy = BoostedTrees(**TREES, class_weight={"blast": 50.0}).fit(X, y)
    weighed = BoostedTrees(**TREES).fit(X, y, sample_weight=np.where(y == "blast", 50.0, 1.0))
    assert (heavy.predict(X) == "blast").sum() >= (plain.predict(X) == "blast").sum()
    assert weighed.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean()


def test_weights_of_unknown_classes_are_refused(data):
    X, y, _ = data
    with pytest.raises(ValueError, match="not in class_weight"):
        BoostedTrees(**TREES, class_weight={"blsat": 50.0}).fit(X, y)


def test_importances_are_shares_of_the_total_gain(data):
    X, y, _ = data
    trees = BoostedTrees(**TREES).fit(X, y)
    nodes = trees.model_.get_booster().trees_to_dataframe().query("Feature != 'Leaf'")
    gain = nodes.groupby(nodes.Feature).Gain.sum()
    names = [f"f{i}" for i in range(X.shape[1])]
    expected = (gain / gain.sum()).reindex(names, fill_value=0)
    np.testing.assert_allclose(trees.feature_importances_, expected, rtol=1e-3)


@pytest.mark.parametrize(
    "names", [["a", "b", "c"], [10, 20, 30], np.array([7, 8, 9], dtype=np.int32)]
)
def test_labels_of_any_kind_come_back(data, names):
    X, y, _ = data
    labels = np.asarray(names)[np.unique(y, return_inverse=True)[1]]
    trees = BoostedTrees(**TREES).fit(X, labels)
    assert trees.predict(X).dtype == labels.dtype
    assert set(trees.predict(X)) <= set(labels.tolist())
    assert (trees.predict(X) == labels).mean() > 0.9


def test_one_seed_gives_one_model(data):
    X, y, groups = data
    one, other = (BoostedTrees(**TREES).fit(X, y, groups=groups) for _ in range(2))
    assert one.predict_proba(X).tobytes() == other.predict_proba(X).tobytes()


class Spy(RandomOverSampler):
    """Remembers what it was given."""

    seen: list = []

    def fit_resample(self, X, y):
        Spy.seen.append(np.asarray(X).copy())
        return super().fit_resample(X, y)


def test_no_row_or_group_crosses_the_inner_split(data):
    X, y, groups = data
    Spy.seen.clear()
    trees = BoostedTrees(**TREES, resampler=Spy(random_state=0)).fit(X, y, groups=groups)
    assert trees.early_stopping_ == "on" and len(trees.held_out_) > 20
    search_rows = {row.tobytes() for row in Spy.seen[0]}
    held_rows = {row.tobytes() for row in X[trees.held_out_]}
    assert len(search_rows & held_rows) == 0
    kept = np.setdiff1d(np.arange(len(y)), trees.held_out_)
    assert not set(groups[kept]) & set(groups[trees.held_out_])
    assert 1 <= trees.n_trees_ <= 25


def test_behind_a_sampler_early_stopping_is_off_and_says_so(data):
    X, y, _ = data
    pipeline = ImagePipeline(
        [("balance", SMOTE(random_state=0)), ("classify", BoostedTrees(**TREES))]
    )
    with pytest.warns(UserWarning, match="early stopping is off"):
        pipeline.fit(X, y)
    assert pipeline[-1].early_stopping_ == "off: behind a sampler"
    assert pipeline[-1].n_trees_ == 25


def test_too_few_groups_turn_early_stopping_off(data):
    X, y, _ = data
    trees = BoostedTrees(**TREES).fit(X, y, groups=np.arange(len(y)) % 3)
    assert trees.early_stopping_.startswith("off: a class has 3 groups")


def test_inner_folds_split_no_group(data):
    X, y, groups = data
    search = InnerFolds(GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}), random_state=0)
    search.fit(X, y, groups=groups)
    assert len(search.folds_) == 5
    for train, test in search.folds_:
        assert not set(groups[train]) & set(groups[test])
    copies = np.r_[np.arange(240), np.arange(240)]
    search.fit(np.r_[X, X], np.r_[y, y], sample_indices=copies)
    for train, test in search.folds_:
        assert not set(copies[train]) & set(copies[test])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_stack_learns_a_class_of_one_group(n_classes):
    rng = np.random.default_rng(0)
    kind = np.arange(120) % n_classes
    X, y = rng.normal(size=(120, 6)) + 2 * kind[:, None], np.array(list("abcd"))[kind]
    patients = np.where(y == "b", 99, np.arange(120) // n_classes % 6)
    stack = make_recipe("ensemble-stacking", random_state=0)["classify"]
    stack.set_params(estimator__trees__n_estimators=5)
    with pytest.warns(UserWarning, match="no training row of b, which is in too few groups"):
        stack.fit(X, y, groups=patients)
    for train, test in stack.folds_:
        assert set(y[train]) == set(y)
        rest = y != "b"
        assert not set(patients[train][rest[train]]) & set(patients[test][rest[test]])
    assert stack.score(X, y) > 0.8
    y[y == "b"] = "a"
    y[0] = "b"
    with pytest.raises(ValueError, match="class b has a single row"):
        stack.fit(X, y)


@pytest.fixture(scope="module")
def smear():
    bunch = make_cells(
        60,
        classes=["neutrophil", "lymphocyte", "monocyte"],
        image_size=64,
        n_patients=12,
        random_state=0,
    )
    return bunch.images, bunch.target, bunch.groups


@pytest.fixture(scope="module")
def segmented(smear):
    """The same cells with their maps, which most recipes would compute again in each fit."""
    X, y, groups = smear
    return CellSegmenter().fit_transform(X), y, groups


def quick(name, **options):
    """Return a recipe with few trees, small ensembles, and no segmentation of its own."""
    recipe = make_recipe(name, random_state=0, **options)
    if recipe.steps[0][0] == "segment":
        recipe = recipe[1:]
    for key, value in {
        "classify__n_estimators": 30,
        "classify__trees__n_estimators": 20,
        "classify__estimator__trees__n_estimators": 20,
        "classify__n_folds": 3,
    }.items():
        if key in recipe.get_params():
            recipe.set_params(**{key: value})
    if name == "ensemble-stacking":  # it fits every member once more for each inner fold
        recipe.set_params(features__families=("shape", "color"))
    return recipe


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_recipe_learns_and_keeps_labels(name, segmented):
    X, y, groups = segmented
    recipe = quick(name).fit(X, y, groups=groups)
    predicted = recipe.predict(X)
    assert predicted.dtype == np.asarray(y).dtype
    assert (predicted == y).mean() > (0.5 if name.startswith(("color", "lbp")) else 0.9)


@pytest.mark.slow
def test_a_recipe_finds_the_cells_by_itself(smear, segmented):
    X, y, groups = smear
    whole = make_recipe("handcrafted-logistic", random_state=0).fit(X, y, groups=groups)
    after = quick("handcrafted-logistic").fit(segmented[0], y, groups=groups)
    np.testing.assert_array_equal(whole.predict_proba(X), after.predict_proba(segmented[0]))


@pytest.mark.parametrize(
    "name", ["handcrafted-xgboost", "handcrafted-svm", "lbp-svm", "ensemble-stacking"]
)
def test_recipes_balance(name, segmented):
    X, y, groups = segmented
    keep = np.flatnonzero((y != "monocyte") | (np.cumsum(y == "monocyte") <= 9))
    recipe = quick(name, balance="smote").fit(X[keep], y[keep], groups=groups[keep])
    assert set(recipe.predict(X[keep])) == set(y)


def test_importances_have_the_names_of_features(segmented):
    X, y, _ = segmented
    recipe = quick("handcrafted-xgboost").fit(X, y)
    trees = recipe["classify"]
    assert trees.feature_importances_.sum() == pytest.approx(1, abs=1e-4)
    names = HandcraftedFeatures().get_feature_names_out()
    assert trees.feature_names_in_.tolist() == names.tolist()


def test_group_aware_scores_from_outside(segmented):
    X, y, groups = segmented
    scores = cross_val_score(
        quick("handcrafted-logistic"),
        X,
        y,
        groups=groups,
        cv=GroupedFolds(3, random_state=0),
        params={"groups": groups},
    )
    assert scores.mean() > 0.8


def test_parameters_are_reached_through_the_pipeline(segmented):
    X, y, _ = segmented
    recipe = clone(make_recipe("handcrafted-logistic")[1:])
    recipe.set_params(features__families=("shape",), classify__C=0.5)
    recipe.fit(X, y)
    names = recipe["classify"].feature_names_in_
    assert "nc_ratio" in names and not [n for n in names if "glcm" in n]


@pytest.mark.parametrize("name", ["handcrafted-svm", "lbp-svm"])
def test_support_vectors_have_probabilities(segmented, name):
    X, y, groups = segmented
    recipe = quick(name).fit(X, y, groups=groups)
    found = recipe.predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(recipe.classes_[found.argmax(axis=1)], recipe.predict(X))
    train, test = recipe[-1].folds_[0]
    assert not set(groups[train]) & set(groups[test])


@pytest.mark.slow
def test_a_vote_has_the_same_bits_with_one_and_two_threads(tmp_path):
    script = """
import hashlib, sys
import numpy as np
from hemaest.recipes import ImagePipeline, make_recipe
rng = np.random.default_rng(0)
X, y = rng.normal(size=(120, 300)), np.array(list("abcd"))[np.arange(120) % 4]
X[:, :4] += 2 * np.eye(4)[np.arange(120) % 4]
vote = make_recipe("ensemble-voting", random_state=0)["classify"]
vote.set_params(trees__n_estimators=3, kernel__rbfsampler__n_components=400)
found = ImagePipeline([("classify", vote)]).fit(X, y).predict_proba(X)
print(hashlib.sha1(found.tobytes()).hexdigest())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "OMP_NUM_THREADS": n, "OPENBLAS_NUM_THREADS": n},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.astype("S"), "y holds bytes; decode them"),
        (lambda y: [None, *y[1:]], "1 of .* labels are missing .* of images 0"),
        (lambda y: [np.nan, *y[1:]], "1 of .* labels are missing .* of images 0"),
        (lambda y: np.full(len(y), "blast"), "one class only, 'blast'"),
        (lambda y: None, "ImagePipeline requires y"),
    ],
)
def test_labels_that_no_recipe_can_learn_from_are_named(smear, change, message):
    X, y, _ = smear
    with pytest.raises(ValueError, match=message):
        make_recipe("color-logistic").fit(X, change(np.asarray(y)))


def test_a_misspelt_parameter_is_answered_with_the_likely_one():
    with pytest.raises(TypeError, match="no parameter 'n_estimator'. Did you mean 'n_estimators'"):
        BoostedTrees(n_estimator=3)


def test_recipes_without_epochs_refuse_them():
    with pytest.raises(ValueError, match="no step that max_epochs=3 could change"):
        make_recipe("handcrafted-forest", max_epochs=3)
    assert make_recipe("deep-small", max_epochs=3)["classify"].max_epochs == 3


@pytest.mark.parametrize("n_classes", [2, 3])
def test_trees_that_start_from_a_linear_model_lose_nothing_of_it(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 60))
    X[::50, 5] = np.nan
    margins = np.nan_to_num(X) @ rng.normal(size=(60, n_classes))
    y, groups = np.array(list("abc"))[margins.argmax(axis=1)], np.arange(240) // 2
    train, test = np.arange(160), np.arange(160, 240)
    how = {"n_estimators": 20, "max_depth": 2, "patience": 5, "random_state": 0}
    plain = BoostedTrees(**how).fit(X[train], y[train], groups=groups[train])
    trees = BoostedTrees(**how, linear_start=True).fit(X[train], y[train], groups=groups[train])
    assert plain.linear_ is None and plain.score(X[test], y[test]) < trees.score(X[test], y[test])
    linear = (trees.classes_[trees.linear_.predict(X[test])] == y[test]).mean()
    assert trees.score(X[test], y[test]) >= linear - 0.05
    again = clone(trees).fit(X[train], y[train], groups=groups[train])
    np.testing.assert_array_equal(again.predict_proba(X[test]), trees.predict_proba(X[test]))
    behind = clone(trees).set_params(resampler=RandomOverSampler(random_state=0))
    assert behind.fit(np.nan_to_num(X[train]), y[train]).linear_ is None
