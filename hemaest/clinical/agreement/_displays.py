"""The two drawings of a method comparison."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest._docs import fill_doc
from hemaest.clinical.agreement._differences import BlandAltman, bland_altman, reference_limits
from hemaest.clinical.agreement._lines import Line, paired, passing_bablok
from hemaest.inspection.drawing import (
    BLUE,
    DISPLAY_DOCS,
    INK,
    SOFT,
    VERMILION,
    VIOLET,
    Savable,
    any_script,
    label_axes,
    quiet_axes,
)

Array = NDArray[np.float64]


@fill_doc(**DISPLAY_DOCS)
class MethodComparisonDisplay(Savable):
    """Draw the results of two methods against each other, with the line through them.

    Parameters
    ----------
    reference, test : array-like of shape (n,)
        Results of the two methods, in percent.
    line : Line, optional
        The line to draw; Passing-Bablok's by default.
    n_cells : float, optional
        Cells of the reference count: draws Ruemke's limits around the identity.

    Attributes
    ----------
    %(drawn)s

    Examples
    --------
    >>> reference, test = [1, 2, 4, 7, 9, 12], [1.5, 2, 5, 7, 10, 13]
    >>> display = MethodComparisonDisplay(reference, test).plot(title="blast")
    >>> display.ax_.get_title(loc="left")
    'blast'
    """

    def __init__(
        self,
        reference: ArrayLike,
        test: ArrayLike,
        line: Line | None = None,
        *,
        n_cells: float | None = None,
    ) -> None:
        self.reference, self.test = paired(reference, test)
        self.line = passing_bablok(self.reference, self.test) if line is None else line
        self.n_cells = n_cells

    @any_script()
    def plot(self, ax: Any = None, *, title: str | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        title : str, optional
            Such as the cell type; by default none.

        Returns
        -------
        self : MethodComparisonDisplay
        """
        self.ax_ = ax = quiet_axes(ax, 4.6, 4.4, grid=True)
        self.figure_ = ax.figure
        end = 1.06 * max(self.reference.max(initial=1), self.test.max(initial=1))
        grid = np.linspace(0, end, 200)
        if self.n_cells:
            limits = reference_limits(np.minimum(grid, 100), self.n_cells)
            ax.fill_between(
                grid,
                *limits.T,
                color=SOFT,
                alpha=0.13,
                lw=0,
                label=f"chance alone, {self.n_cells:g} cells",
            )
        ax.plot(grid, grid, color=SOFT, lw=1, ls="--", label="equal")
        if np.isfinite(self.line.slope):
            ax.plot(grid, self.line.predict(grid), color=VERMILION, lw=2, label=self._words())
            if len(self.line.draws):
                lines = self.line.draws[:, :1] * grid + self.line.draws[:, 1:]
                tail = (1 - self.line.confidence_level) / 2
                ends = np.quantile(lines, [tail, 1 - tail], axis=0)
                ax.fill_between(grid, *ends, color=VERMILION, alpha=0.2, lw=0)
        ax.plot(self.reference, self.test, "o", ms=5, mfc="none", mec=BLUE, mew=1.2, clip_on=False)
        ax.set_xlim(0, end)
        ax.set_ylim(0, end)
        ax.set_aspect("equal")
        label_axes(ax, "reference, %", "test, %", title)
        ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
        return self

    def _words(self) -> str:
        sign = "+" if self.line.intercept >= 0 else "−"
        return f"{self.line.method}: {self.line.slope:.2f} x {sign} {abs(self.line.intercept):.2f}"


@fill_doc(**DISPLAY_DOCS)
class BlandAltmanDisplay(Savable):
    """Draw the difference of two methods against their mean, with bias and limits of agreement.

    Parameters
    ----------
    reference, test : array-like of shape (n,)
        Results of the two methods, in percent.
    result : BlandAltman, optional
        Bias and limits; computed by default.

    Attributes
    ----------
    %(drawn)s

    Examples
    --------
    >>> display = BlandAltmanDisplay([1, 2, 4, 7], [1.5, 2, 5, 7]).plot(title="blast")
    >>> len(display.ax_.lines)
    5
    """

    def __init__(
        self,
        reference: ArrayLike,
        test: ArrayLike,
        result: BlandAltman | None = None,
    ) -> None:
        self.reference, self.test = paired(reference, test)
        self.result = bland_altman(self.reference, self.test) if result is None else result

    @any_script()
    def plot(self, ax: Any = None, *, title: str | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        title : str, optional
            Such as the cell type; by default none.

        Returns
        -------
        self : BlandAltmanDisplay
        """
        self.ax_ = ax = quiet_axes(ax, 4.9, 4.4, grid=True)
        self.figure_ = ax.figure
        mean, result = (self.reference + self.test) / 2, self.result
        ax.axhline(0, color=SOFT, lw=1, ls="--")
        lines = (
            (result.bias, (result.bias_low, result.bias_high), VERMILION, "bias"),
            (result.low, result.low_ends, VIOLET, "lower limit"),
            (result.high, result.high_ends, VIOLET, "upper limit"),
        )
        for value, ends, color, word in lines:
            if not np.isfinite(value):
                continue
            ax.axhspan(*ends, color=color, alpha=0.12, lw=0)
            ax.axhline(value, color=color, lw=1.8)
            ax.annotate(
                f"{word} {value:+.2f}",
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 2),
                textcoords="offset points",
                ha="right",
                va="bottom",
                color=color,
                fontsize=8,
            )
        ax.plot(mean, self.test - self.reference, "o", ms=5, mfc="none", mec=BLUE, mew=1.2)
        label_axes(ax, "mean of the two, %", "test less reference, points", title)
        return self
