"""Residuals, 1 - the probability of the true type: for which types, stains, groups and sizes.

The comparison and its page use this. Stain and cell size are measured here where they are not
given; both are measured without knowing the type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from hemaest._color import density_over_plasma
from hemaest._geometry import scale_to
from hemaest._parallel import map_images
from hemaest.images import cell_map, rgb
from hemaest.segmentation import CellSegmenter

TYPE = "type"
STRENGTH, TINT, SIZE = "stain_strength", "stain_tint", "cell_size"
# a group of fewer images says little
GROUP_IMAGES = 5
# a numeric factor of more values than this is shown by quarters
FEW = 8
# enough for quarters of a set, and a few seconds' work
SAMPLE = 240
# the area of a cell does not need more pixels
SIDE = 112
STAINED = 0.12


def residuals(comparison: Any, recipe: str) -> pd.DataFrame:
    """Return one row for each tested image: its residual, averaged over repeats.

    Where a recipe gives no probabilities, a right prediction is 0 and a wrong one 1.
    """
    own = comparison.out_of_fold[recipe]
    true = comparison.true[own.index]
    if own.probability is None:
        values = (own.predicted != true).astype(float)
    else:
        values = 1 - own.probability[np.arange(len(true)), true]
    tested = comparison.tested
    place = np.searchsorted(tested, own.index)
    mean = np.bincount(place, values) / np.bincount(place)
    return pd.DataFrame(
        {
            "image": tested,
            TYPE: comparison.classes[comparison.true[tested]].astype(str),
            "residual": mean,
        }
    )


def factors(comparison: Any) -> pd.DataFrame:
    """Return what is known or measured of each tested image, one column a factor."""
    tested = comparison.tested
    given = comparison.design.covariates
    table = pd.DataFrame(index=range(len(comparison.true))) if given is None else given.copy()
    missing = [] if "stain" in table else [STRENGTH, TINT]
    missing += [SIZE] if SIZE not in table else []
    if missing and comparison.images is not None:
        found = measured(comparison.images, tested)
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
        Holds the predictions.
    recipe : str
        Whose residuals.
    values : Series
        The level of each tested image.
    ordered : bool
        Whether the levels have an order of their own; otherwise the hardest comes first.
    """
    table = residuals(comparison, recipe)
    draws = comparison.draws
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
            low, high = _of_images(found, comparison.design.confidence_level)
        rows.append((name, len(found), float(found.mean()), low, high))
    result = pd.DataFrame(rows, columns=["level", "images", "residual", "low", "high"])
    if ordered:
        start = result["level"].str.split(" ").str[0].astype(float)
        return result.iloc[np.argsort(start, kind="stable")].reset_index(drop=True)
    return result.sort_values("residual", ascending=False, kind="stable").reset_index(drop=True)


def _of_images(values: NDArray[np.floating], confidence_level: float) -> tuple[float, float]:
    """Return the interval of a mean within one group, where there are no groups to draw."""
    if len(values) < 2:
        return float("nan"), float("nan")
    quantile = stats.t.ppf(0.5 + confidence_level / 2, len(values) - 1)
    half = quantile * values.std(ddof=1) / len(values) ** 0.5
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))


def summary(comparison: Any, recipe: str) -> dict[str, pd.DataFrame]:
    """Return a table of levels for each factor that varies: type, stain, size, group."""
    known = {TYPE: residuals(comparison, recipe)[TYPE], **comparison.factors}
    tables = {}
    for name, values in known.items():
        numeric = pd.api.types.is_numeric_dtype(values) and values.nunique() > FEW
        table = by_level(comparison, recipe, levels(values), ordered=numeric)
        if len(table) > 1:
            tables[str(name)] = table
    if comparison.design.group_names is not None:
        own = pd.Series(comparison.design.group_names[comparison.tested], dtype=object)
        large = own.where(own.map(own.value_counts()) >= GROUP_IMAGES)
        table = by_level(comparison, recipe, large, ordered=False)
        if len(table) > 1:
            tables[comparison.design.unit_name] = table
    return tables


def in_words(name: str, table: pd.DataFrame) -> str:
    """Say which level is the hardest, and whether that is sure."""
    ranked = table.sort_values("residual", ascending=False, kind="stable")
    top, bottom = ranked.iloc[0], ranked.iloc[-1]
    pair = f"{top['level']} ({top['residual']:.2f}) against {bottom['level']}"
    pair = f"{pair} ({bottom['residual']:.2f})"
    factor = name.replace("_", " ")
    if top["low"] > bottom["high"] + 1e-9:
        return f"By {factor}: clearly harder is {pair}."
    return f"By {factor}: no level is clearly harder than another ({pair})."


def measured(X: NDArray[Any], rows: NDArray[np.intp], *, n_jobs: int | None = 2) -> pd.DataFrame:
    """Return stain and cell size, a row for each image of X; NaN for those not measured.

    Parameters
    ----------
    X : array
        Checked images.
    rows : int array
        Which to measure; evenly spaced ones of them, where they are many.
    n_jobs : int, optional
        Threads.
    """
    at = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int))
    chosen = rows[at]
    table = pd.DataFrame(np.nan, index=range(len(X)), columns=[STRENGTH, TINT, SIZE])
    table.iloc[chosen] = map_images(_measures, X[chosen], n_jobs=n_jobs)
    return table


def stain(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return how much light the stained pixels absorb, and which share of that is red light.

    A bluer stain absorbs more of the red.

    Examples
    --------
    >>> image = np.full((20, 20, 3), 240, np.uint8)
    >>> image[5:15, 5:15] = [120, 60, 160]
    >>> [round(value, 2) for value in stain(image)]
    [0.82, 0.28]
    """
    density = density_over_plasma(image).clip(min=0)
    stained = density.mean(axis=2) > STAINED
    if not stained.any():
        return float("nan"), float("nan")
    red, green, blue = density[stained].mean(axis=0).tolist()
    total = red + green + blue
    return total / 3, red / total


def cell_size(image: NDArray[np.uint8]) -> float:
    """Return the cell's area in pixels of the image; NaN where none is found."""
    labels, scale = cell_map(image), 1.0
    if labels is None:
        height, width = image.shape[:2]
        scale = min(1.0, SIDE / max(height, width))
        small = scale_to(rgb(image), max(2, round(height * scale)), max(2, round(width * scale)))
        segmenter = CellSegmenter(method="voters")
        labels = cell_map(segmenter.fit_transform(small[None])[0])
    area = 0 if labels is None else int((labels > 0).sum())
    return area / scale**2 if area else float("nan")


def _measures(image: NDArray[np.uint8]) -> tuple[float, float, float]:
    try:
        return (*stain(rgb(image)), cell_size(image))
    except ValueError:  # an image too small or too plain to be measured
        return (float("nan"),) * 3
