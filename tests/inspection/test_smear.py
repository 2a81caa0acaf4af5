"""The smear display: one box each, labels that do not cover each other, clear refusals."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from hemaest.inspection import SmearDisplay

FIELD = np.full((300, 400, 3), 230, np.uint8)
BOXES = np.array([[20, 30, 80, 90, 0.97], [60, 40, 120, 100, 0.8], [300, 220, 360, 290, 0.6]])


def test_every_box_is_drawn_and_counted():
    display = SmearDisplay(FIELD, BOXES, names=["b", "a", "b"]).plot()
    assert len(display.ax_.patches) == 3
    assert display.ax_.get_title() == "3 leukocytes: 1 a, 2 b"


@pytest.mark.parametrize("size", [(2, 1.5), (6, 4.5), (16, 12)])
def test_labels_do_not_cover_each_other_at_any_size(size):
    figure = Figure(figsize=size)
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 340, (30, 2)) * [1, 0.7]
    boxes = np.column_stack([corner, corner + 50, rng.random(30)])
    ax = SmearDisplay(FIELD, boxes, names=["eosinophil"] * 30).plot(figure.subplots()).ax_
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in ax.texts]
    assert extents
    for i, one in enumerate(extents):
        for other in extents[:i]:
            assert not one.padded(-1).overlaps(other.padded(-1))


def test_an_empty_field_and_outlines():
    cell_map = np.zeros((300, 400), np.uint8)
    cell_map[0:60, 20:80] = 1
    cell_map[20:50, 30:60] = 2
    display = SmearDisplay(FIELD, np.empty((0, 5)), cell_map=cell_map).plot()
    assert display.ax_.get_title() == "no leukocyte" and len(display.ax_.lines) == 4
    assert display.ax_.get_xlim() == (-0.5, 399.5)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="names has 1 items, boxes has 3"):
        SmearDisplay(FIELD, BOXES, names=["a"])
    with pytest.raises(ValueError, match="cell_map has shape"):
        SmearDisplay(FIELD, BOXES, cell_map=np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"\(k, 4\)"):
        SmearDisplay(FIELD, BOXES[:, :3])


@pytest.mark.parametrize("shape", [(900, 1440), (4000, 40), (2, 5000)])
def test_a_field_of_any_shape_is_drawn_at_a_size_that_fits(shape, tmp_path):
    field = np.full((*shape, 3), 235, np.uint8)
    display = SmearDisplay(field, np.empty((0, 5)))
    figure = display.plot().figure_
    width, height = figure.get_size_inches() * figure.dpi
    assert width * height < 8e6
    if shape == (900, 1440):
        window = display.ax_.get_window_extent()
        figure.draw_without_rendering()
        assert width >= 1440 and window.width > 0.9 * 1440
