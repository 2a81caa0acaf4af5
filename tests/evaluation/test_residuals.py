"""Where recipes err: residuals are 1 - p(true), and a planted weakness is found and named."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier

from hemaest.datasets import make_cells
from hemaest.deep import ImageClassifier
from hemaest.evaluation import audit, compare
from hemaest.evaluation._folds import shrunk
from hemaest.evaluation._insight import look_into
from hemaest.evaluation._residuals import SIZE, STRENGTH, in_words, measured, residuals
from hemaest.recipes import make_recipe
from hemaest.segmentation import CellSegmenter


class Oracle(ClassifierMixin, BaseEstimator):
    """Knows the type, written in the first pixel, and is unsure of what is marked in the second."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        true = X[:, 0, 0, 0]
        sure = np.where(X[:, 0, 1, 0] == 1, 0.4, 0.9)
        other = (1 - sure) / (len(self.classes_) - 1)
        proba = np.repeat(other[:, None], len(self.classes_), axis=1)
        proba[np.arange(len(X)), true] = sure
        return proba

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    X = rng.integers(100, 250, (90, 16, 16, 3)).astype(np.uint8)
    true, hard = np.arange(90) % 3, np.arange(90) // 3 % 2
    X[:, 0, 0, 0], X[:, 0, 1, 0] = true, hard
    known = pd.DataFrame({"stain": np.where(hard, "pale", "dark"), "cell_size": np.arange(90.0)})
    return compare(
        {"oracle": Oracle()},
        X,
        np.array(["blast", "lymphocyte", "monocyte"])[true],
        groups=np.arange(90) // 6,
        group_source="patient",
        cv=3,
        n_repeats=2,
        covariates=known,
        learning_curve=True,
        control=False,
    )


def test_residuals_are_one_minus_the_probability_of_the_truth(planted):
    table = residuals(planted, "oracle")
    hard = table["image"] // 3 % 2
    assert np.allclose(table["residual"], np.where(hard, 0.6, 0.1))
    by_type = planted.residuals()["type"].set_index("level")["residual"]
    assert np.allclose(by_type, table.groupby("type")["residual"].mean()[by_type.index])


def test_a_planted_weakness_is_named_and_nothing_else(planted):
    tables = planted.residuals()
    assert list(tables) == ["type", "stain", "cell_size", "patient"]
    assert tables["stain"]["level"].tolist() == ["pale", "dark"]
    assert "clearly harder is pale (0.60) against dark (0.10)" in in_words("stain", tables["stain"])
    assert "no level is clearly harder" in in_words("type", tables["type"])
    assert tables["cell_size"]["level"].str.split(" ").str[0].astype(float).is_monotonic_increasing
    for table in tables.values():
        assert (table["low"] <= table["residual"] + 1e-9).all()
        assert (table["residual"] <= table["high"] + 1e-9).all()


def test_covariates_need_one_row_an_image(planted):
    with pytest.raises(ValueError, match="covariates has 2 rows, but there are 90 images"):
        compare("color-knn", planted.images, np.arange(90) % 3, covariates={"stain": ["a", "b"]})


def test_stain_and_size_are_measured_where_nobody_tells_them():
    cells = make_cells(24, image_size=96, n_labs=1, n_patients=2, patient_effect=0, random_state=0)
    washed = (255 - (255 - cells.images.astype(int)) * 0.6).astype(np.uint8)
    rows = np.arange(24)
    table, paler = measured(cells.images, rows), measured(washed, rows)
    assert (paler[STRENGTH] < table[STRENGTH]).all()
    assert np.corrcoef(table[SIZE], cells.truth["cell_area"])[0, 1] > 0.8
    with_maps = np.concatenate([cells.images, cells.masks[..., None]], axis=-1)
    assert np.array_equal(measured(with_maps, rows)[SIZE], cells.truth["cell_area"])
    assert measured(cells.images, rows[:3]).notna().any(axis=1).sum() == 3


@pytest.fixture(scope="module")
def compared():
    cells = make_cells(
        30, classes=["lymphocyte", "neutrophil"], image_size=64, n_patients=6, random_state=0
    )
    segmenter = CellSegmenter(method="voters")
    recipes = {
        "net": ImageClassifier(
            "cellnet", image_size=48, max_epochs=2, batch_size=8, device="cpu", random_state=0
        ),
        "morphology": make_recipe("handcrafted-logistic", segmenter=segmenter, stain="reinhard"),
        "chance": DummyClassifier(),
    }
    return cells, compare(
        recipes,
        cells.images,
        cells.target,
        groups=cells.groups,
        group_source="patient",
        cv=2,
    )


def test_folds_keep_what_each_recipe_looked_at(compared):
    _, result = compared
    kinds = {name: {fold.insight.kind for fold in folds} for name, folds in result.results.items()}
    assert kinds["net"] == {"Grad-CAM"} and kinds["morphology"] == {"outline"}
    assert kinds["chance"] == kinds["color-logistic"] == {""}
    for name in ("net", "morphology"):
        for (_, test), fold in zip(result.design.folds, result.results[name], strict=True):
            assert fold.insight.images and set(fold.insight.images) <= set(test.tolist())


def test_training_curves_are_those_of_the_folds(compared):
    _, result = compared
    curves = result.training_curves
    assert set(curves["recipe"]) == {"net"}
    assert curves.groupby("fold")["epoch"].apply(list).tolist() == [[1, 2], [1, 2]]


def test_smaller_training_sets_are_nested_and_tear_no_group(planted):
    curve = planted.learning_curve
    assert curve.groupby("share").size().to_dict() == {0.25: 6, 0.5: 6, 1.0: 6}
    sizes = curve.groupby("share")["images"].mean()
    assert sizes.is_monotonic_increasing and sizes[1.0] == 60
    train, groups = planted.design.folds[0][0], planted.design.groups
    labels = planted.classes[planted.true]
    half = shrunk(train, labels, groups, 0.5, 0)
    assert set(shrunk(train, labels, groups, 0.25, 0)) < set(half) < set(train)
    assert not set(groups[half]) & set(groups[np.setdiff1d(train, half)])
    assert "Score by the number of training images" in planted.to_html()


def test_the_page_shows_all_of_it_and_stays_small(compared):
    cells, result = compared
    page = result.to_html(audit=audit(cells.images, cells.target, cells.groups))
    for title in ("Right and wrong", "Residuals", "Learning curves", "Stain", "Audit"):
        assert f"<h2>{title}</h2>" in page
    for text in ("(Grad-CAM)", "By patient", "<th>Reinhard</th>", "What not to conclude"):
        assert text in page
    assert len(page) < 5e6 and "<script" not in page
    images = re.findall(r"<img [^>]*>", page)
    assert images and all(re.search(r'alt="[^"]+"', image) for image in images)
    assert "not audited" in result.to_html()


def test_a_model_without_a_map_draws_nothing():
    found = look_into(DummyClassifier(), np.zeros((2, 8, 8, 3), np.uint8), np.arange(2))
    assert found.kind == "" and found.images == {} and found.curves is None
