"""From draws of true counts to percentages, intervals, absolute counts; for DifferentialCounter."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shares:
    """Draws of one row of a differential: a type, or several together, per counted cell."""

    members: Array  # draws of the row's cells
    counted: Array  # draws of all counted cells
    draws: Array  # draws of the patient's share
    inside: bool  # whether the row's types are counted themselves

    @classmethod
    def of(cls, members: Array, counted: Array, inside: bool, rng: np.random.Generator) -> Shares:
        """Draw a patient's share: Jeffreys' prior, for the row against all other cells."""
        total = counted if inside else counted + members
        draws = rng.beta(members + 0.5, np.maximum(total - members, 0) + 0.5)
        if not inside:  # erythroblasts: per counted cell, of which they are none
            draws = draws / np.maximum(1 - draws, 1e-9)
        return cls(members, counted, draws, inside)

    def interval(self, confidence_level: float) -> tuple[float, float, float]:
        """Return the share and its equal-tailed ends, 0 or 1 where within half a cell of that."""
        n = self.counted.mean()
        if n < 0.5:
            return float("nan"), 0.0, 1.0
        low, high = np.quantile(
            self.draws, [(1 - confidence_level) / 2, (1 + confidence_level) / 2]
        )
        low = 0.0 if low < 0.5 / n else low
        high = 1.0 if self.inside and high > 1 - 0.5 / n else high
        middle = (self.members / np.maximum(self.counted, 1)).mean()
        return float(np.clip(middle, low, high)), float(low), float(high)


def add_absolute(
    table: pd.DataFrame, rows: list[Shares], nrbc: Shares | None, wbc: Any, confidence_level: float
) -> None:
    """Add the columns of absolute counts; `nrbc` where `wbc` is to be corrected for it."""
    if not isinstance(wbc, Real) or isinstance(wbc, bool) or not 0 <= float(wbc) < np.inf:
        raise ValueError(f"wbc={wbc!r} must be a number of 0 or more, in 10^9/L.")
    tails = [(1 - confidence_level) / 2, (1 + confidence_level) / 2]
    true = np.full(len(rows[0].draws), float(wbc))
    if nrbc is not None:
        true = true / (1 + nrbc.draws)
        table.attrs["corrected_wbc"] = tuple(map(float, (true.mean(), *np.quantile(true, tails))))
    low, high = np.quantile([row.draws * true for row in rows], tails, axis=1)
    percent = table[["percent", "low", "high"]].to_numpy(dtype=float)
    unknown = percent[:, 2] == 100
    table["absolute"] = percent[:, 0] * true.mean() / 100
    table["absolute_low"] = np.where(percent[:, 1] == 0, 0.0, low)
    table["absolute_high"] = np.where(unknown, float(wbc), high)


def wilson(number: int, total: int, counts: bool = True, confidence_level: float = 0.95) -> Any:
    """Return a share with Wilson's interval; per counted cell where the type is not counted.

    Examples
    --------
    >>> [round(v, 3) for v in wilson(5, 10)]
    [0.5, 0.237, 0.763]
    """
    if total == 0:
        return float("nan"), float("nan"), float("nan")
    z = norm.ppf(0.5 + confidence_level / 2)
    n = total if counts else total + number
    share = number / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    ends = (share, max(0.0, float(middle - half)), min(1.0, float(middle + half)))
    return ends if counts else tuple(e / max(1 - e, 1e-12) for e in ends)
