"""Lines through the results of two methods of which neither is the truth.

Written by hand: scipy has neither line by name, and the ranks of methcomp 1.0 are wrong for an odd
number of slopes, as is its covariance in Deming's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hemaest._seeds import seed_of

Array = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True)
class Line:
    """A line ``test = intercept + slope * reference`` with intervals.

    Examples
    --------
    >>> line = passing_bablok([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    >>> line.slope, line.intercept
    (2.0, 0.0)
    >>> line.bias([10])["bias"].tolist()
    [10.0]
    """

    method: str
    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    intercept_low: float
    intercept_high: float
    n: int
    confidence_level: float
    linearity_p: float = NAN
    draws: Array = field(default_factory=lambda: np.empty((0, 2)), repr=False, compare=False)

    def predict(self, reference: ArrayLike) -> Array:
        """Return what the test method says where the reference says so.

        Parameters
        ----------
        reference : array-like
            Values of the reference.

        Returns
        -------
        test : array
        """
        return self.intercept + self.slope * np.asarray(reference, dtype=float)

    def bias(self, points: Sequence[float]) -> pd.DataFrame:
        """Return test less reference at decision points, with bootstrap intervals.

        Parameters
        ----------
        points : sequence of float
            Values of the reference at which something is decided.

        Returns
        -------
        table : DataFrame
            at, bias, low, high; the interval is NaN for a line without bootstrap.
        """
        rows = []
        for point in points:
            low, high = _limits(self.draws @ [point, 1.0] - point, self.confidence_level)
            bias = float(self.predict(point)) - point
            rows.append({"at": point, "bias": bias, "low": low, "high": high})
        return pd.DataFrame(rows, columns=["at", "bias", "low", "high"])


def passing_bablok(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    confidence_level: float = 0.95,
    interval: str = "bootstrap",
    n_draws: int = 1999,
    random_state: Any = 0,
) -> Line:
    """Fit the line of Passing and Bablok (1983): no assumption on errors, no harm by outliers.

    The slope is the median of the slopes through all pairs of points, shifted so that the two
    methods may be exchanged.

    Parameters
    ----------
    reference, test : array-like of shape (n,)
        Results of the two methods for the same samples; NaN leaves a sample out.
    confidence_level : float, default=0.95
        Level of the intervals.
    interval : {"bootstrap", "analytic"}, default="bootstrap"
        Percentiles over draws of samples, or the ranks of the original paper.
    n_draws : int, default=1999
        Number of bootstrap draws.
    random_state : int, RandomState instance or None, default=0
        Seed of the bootstrap.

    Returns
    -------
    line : Line
        NaN where there are fewer than three samples, or one value only. ``linearity_p`` is the
        p-value of the paper's test of linearity.

    Examples
    --------
    >>> reference = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    >>> test = [1.2, 1.9, 3.1, 4.4, 4.8, 6.1, 7.3, 7.7, 9.2, 30.0]
    >>> round(passing_bablok(reference, test).slope, 3)
    1.033
    """
    _check_interval(interval, ("bootstrap", "analytic"))
    x, y = paired(reference, test)
    if not _enough(x, y):
        return _no_line("Passing-Bablok", len(x), confidence_level)
    slopes = _slope_table(x, y)
    upper = np.triu_indices(len(x), 1)
    slope, ordered, shift = _shifted_median(slopes[upper])
    if not np.isfinite(slope):
        return _no_line("Passing-Bablok", len(x), confidence_level)
    intercept = float(np.median(y - slope * x))
    p = _linearity(x, y, slope, intercept)
    if interval == "analytic":
        low, high = _rank_limits(ordered, shift, len(x), confidence_level)
        ends = float(np.median(y - high * x)), float(np.median(y - low * x))
        return Line(
            "Passing-Bablok", slope, low, high, intercept, *ends, len(x), confidence_level, p
        )

    def one(index: NDArray[np.intp]) -> tuple[float, float]:
        # a sample drawn twice makes a pair without slope
        drawn = slopes[np.ix_(index, index)][upper]
        b = _shifted_median(drawn)[0]
        return b, float(np.median(y[index] - b * x[index])) if np.isfinite(b) else NAN

    draws = _bootstrap(one, len(x), n_draws, random_state)
    return _line("Passing-Bablok", slope, intercept, draws, len(x), confidence_level, p)


def deming(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    error_ratio: float = 1.0,
    confidence_level: float = 0.95,
    n_draws: int = 1999,
    random_state: Any = 0,
) -> Line:
    """Fit the line of Deming: both methods have normal errors, of a known ratio.

    Parameters
    ----------
    reference, test : array-like of shape (n,)
        Results of the two methods for the same samples; NaN leaves a sample out.
    error_ratio : float, default=1.0
        Variance of the test's errors by that of the reference's: for percentages of n and m cells
        counted, n / m.
    confidence_level : float, default=0.95
        Level of the bootstrap intervals.
    n_draws : int, default=1999
        Number of bootstrap draws.
    random_state : int, RandomState instance or None, default=0
        Seed of the bootstrap.

    Returns
    -------
    line : Line
        NaN where there are fewer than three samples, or one value only.

    Examples
    --------
    >>> line = deming([1, 2, 3, 4, 5], [1.1, 1.9, 3.2, 3.9, 5.1])
    >>> round(line.slope, 4), round(line.intercept, 4)
    (1.0036, 0.0292)
    """
    if not error_ratio > 0:
        raise ValueError(f"error_ratio={error_ratio!r} must be above 0.")
    x, y = paired(reference, test)
    if not _enough(x, y):
        return _no_line("Deming", len(x), confidence_level)

    def one(index: NDArray[np.intp]) -> tuple[float, float]:
        return _deming(x[index], y[index], error_ratio)

    slope, intercept = one(np.arange(len(x)))
    draws = _bootstrap(one, len(x), n_draws, random_state)
    return _line("Deming", slope, intercept, draws, len(x), confidence_level, NAN)


def paired(reference: ArrayLike, test: ArrayLike) -> tuple[Array, Array]:
    """Return the samples that both methods measured."""
    x, y = np.asarray(reference, dtype=float), np.asarray(test, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"reference has shape {x.shape} and test {y.shape}: give one result of each method for "
            "each sample, in the same order."
        )
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]


def _check_interval(interval: str, allowed: tuple[str, ...]) -> None:
    if interval not in allowed:
        raise ValueError(f"interval={interval!r} must be one of {list(allowed)}.")


def _enough(x: Array, y: Array) -> bool:
    return len(x) >= 3 and bool(np.ptp(x) > 0 and np.ptp(y) > 0)


def _slope_table(x: Array, y: Array) -> Array:
    dx, dy = x[None] - x[:, None], y[None] - y[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = dy / dx
    # one value of the reference, two of the test: a slope without bound, of the sign of dy
    slopes[(dx == 0) & (dy > 0)] = np.inf
    slopes[(dx == 0) & (dy < 0)] = -np.inf
    slopes[(dx == 0) & (dy == 0)] = np.nan
    slopes[slopes == -1] = np.nan
    return slopes


def _shifted_median(slopes: Array) -> tuple[float, Array, int]:
    ordered = np.sort(slopes[~np.isnan(slopes)])
    n, shift = len(ordered), int((ordered < -1).sum())
    if n == 0 or n // 2 + shift >= n:
        return NAN, ordered, shift
    if n % 2:
        return float(ordered[n // 2 + shift]), ordered, shift
    middle = ordered[n // 2 - 1 + shift], ordered[n // 2 + shift]
    return float(sum(middle) / 2), ordered, shift


def _rank_limits(
    ordered: Array, shift: int, n: int, confidence_level: float
) -> tuple[float, float]:
    z = stats.norm.ppf(0.5 + confidence_level / 2)
    spread = z * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first = int(np.round((len(ordered) - spread) / 2))
    last = len(ordered) - first + 1
    at = np.clip([first - 1 + shift, last - 1 + shift], 0, len(ordered) - 1)
    return float(ordered[at[0]]), float(ordered[at[1]])


def _linearity(x: Array, y: Array, slope: float, intercept: float) -> float:
    """Return the p-value of the cumulated-sum test of Passing and Bablok."""
    residual = y - intercept - slope * x
    above, below = (residual > 0).sum(), (residual < 0).sum()
    if above == 0 or below == 0:
        return 1.0
    score = np.where(residual > 0, np.sqrt(below / above), 0.0)
    score = np.where(residual < 0, -np.sqrt(above / below), score)
    distance = (y + x / slope - intercept) / np.sqrt(1 + 1 / slope**2) if slope else x
    walk = np.cumsum(score[np.argsort(distance, kind="stable")])
    return float(stats.kstwobign.sf(np.abs(walk).max() / np.sqrt(below + 1)))


def _deming(x: Array, y: Array, ratio: float) -> tuple[float, float]:
    sxx, syy = x.var(ddof=1), y.var(ddof=1)
    sxy = float(np.cov(x, y)[0, 1])
    if abs(sxy) < 1e-12 * max(sxx, syy, 1e-300) or sxx == 0:
        return NAN, NAN
    gap = syy - ratio * sxx
    slope = float((gap + np.sqrt(gap**2 + 4 * ratio * sxy**2)) / (2 * sxy))
    return slope, float(y.mean() - slope * x.mean())


def _bootstrap(
    one: Callable[[NDArray[np.intp]], tuple[float, float]], n: int, n_draws: int, random_state: Any
) -> Array:
    rng = np.random.default_rng(seed_of(random_state))
    draws = np.array([one(rng.integers(0, n, n)) for _ in range(n_draws)]).reshape(-1, 2)
    return draws[np.isfinite(draws).all(1)]


def _no_line(method: str, n: int, confidence_level: float) -> Line:
    return _line(method, NAN, NAN, np.empty((0, 2)), n, confidence_level, NAN)


def _line(
    method: str,
    slope: float,
    intercept: float,
    draws: Array,
    n: int,
    confidence_level: float,
    p: float,
) -> Line:
    ends = [*_limits(draws[:, 0], confidence_level), *_limits(draws[:, 1], confidence_level)]
    return Line(
        method, slope, ends[0], ends[1], intercept, ends[2], ends[3], n, confidence_level, p, draws
    )


def _limits(draws: Array, confidence_level: float) -> tuple[float, float]:
    if len(draws) < 20:
        return NAN, NAN
    low, high = np.quantile(draws, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)
