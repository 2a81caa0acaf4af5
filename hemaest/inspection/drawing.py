"""What drawings share: one color for each cell type, outlines, heat, and text that fits.

The displays of this subpackage, the pages of the evaluation and the command line draw with these
functions, so that one type has one color everywhere. They take and return arrays; matplotlib and
OpenCV are imported where they are used.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._geometry import scale_to
from hemaest.images import as_array, cell_map, rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Savable",
    "any_script",
    "class_color",
    "class_colors",
    "ink_on",
    "label_axes",
    "new_axes",
    "offscreen",
    "outlined",
    "overlay",
    "plain_text",
    "quiet_axes",
    "shortened",
    "size_for",
    "thumbnail",
    "wrapped",
]

# distinguishable with any kind of color vision; a marker, a sign or a dash says it again
BLUE, VERMILION, VIOLET = "#0072B2", "#D55E00", "#6b3fa0"
RIGHT, WRONG, PLAIN = BLUE, VERMILION, "#999999"
# text, what is beside the point, and lines of axes
INK, SOFT, LINE = "#1d2330", "#5d6675", "#d5d9e0"

# distinguishable with any kind of color vision for the common types (Okabe and Ito, 2008); what
# is rare or marrow only differs in lightness as well
TYPE_COLORS = {
    "neutrophil": "#0072B2",
    "lymphocyte": "#D55E00",
    "monocyte": "#009E73",
    "eosinophil": "#CC79A7",
    "basophil": "#5B3A9E",
    "immature granulocyte": "#E69F00",
    "erythroblast": "#8C2D4B",
    "platelet": "#56B4E9",
    "blast": "#111111",
    "band neutrophil": "#4C9ED9",
    "promyelocyte": "#A56B00",
    "myelocyte": "#C98A1B",
    "metamyelocyte": "#F0C05A",
    "plasma cell": "#7F8C1F",
    "red cell": "#C0392B",
    "megakaryocyte": "#2F8F9D",
    "artefact": "#8A8A8A",
    "unidentified": "#6B6B6B",
}
SYNONYMS = {
    "ig": "immature granulocyte",
    "immature granulocytes": "immature granulocyte",
    "normoblast": "erythroblast",
    "nrbc": "erythroblast",
    "thrombocyte": "platelet",
    "wbc": "neutrophil",
    "leukocyte": "neutrophil",
    "rbc": "red cell",
    "erythrocyte": "red cell",
    "segmented neutrophil": "neutrophil",
    "neutrophil segmented": "neutrophil",
    "seg": "neutrophil",
    "band": "band neutrophil",
    "neutrophil band": "band neutrophil",
    "artifact": "artefact",
    "smudge cell": "artefact",
    "myeloblast": "blast",
    "lymphoblast": "blast",
}
# for names that are no known type; distinct from each other rather than from the types
OTHER_COLORS = (
    "#3366AA", "#AA3355", "#228833", "#997700", "#AA4499", "#117733", "#884411", "#44718C",
    "#6633BB", "#CC5511", "#558800", "#BB2288", "#335577", "#775500", "#007766", "#994455",
)  # fmt: skip

# fonts of other scripts, after the user's own; those that are not installed are not used
SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Source Han Sans",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic",
    "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI",
    "Noto Sans Hebrew", "Noto Sans Bengali", "Noto Sans Tamil",
)  # fmt: skip

NO_FONT = (
    "Names hold letters that no installed font has; they are drawn as '?'. Install a font of their "
    "script, such as Noto Sans CJK."
)

# what the docstrings of all displays share
DISPLAY_DOCS = {
    "drawn": """
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.
    """,
    "ax": """
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure of pyplot.
    """,
    "title": """
    title : str, optional
        As in :meth:`plot`.
    """,
}

# mean width of a letter, as a share of the size of its type
WIDE = 0.6
SMALLEST = 5.0

# whether new figures stay out of pyplot
_offscreen: ContextVar[bool] = ContextVar("offscreen", default=False)
# the fonts that a drawing in the making takes its letters from
_fonts: ContextVar[tuple[str, ...]] = ContextVar("fonts", default=())

Image = NDArray[np.uint8]
Heat = NDArray[np.float64]


def class_color(name: object) -> str:
    """Return the color of a class: the same in every image, report and session.

    Known cell types have a color of their own. Any other name gets one that depends on the name
    alone, so two such names may share a color; the name is always written as well.

    Parameters
    ----------
    name : str
        Label of a class; case, plural and underscores do not matter.

    Returns
    -------
    color : str
        As ``"#rrggbb"``.

    Examples
    --------
    >>> from hemaest.inspection import class_color
    >>> class_color("Neutrophils"), class_color("neutrophil")
    ('#0072B2', '#0072B2')
    >>> class_color("NRBC") == class_color("erythroblast")
    True
    """
    key = re.sub(r"[\W_]+", " ", str(name)).strip().casefold()
    for word in (key, key.removesuffix("s")):
        word = SYNONYMS.get(word, word)
        if word in TYPE_COLORS:
            return TYPE_COLORS[word]
    return OTHER_COLORS[zlib.crc32(key.encode()) % len(OTHER_COLORS)]


def class_colors(names: Iterable[object]) -> dict[str, str]:
    """Return the color of each class, by name.

    Parameters
    ----------
    names : iterable of str
        Labels of classes.

    Returns
    -------
    colors : dict of str to str
        Name -> ``"#rrggbb"``.

    Examples
    --------
    >>> from hemaest.inspection import class_colors
    >>> class_colors(["monocyte", "platelet"])
    {'monocyte': '#009E73', 'platelet': '#56B4E9'}
    """
    return {str(name): class_color(name) for name in names}


def ink_on(color: str) -> str:
    """Return black or white, whichever is read more easily on a color.

    Examples
    --------
    >>> ink_on("#56B4E9"), ink_on("#0072B2")
    ('#000000', '#ffffff')
    """
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    # contrast after WCAG 2: (lighter + 0.05) / (darker + 0.05)
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "#000000"


def new_axes(ax: Axes | None, width: float, height: float, **options: Any) -> Axes:
    """Return `ax`, or the axes of a new pyplot figure of that many inches.

    The figure is pyplot's current one, so ``plt.savefig`` and notebooks show it.
    """
    if ax is not None:
        return ax
    options = {"figsize": (width, height), "layout": "constrained", **options}
    if _offscreen.get():
        from matplotlib.figure import Figure

        return Figure(**options).subplots()
    from matplotlib import pyplot as plt

    return plt.subplots(**options)[1]


@contextmanager
def offscreen() -> Iterator[None]:
    """Keep the figures that are made inside out of pyplot, for pages and files."""
    token = _offscreen.set(True)
    try:
        yield
    finally:
        _offscreen.reset(token)


def quiet_axes(ax: Any, width: float = 5.4, height: float = 4.0, *, grid: bool = False) -> Any:
    """Return `ax`, or the axes of a new figure as :func:`new_axes`, with two pale spines."""
    ax = new_axes(ax, width, height)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
    ax.tick_params(colors=SOFT, labelcolor=INK, length=3)
    if grid:
        ax.grid(color=LINE, lw=0.6, alpha=0.6)
        ax.set_axisbelow(True)
    return ax


def label_axes(ax: Axes, x: str, y: str, title: str | None = None) -> None:
    """Name the axes in a quiet color, and put the title at the left."""
    ax.set_xlabel(x, color=SOFT)
    ax.set_ylabel(y, color=SOFT)
    if title:
        ax.set_title(plain_text(title), loc="left", color=INK, fontsize=11)


class Savable:
    """Mixin of displays: write the drawing to a file without pyplot, from any thread."""

    def save(self, path: Any, **options: Any) -> None:
        """Draw and write an image file.

        Parameters
        ----------
        path : path
            Where to write; the ending says the format.
        **options
            For ``plot``.
        """
        with offscreen():
            self.plot(**options).figure_.savefig(path)  # type: ignore[attr-defined]


@contextmanager
def any_script() -> Iterator[None]:
    """Draw letters of other scripts where a font of this computer has them.

    Used as a decorator of ``plot`` methods: texts made inside keep the fonts.
    """
    import matplotlib
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    own = matplotlib.rcParams["font.family"]
    fonts = [*own, *(name for name in SCRIPTS if name in known)]
    token = _fonts.set(tuple(fonts))
    try:
        with matplotlib.rc_context({"font.family": fonts}):
            yield
    finally:
        _fonts.reset(token)


@cache
def _letters(fonts: tuple[str, ...]) -> frozenset[int]:
    """Return the code points that one of the fonts has."""
    from matplotlib import font_manager

    paths = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in fonts]
    return frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))


def plain_text(text: object) -> str:
    r"""Return a text that matplotlib draws as it stands, not as a formula.

    Undrawable characters of broken file names are replaced. So are, inside :func:`any_script`,
    letters that no font of this computer has; one warning says which font to install.

    Examples
    --------
    >>> plain_text("a$b$"), plain_text("cell\udcff.png")
    ('a\\$b\\$', 'cell?.png')
    """
    shown = str(text).encode(errors="replace").decode().replace("$", r"\$")
    fonts = _fonts.get()
    if not fonts or shown.isascii():
        return shown
    there = "".join(c if ord(c) in _letters(fonts) or c.isspace() else "?" for c in shown)
    if there != shown:
        warnings.warn(NO_FONT, stacklevel=1)  # at one place, so that it is shown once
    return there


def size_for(texts: Iterable[str], points: float, most: float) -> float:
    """Return the size, ``most`` at most, at which the longest line is ``points`` wide.

    Examples
    --------
    >>> size_for(["blast"], 100, 8.5), round(size_for(["a line of twenty-four ch"], 100, 8.5), 2)
    (8.5, 6.94)
    """
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    return float(np.clip(points / (WIDE * max(longest, 1)), SMALLEST, most))


def shortened(text: str, points: float, size: float) -> str:
    """Return a text whose lines are no wider than ``points``; what is too long loses its middle.

    Examples
    --------
    >>> shortened("basophil 0.97", 100, 8), shortened("a very long name of a class 0.97", 60, 8)
    ('basophil 0.97', 'a very… 0.97')
    """
    # a size that was chosen for this line fits it exactly, but for rounding
    room = max(int(points / (WIDE * size) + 1e-6), 3)

    def cut(line: str) -> str:
        tail = (room - 1) // 2
        return line if len(line) <= room else f"{line[: room - 1 - tail]}…{line[-tail:]}"

    return "\n".join(map(cut, text.split("\n")))


def wrapped(text: str, points: float, size: float) -> str:
    r"""Return a text in lines no wider than ``points``, broken after commas and colons.

    Examples
    --------
    >>> wrapped("9 leukocytes: 3 lymphocyte, 6 neutrophil", 150, 8)
    '9 leukocytes: 3 lymphocyte,\n6 neutrophil'
    """
    held = re.sub("(?<![,:]) ", "\xa0", text)
    return fill(held, max(int(points / (WIDE * size)), 12)).replace("\xa0", " ")


def thumbnail(image: Image, side: int) -> Image:
    """Return the RGB of an image, its longer side no larger than `side`.

    Examples
    --------
    >>> thumbnail(np.zeros((40, 80, 3), np.uint8), 20).shape
    (10, 20, 3)
    """
    colors = rgb(image)
    share = side / max(colors.shape[:2])
    if share >= 1:
        return colors
    height, width = (max(1, round(n * share)) for n in colors.shape[:2])
    return scale_to(colors, height, width)


def outlined(image: Image, side: int = 160) -> Image:
    """Return an image with the outlines of its cells and nuclei, its longer side `side`.

    Examples
    --------
    >>> image = np.full((40, 40, 4), 200, np.uint8)
    >>> image[..., 3] = 0
    >>> image[10:30, 10:30, 3] = 1
    >>> drawn = outlined(image)
    >>> drawn.shape, int(drawn[20, 20, 0]), bool((drawn != 200).any())
    ((160, 160, 3), 200, True)
    """
    import cv2

    labels = cell_map(as_array(image))
    assert labels is not None
    scale = side / max(labels.shape)
    height, width = (max(1, round(n * scale)) for n in labels.shape)
    drawn = cv2.resize(
        np.ascontiguousarray(rgb(as_array(image))), (width, height), interpolation=cv2.INTER_AREA
    )
    large = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    for mask, color in ((large > 0, (255, 255, 255)), (cellmap.nuclei(large), (0, 0, 0))):
        lines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(drawn, lines, -1, color, 1, cv2.LINE_AA)
    return drawn


def overlay(image: Image, heat: Heat) -> Image:
    """Return the image in gray under colors that grow stronger with the heat.

    Heat that is much the same everywhere points nowhere, and is drawn faint.
    """
    import matplotlib

    heat = heat / max(1.0, 4 * float(heat.mean()))
    gray = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    colors = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    strength = (0.15 + 0.6 * heat)[..., None]
    return (gray * (1 - strength) + colors * strength).round().astype(np.uint8)
