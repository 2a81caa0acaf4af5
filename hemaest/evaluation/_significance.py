"""Tests of two recipes on the same folds, and what they say in a sentence.

:func:`paired_group_test` is what ``compare`` uses: it sees every out-of-fold prediction and the
patients. :func:`corrected_ttest` needs only the scores of the folds, and has little power where
they are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
NO_DIFFERENCE = "no clear difference"
# weight of the expectation that folds differ as much as their groups explain
PRIOR_DF = 4.0


class TTest(NamedTuple):
    """Result of :func:`corrected_ttest`."""

    statistic: float
    pvalue: float
    difference: float
    low: float
    high: float


def corrected_ttest(
    scores_a: Sequence[float],
    scores_b: Sequence[float],
    *,
    n_train: float,
    n_test: float,
    confidence_level: float = 0.95,
) -> TTest:
    """Compare two recipes on the same folds with the corrected resampled t-test.

    Folds share most of their training images, so their scores are not independent, and the plain
    t-test calls far too many equal recipes different. Nadeau and Bengio (2003) widen the variance
    by ``n_test / n_train``.

    Parameters
    ----------
    scores_a, scores_b : sequence of float
        Scores of the two recipes, fold by fold, on the same folds in the same order.
    n_train, n_test : float
        Mean number of training and test images of a fold.
    confidence_level : float, default=0.95
        Of the interval of the difference.

    Returns
    -------
    TTest
        Named tuple: statistic, pvalue, difference (a - b), low, high.

    Examples
    --------
    >>> a, b = [0.91, 0.93, 0.92, 0.95, 0.90], [0.88, 0.92, 0.90, 0.91, 0.89]
    >>> test = corrected_ttest(a, b, n_train=80, n_test=20)
    >>> round(test.difference, 3), round(test.pvalue, 3)
    (0.022, 0.066)
    """
    a, b = np.asarray(scores_a, dtype=float), np.asarray(scores_b, dtype=float)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"scores_a has shape {a.shape} and scores_b has {b.shape}. The test is paired: both "
            "recipes must be scored on the same folds, in the same order. Scores from different "
            "splits cannot be compared; run hemaest.evaluation.compare on both."
        )
    if len(a) < 2:
        raise ValueError(f"{len(a)} fold(s): a test needs at least 2. Use more folds or repeats.")
    if not (n_train > 0 and n_test > 0):
        raise ValueError(f"n_train={n_train!r} and n_test={n_test!r} must both be above 0.")
    d = a - b
    keep = ~np.isnan(d)
    d = d[keep]
    if len(d) < 2:
        return TTest(*[float("nan")] * 5)
    mean = float(d.mean())
    error = float(np.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1)))
    half = float(stats.t.ppf(0.5 + confidence_level / 2, len(d) - 1)) * error
    if error <= 1e-12 * max(1.0, abs(mean)):
        same = abs(mean) <= 1e-12
        return TTest(0.0 if same else np.copysign(np.inf, mean), float(same), mean, mean, mean)
    t = mean / error
    return TTest(t, float(2 * stats.t.sf(abs(t), len(d) - 1)), mean, mean - half, mean + half)


class PairedTest(NamedTuple):
    """Result of :func:`paired_group_test`."""

    statistic: float
    pvalue: float
    difference: float
    low: float
    high: float
    df: float


def paired_group_test(
    difference: ArrayLike,
    y_true: ArrayLike,
    groups: ArrayLike,
    folds: ArrayLike | None = None,
    *,
    confidence_level: float = 0.95,
) -> PairedTest:
    """Test whether two recipes differ in balanced accuracy, from their out-of-fold predictions.

    The variance of the difference is the sum of two parts, each by the jackknife. The variance over
    groups says how much other patients would change it. The variance over folds says how much other
    training sets would change it; it contains the patients of the fold once more, which makes up
    for training sets that overlap. A variance over few folds is hardly known, so it is moderated:
    averaged with the variance over groups, which counts as four degrees of freedom. The sum is
    compared with a t distribution, with Satterthwaite's degrees of freedom from the number of folds
    and the effective number of groups in which the recipes differ.

    Simulated with patient effects, unbalanced groups, near-ties and training variance, it keeps its
    level where the paired t-test over folds does not, and it has power with three folds, where
    :func:`corrected_ttest` has little (see the benchmark "comparison").

    Parameters
    ----------
    difference : array-like of shape (n_samples,)
        1 for an image that only the first recipe classifies correctly, -1 for one that only the
        second does, 0 otherwise; means over repeats lie between.
    y_true : array-like of shape (n_samples,)
        Labels. Each class has the same weight, as in balanced accuracy.
    groups : array-like of shape (n_samples,)
        Patient or smear of each image.
    folds : array-like of shape (n_samples,) or (n_samples, n_repeats), optional
        Fold in which each image was tested. Without it, or with a single fold, the result holds for
        two fitted models and does not cover another training.
    confidence_level : float, default=0.95
        Of the interval of the difference.

    Returns
    -------
    PairedTest
        Named tuple: statistic, pvalue, difference, low, high, df. All but the difference are NaN
        with a single group.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.evaluation import paired_group_test
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(120) % 3
    >>> patients = np.arange(120) // 10
    >>> first, second = rng.random(120) < 0.95, rng.random(120) < 0.7
    >>> test = paired_group_test(
    ...     first.astype(int) - second, y, patients, folds=patients % 3
    ... )
    >>> round(test.difference, 3), test.low > 0, test.pvalue < 0.05
    (0.267, True, True)
    """
    d = np.asarray(difference, dtype=float)
    classes, codes = np.unique(np.asarray(y_true), return_inverse=True)
    members = np.unique(np.asarray(groups), return_inverse=True)[1]
    if d.ndim != 1 or codes.shape != d.shape or members.shape != d.shape:
        raise ValueError(
            f"difference has shape {d.shape}, y_true {codes.shape} and groups {members.shape}; "
            "each must have one entry for each image."
        )
    n_groups = int(members.max(initial=-1)) + 1
    total = float(_balanced(*_sums(d, codes, np.zeros(len(d), int)))[0])
    if n_groups < 2:
        nan = float("nan")
        return PairedTest(nan, nan, total, nan, nan, nan)
    over_groups, df_groups = _over_groups(d, codes, members, total)
    over_folds, df_folds = _over_folds(d, codes, folds, total)
    if df_folds:
        # a variance over three folds is hardly known: until shown otherwise, folds vary as their
        # groups do
        over_folds = (PRIOR_DF * over_groups + df_folds * over_folds) / (PRIOR_DF + df_folds)
        df_folds += PRIOR_DF
    variance = over_groups + over_folds
    if variance <= 1e-24:  # the recipes never differ
        return PairedTest(0.0, 1.0, total, total, total, df_groups)
    df = variance**2 / (over_groups**2 / df_groups + over_folds**2 / max(df_folds, 1.0))
    error = variance**0.5
    half = float(stats.t.ppf(0.5 + confidence_level / 2, df)) * error
    t = total / error
    return PairedTest(
        t, float(2 * stats.t.sf(abs(t), df)), total, total - half, total + half, float(df)
    )


def _sums(d: Array, codes: NDArray[np.intp], members: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the sum of the differences and the number of images, by group and class."""
    shape = int(members.max()) + 1, int(codes.max()) + 1
    flat = members * shape[1] + codes
    size = shape[0] * shape[1]
    sums, counts = np.bincount(flat, d, size), np.bincount(flat, minlength=size)
    return sums.reshape(shape).astype(float), counts.reshape(shape).astype(float)


def _balanced(sums: Array, counts: Array) -> Array:
    """Return the mean over the classes that are there of the mean difference in each."""
    there = counts > 0
    mean = np.divide(sums, counts, out=np.zeros_like(sums), where=there)
    return mean.sum(-1) / np.maximum(there.sum(-1), 1)


def _jackknife(sums: Array, counts: Array, total: float) -> float:
    """Return the variance of the difference from leaving out each row once."""
    left_out = _balanced(sums.sum(0) - sums, counts.sum(0) - counts) - total
    return (len(sums) - 1) / len(sums) * float((left_out**2).sum())


def _over_groups(
    d: Array, codes: NDArray[np.intp], members: NDArray[np.intp], total: float
) -> tuple[float, float]:
    """Return the variance over groups, and its degrees of freedom."""
    sums, counts = _sums(d, codes, members)
    n = len(sums)
    # as if there were one more group, without a difference: few groups that agree are no proof
    variance = _jackknife(sums, counts, total) + (total / n) ** 2 * n / (n - 1)
    share = counts / counts.sum(0)
    each = np.divide(sums, counts.sum(0)).sum(1)
    # large groups, and groups in which the recipes do not differ, leave fewer to rely on
    effective = min(_effective_number(share.sum(1)), _effective_number(np.abs(each)))
    return variance, float(np.clip(effective, 1, n - 1))


def _effective_number(sizes: Array) -> float:
    """Return how many items of equal size vary as much as these.

    Examples
    --------
    >>> round(_effective_number(np.array([1.0, 1, 1, 0])), 3)
    3.0
    """
    return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1e-300))


def _over_folds(
    d: Array, codes: NDArray[np.intp], folds: ArrayLike | None, total: float
) -> tuple[float, float]:
    """Return the mean over repeats of the variance over folds, and its degrees of freedom."""
    if folds is None:
        return 0.0, 0.0
    variances, df = [], 0
    for column in np.asarray(folds).reshape(len(d), -1).T:
        sums, counts = _sums(d, codes, np.unique(column, return_inverse=True)[1])
        if len(sums) > 1:
            variances.append(_jackknife(sums, counts, total))
            df += len(sums) - 1
    return (float(np.mean(variances)), float(df)) if variances else (0.0, 0.0)


def pairwise_tests(
    right: Mapping[str, Array],
    y_true: NDArray[Any],
    groups: NDArray[Any],
    folds: NDArray[Any] | None,
    *,
    confidence_level: float,
) -> pd.DataFrame:
    """Test all pairs of recipes, the first named before the second, and say what was found.

    Parameters
    ----------
    right : mapping of str to float array of shape (n_samples,)
        Recipe -> share of the repeats in which each image was predicted correctly.
    y_true, groups, folds, confidence_level
        As :func:`paired_group_test` takes them.

    Returns
    -------
    table : DataFrame
        recipe, against, difference, low, high, p_value, p_holm, verdict, explanation.
    """
    rows = []
    for a, b in combinations(right, 2):
        difference = right[a] - right[b]
        test = paired_group_test(
            difference, y_true, groups, folds, confidence_level=confidence_level
        )
        rows.append((a, b, test.difference, test.low, test.high, test.pvalue))
    names = ["recipe", "against", "difference", "low", "high", "p_value"]
    table = pd.DataFrame(rows, columns=names)
    table["p_holm"] = holm(table["p_value"].to_numpy(dtype=float))
    pairs = list(table.itertuples(index=False))
    table["verdict"] = [
        f"{row.recipe if row.difference > 0 else row.against} is better"
        if row.p_holm < 1 - confidence_level
        else NO_DIFFERENCE
        for row in pairs
    ]
    one_split = folds is None
    table["explanation"] = [
        verdict_sentence(row, len(pairs), confidence_level=confidence_level, one_split=one_split)
        for row in pairs
    ]
    return table


def holm(pvalues: Sequence[float] | Array) -> Array:
    """Correct p-values of several tests after Holm; NaN stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    >>> holm([0.9, np.nan, 0.6]).tolist(), holm([]).tolist()
    ([1.0, nan, 1.0], [])
    """
    p = np.asarray(pvalues, dtype=float)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(stepped), 1) if len(order) else stepped
    return out


def verdict_sentence(row: Any, n_pairs: int, *, confidence_level: float, one_split: bool) -> str:
    """Say in one sentence which of two recipes is better, how sure that is, and why.

    Parameters
    ----------
    row : named tuple
        With recipe, against, difference, low, high, p_holm.
    n_pairs : int
        Number of pairs that were tested together.
    confidence_level : float
        Of the interval.
    one_split : bool
        Whether the recipes were fitted once only.
    """
    above = "above" if row.difference >= 0 else "below"
    text = f"{row.recipe} is {abs(row.difference):.3f} {above} {row.against}"
    if row.low != row.low:
        return f"{text}; with a single tested group there is no interval."
    text += f" ({round(100 * confidence_level)}% interval {row.low:.3f} to {row.high:.3f}): "
    if row.p_holm < 1 - confidence_level:
        p = "below 0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
        text += f"more than other patients{'' if one_split else ' or other training sets'}"
        text += f" would explain by chance (p {p}"
        text += f", corrected for {n_pairs} pairs)" if n_pairs > 1 else ")"
    elif row.low > 0 or row.high < 0:
        text += f"the interval excludes 0, but not after correction for {n_pairs} pairs"
        text += f" (p {row.p_holm:.3f})"
    else:
        text += "the interval includes 0, so these data do not show which of the two is better"
    return text + ("; this holds for these two fitted models." if one_split else ".")
