"""How the figures of this room look; all Displays here draw on these axes."""

from __future__ import annotations

from typing import Any

INK, SOFT, LINE = "#1d2330", "#5d6675", "#d5d9e0"
# distinct to any kind of color vision; used with different markers and dashes
BLUE, ORANGE, GREEN, VIOLET = "#0072B2", "#D55E00", "#1b7f5c", "#6b3fa0"


def new_axes(ax: Any, width: float = 5.4, height: float = 4.0) -> Any:
    """Return `ax`, or the axes of a new figure of that many inches, with two quiet spines.

    Examples
    --------
    >>> ax = new_axes(None, 3, 2)
    >>> ax.spines["top"].get_visible()
    False
    """
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
    ax.tick_params(colors=SOFT, labelcolor=INK, length=3)
    ax.grid(color=LINE, lw=0.6, alpha=0.6)
    ax.set_axisbelow(True)
    return ax


def label(ax: Any, x: str, y: str, title: str | None = None) -> None:
    """Name the axes in the quiet color, and put the title at the left."""
    ax.set_xlabel(x, color=SOFT)
    ax.set_ylabel(y, color=SOFT)
    if title:
        ax.set_title(title, loc="left", color=INK, fontsize=11)
