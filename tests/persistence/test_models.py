"""Saved models: the same predictions in a new process, and files that are refused."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from hostile import entries_of, packed
from public import QUICK, estimator_classes, make
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from hemaest.balance import ImageSampler
from hemaest.clinical import CellTaxonomy, DifferentialCounter
from hemaest.features import ColorFeatures
from hemaest.persistence import UnsafeFileError, info, load, load_data, save, save_data
from hemaest.preprocessing import Resize
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.stain import MacenkoNormalizer, StainAugmenter

MODELS = {
    "forest": RandomForestClassifier(5, random_state=0),
    "trees": ExtraTreesClassifier(5, random_state=0),
    "boosting": HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=2, random_state=0),
    "neighbors": KNeighborsClassifier(3, algorithm="kd_tree"),
    "svm": SVC(),
    "perceptron": MLPClassifier((4,), max_iter=2000, random_state=0),
    "calibrated": CalibratedClassifierCV(LogisticRegression(), cv=2),
    "stacking": StackingClassifier([("svm", SVC())], LogisticRegression(), cv=2),
    "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    "search by a named score": GridSearchCV(
        LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, scoring="f1_macro"
    ),
    "frozen": FrozenEstimator(LogisticRegression()),
}


def fitted(model, cells):
    X, y, _ = cells
    if isinstance(model, FrozenEstimator):
        rows = ColorFeatures().fit_transform(X)
        model = FrozenEstimator(LogisticRegression(max_iter=5000).fit(rows, y))
        return ImagePipeline([("features", ColorFeatures()), ("classify", model)]).fit(X, y)
    return ImagePipeline(
        [("features", ColorFeatures()), ("scale", StandardScaler()), ("classify", model)]
    ).fit(X, y)


@pytest.mark.parametrize("name", MODELS)
def test_models_of_scikit_learn_load_safely(name, cells, tmp_path):
    model = fitted(MODELS[name], cells)
    path = save(model, tmp_path / "model.hemaest")
    assert info(path)["names_beyond_the_list"] == []
    X = cells[0]
    np.testing.assert_array_equal(load(path).predict(X), model.predict(X))


@pytest.mark.parametrize("name", sorted(estimator_classes()))
def test_every_public_estimator_loads_safely(name, mapped_cells, tmp_path):
    X, y, _ = mapped_cells
    estimator = make(name)
    if name == "DeepEmbedding" or name in QUICK or not hasattr(estimator, "fit_resample"):
        estimator = estimator.fit(X[:8], y[:8]) if hasattr(estimator, "fit") else estimator
    path = save(estimator, tmp_path / "model.hemaest")
    assert info(path)["names_beyond_the_list"] == []
    again = load(path)
    assert type(again) is type(estimator)
    for method in ("predict_proba", "transform"):
        if hasattr(estimator, method):
            first, second = getattr(estimator, method)(X[:3]), getattr(again, method)(X[:3])
            for a, b in zip(first, second, strict=True):
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


CODE = """
import sys, numpy as np
from hemaest.persistence import load
np.save(sys.argv[3], load(sys.argv[1]).predict_proba(np.load(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["color-logistic", "handcrafted-forest", "deep-small", "handcrafted-xgboost"]
)
def test_a_new_process_predicts_bit_for_bit_the_same(name, cells, tmp_path):
    X, y, _ = cells
    few = {"max_epochs": 2, "image_size": 32} if name.startswith("deep") else {}
    model = make_recipe(name, random_state=0, **few).fit(X, y)
    path = save(model, tmp_path / "model.hemaest")
    np.save(tmp_path / "X.npy", X)
    arguments = [str(tmp_path / n) for n in ("model.hemaest", "X.npy", "proba.npy")]
    subprocess.run([sys.executable, "-c", CODE, *arguments], check=True)
    assert info(path)["names_beyond_the_list"] == []
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), model.predict_proba(X))


def test_weights_lie_in_the_file_as_safetensors_under_their_names(cells, tmp_path):
    from safetensors.numpy import load as read

    X, y, _ = cells
    model = make_recipe("deep-small", max_epochs=1, image_size=32, random_state=0).fit(X, y)
    path = save(model, tmp_path / "model.hemaest")
    with zipfile.ZipFile(path) as archive:
        arrays = read(archive.read("weights-0.safetensors"))
    own = model.steps[-1][1].net_.module_.state_dict()
    assert set(arrays) == set(own)
    for name, values in own.items():
        np.testing.assert_array_equal(arrays[name], values.numpy())
    assert "torch" in info(path)["versions"]


@pytest.fixture
def saved(cells, tmp_path):
    model = fitted(LogisticRegression(), cells)
    about = {"input": "cell", "n": 24}
    return save(model, tmp_path / "m.hemaest", data_hash="abc", claim={"x": 1}, trained_on=about)


def test_the_card_tells_what_is_inside(saved):
    card = info(saved)
    assert card["classes"] == ["blast", "lymphocyte"]
    assert [s["class"] for s in card["steps"]] == [
        "ColorFeatures",
        "StandardScaler",
        "LogisticRegression",
    ]
    assert card["data_hash"] == "abc" and card["claim"] == {"x": 1}
    assert card["trained_on"] == {"input": "cell", "n": 24}
    assert {"hemaest", "python", "numpy", "scikit-learn"} <= set(card["versions"])


def test_numbers_of_numpy_stay_numbers_on_the_card(cells, tmp_path):
    facts = {"n": np.int64(24), "size": np.array([96, 96])}
    path = save(fitted(LogisticRegression(), cells), tmp_path / "m.hemaest", trained_on=facts)
    assert info(path)["trained_on"] == {"n": 24, "size": [96, 96]}


def test_saving_twice_gives_the_same_bytes(cells, tmp_path):
    model = fitted(LogisticRegression(), cells)
    first, second = (save(model, tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_every_changed_byte_is_noticed(saved):
    content = saved.read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 60)
    for place in [0, 1, len(content) - 1, *places]:
        changed = bytearray(content)
        changed[place] ^= 1
        saved.write_bytes(changed)
        with pytest.raises(ValueError, match="checksum|no file of|cut off"):
            load(saved)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="cut off|no file of"):
        load(saved)


def test_a_joblib_file_is_distinguished(cells, tmp_path):
    import joblib

    joblib.dump(fitted(LogisticRegression(), cells), tmp_path / "model.joblib")
    with pytest.raises(ValueError, match=r"joblib\.load"):
        load(tmp_path / "model.joblib")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(tmp_path / "nowhere")


def own_function(X):
    return X


def test_own_functions_are_given_as_objects(cells, tmp_path):
    X, y, _ = cells
    model = make_pipeline(ColorFeatures(), FunctionTransformer(own_function), LogisticRegression())
    model.fit(X, y)
    with pytest.raises(ValueError, match=r"func is the function .*own_function.*trusted="):
        save(model, tmp_path / "model.hemaest")
    path = save(model, tmp_path / "model.hemaest", trusted=[own_function])
    (name,) = info(path)["names_beyond_the_list"]
    assert name.endswith("own_function")
    with pytest.raises(ValueError, match=r"own_function.*trusted=\["):
        load(path)
    again = load(path, trusted=[own_function])
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for trusted in (True, name):
        with pytest.raises(TypeError, match="no way to allow everything"):
            load(path, trusted=trusted)
    with pytest.raises(TypeError, match="give classes and functions"):
        load(path, trusted=[name])


def test_what_cannot_be_saved_is_named(cells, tmp_path):
    X, _, _ = cells
    model = make_pipeline(ColorFeatures(), FunctionTransformer(lambda X: X)).fit(X)
    with pytest.raises(ValueError, match=r"func is the function .*lambda"):
        save(model, tmp_path / "model.hemaest")
    assert list(tmp_path.iterdir()) == []


def unfitted_models(cells):
    frozen = FrozenEstimator(fitted(LogisticRegression(), cells)[-1])
    return {
        "recipe": make_recipe("color-logistic"),
        "transformer": MacenkoNormalizer(),
        "nothing to learn at the end": ImagePipeline([("s", MacenkoNormalizer()), ("r", Resize())]),
        "a frozen end": ImagePipeline([("features", ColorFeatures()), ("classify", frozen)]),
        "inside": ImagePipeline([("inner", make_pipeline(ColorFeatures(), frozen))]),
        "frozen, but never fitted": FrozenEstimator(LogisticRegression()),
    }


def test_what_was_never_fitted_is_not_saved(cells, tmp_path):
    for name, model in unfitted_models(cells).items():
        with pytest.raises(NotFittedError, match="never fitted.*call its fit"):
            save(model, tmp_path / "m.hemaest")
        assert list(tmp_path.iterdir()) == [], name


def test_what_has_nothing_to_learn_is_saved_as_it_is(tmp_path):
    for model in (Resize(), ImagePipeline([("r", Resize())]), ImageSampler(), StainAugmenter()):
        assert type(load(save(model, tmp_path / "m.hemaest"))) is type(model)


class Halves(TransformerMixin, BaseEstimator):
    """A transformer that does not say that it has nothing to learn, as many are."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X / 2


def test_an_own_step_without_tags_keeps_no_fitted_pipeline_from_being_saved(cells, tmp_path):
    X, y, _ = cells
    model = make_pipeline(ColorFeatures(), Halves(), LogisticRegression(max_iter=5000)).fit(X, y)
    with pytest.raises(ValueError, match="Halves"):
        save(model, tmp_path / "m.hemaest")
    path = save(model, tmp_path / "m.hemaest", trusted=[Halves])
    with pytest.raises(ValueError, match="Halves"):
        load(path)
    again = load(path, trusted=[Halves])
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_path_that_cannot_be_written_is_named(cells, tmp_path):
    model = fitted(LogisticRegression(), cells)
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it") as caught:
        save(model, tmp_path)
    assert str(tmp_path) in str(caught.value)
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "m.hemaest"
    with pytest.raises(OSError, match="cannot be written") as caught:
        save(model, path)
    assert str(path) in str(caught.value) and ".part" not in str(caught.value)
    assert save(model, tmp_path / "new" / "folder" / "m.hemaest").is_file()


def rewritten(path, **changes):
    """Change entries of a file; its checksum is right."""
    entries = entries_of(path)
    card = json.loads(entries["card.json"])
    path.write_bytes(packed({**entries, "card.json": json.dumps({**card, **changes}).encode()}))


def test_another_version_is_named(saved):
    versions = info(saved)["versions"]
    rewritten(saved, versions={**versions, "scikit-learn": "0.1"})
    with pytest.warns(UserWarning, match=r"scikit-learn 0\.1 then, .* now\.$"):
        load(saved)


def test_another_format_is_named(saved):
    rewritten(saved, format=99)
    with pytest.raises(ValueError, match="newer hemaest"):
        load(saved)
    rewritten(saved, format=1)
    with pytest.raises(ValueError, match="older versions.*save it again"):
        load(saved)


def counter_of(taxonomy):
    """Return a counter, and names that its classifier gave the cells of a smear."""
    rng = np.random.default_rng(0)
    y = np.repeat(["blast", "lymphocyte", "monocyte"], 60)
    named = np.where(rng.random(180) < 0.1, rng.permutation(y), y)
    counter = DifferentialCounter(taxonomy=taxonomy).fit(named, y, groups=np.arange(180) % 12)
    return counter, named[::3]


def own_taxonomy():
    return CellTaxonomy(
        {
            "leukocyte": {"count": "blood marrow"},
            "lymphocyte": {"parent": "leukocyte", "blood": 30, "also": ["LY"]},
            "hairy cell": {"parent": "lymphocyte", "missed": 4.0},
            "monocyte": {"parent": "leukocyte"},
            "blast": {"parent": "leukocyte", "next": "monocyte"},
        }
    )


@pytest.mark.parametrize("taxonomy", ["blood", "marrow", None, own_taxonomy()], ids=str)
def test_a_fitted_counter_counts_the_same_and_is_saved_the_same(taxonomy, tmp_path):
    counter, named = counter_of(taxonomy)
    again = load(save(counter, tmp_path / "counter.hemaest"))
    reviewed = {0: "blast", 7: "monocyte"} if taxonomy is None else {0: "blast", 7: "leukocyte"}
    for cells, known in ((named, None), (named, reviewed), (named[:0], None)):
        first, second = (c.count(cells, known, wbc=7.0) for c in (counter, again))
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        assert first.attrs == second.attrs
    assert counter.suggest(named, 9, "blast").tolist() == again.suggest(named, 9, "blast").tolist()
    save(again, tmp_path / "again.hemaest")
    first, second = (tmp_path / f"{name}.hemaest" for name in ("counter", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_taxonomy_of_ones_own_is_the_same_after_loading(tmp_path):
    counter, _ = counter_of(own_taxonomy())
    again = load(save(counter, tmp_path / "counter.hemaest")).taxonomy
    assert again == counter.taxonomy and again.tree() == counter.taxonomy.tree()
    assert again.resolve("LY") == "lymphocyte" and again.is_a("hairy cell", "LY")
    pd.testing.assert_frame_equal(again.table(), counter.taxonomy.table())


@pytest.mark.parametrize(
    "row",
    [
        {"parent": "nobody"},
        {"parent": "monocyte"},
        {"parent": 3},
        {"count": 3},
        {"also": "LY"},
        {"also": [1]},
        {"blood": "much"},
        {"__class__": "x"},
    ],
    ids=str,
)
def test_a_file_with_a_broken_taxonomy_is_refused(row, tmp_path):
    counter = DifferentialCounter(taxonomy=own_taxonomy())
    counter.taxonomy._table["monocyte"] = row
    path = save_data(counter, tmp_path / "counter")
    with pytest.raises(UnsafeFileError, match="no type|ancestors|another type|unknown fields"):
        load_data(path)
