"""Residuals, 1 - the probability of the true type: for which types, stains, groups and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest.evaluation import _covariates as covariates

TYPE = "type"
# a group of fewer images says little
GROUP_IMAGES = 5
FEW = 8


def residuals(comparison: Any, recipe: str) -> pd.DataFrame:
    """Return one row for each tested image: its residual, averaged over repeats.

    Where a recipe gives no probabilities, a right answer is 0 and a wrong one 1.
    """
    index, predicted, probability = comparison._pooled[recipe]
    true = comparison.true_[index]
    if probability is None:
        values = (predicted != true).astype(float)
    else:
        values = 1 - probability[np.arange(len(true)), true]
    tested = comparison._tested
    place = np.searchsorted(tested, index)
    mean = np.bincount(place, values) / np.bincount(place)
    return pd.DataFrame(
        {
            "image": tested,
            TYPE: comparison.classes_[comparison.true_[tested]].astype(str),
            "residual": mean,
        }
    )


def factors(comparison: Any) -> pd.DataFrame:
    """Return what is known or measured of each tested image, one column a factor."""
    tested = comparison._tested
    given = comparison.design.covariates
    table = pd.DataFrame(index=range(len(comparison.true_))) if given is None else given.copy()
    missing = [] if "stain" in table else [covariates.STRENGTH, covariates.TINT]
    missing += [covariates.SIZE] if covariates.SIZE not in table else []
    if missing and comparison.images_ is not None:
        found = covariates.measured(comparison.images_, tested)
        table[missing] = found[missing]
    return table.iloc[tested].reset_index(drop=True)


def levels(values: pd.Series) -> pd.Series:
    """Return quarters of numbers, and words as they are; what is missing stays missing.

    Examples
    --------
    >>> levels(pd.Series(np.arange(100.0))).unique().tolist()
    ['0 to 24.8', '24.8 to 49.5', '49.5 to 74.2', '74.2 to 99']
    >>> levels(pd.Series(["lab 1", None, "lab 2"])).tolist()[:2]
    ['lab 1', nan]
    """
    known = values.dropna()
    if not pd.api.types.is_numeric_dtype(values) or known.nunique() <= FEW:
        return known.astype(str).astype(object).reindex(values.index)
    ends = np.unique(np.quantile(known, [0, 0.25, 0.5, 0.75, 1]))
    names = [f"{a:.3g} to {b:.3g}" for a, b in zip(ends[:-1], ends[1:], strict=True)]
    if ends[-1] >= 1000:
        names = [f"{a:.0f} to {b:.0f}" for a, b in zip(ends[:-1], ends[1:], strict=True)]
    place = np.clip(np.searchsorted(ends, known, side="right") - 1, 0, len(names) - 1)
    return pd.Series(np.array(names, object)[place], known.index).reindex(values.index)


def by_level(comparison: Any, recipe: str, values: pd.Series, *, ordered: bool) -> pd.DataFrame:
    """Return the mean residual of each level, with its interval over groups.

    Parameters
    ----------
    comparison : Comparison
        Where the predictions are.
    recipe : str
        Whose residuals.
    values : Series
        The level of each tested image.
    ordered : bool
        Whether the levels have an order of their own; otherwise the hardest comes first.
    """
    table = residuals(comparison, recipe)
    draws = comparison._draws
    rows = []
    names = list(dict.fromkeys(values.dropna()))
    for name in names:
        own = (values == name).to_numpy()
        found = table["residual"].to_numpy()[own]
        sums = np.bincount(draws.codes[own], found, minlength=draws.n_groups)
        counts = np.bincount(draws.codes[own], minlength=draws.n_groups).astype(float)
        drawn_counts = draws.weights @ counts
        drawn = np.divide(
            draws.weights @ sums,
            drawn_counts,
            out=np.full(len(drawn_counts), np.nan),
            where=drawn_counts > 0,
        )
        low, high = draws.interval(drawn)
        if np.count_nonzero(counts) < 2:
            low, high = _of_images(found, comparison.design.level)
        rows.append((name, len(found), float(found.mean()), low, high))
    result = pd.DataFrame(rows, columns=["level", "images", "residual", "low", "high"])
    if ordered:
        start = result["level"].str.split(" ").str[0].astype(float)
        return result.iloc[np.argsort(start, kind="stable")].reset_index(drop=True)
    return result.sort_values("residual", ascending=False, kind="stable").reset_index(drop=True)


def _of_images(values: NDArray[np.floating], level: float) -> tuple[float, float]:
    """Return the interval of a mean within one group, where there are no groups to draw."""
    from scipy import stats

    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))


def summary(comparison: Any, recipe: str) -> dict[str, pd.DataFrame]:
    """Return a table of levels for each factor that varies: type, stain, size, group."""
    known = {TYPE: residuals(comparison, recipe)[TYPE], **comparison.factors_}
    tables = {}
    for name, values in known.items():
        numeric = pd.api.types.is_numeric_dtype(values) and values.nunique() > FEW
        table = by_level(comparison, recipe, levels(values), ordered=numeric)
        if len(table) > 1:
            tables[str(name)] = table
    if comparison.design.group_names is not None:
        own = pd.Series(comparison.design.group_names[comparison._tested], dtype=object)
        large = own.where(own.map(own.value_counts()) >= GROUP_IMAGES)
        table = by_level(comparison, recipe, large, ordered=False)
        if len(table) > 1:
            tables[comparison.design.unit] = table
    return tables


def in_words(name: str, table: pd.DataFrame) -> str:
    """Say which level is the hardest, and whether that is sure."""
    ranked = table.sort_values("residual", ascending=False, kind="stable")
    top, bottom = ranked.iloc[0], ranked.iloc[-1]
    pair = f"{top['level']} ({top['residual']:.2f}) against {bottom['level']}"
    pair = f"{pair} ({bottom['residual']:.2f})"
    if top["low"] > bottom["high"] + 1e-9:
        return f"By {name}: clearly harder is {pair}."
    return f"By {name}: no level is clearly harder than another ({pair})."
