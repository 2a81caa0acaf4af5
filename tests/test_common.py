"""Checks of our own that every public estimator passes, over one discovered list."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from public import estimator_classes, make
from sklearn.base import clone

from hemaest.images import to_object_array

METHODS = ("predict", "predict_proba", "decision_function", "transform")
NAMES = sorted(estimator_classes())
CLASSIFIERS = [n for n in NAMES if make(n).__sklearn_tags__().estimator_type == "classifier"]
SAMPLERS = [n for n in NAMES if hasattr(make(n), "fit_resample")]
FITTED = [n for n in NAMES if n not in SAMPLERS]


def data_for(estimator, cells, mapped_cells):
    """Return X, y in the form that an estimator needs: with a cell map where it needs one."""
    X, y, _ = mapped_cells if estimator._channels == "map" else cells
    return X[:12], y[:12]


def outputs(estimator, X):
    """Return what every method that answers about images says."""
    return {m: getattr(estimator, m)(X) for m in METHODS if hasattr(estimator, m)}


def assert_same(one, other, where, exact=True):
    """Compare arrays, ragged arrays, lists and frames, item by item."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}", exact)
        return
    assert len(one) == len(other), where
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape and a.dtype == b.dtype, f"{where}, item {i}"
        if exact or a.dtype.kind not in "fc":
            np.testing.assert_array_equal(a, b, err_msg=f"{where}, item {i}")
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=f"{where}, item {i}")


@pytest.fixture(scope="module")
def fitted(cells, mapped_cells):
    """Fit each estimator once for the checks that only look at it."""
    made = {}

    def get(name):
        if name not in made:
            estimator = make(name)
            X, y = data_for(estimator, cells, mapped_cells)
            made[name] = (estimator.fit(X, y), X, y)
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_init_only_stores_and_clone_agrees(name):
    estimator = make(name)
    assert joblib.hash(clone(estimator).get_params()) == joblib.hash(estimator.get_params())
    assert not [a for a in vars(estimator) if a.endswith("_") and not a.endswith("__")]


@pytest.mark.parametrize("name", NAMES)
def test_fit_changes_neither_parameters_nor_input(name, cells, mapped_cells):
    estimator = make(name)
    X, y = data_for(estimator, cells, mapped_cells)
    before = joblib.hash((estimator.get_params(), X, y))
    (estimator.fit_resample if name in SAMPLERS else estimator.fit)(X, y)
    assert joblib.hash((estimator.get_params(), X, y)) == before


@pytest.mark.parametrize("name", FITTED)
def test_answers_change_neither_state_nor_input(name, fitted):
    estimator, X, _ = fitted(name)
    before = joblib.hash((sorted(vars(estimator)), X))
    once = outputs(estimator, X)
    assert_same(once, outputs(estimator, X), name)
    assert joblib.hash((sorted(vars(estimator)), X)) == before


@pytest.mark.parametrize("name", FITTED)
def test_dense_ragged_and_files_give_the_same(name, fitted, as_refs):
    estimator, X, _ = fitted(name)
    dense = outputs(estimator, X)
    assert_same(dense, outputs(estimator, to_object_array(list(X))), name)
    assert_same(dense, outputs(estimator, list(X)), name)
    if X.shape[-1] == 3:
        assert_same(dense, outputs(estimator, as_refs(X)), name)


@pytest.mark.parametrize("name", FITTED)
def test_fit_on_ragged_equals_fit_on_dense(name, fitted, as_refs):
    estimator, X, y = fitted(name)
    form = as_refs(X) if X.shape[-1] == 3 else to_object_array(list(X))
    other = make(name).fit(form, y)
    assert_same(outputs(estimator, X), outputs(other, X), name)


@pytest.mark.parametrize("name", FITTED)
def test_an_answer_does_not_depend_on_the_other_images(name, fitted):
    estimator, X, _ = fitted(name)
    whole = outputs(estimator, X)
    for chosen in ([3], [7, 2, 5]):
        part = {method: [result[i] for i in chosen] for method, result in whole.items()}
        # batched matrix products round differently by batch size
        assert_same(part, outputs(estimator, X[chosen]), name, exact=False)


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_blank_white_image_gives_an_answer(name, fitted):
    estimator, X, _ = fitted(name)
    blank = np.full_like(X[:1], 255)
    blank[..., 3:] = 0
    for result in outputs(estimator, blank).values():
        assert len(result) == 1


@pytest.mark.parametrize("name", FITTED)
def test_sizes_may_differ(name, fitted):
    estimator, X, _ = fitted(name)
    ragged = to_object_array([X[0], X[1][:30], X[2][:, 3:]])
    for result in outputs(estimator, ragged).values():
        assert len(result) == 3


@pytest.mark.parametrize("name", FITTED)
def test_two_fits_with_one_seed_agree_bit_for_bit(name, fitted):
    estimator, X, y = fitted(name)
    other = clone(estimator)
    if "random_state" in estimator.get_params():
        assert estimator.get_params()["random_state"] is not None, (
            "give a seed in helpers/public.py"
        )
    assert_same(outputs(estimator, X), outputs(other.fit(X, y), X), name)


@pytest.mark.parametrize("name", FITTED)
def test_table_outputs_have_names(name, fitted):
    estimator, X, _ = fitted(name)
    estimator = clone(estimator).fit(*fitted(name)[1:])
    if not hasattr(estimator, "get_feature_names_out"):
        takes = hasattr(estimator, "transform")
        assert not takes or estimator.set_output(transform="pandas") is estimator
        return
    names = estimator.get_feature_names_out()
    if names is None:  # images have no columns
        images = estimator.transform(X)
        assert_same(estimator.set_output(transform="pandas").transform(X), images, name)
        return
    assert len(set(names)) == len(names)
    table = estimator.set_output(transform="pandas").transform(X)
    assert list(table.columns) == list(names) and len(table) == len(X)


@pytest.mark.parametrize("labels", [["b", "a"], [30, 10], np.array([7, -2], np.int32)])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_labels_of_any_kind_go_in_and_come_out(name, labels, cells, mapped_cells):
    estimator = make(name)
    X, _ = data_for(estimator, cells, mapped_cells)
    y = np.asarray(labels)[np.arange(len(X)) % 2]
    estimator.fit(X, y)
    np.testing.assert_array_equal(estimator.classes_, np.unique(y))
    predicted = estimator.predict(X)
    assert predicted.dtype == y.dtype and set(predicted.tolist()) <= set(y.tolist())
    shares = estimator.predict_proba(X)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(estimator.classes_[shares.argmax(axis=1)], predicted)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_keep_rows_labels_and_seed(name, cells):
    X, y, _ = cells
    keep = np.r_[np.flatnonzero(y == "blast"), np.flatnonzero(y != "blast")[:4]]
    X, y = X[keep], y[keep]
    first, again = make(name), make(name)
    X_new, y_new = first.fit_resample(X, y)
    assert_same(X_new, again.fit_resample(X, y)[0], name)
    assert len(X_new) == len(y_new) == len(first.sample_indices_)
    old = first.sample_indices_ >= 0
    np.testing.assert_array_equal(y_new[old], y[first.sample_indices_[old]])
    assert not hasattr(first, "transform")


REPLAY = """
import sys, joblib
from test_common import outputs
jobs = joblib.load(sys.argv[1])
joblib.dump({name: outputs(estimator, X) for name, (estimator, X) in jobs.items()}, sys.argv[2])
"""


@pytest.mark.slow
def test_pickles_answer_the_same_in_a_new_process(fitted, tmp_path, request):
    jobs = {name: fitted(name)[:2] for name in FITTED}
    joblib.dump(jobs, tmp_path / "jobs")
    here = request.config.rootpath
    paths = [str(here / "tests"), str(here / "tests" / "helpers"), str(here)]
    code = f"import sys; sys.path[:0] = {paths!r}\n{REPLAY}"
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "jobs", tmp_path / "answers"], check=True
    )
    answers = joblib.load(tmp_path / "answers")
    for name in FITTED:
        assert_same(outputs(*jobs[name]), answers[name], name)
