"""What a classifier says of cells, as probabilities and as columns; for DifferentialCounter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

# a name has a column for "unsure" where so many calibration cells bear it
ENOUGH_TO_SPLIT = 40
UNSURE_SHARE = 0.25


@dataclass(frozen=True)
class Columns:
    """How probabilities are cut into columns: each class, unsure or sure; the last two: no name."""

    unsure_below: Array

    @classmethod
    def of(cls, probability: Array) -> Columns:
        """Cut each class's named cells at their lower quarter of confidence."""
        named = ~np.isnan(probability).any(1)
        top, sure = probability[named].argmax(1), probability[named].max(1)
        cuts = np.zeros(probability.shape[1])
        for k in range(len(cuts)):
            if (top == k).sum() >= ENOUGH_TO_SPLIT:
                cuts[k] = np.quantile(sure[top == k], UNSURE_SHARE)
        return cls(cuts)

    @property
    def n_names(self) -> int:
        """Number of names, "unidentified" among them."""
        return len(self.unsure_below) + 1

    def __call__(self, probability: Array) -> NDArray[np.intp]:
        """Return twice the number of each cell's name, plus 1 where it is sure."""
        if not len(probability):
            return np.zeros(0, dtype=np.intp)
        unnamed = np.asarray(np.isnan(probability).any(axis=1))
        filled = np.where(unnamed[:, None], 0.0, probability)
        top = filled.argmax(1)
        column = 2 * top + (filled.max(1) >= self.unsure_below[top])
        return np.where(unnamed, 2 * self.n_names - 2, column)


def named_classes(X: Any, y: NDArray[Any]) -> NDArray[Any]:
    """Return the classes of given probabilities or names."""
    if isinstance(X, pd.DataFrame):
        return np.unique(np.asarray(X.columns))
    values = np.asarray(X)
    if values.ndim == 1:
        named = [v for v in np.unique(values[~pd.isna(values)]).tolist() if not _nameless(v)]
        return np.unique(np.concatenate([np.array(named), np.unique(y)])) if named else np.unique(y)
    classes = np.unique(y)
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise ValueError(
            f"X has shape {values.shape}, but y has {len(classes)} types: give probabilities with "
            "a column for each in sorted order, a DataFrame whose columns are named, or the names "
            "themselves."
        )
    return classes


def _nameless(value: Any) -> bool:
    return bool(pd.isna(value)) or value in ("", "unidentified")


def read_probabilities(X: Any, classes: NDArray[Any], *, needed: bool = True) -> Array | None:
    """Return probabilities where X holds them or names; None where it holds images or features."""
    if isinstance(X, pd.DataFrame) and set(X.columns) == set(classes.tolist()):
        return _checked(X[classes.tolist()].to_numpy(dtype=float))
    values = np.asarray(X) if isinstance(X, (np.ndarray, pd.Series)) or needed else None
    if values is not None and values.ndim == 1 and (needed or values.dtype.kind in "US"):
        return _one_hot(values, classes)
    if values is not None and values.ndim == 2 and values.dtype.kind == "f":
        sums = np.nansum(values, axis=1)
        empty = np.isnan(values).all(1)
        alike = values.shape[1] == len(classes) and (empty | (np.abs(sums - 1) < 1e-3)).all()
        if alike or needed:
            return _checked(values, len(classes))
    if needed:
        shape = None if values is None else values.shape
        raise ValueError(
            f"X has shape {shape}: this counter has no classifier, so give probabilities of shape "
            f"(n_cells, {len(classes)}) or one name for each cell."
        )
    return None


def _checked(values: Array, n_classes: int | None = None) -> Array:
    if n_classes is not None and values.shape[1] != n_classes:
        raise ValueError(f"the probabilities have {values.shape[1]} columns, not {n_classes}.")
    empty = np.isnan(values).all(1)
    wrong = ~empty & ~((np.abs(values.sum(1) - 1) < 1e-3) & (values >= -1e-6).all(1))
    if wrong.any():
        raise ValueError(
            f"row {int(wrong.argmax())} is no set of probabilities (not below 0, sum 1): "
            f"{values[wrong.argmax()].tolist()}. A cell without a name is a row of NaN."
        )
    return values


def _one_hot(names: NDArray[Any], classes: NDArray[Any]) -> Array:
    position = {label: i for i, label in enumerate(classes.tolist())}
    full = np.full((len(names), len(classes)), np.nan)
    for i, name in enumerate(names.tolist()):
        if _nameless(name):
            continue
        if name not in position:
            raise ValueError(f"the name {name!r} of cell {i} is none of {classes.tolist()}.")
        full[i] = 0.0
        full[i, position[name]] = 1.0
    return full
