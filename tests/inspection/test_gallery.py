"""The gallery of cells: who is shown, how the frames say right and wrong, and the sizes."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import FixedThresholdClassifier

from hemaest.images import to_object_array
from hemaest.inspection import CellGalleryDisplay, ErrorGalleryDisplay, StainGridDisplay
from hemaest.inspection.drawing import RIGHT, WRONG
from hemaest.stain import ReinhardNormalizer


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
    # the red of an image is its number
    images = np.full((102, 16, 16, 3), 200, np.uint8)
    images[..., 0] = np.arange(102)[:, None, None]
    for n, counts in ((12, [5, 2, 5]), (None, [50, 2, 50]), (500, [50, 2, 50])):
        display = CellGalleryDisplay.from_predictions(images, labels, labels, n_images=n)
        assert [int((display.labels == name).sum()) for name in "abc"] == counts
        numbers = [int(image[0, 0, 0]) for image in display.images]
        assert len(set(numbers)) == sum(counts)
        assert labels[numbers].tolist() == display.labels.tolist()


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
    display = CellGalleryDisplay.from_estimator(model, X, y, n_images=6)
    assert sorted(display.labels) == ["blast"] * 3 + ["lymphocyte"] * 3
    assert set(display.predicted) == {"blast"} and set(display.confidence) == {1.0}
    assert display.ax_.get_title() == "3 of 6 right"
    assert CellGalleryDisplay.from_estimator(model, X).ax_.get_title() == "24 cells"


@pytest.mark.parametrize("display", [CellGalleryDisplay, ErrorGalleryDisplay])
def test_cells_are_called_what_predict_calls_them(cells, display):
    X, y, _ = cells
    usual = DummyClassifier(strategy="prior")
    eager = FixedThresholdClassifier(usual, threshold=0.2, pos_label="lymphocyte")
    eager.fit(X, np.where(np.arange(len(y)) % 4, "blast", "lymphocyte"))
    shown = display.from_estimator(eager, X, y)
    assert set(shown.predicted) == set(eager.predict(X)) == {"lymphocyte"}
    np.testing.assert_allclose(shown.confidence, 0.25)


def test_it_draws_on_the_axes_that_are_given(cells):
    ax = Figure().subplots()
    display = CellGalleryDisplay(cells[0][:3]).plot(ax, n_columns=1, title="three")
    assert display.ax_ is ax and display.figure_ is ax.figure and ax.get_title() == "three"


def test_lengths_that_differ_are_refused(cells):
    with pytest.raises(ValueError, match="labels has 1 entries, but there are 2 images"):
        CellGalleryDisplay(cells[0][:2], ["a"])


def test_rows_are_the_images_and_what_the_steps_made_of_them(cells):
    X = cells[0][:5]
    step = ReinhardNormalizer().fit(X[:2])
    display = StainGridDisplay.from_estimators(step, X, n_images=3, title="two rows")
    np.testing.assert_array_equal(display.rows["original"], X[[0, 2, 4]])
    np.testing.assert_array_equal(display.rows["ReinhardNormalizer"], step.transform(X[[0, 2, 4]]))
    drawn = display.ax_.images
    assert len(drawn) == 6
    np.testing.assert_array_equal(drawn[0].get_array(), X[0])
    np.testing.assert_array_equal(drawn[4].get_array(), step.transform(X[2:3])[0])
    assert display.ax_.get_title() == "two rows"


def test_images_keep_their_shape_and_order(cells):
    X = to_object_array([cells[0][0], cells[0][1][:16], cells[0][2][:, :8]])
    ax = StainGridDisplay({"a": X, "b": X}).plot().ax_
    for drawn, image in zip(ax.images, [*X, *X], strict=True):
        left, right, bottom, top = drawn.get_extent()
        height, width = image.shape[:2]
        assert np.isclose((right - left) / (bottom - top), width / height)
    centers = [np.mean(drawn.get_extent()[:2]) for drawn in ax.images[:3]]
    assert centers == sorted(centers)


def test_equal_column_names_are_written_once(cells):
    names = ["one", "one", "two"]
    ax = StainGridDisplay({"a": cells[0][:3]}, column_names=names).plot().ax_
    assert [t.get_text() for t in ax.texts] == ["a", "one", "two"]


def test_what_does_not_fit_is_said(cells):
    with pytest.raises(ValueError, match="same number of images"):
        StainGridDisplay({"a": cells[0][:3], "b": cells[0][:2]})
    with pytest.raises(ValueError, match="column_names has 1"):
        StainGridDisplay({"a": cells[0][:3]}, column_names=["x"])
    with pytest.raises(ValueError, match="column_names has 1 entries, but there are 3 images"):
        StainGridDisplay.from_estimators({}, cells[0][:3], column_names=["x"])
