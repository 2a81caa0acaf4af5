"""Shifts leave strength 0 and the cell map alone, grow with strength, and are the same for all."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier

from hemaest.datasets import make_cells
from hemaest.evaluation import shift_images, stain_shift_curve
from hemaest.images import to_object_array

KINDS = ("stain", "brightness", "blur", "JPEG", "scale")


@pytest.fixture(scope="module")
def cells():
    return make_cells(12, classes=["neutrophil", "lymphocyte"], image_size=48, random_state=0)


class Knows(ClassifierMixin, BaseEstimator):
    """Is right only for images that it has seen unchanged."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.answers_ = {x.tobytes(): label for x, label in zip(X, y, strict=True)}
        return self

    def predict(self, X):
        return np.array([self.answers_.get(np.ascontiguousarray(x).tobytes(), "?") for x in X])


@pytest.mark.parametrize("kind", KINDS)
def test_shifts_grow_and_keep_shape(cells, kind):
    X = cells.images
    np.testing.assert_array_equal(shift_images(X, kind, 0.0), X)
    away = [np.abs(shift_images(X, kind, s).astype(int) - X).mean() for s in (0.1, 0.5, 1.0)]
    assert away[0] <= away[1] < away[2]
    ragged = shift_images(to_object_array(list(X)), kind, 0.5)
    assert ragged.dtype == object
    for one, other in zip(ragged, shift_images(X, kind, 0.5, n_jobs=2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_cell_map_moves_with_the_cell_only(cells):
    X = np.concatenate([cells.images, cells.masks[..., None]], axis=3)
    for kind in KINDS:
        moved = shift_images(X, kind, 1.0)
        assert set(np.unique(moved[..., 3])) <= set(np.unique(cells.masks))
        assert np.array_equal(moved[..., 3], cells.masks) == (kind != "scale")


def test_curves_and_areas(cells):
    X, y = cells.images, cells.target
    models = {"knows": Knows().fit(X, y), "same": DummyClassifier().fit(X, y)}
    curves = stain_shift_curve(models, X, y, strengths=(0, 0.5, 1))
    assert list(curves.area["recipe"]) == ["knows", "same"]
    assert list(curves.area.columns[1:]) == list(KINDS)
    area = curves.area.set_index("recipe")
    np.testing.assert_allclose(area.loc["knows"].astype(float), 0.25)  # 1, 0, 0 by trapezoids
    np.testing.assert_allclose(area.loc["same"].astype(float), 0.5)
    again = stain_shift_curve(models, X, y, strengths=(0, 0.5, 1))
    assert curves.table.equals(again.table)
    assert len(curves.plot()) == len(KINDS)


def test_wrong_arguments_are_explained(cells):
    model = DummyClassifier().fit(cells.images, cells.target)
    with pytest.raises(ValueError, match="Did you mean 'blur'"):
        stain_shift_curve(model, cells.images, cells.target, kinds="blurr")
    with pytest.raises(ValueError, match="Did you mean 'stain'"):
        shift_images(cells.images, "stains", 1.0)
    with pytest.raises(ValueError, match="must rise"):
        stain_shift_curve(model, cells.images, cells.target, strengths=(1, 0))
    with pytest.raises(ValueError, match="one label each"):
        stain_shift_curve(model, cells.images, cells.target[:-1])
