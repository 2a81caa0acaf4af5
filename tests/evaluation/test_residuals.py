"""Where recipes err: residuals are 1 - p(true), and a planted weakness is found and named."""

import re
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier

from hemaest.datasets import make_cells
from hemaest.deep import ImageClassifier
from hemaest.evaluation import audit, compare
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
    images = np.arange(90)
    expected = pd.Series(np.where(images // 3 % 2, 0.6, 0.1)).groupby(images % 3).mean()
    by_type = planted.residuals()["type"].set_index("level")["residual"]
    np.testing.assert_allclose(by_type[["blast", "lymphocyte", "monocyte"]], expected)


def test_a_planted_weakness_is_named_and_nothing_else(planted):
    tables, page = planted.residuals(), planted.to_html()
    assert list(tables) == ["type", "stain", "cell_size", "patient"]
    assert tables["stain"]["level"].tolist() == ["pale", "dark"]
    assert "By stain: clearly harder is pale (0.60) against dark (0.10)" in page
    assert "By type: no level is clearly harder" in page
    assert page.count("clearly harder is") == 1
    assert tables["cell_size"]["level"].str.split(" ").str[0].astype(float).is_monotonic_increasing
    for table in tables.values():
        assert (table["low"] <= table["residual"] + 1e-9).all()
        assert (table["residual"] <= table["high"] + 1e-9).all()


def test_covariates_need_one_row_an_image(planted):
    with pytest.raises(ValueError, match="covariates has 2 rows, but there are 90 images"):
        compare("color-knn", planted.images, np.arange(90) % 3, covariates={"stain": ["a", "b"]})


def measured(X):
    """Return stain and cell size as a comparison measures them where it is not given them."""
    y, groups = np.arange(len(X)) % 2, np.arange(len(X))
    return compare({"chance": DummyClassifier()}, X, y, groups, cv=2, control=False).factors


def test_stain_and_size_are_measured_where_they_are_not_given():
    cells = make_cells(24, image_size=96, n_labs=1, n_patients=2, patient_effect=0, random_state=0)
    washed = (255 - (255 - cells.images.astype(int)) * 0.6).astype(np.uint8)
    table, paler = measured(cells.images), measured(washed)
    assert (paler["stain_strength"] < table["stain_strength"]).all()
    assert np.corrcoef(table["cell_size"], cells.truth["cell_area"])[0, 1] > 0.8
    with_maps = np.concatenate([cells.images, cells.masks[..., None]], axis=-1)
    assert np.array_equal(measured(with_maps)["cell_size"], cells.truth["cell_area"])


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
    for fold in result.results["chance"]:
        assert fold.insight.images == {} and fold.insight.curves is None


def test_training_curves_are_those_of_the_folds(compared):
    _, result = compared
    curves = result.training_curves
    assert set(curves["recipe"]) == {"net"}
    assert curves.groupby("fold")["epoch"].apply(list).tolist() == [[1, 2], [1, 2]]


class Records(Oracle):
    """Keeps the numbers of the images that each fit was given."""

    fits: ClassVar[list] = []

    def fit(self, X, y):
        Records.fits.append(set(X[:, 1, 0, 0].tolist()))
        return super().fit(X, y)


def test_smaller_training_sets_are_nested_and_split_no_group(planted):
    curve = planted.learning_curve
    assert curve.groupby("share").size().to_dict() == {0.25: 6, 0.5: 6, 1.0: 6}
    sizes = curve.groupby("share")["images"].mean()
    assert sizes.is_monotonic_increasing and sizes[1.0] == 60
    assert "Score by the number of training images" in planted.to_html()
    X = planted.images.copy()
    X[:, 1, 0, 0] = np.arange(90)
    groups, labels = np.arange(90) // 6, planted.classes[planted.true]
    Records.fits.clear()
    compare({"m": Records()}, X, labels, groups, cv=2, learning_curve=True, control=False, n_jobs=1)
    assert len(Records.fits) == 6
    whole = [fit for fit in Records.fits if not any(fit < other for other in Records.fits)]
    assert len(whole) == 2 and not whole[0] & whole[1]
    for fit in whole:
        quarter, half = sorted((f for f in Records.fits if f < fit), key=len)
        assert quarter < half
        for part in (quarter, half):
            assert not {n // 6 for n in part} & {n // 6 for n in fit - part}


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
