"""The risk-coverage curve: what rejecting unsure cells buys."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hemaest._docs import fill_doc
from hemaest.clinical._rejecting import UNIDENTIFIED, RejectingClassifier
from hemaest.inspection.drawing import (
    BLUE,
    DISPLAY_DOCS,
    INK,
    SOFT,
    VERMILION,
    Savable,
    any_script,
    label_axes,
    quiet_axes,
)

Array = NDArray[np.float64]


@fill_doc(**DISPLAY_DOCS)
class RiskCoverageDisplay(Savable):
    """Draw the share of wrong answers against the share of cells that are answered.

    Parameters
    ----------
    coverage, risk : float array
        The curve, from the surest cell to all.
    stated : float, optional
        The risk that was promised.
    chosen : (float, float), optional
        Coverage and risk at the chosen threshold, wider answers among them.

    Attributes
    ----------
    aurc_ : float
        Area under the curve: mean risk over all coverages (0 is perfect).
    %(drawn)s

    Examples
    --------
    >>> right, confidence = [True, True, False, True], [0.9, 0.8, 0.7, 0.6]
    >>> display = RiskCoverageDisplay.from_predictions(right, confidence)
    >>> display.risk.round(2).tolist(), round(display.aurc_, 3)
    ([0.0, 0.0, 0.33, 0.25], 0.146)
    """

    def __init__(
        self,
        coverage: Array,
        risk: Array,
        stated: float | None = None,
        chosen: tuple[float, float] | None = None,
    ) -> None:
        self.coverage, self.risk = np.asarray(coverage, float), np.asarray(risk, float)
        self.stated, self.chosen = stated, chosen
        self.aurc_ = float(self.risk.mean()) if len(self.risk) else float("nan")

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_predictions(
        cls,
        right: Any,
        confidence: Any,
        *,
        stated: float | None = None,
        ax: Any = None,
        title: str | None = None,
    ) -> Self:
        """Draw the curve of some answers and how sure they were.

        Parameters
        ----------
        right : bool array-like of shape (n_samples,)
            Whether each answer is right.
        confidence : array-like of shape (n_samples,)
            How sure it was; cells that are equally sure are averaged.
        stated : float, optional
            The risk that was promised.
        %(ax)s
        %(title)s

        Returns
        -------
        display : RiskCoverageDisplay
        """
        return cls(*risk_coverage(right, confidence), stated).plot(ax, title=title)

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_estimator(
        cls,
        estimator: RejectingClassifier,
        X: Any,
        y: Any,
        *,
        ax: Any = None,
        title: str | None = None,
    ) -> Self:
        """Draw the curve of a fitted RejectingClassifier on cells of new patients.

        Parameters
        ----------
        estimator : RejectingClassifier
            Fitted.
        X : images, or table of features
            Cells.
        y : array-like of shape (n_samples,)
            Their labels.
        %(ax)s
        %(title)s

        Returns
        -------
        display : RiskCoverageDisplay
        """
        y, probability = np.asarray(y), estimator.predict_proba(X)
        likely = estimator.classes_[probability.argmax(1)]
        answers = estimator.predict(X)
        given = answers != UNIDENTIFIED
        right = np.array(
            [a == t or t in estimator.wider_.get(a, ()) for a, t in zip(answers, y, strict=True)]
        )
        chosen = None
        if given.any():
            chosen = float(given.mean()), float((~right[given]).mean())
        curve = risk_coverage(likely == y, probability.max(1))
        return cls(*curve, estimator.risk, chosen).plot(ax, title=title)

    @any_script()
    def plot(self, ax: Any = None, *, title: str | None = None) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure.
        title : str, optional
            By default none.

        Returns
        -------
        self : RiskCoverageDisplay
        """
        self.ax_ = ax = quiet_axes(ax, grid=True)
        self.figure_ = ax.figure
        ax.plot(
            100 * self.coverage,
            100 * self.risk,
            color=BLUE,
            lw=2,
            label=f"classes alone, AURC {self.aurc_:.4f}",
        )
        if self.stated is not None:
            ax.axhline(100 * self.stated, color=SOFT, ls="--", lw=1.2, label="stated risk")
        if self.chosen is not None:
            ax.plot(
                100 * self.chosen[0],
                100 * self.chosen[1],
                "D",
                color=VERMILION,
                ms=8,
                label="with wider types, at the threshold",
            )
        ax.set_xlim(0, 100)
        ax.set_ylim(bottom=0)
        label_axes(ax, "cells answered, %", "wrong among them, %", title)
        ax.legend(frameon=False, labelcolor=INK, fontsize=9)
        return self


def risk_coverage(right: Any, confidence: Any) -> tuple[Array, Array]:
    """Return the share of cells that are answered, the surest first, and the risk among them.

    Examples
    --------
    >>> coverage, risk = risk_coverage([True, False], [0.9, 0.6])
    >>> coverage.tolist(), risk.tolist()
    ([0.5, 1.0], [0.0, 0.5])
    """
    wrong, sure = ~np.asarray(right, dtype=bool), np.asarray(confidence, dtype=float)
    if wrong.shape != sure.shape or wrong.ndim != 1:
        raise ValueError(f"right has shape {wrong.shape}, confidence {sure.shape}.")
    # among equals the order is chance: each has their mean
    values, at, counts = np.unique(-sure, return_inverse=True, return_counts=True)
    mean = np.bincount(at, wrong, len(values)) / counts
    ordered = np.repeat(mean, counts)
    n = np.arange(1, len(wrong) + 1)
    return n / max(len(wrong), 1), ordered.cumsum() / n
