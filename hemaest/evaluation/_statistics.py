"""Intervals and tests that know about groups and about overlapping training sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hemaest._seeds import seed_of

Array = NDArray[np.float64]


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
    level: float = 0.95,
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
    level : float, default=0.95
        Confidence level of the interval of the difference.

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
    half = float(stats.t.ppf(0.5 + level / 2, len(d) - 1)) * error
    if error <= 1e-12 * max(1.0, abs(mean)):
        same = abs(mean) <= 1e-12
        return TTest(0.0 if same else np.copysign(np.inf, mean), float(same), mean, mean, mean)
    t = mean / error
    return TTest(t, float(2 * stats.t.sf(abs(t), len(d) - 1)), mean, mean - half, mean + half)


def holm(pvalues: Sequence[float] | Array) -> Array:
    """Correct p-values of several tests after Holm; NaN stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(pvalues, dtype=float)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    stepped = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(stepped), 1) if len(order) else stepped
    return out


class GroupedBootstrap:
    """Draws of groups with replacement, and intervals of what is computed from them.

    The same draws serve every recipe, so differences are paired. Percentiles are widened for few
    groups (Hesterberg's expanded percentile interval), since plain ones are too narrow then.

    Parameters
    ----------
    codes : int array of shape (n_samples,)
        The group of each image, 0 to n_groups - 1.
    n_draws : int
        Number of bootstrap samples.
    level : float
        Confidence level.
    random_state : int or None
        Seed.
    """

    def __init__(
        self,
        codes: NDArray[np.intp],
        n_draws: int = 2000,
        level: float = 0.95,
        random_state: Any = None,
    ):
        self.codes, self.level = codes, level
        self.n_groups = int(codes.max()) + 1
        rng = np.random.default_rng(seed_of(random_state))
        # many groups need fewer draws for the same interval, and their weights would fill memory
        n_draws = int(np.clip(2e7 // self.n_groups, min(n_draws, 400), n_draws))
        self.weights = rng.multinomial(
            self.n_groups, np.full(self.n_groups, 1 / self.n_groups), size=n_draws
        ).astype(float)
        tail = (1 - level) / 2
        if self.n_groups > 1:
            wide = np.sqrt(self.n_groups / (self.n_groups - 1)) * stats.t.ppf(
                tail, self.n_groups - 1
            )
            tail = float(stats.norm.cdf(wide))
        self.tail = tail

    def confusions(
        self,
        true: NDArray[np.intp],
        predicted: NDArray[np.intp],
        n_classes: int,
        codes: NDArray[np.intp] | None = None,
    ) -> Array:
        """Return the bootstrap confusion matrices, shape (n_draws, k, k)."""
        codes = self.codes if codes is None else codes
        cells = codes * n_classes**2 + true * n_classes + predicted
        table = np.bincount(cells, minlength=self.n_groups * n_classes**2)
        drawn = self.weights @ table.reshape(self.n_groups, -1).astype(float)
        return drawn.reshape(-1, n_classes, n_classes)

    def interval(
        self, draws: Array, share: float = float("nan"), n: float = 0
    ) -> tuple[float, float]:
        """Return the interval of one quantity from its bootstrap draws; NaN with one group.

        With a `share` of `n` images it is never narrower than Wilson's interval, since a bootstrap
        of no errors at all has no width.
        """
        known = draws[~np.isnan(draws)]
        if self.n_groups < 2 or not len(known):
            return float("nan"), float("nan")
        low, high = np.quantile(known, [self.tail, 1 - self.tail])
        if n > 0 and share == share:
            wilson = stats.binomtest(round(share * n), round(n)).proportion_ci(
                self.level, method="wilson"
            )
            low, high = min(low, wilson.low), max(high, wilson.high)
        return float(low), float(high)
