"""The gallery of cells: who is shown, how the frames say right and wrong, and the sizes."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import FixedThresholdClassifier

from hemaest.images import to_object_array
from hemaest.inspection import CellGalleryDisplay, ErrorGalleryDisplay
from hemaest.inspection._gallery import some_of_each
from hemaest.inspection.drawing import RIGHT, WRONG


def frames(display):
    return [p for p in display.ax_.patches if isinstance(p, Rectangle)]


def test_right_and_wrong_differ_by_more_than_color(cells):
    X, y, _ = cells
    display = CellGalleryDisplay(X[:2], y[:2], predicted=[y[0], y[0]]).plot()
    right, wrong = frames(display)
    assert display.ax_.get_title() == "1 of 2 right"
    from matplotlib.colors import to_hex

    assert to_hex(right.get_edgecolor()).upper() == RIGHT
    assert to_hex(wrong.get_edgecolor()).upper() == WRONG
    assert right.get_linestyle() != wrong.get_linestyle()
    assert f"is {y[1]}" in display.ax_.texts[1].get_text()


def test_of_each_class_as_many_as_there_can_be():
    labels = np.array(["a"] * 50 + ["b"] * 2 + ["c"] * 50)
    chosen = labels[some_of_each(labels, 12)]
    assert {name: int((chosen == name).sum()) for name in "abc"} == {"a": 5, "b": 2, "c": 5}
    assert len(set(some_of_each(labels, None).tolist())) == 102
    assert len(set(some_of_each(labels, 500).tolist())) == 102


def test_images_of_any_size_are_not_stretched(cells, mapped_cells):
    wide = np.zeros((10, 30, 3), np.uint8)
    display = CellGalleryDisplay(to_object_array([wide, cells[0][0]])).plot()
    left, right, bottom, top = display.ax_.images[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(3)
    outlined = CellGalleryDisplay(mapped_cells[0][:1]).plot()
    assert len(outlined.ax_.lines) >= 2


def test_an_estimator_names_what_is_shown(cells):
    X, y, _ = cells
    model = DummyClassifier(strategy="constant", constant="blast").fit(X, y)
    display = CellGalleryDisplay.from_estimator(model, X, y, n_cells=6)
    assert sorted(display.labels) == ["blast"] * 3 + ["lymphocyte"] * 3
    assert set(display.predicted) == {"blast"} and set(display.confidence) == {1.0}
    assert display.plot().ax_.get_title() == "3 of 6 right"
    assert CellGalleryDisplay.from_estimator(model, X).plot().ax_.get_title() == "24 cells"


@pytest.mark.parametrize("display", [CellGalleryDisplay, ErrorGalleryDisplay])
def test_cells_are_called_what_predict_calls_them(cells, display):
    X, y, _ = cells
    usual = DummyClassifier(strategy="prior")
    eager = FixedThresholdClassifier(usual, threshold=0.2, pos_label="lymphocyte")
    eager.fit(X, np.where(np.arange(len(y)) % 4, "blast", "lymphocyte"))
    shown = display.from_estimator(eager, X, y)
    assert set(shown.predicted) == set(eager.predict(X)) == {"lymphocyte"}
    np.testing.assert_allclose(shown.confidence, 0.25)


def test_it_draws_where_it_is_told(cells):
    ax = Figure().subplots()
    display = CellGalleryDisplay(cells[0][:3]).plot(ax, n_columns=1, title="three")
    assert display.ax_ is ax and display.figure_ is ax.figure and ax.get_title() == "three"


def test_lengths_that_differ_are_told(cells):
    with pytest.raises(ValueError, match="labels has 1 entries, but there are 2 images"):
        CellGalleryDisplay(cells[0][:2], ["a"])
