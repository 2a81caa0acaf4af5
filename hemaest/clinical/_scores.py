"""Scores that know which confusions matter: stages, lineages, costs, real prevalence.

All of :data:`METRICS` are functions of true and predicted labels, so that
``compare(..., metrics=hemaest.clinical.METRICS)`` adds them to its table and its page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hemaest.clinical._shares import wilson
from hemaest.clinical._taxonomy import CellTaxonomy

Leniency = Literal["strict", "stage", "lineage"]


def lineage_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    allow: Leniency = "lineage",
    taxonomy: CellTaxonomy | None = None,
) -> float:
    """Return the share of cells that are named well enough.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        Labels in the words of the taxonomy, or its synonyms.
    allow : {"strict", "stage", "lineage"}, default="lineage"
        What counts as right: the type or a wider one; also a neighboring stage of maturation; also
        any type of the same lineage.
    taxonomy : CellTaxonomy, optional
        By default :meth:`CellTaxonomy.blood`.

    Returns
    -------
    accuracy : float

    Examples
    --------
    >>> true = ["myelocyte", "myelocyte", "myelocyte", "myelocyte"]
    >>> named = ["myelocyte", "metamyelocyte", "eosinophil", "lymphocyte"]
    >>> [lineage_accuracy(true, named, allow=a) for a in ("strict", "stage", "lineage")]
    [0.25, 0.5, 0.75]
    """
    if allow not in ("strict", "stage", "lineage"):
        raise ValueError(f"allow={allow!r} must be 'strict', 'stage' or 'lineage'.")
    tree = CellTaxonomy.blood() if taxonomy is None else taxonomy

    def enough(true: Any, named: Any) -> float:
        if _unnamed(named):
            return 0.0
        return float(
            tree.is_a(true, named)
            or (allow != "strict" and tree.one_stage_apart(true, named))
            or (allow == "lineage" and tree.lineage(true) == tree.lineage(named))
        )

    return _mean_over_pairs(y_true, y_pred, enough)


def mean_cost(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    costs: pd.DataFrame | None = None,
    rejection: float = 0.3,
    taxonomy: CellTaxonomy | None = None,
) -> float:
    """Return the mean cost of the confusions; lower is better.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        Labels in the words of the taxonomy, or its synonyms.
    costs : DataFrame, optional
        Cost of calling the type of a row what the column says. By default
        :meth:`CellTaxonomy.cost_matrix`, in which a missed blast costs ten and two stages of
        neutrophils confused a quarter.
    rejection : float, default=0.3
        Cost of "unidentified": a person has to look.
    taxonomy : CellTaxonomy, optional
        By default :meth:`CellTaxonomy.blood`.

    Returns
    -------
    cost : float

    Examples
    --------
    >>> mean_cost(["blast", "band neutrophil"], ["lymphocyte", "segmented neutrophil"])
    5.125
    """
    tree = CellTaxonomy.blood() if taxonomy is None else taxonomy

    def cost(true: Any, named: Any) -> float:
        if _unnamed(named):
            return rejection
        if costs is None:
            return tree.cost(true, named)
        if true not in costs.index or named not in costs.columns:
            raise ValueError(f"costs has no entry for {true!r} called {named!r}.")
        return float(costs.loc[true, named])

    return _mean_over_pairs(y_true, y_pred, cost)


def usual_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, *, taxonomy: CellTaxonomy | None = None
) -> float:
    """Return the accuracy on cells as frequent as in healthy blood, whatever the test set holds.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        Labels in the words of the taxonomy, or its synonyms.
    taxonomy : CellTaxonomy, optional
        By default :meth:`CellTaxonomy.blood`; marrow has other shares.

    Returns
    -------
    accuracy : float
        Sensitivities of the types in `y_true`, weighed by their usual share of counted cells; NaN
        where none of them is usual.

    Examples
    --------
    >>> true = ["segmented neutrophil"] * 2 + ["basophil"] * 2
    >>> named = ["segmented neutrophil", "segmented neutrophil", "basophil", "monocyte"]
    >>> round(usual_accuracy(true, named), 3)
    0.996
    """
    table = per_type(y_true, y_pred, taxonomy=taxonomy)
    weight = table["usual_percent"].to_numpy()
    if not weight.sum() > 0:
        return float("nan")
    return float((weight * table["sensitivity"]).sum() / weight.sum())


def per_type(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    percent: Mapping[Any, float] | None = None,
    taxonomy: CellTaxonomy | None = None,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Return sensitivity of each type, and what its name is worth at real prevalence.

    In a test set of as many basophils as neutrophils a cell that is called a basophil is one; in
    blood, where one in 200 is, most so called may be neutrophils.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        Labels in the words of the taxonomy, or its synonyms.
    percent : mapping of label to float, optional
        Prevalence of each type; by default the usual percentages of the taxonomy.
    taxonomy : CellTaxonomy, optional
        By default :meth:`CellTaxonomy.blood`.
    confidence_level : float, default=0.95
        Level of the intervals (Wilson).

    Returns
    -------
    table : DataFrame
        For each type of `y_true`: cells, sensitivity with interval, usual percent, `precision` in
        the test set, and `usual_precision`: the share of cells so named that are such, at that
        prevalence (NaN where the type is never named).

    Examples
    --------
    >>> true = ["segmented neutrophil"] * 100 + ["basophil"] * 100
    >>> named = ["basophil"] * 2 + ["segmented neutrophil"] * 98 + ["basophil"] * 100
    >>> per_type(true, named).set_index("type")[["precision", "usual_precision"]].round(2).loc[
    ...     "basophil"].tolist()
    [0.98, 0.3]
    """
    tree = CellTaxonomy.blood() if taxonomy is None else taxonomy
    true, named = _checked(y_true, y_pred)
    types, rows = np.unique(true, return_inverse=True)
    usual = tree.usual(types.tolist()) if percent is None else pd.Series(percent).reindex(types)
    if usual.isna().any():
        raise ValueError(f"percent has no number for {usual[usual.isna()].index.tolist()}.")
    called = np.array([[_called(n, t, tree) for n in named] for t in types])
    sizes = np.bincount(rows)
    # share of each true type (column) that is called each type (row)
    rate = np.array([np.bincount(rows, weights=c, minlength=len(types)) for c in called]) / sizes
    share = usual.to_numpy(dtype=float) / 100
    found = rate * share
    with np.errstate(invalid="ignore"):
        worth = np.diag(found) / found.sum(1)
        precision = np.diag(rate * sizes) / (rate * sizes).sum(1)
    table = pd.DataFrame({"type": types, "cells": sizes, "sensitivity": np.diag(rate)})
    right = np.rint(np.diag(rate) * sizes).astype(int)
    ends = [
        wilson(int(r), int(n), confidence_level=confidence_level)[1:]
        for r, n in zip(right, sizes, strict=True)
    ]
    table[["sensitivity_low", "sensitivity_high"]] = ends
    table["usual_percent"] = usual.to_numpy(dtype=float)
    table["precision"], table["usual_precision"] = precision, worth
    return table


def _called(named: Any, kind: Any, tree: CellTaxonomy) -> float:
    return float(named == kind or (not _unnamed(named) and tree.is_a(named, kind)))


def _unnamed(named: Any) -> bool:
    return named == "unidentified"


def _checked(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    true, named = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != named.shape or not len(true):
        raise ValueError(
            f"y_true has shape {true.shape} and y_pred {named.shape}: give one label of each for "
            "at least one cell."
        )
    return true, named


def _mean_over_pairs(
    y_true: ArrayLike, y_pred: ArrayLike, value: Callable[[Any, Any], float]
) -> float:
    """Return the mean of a value of each pair; each different pair is looked up once."""
    true, named = _checked(y_true, y_pred)
    pairs = pd.DataFrame({"true": true, "named": named}).value_counts()
    values = np.array([value(a, b) for a, b in pairs.index])
    return float((values * pairs.to_numpy()).sum() / pairs.sum())


def one_stage_accuracy(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the share of cells that are named rightly or one stage off.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        Labels in the words of the blood taxonomy, or its synonyms.

    Returns
    -------
    accuracy : float

    Examples
    --------
    >>> one_stage_accuracy(["band neutrophil", "monocyte"], ["segmented neutrophil", "basophil"])
    0.5
    """
    return lineage_accuracy(y_true, y_pred, allow="stage")


#: For ``compare(..., metrics=METRICS)``.
METRICS: dict[str, Callable[[Any, Any], float]] = {
    "one_stage_accuracy": one_stage_accuracy,
    "lineage_accuracy": lineage_accuracy,
    "mean_cost": mean_cost,
    "usual_accuracy": usual_accuracy,
}
