"""What displays share: text that fits, colors that stay, figures that pyplot knows."""

import itertools

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hemaest.clinical import DifferentialCounter, DifferentialDisplay, RiskCoverageDisplay
from hemaest.clinical.agreement import BlandAltmanDisplay, MethodComparisonDisplay
from hemaest.inspection import (
    CellGalleryDisplay,
    ErrorGalleryDisplay,
    GradCAM,
    SmearDisplay,
    StainGridDisplay,
    class_color,
    class_colors,
)
from hemaest.inspection.drawing import NO_FONT, RIGHT, WRONG, any_script, ink_on, plain_text

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
    return GradCAM(list(CELLS), [np.ones((24, 24))] * 12, [f"{name} 0.97" for name in NAMES])


def grid():
    return StainGridDisplay({"original": CELLS, "Reinhard": CELLS}, column_names=NAMES)


def smear():
    corners = np.arange(12)[:, None] * [30, 2]
    return SmearDisplay(
        np.full((240, 400, 3), 230, np.uint8), np.hstack([corners, corners + 20]), names=NAMES
    )


def differential():
    y = np.repeat(["lymphocyte", "monocyte"], 100)
    counter = DifferentialCounter().fit(y, y, groups=np.arange(200) % 20)
    return DifferentialDisplay(counter.count(y[60:160]))


def risk():
    return RiskCoverageDisplay([0.5, 1.0], [0.0, 0.25])


def methods():
    return MethodComparisonDisplay([1, 2, 4, 7, 9, 12], [1.5, 2, 5, 7, 10, 13])


def differences():
    return BlandAltmanDisplay([1, 2, 4, 7], [1.5, 2, 5, 7])


IMAGES = [gallery, errors, heat, grid, smear]
ALL = [*IMAGES, differential, risk, methods, differences]


def written(figure: Figure):
    """Return the boxes of what stands beside and over the images, and that of the page."""
    figure.draw_without_rendering()
    texts = [t for ax in figure.findobj(lambda a: hasattr(a, "title")) for t in [ax.title]]
    texts += [t for ax in texts for t in ax.axes.texts]
    return [t.get_window_extent() for t in texts if t.get_text()], figure.bbox


@pytest.mark.parametrize("display", IMAGES)
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


@pytest.mark.parametrize("display", ALL)
def test_a_display_draws_on_the_current_figure_or_on_the_axes_that_are_given(display):
    drawn = display().plot()
    assert plt.gcf() is drawn.figure_ and drawn.ax_ in drawn.figure_.axes
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 7))
    drawn = display().plot(right)
    assert drawn.ax_ is right and drawn.figure_ is figure
    figure.draw_without_rendering()
    assert not left.images and not left.patches


@pytest.mark.parametrize("display", ALL)
def test_every_display_takes_a_title(display):
    drawn = display().plot(title="a $title$")
    drawn.figure_.draw_without_rendering()
    titles = [ax.get_title(loc) for ax in drawn.figure_.axes for loc in ("center", "left")]
    titles += [ax.get_title() for ax in drawn.ax_.child_axes]
    assert plain_text("a $title$") in titles


@pytest.mark.parametrize("display", ALL)
def test_save_writes_a_file_and_leaves_pyplot_alone(display, tmp_path):
    display().save(tmp_path / "drawing.png")
    assert (plt.imread(tmp_path / "drawing.png")[..., :3] < 1).any()
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", ["$\\frac$", "a$b", "\\alpha", "100%", "cell\udcff.png", "_^{}"])
def test_any_name_is_drawn_as_it_stands(name, tmp_path):
    names = [name] * 12
    shown = CellGalleryDisplay(CELLS, names).plot(title=name)
    shown.figure_.savefig(tmp_path / "a.png")
    assert shown.ax_.texts[0].get_text() == plain_text(name)
    ErrorGalleryDisplay(CELLS, names, np.ones((12, 1)), [name]).save(tmp_path / "b.png")
    StainGridDisplay({name: CELLS}, column_names=names).save(tmp_path / "c.png")
    SmearDisplay(np.zeros((99, 99, 3), np.uint8), [[5, 5, 40, 40]], names=[name]).save(
        tmp_path / "d.png"
    )
    GradCAM([CELLS[0]], [np.ones((24, 24))], [name]).save(tmp_path / "e.png")


def test_a_type_has_one_color_whatever_else_is_there():
    alone = SmearDisplay(np.zeros((99, 99, 3), np.uint8), [[5, 5, 40, 40]], names=["monocyte"])
    both = SmearDisplay(
        np.zeros((99, 99, 3), np.uint8),
        [[5, 5, 40, 40], [50, 50, 90, 90]],
        names=["basophil", "monocyte"],
    )
    first, second = (d.plot().ax_.patches[-1].get_edgecolor() for d in (alone, both))
    assert first == second
    assert class_color("Immature_Granulocytes") == class_color("ig")
    assert class_color("a new type") == class_color("a new type")


def linear(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


# what is left of linear RGB with no green cones and with no red cones (Vienot and others, 1999)
DEUTERANOPE = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
PROTANOPE = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])


@pytest.mark.parametrize("seen", [np.eye(3), DEUTERANOPE, PROTANOPE])
def test_the_common_types_differ_with_any_color_vision(seen):
    from skimage.color import rgb2lab

    common = ["neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil", "platelet", "blast"]
    colors = class_colors(common).values()
    shown = [np.clip(seen @ linear(c), 0, 1) for c in colors]
    srgb = [np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055) for v in shown]
    lab = [rgb2lab(v[None, None])[0, 0] for v in srgb]
    for a, b in itertools.combinations(lab, 2):
        assert np.linalg.norm(a - b) > 12


@pytest.mark.parametrize("color", [RIGHT, WRONG, "#E69F00", "#111111", "#56B4E9"])
def test_labels_are_legible_on_every_color(color):
    def luminance(c):
        return float(linear(c) @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted([luminance(color), luminance(ink_on(color))], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_an_unknown_choice_of_errors_is_refused():
    with pytest.raises(ValueError, match="show='errors'.*all, wrong, right"):
        errors().order(show="errors")


def test_letters_without_a_font_are_replaced_with_one_warning(tmp_path):
    images = np.full((3, 24, 24, 3), 200, np.uint8)
    unknown = "\U0001342f"  # a hieroglyph: in none of the fonts that are looked for
    display = CellGalleryDisplay(images, captions=[f"a{unknown}", f"b{unknown}", "plain"])
    with pytest.warns(UserWarning, match="letters that no installed font has") as caught:
        display.save(tmp_path / "gallery.png")
    assert {str(w.message) for w in caught} == {NO_FONT}
    assert (tmp_path / "gallery.png").stat().st_size > 1000


def test_letters_of_other_scripts_are_kept_where_a_font_has_them():
    with any_script():
        assert plain_text("Лимфоцит é") == "Лимфоцит é"  # the font that comes with matplotlib
    assert plain_text("淋巴细胞") == "淋巴细胞"  # outside of a drawing nothing is known of fonts
