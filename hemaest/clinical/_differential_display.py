"""The drawing of a differential count; what DifferentialCounter.count returns goes in."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from hemaest._docs import fill_doc
from hemaest.inspection.drawing import (
    BLUE,
    DISPLAY_DOCS,
    INK,
    LINE,
    SOFT,
    Savable,
    any_script,
    label_axes,
    plain_text,
    quiet_axes,
)


@fill_doc(**DISPLAY_DOCS)
class DifferentialDisplay(Savable):
    """Draw a differential with its intervals, and the plain count beside it.

    Parameters
    ----------
    table : DataFrame
        As :meth:`DifferentialCounter.count` returns it.

    Attributes
    ----------
    %(drawn)s

    Examples
    --------
    >>> from hemaest.clinical import DifferentialCounter
    >>> y = np.repeat(["lymphocyte", "monocyte"], 200)
    >>> counter = DifferentialCounter().fit(y, y, groups=np.arange(400) % 20)
    >>> display = DifferentialDisplay(counter.count(y[150:250])).plot()
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['lymphocyte', 'monocyte']
    """

    def __init__(self, table: pd.DataFrame) -> None:
        missing = {"n", "percent", "low", "high", "naive_percent"} - set(table.columns)
        if missing:
            raise ValueError(f"table lacks {sorted(missing)}: give what count(...) returned.")
        self.table = table

    @any_script()
    def plot(self, ax: Any = None, *, title: str | None = None) -> Self:
        """Draw, one line a type.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        title : str, optional
            By default how many cells were counted and reviewed.

        Returns
        -------
        self : DifferentialDisplay
        """
        n = len(self.table)
        self.ax_ = ax = quiet_axes(ax, 6.2, 1.2 + 0.34 * n, grid=True)
        self.figure_ = ax.figure
        at = np.arange(n)
        ax.hlines(at, self.table["low"], self.table["high"], color=BLUE, lw=6, alpha=0.35)
        ax.plot(self.table["percent"], at, "o", color=BLUE, ms=7, label="adjusted, with interval")
        ax.plot(
            self.table["naive_percent"],
            at,
            "D",
            mfc="none",
            mec=SOFT,
            ms=6,
            label="plain count of the names",
        )
        for y, (_, row) in zip(at, self.table.iterrows(), strict=True):
            known = row["percent"] == row["percent"]
            words = f"{row['percent']:.1f}" if known else "unknown"
            ax.annotate(
                f"{words} ({row['low']:.1f} to {row['high']:.1f})",
                (1.02, y),
                xycoords=("axes fraction", "data"),
                va="center",
                color=INK,
                fontsize=8.5,
            )
        ax.set_yticks(at, [plain_text(name) for name in self.table.index])
        ax.set_ylim(n - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.grid(axis="y", visible=False)
        ax.spines["left"].set_color(LINE)
        label_axes(ax, "per 100 counted cells", "", self._words() if title is None else title)
        ax.legend(
            frameon=False,
            fontsize=8.5,
            ncols=2,
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.12 - 0.35 / n),
        )
        return self

    def _words(self) -> str:
        cells, reviewed = self.table.attrs.get("cells"), self.table.attrs.get("reviewed")
        if cells is None:
            return ""
        return f"{cells} cells" + (f", {reviewed} reviewed" if reviewed else "")
