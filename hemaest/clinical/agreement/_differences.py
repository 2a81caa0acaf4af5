"""Limits of a reference count, differences of two methods, kappa, and flags at decision points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from hemaest._seeds import seed_of
from hemaest.clinical._shares import wilson
from hemaest.clinical.agreement._lines import paired

Array = NDArray[np.float64]
NAN = float("nan")


def reference_limits(
    percent: ArrayLike, n_cells: ArrayLike, *, confidence_level: float = 0.95
) -> Array:
    """Return between which percentages the truth lies when so many cells were counted.

    Ruemke's limits: the exact binomial interval (Clopper and Pearson) of a percentage of `n_cells`.
    A second count that falls within differs by no more than chance may make it.

    Parameters
    ----------
    percent : array-like
        Percentages, 0 to 100.
    n_cells : array-like
        Cells counted.
    confidence_level : float, default=0.95
        Level of the limits.

    Returns
    -------
    limits : array of shape (..., 2)
        Low and high, in percent.

    Examples
    --------
    >>> reference_limits(5, 100).round(1).tolist()
    [1.6, 11.3]
    >>> reference_limits([0, 10], 200).round(1).tolist()
    [[0.0, 1.8], [6.2, 15.0]]
    """
    share, n = np.broadcast_arrays(np.asarray(percent, float) / 100, np.asarray(n_cells, float))
    if (n <= 0).any() or ((share < 0) | (share > 1)).any():
        raise ValueError("percent must lie between 0 and 100, and n_cells above 0.")
    number, tail = share * n, (1 - confidence_level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(number > 0, stats.beta.ppf(tail, number, n - number + 1), 0.0)
        high = np.where(number < n, stats.beta.isf(tail, number + 1, n - number), 1.0)
    return 100 * np.stack([low, high], axis=-1)


@dataclass(frozen=True)
class BlandAltman:
    """Mean difference of two methods and the limits of agreement, with intervals.

    Examples
    --------
    >>> result = bland_altman([10, 12, 14, 16], [11, 12, 15, 18])
    >>> result.bias
    1.0
    """

    bias: float
    bias_low: float
    bias_high: float
    sd: float
    low: float
    low_ends: tuple[float, float]
    high: float
    high_ends: tuple[float, float]
    n: int


def bland_altman(
    reference: ArrayLike, test: ArrayLike, *, confidence_level: float = 0.95, spread: float = 0.95
) -> BlandAltman:
    """Return bias and limits of agreement of two methods (Bland and Altman 1986).

    Parameters
    ----------
    reference, test : array-like of shape (n,)
        Results of the two methods for the same samples; NaN leaves a sample out.
    confidence_level : float, default=0.95
        Level of the intervals.
    spread : float, default=0.95
        Share of the differences that the limits are to hold.

    Returns
    -------
    result : BlandAltman
        Differences are test less reference; NaN with fewer than two samples.

    Examples
    --------
    >>> result = bland_altman([1, 2, 3, 4], [1.5, 1.5, 3.5, 4.5])
    >>> round(result.low, 2), round(result.high, 2)
    (-0.73, 1.23)
    """
    x, y = paired(reference, test)
    n = len(x)
    if n < 2:
        return BlandAltman(NAN, NAN, NAN, NAN, NAN, (NAN, NAN), NAN, (NAN, NAN), n)
    difference = y - x
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    z, t = stats.norm.ppf(0.5 + spread / 2), stats.t.ppf(0.5 + confidence_level / 2, n - 1)
    of_mean = t * sd / np.sqrt(n)
    of_limit = t * sd * np.sqrt(1 / n + z**2 / (2 * (n - 1)))
    low, high = bias - z * sd, bias + z * sd
    return BlandAltman(
        bias,
        float(bias - of_mean),
        float(bias + of_mean),
        sd,
        float(low),
        (float(low - of_limit), float(low + of_limit)),
        float(high),
        (float(high - of_limit), float(high + of_limit)),
        n,
    )


def cohen_kappa(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    weights: str | None = None,
    groups: ArrayLike | None = None,
    confidence_level: float = 0.95,
    n_draws: int = 1999,
    random_state: Any = 0,
) -> tuple[float, float, float]:
    """Return Cohen's kappa of two raters of the same cells, with a bootstrap interval.

    Parameters
    ----------
    reference, test : array-like of shape (n,)
        What each called the cells.
    weights : {"linear", "quadratic"}, optional
        For ordered names: near ones count as nearly right.
    groups : array-like of shape (n,), optional
        Smears: drawn whole.
    confidence_level : float, default=0.95
        Level of the interval.
    n_draws : int, default=1999
        Number of bootstrap draws.
    random_state : int, RandomState instance or None, default=0
        Seed.

    Returns
    -------
    kappa, low, high : float
        NaN where both name one type only.

    Examples
    --------
    >>> kappa, low, high = cohen_kappa(list("aaaabbbb") * 5, list("aaabbbbb") * 5)
    >>> round(kappa, 2), low < kappa < high
    (0.75, True)
    """
    a, b = np.asarray(reference), np.asarray(test)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"reference has shape {a.shape}, test {b.shape}: one name of each a cell.")
    names, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    k = len(names)
    if k < 2:
        return NAN, NAN, NAN
    first, second = codes[: len(a)], codes[len(a) :]
    kappa = float(cohen_kappa_score(first, second, labels=range(k), weights=weights))
    at = np.unique(np.arange(len(a)) if groups is None else groups, return_inverse=True)[1]
    n_groups = int(at.max()) + 1
    if n_groups < 2:
        return kappa, NAN, NAN
    tables = np.bincount((at * k + first) * k + second, minlength=n_groups * k * k)
    rng = np.random.default_rng(seed_of(random_state))
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws)
    found = _kappas((drawn @ tables.reshape(n_groups, -1)).reshape(-1, k, k).astype(float), weights)
    low, high = np.nanquantile(found, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return kappa, float(low), float(high)


def _kappas(tables: Array, weights: str | None) -> Array:
    k = tables.shape[-1]
    apart = np.abs(np.arange(k)[:, None] - np.arange(k)[None]).astype(float)
    cost = {None: (apart > 0) * 1.0, "linear": apart, "quadratic": apart**2}[weights]
    share = tables / tables.sum((1, 2), keepdims=True)
    chance = share.sum(2)[:, :, None] * share.sum(1)[:, None, :]
    expected = (cost * chance).sum((1, 2))
    safe = np.where(expected > 0, expected, np.nan)
    return 1 - (cost * share).sum((1, 2)) / safe


def flags(
    reference: pd.DataFrame,
    test: pd.DataFrame,
    cuts: Mapping[str, float],
    *,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Return how well smears are flagged: sensitivity and specificity at decision points.

    Parameters
    ----------
    reference, test : DataFrame
        Percentages, one row a smear, one column a type.
    cuts : mapping of str to float
        Percentage of a type from which on a smear is flagged: ``{"blast": 1.0}``.
    confidence_level : float, default=0.95
        Level of the intervals (Wilson).

    Returns
    -------
    table : DataFrame
        For each type: cut, smears above and below it by the reference, sensitivity and
        specificity with intervals; NaN where no smear is above, or below.

    Examples
    --------
    >>> reference = pd.DataFrame({"blast": [0.0, 0.0, 3.0, 5.0]})
    >>> test = pd.DataFrame({"blast": [0.0, 2.0, 2.0, 4.0]})
    >>> flags(reference, test, {"blast": 1.0})[["sensitivity", "specificity"]].values.tolist()
    [[1.0, 0.5]]
    """
    rows = []
    for name, cut in cuts.items():
        for table in (reference, test):
            if name not in table:
                raise ValueError(f"there is no column {name!r} among {list(table.columns)}.")
        x, y = paired(reference[name], test[name])
        ill, found = x >= cut, y >= cut
        row: dict[str, Any] = {"type": name, "cut": cut, "above": ill.sum(), "below": (~ill).sum()}
        for word, right, of in (
            ("sensitivity", ill & found, ill),
            ("specificity", ~ill & ~found, ~ill),
        ):
            share = wilson(int(right.sum()), int(of.sum()), confidence_level=confidence_level)
            row |= dict(zip((word, f"{word}_low", f"{word}_high"), share, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)
