import numpy as np
import pandas as pd
import pytest
from imblearn.over_sampling import SMOTE
from scipy.spatial.distance import cdist

from hemaest.balance import FeatureSampler
from hemaest.recipes import ImagePipeline, make_recipe

METHODS = ("oversample", "smote", "borderline-smote", "adasyn", "smote-tomek")


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y = np.repeat(["neutrophil", "basophil", "monocyte"], [60, 9, 20])
    X = pd.DataFrame(rng.normal(size=(89, 4)), columns=list("abcd"))
    X.loc[y == "basophil"] += 1.2
    X.loc[y == "monocyte", "a"] -= 1.2
    return X, y


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frame", [True, False])
def test_rare_classes_are_filled_and_old_rows_stay(rows, method, frame):
    X, y = rows
    given = X if frame else X.to_numpy()
    sampler = FeatureSampler(method, random_state=0)
    X_new, y_new = sampler.fit_resample(given, y)
    assert isinstance(X_new, pd.DataFrame) == frame
    kept = sampler.sample_indices_
    old = kept >= 0
    np.testing.assert_array_equal(np.asarray(X_new)[old], X.to_numpy()[kept[old]])
    np.testing.assert_array_equal(y_new[old], y[kept[old]])
    counts = dict(zip(*np.unique(y_new, return_counts=True), strict=True))
    if method == "smote-tomek":
        assert counts["basophil"] > 30 and len(set(kept[old])) < 89
    else:
        assert set(range(89)) <= set(kept.tolist())
        assert all(abs(c - 60) <= (8 if method == "adasyn" else 0) for c in counts.values())
    again = FeatureSampler(method, random_state=0).fit_resample(given, y)
    np.testing.assert_array_equal(np.asarray(X_new), np.asarray(again[0]))


def test_smote_is_imbalanced_learn_s(rows):
    X, y = rows
    sampler = FeatureSampler("smote", random_state=0)
    X_new, y_new = sampler.fit_resample(X, y)
    plain, _ = SMOTE(random_state=0).fit_resample(X, y)
    assert len(plain) == len(X_new)
    # each lies on a line between two rows of its class
    basophils = X[y == "basophil"].to_numpy()
    new = (sampler.sample_indices_ == -1) & (y_new == "basophil")
    between = X_new[new].to_numpy()
    gaps = cdist(between, basophils)
    pairs = cdist(basophils, basophils)
    through = gaps[:, :, None] + gaps[:, None, :] - pairs[None]
    assert np.allclose(through.min(axis=(1, 2)), 0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_rows_with_nan_stay_and_nothing_is_made_from_them(rows, method):
    X, y = rows
    X = X.copy()
    X.iloc[[0, 61, 70], 1] = np.nan
    sampler = FeatureSampler(method, random_state=0)
    X_new, y_new = sampler.fit_resample(X, y)
    missing = X_new.isna().any(axis=1).to_numpy()
    if method == "oversample":
        assert missing.sum() >= 3
        return
    assert missing.sum() == 3 and set(sampler.sample_indices_[missing]) == {0, 61, 70}
    if method == "smote":
        assert set(np.unique(y_new, return_counts=True)[1].tolist()) == {60}


@pytest.mark.parametrize("method", METHODS[1:])
def test_too_few_rows_are_refused_with_class_number_and_way_out(rows, method):
    X, y = rows
    keep = np.r_[:64, 69:89]
    words = rf"class 'basophil' has 4 rows here, and {method} with n_neighbors=5 needs 6: set n_ne"
    with pytest.raises(ValueError, match=words):
        FeatureSampler(method).fit_resample(X.iloc[keep], y[keep])
    FeatureSampler(method, n_neighbors=3, random_state=0).fit_resample(X.iloc[keep], y[keep])
    FeatureSampler("oversample").fit_resample(X.iloc[keep], y[keep])


def test_nan_counts_in_that_number(rows):
    X, y = rows
    X = X.copy()
    X.iloc[60:65, 0] = np.nan
    with pytest.raises(ValueError, match="has 9 rows, 4 of them without NaN here"):
        FeatureSampler().fit_resample(X, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "requires y to be passed"),
        (lambda y: y[:5], "89 images but 5 labels"),
        (lambda y: np.where(y == "basophil", np.nan, 1.0), "labels are missing"),
        (lambda y: np.linspace(0, 1.7, 89), "Unknown label type"),
        (lambda y: ["basophil"] * 89, "all 89 labels are 'basophil'.*two classes or more"),
    ],
)
def test_labels_are_checked_alike_by_all(rows, method, labels, words):
    X, y = rows
    with pytest.raises(ValueError, match=words):
        FeatureSampler(method).fit_resample(X, labels and labels(y))


@pytest.mark.parametrize("label", ["neutrophil", "basophil"])
@pytest.mark.parametrize("method", METHODS)
def test_a_class_without_a_whole_row(rows, method, label):
    X, y = rows
    X = X.mask(pd.Series(y == label), np.nan)
    sampler = FeatureSampler(method, random_state=0)
    if method == "oversample":
        assert len(sampler.fit_resample(X, y)[0]) == 180
        return
    with pytest.raises(ValueError, match=f"rows of class '{label}' have NaN.*'oversample'"):
        sampler.fit_resample(X, y)


def test_labels_in_a_column_are_taken_with_a_warning(rows):
    X, y = rows
    with pytest.warns(UserWarning, match="column-vector"):
        _, y_new = FeatureSampler("oversample").fit_resample(X, y[:, None])
    assert y_new.shape == (180,)


def test_adasyn_without_a_border_says_what_to_take(rows):
    X, y = rows
    keep = y != "monocyte"
    apart = X.copy()
    apart.loc[y == "basophil"] += 50
    with pytest.raises(ValueError, match="take balance='smote'"):
        FeatureSampler("adasyn", random_state=0).fit_resample(apart[keep], y[keep])


def test_groups_follow_in_a_pipeline(rows):
    from sklearn.linear_model import LogisticRegression

    X, y = rows
    given = {}

    class Listener(LogisticRegression):
        def fit(self, X, y, groups=None, sample_indices=None):
            given.update(groups=groups, rows=sample_indices)
            return super().fit(X, y)

    steps = [("balance", FeatureSampler(random_state=0)), ("classify", Listener())]
    ImagePipeline(steps).fit(X, y, groups=np.arange(89) // 3)
    assert (given["rows"] == -1).sum() == 91
    assert len(set(given["groups"][given["rows"] == -1])) == 1


NETS = ("oversample", "weights", "focal", "logit-adjusted", "acdbgan")


def test_what_balance_means_in_a_recipe():
    got = {name: make_recipe("deep-small", balance=name, random_state=3)[-1] for name in NETS}
    assert got["oversample"].resampler == "balanced"
    assert got["weights"].class_weight == "balanced"
    assert got["focal"].loss == "focal" and got["logit-adjusted"].loss == "logit-adjusted"
    gan = got["acdbgan"].resampler
    assert gan.image_size == 64 and gan.random_state == 3
    assert make_recipe("resnet24", balance="acdbgan")[-1].resampler.image_size == 128
    assert make_recipe("resnet50", balance="acdbgan")[-1].resampler.image_size == 224
    sized = make_recipe("deep-small", balance="acdbgan", image_size=100)[-1]
    assert sized.resampler.image_size == 96
    for method in METHODS:
        assert make_recipe("handcrafted-logistic", balance=method)["balance"].method == method
        machine = make_recipe("handcrafted-svm", balance=method)[-1].estimator.estimator
        assert machine.named_steps["featuresampler"].method == method
        boosted = make_recipe("handcrafted-xgboost", balance=method)
        assert boosted[-1].resampler.method == method and "balance" not in boosted.named_steps
    for name in ("xgboost", "svm", "forest", "logistic"):
        recipe = make_recipe(f"handcrafted-{name}", balance="weights")
        model = recipe[-1].estimator.estimator if name == "svm" else recipe[-1]
        assert model.class_weight == "balanced" and "balance" not in recipe.named_steps


@pytest.mark.parametrize(
    ("recipe", "balance", "words"),
    [
        ("deep-small", "smote", "That is for recipes of features"),
        ("deep-small", "acdgan", "Did you mean 'acdbgan'"),
        ("handcrafted-svm", "acdbgan", "That is for recipes of nets"),
        ("handcrafted-svm", "smot", "Did you mean 'smote'"),
        ("ensemble-voting", "weights", "must be one of oversample, smote"),
    ],
)
def test_a_balance_that_a_recipe_has_not(recipe, balance, words):
    with pytest.raises(ValueError, match=words):
        make_recipe(recipe, balance=balance)
