import numpy as np
import pytest

from hemaest.images import to_object_array
from hemaest.inspection import StainGridDisplay
from hemaest.stain import ReinhardNormalizer


def test_rows_are_the_images_and_what_the_steps_made_of_them(cells):
    X = cells[0][:5]
    step = ReinhardNormalizer().fit(X[:2])
    display = StainGridDisplay.from_estimators(step, X, n_images=3)
    np.testing.assert_array_equal(display.rows["original"], X[[0, 2, 4]])
    np.testing.assert_array_equal(display.rows["ReinhardNormalizer"], step.transform(X[[0, 2, 4]]))
    drawn = display.plot(title="two rows").ax_.images
    assert len(drawn) == 6
    np.testing.assert_array_equal(drawn[0].get_array(), X[0])
    np.testing.assert_array_equal(drawn[4].get_array(), step.transform(X[2:3])[0])
    assert display.ax_.get_title() == "two rows"


def test_pictures_keep_their_shape_and_order(cells):
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
