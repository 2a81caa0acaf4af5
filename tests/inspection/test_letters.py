"""Names of any length: no line of a figure covers its neighbour or runs off the page."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from hemaest.inspection import (
    CellGalleryDisplay,
    ErrorGalleryDisplay,
    SmearDisplay,
    StainGridDisplay,
)
from hemaest.inspection._heat import HeatDisplay

CELLS = np.full((12, 24, 24, 3), 180, np.uint8)
CLASSES = [
    "ig",
    "neutrophil (segmented)",
    "promyelocyte (bilobed)",
    "B lymphoblast, Philadelphia chromosome positive (WHO 2022)",
]
NAMES = np.array(CLASSES * 3)


def gallery():
    return CellGalleryDisplay(
        CELLS, NAMES, predicted=np.roll(NAMES, 1), confidence=np.full(12, 0.5)
    )


def errors():
    return ErrorGalleryDisplay(CELLS, NAMES, np.full((12, 4), 0.25), CLASSES)


def heat():
    return HeatDisplay(list(CELLS), [np.ones((24, 24))] * 12, [f"{name} 0.97" for name in NAMES])


def grid():
    return StainGridDisplay({"original": CELLS, "Reinhard": CELLS}, column_names=NAMES)


def smear():
    corners = np.arange(12)[:, None] * [30, 2]
    return SmearDisplay(
        np.full((240, 400, 3), 230, np.uint8), np.hstack([corners, corners + 20]), names=NAMES
    )


def written(figure: Figure):
    """Return the boxes of what stands beside and over the pictures, and that of the page."""
    figure.draw_without_rendering()
    texts = [t for ax in figure.findobj(lambda a: hasattr(a, "title")) for t in [ax.title]]
    texts += [t for ax in texts for t in ax.axes.texts]
    return [t.get_window_extent() for t in texts if t.get_text()], figure.bbox


@pytest.mark.parametrize("display", [gallery, errors, heat, grid, smear])
def test_long_names_stay_in_their_place(display):
    boxes, page = written(display().plot().figure_)
    assert boxes
    for i, one in enumerate(boxes):
        assert page.x0 - 1 <= one.x0 and one.x1 <= page.x1 + 1
        for other in boxes[:i]:
            assert not one.padded(-1).overlaps(other.padded(-1))


def test_names_of_the_common_types_are_not_shortened():
    names = ["promyelocyte (bilobed)", "neutrophil (segmented)"] * 6
    sure = np.full(12, 0.97)
    called = names[1:] + names[:1]
    display = CellGalleryDisplay(CELLS, names, predicted=called, confidence=sure).plot()
    assert {t.get_text() for t in display.ax_.texts} == {
        f"{said} 0.97\nis {true}" for said, true in (names[:2], names[1::-1])
    }


def test_a_number_of_the_matrix_keeps_half_an_inch_beside_long_names():
    names = [letter * 30 for letter in "abcd"]
    display = ErrorGalleryDisplay(CELLS, names * 3, np.full((12, 4), 0.25), names)
    figure = display.plot().figure_
    figure.draw_without_rendering()
    matrix = next(ax for ax in figure.axes if ax.get_xlabel() == "predicted")
    (start, _), (end, _) = matrix.transData.transform([[0, 0], [1, 0]])
    assert (end - start) / figure.dpi > 0.5


def test_an_unknown_choice_of_errors_is_told():
    with pytest.raises(ValueError, match="show='errors'.*all, wrong, right"):
        errors().order(show="errors")
