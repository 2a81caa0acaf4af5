"""Fit and score one recipe on one fold, and keep the result on disk so that a stop costs little."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import ParameterGrid
from sklearn.utils.validation import has_fit_parameter

import hemaest
from hemaest._numba import raise_if_interrupted
from hemaest.base import fit_with_groups
from hemaest.evaluation._insight import Insight, look_into, telling
from hemaest.evaluation._metrics import mean_recall
from hemaest.groups import GroupedFolds
from hemaest.images import ImageRef


@dataclass
class FoldResult:
    """What one recipe did on one fold."""

    predicted: Any  # class codes, or None after an error
    probability: Any
    fit_seconds: float = float("nan")
    predict_seconds: float = float("nan")
    best_params: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    insight: Insight | None = None
    trained_on: int | None = None


def fit_calibrated(estimator: Any, method: str, X: Any, y: Any, groups: Any, seed: int) -> Any:
    """Fit on all images, and calibrate on what fits without each third of the groups say of it."""
    folds = list(GroupedFolds(3, random_state=seed).split(None, y, groups))
    model = CalibratedClassifierCV(estimator, method=method, cv=folds, ensemble=False)
    if groups is not None and has_fit_parameter(estimator, "groups"):
        return model.fit(X, y, groups=groups)
    return model.fit(X, y)


def probabilities(estimator: Any, X: Any, classes: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return class probabilities in the order of `classes`, or None where there are none."""
    if not hasattr(estimator, "predict_proba"):
        return None
    found = np.asarray(estimator.predict_proba(X), dtype=float)
    full = np.zeros((len(found), len(classes)))
    full[:, np.searchsorted(classes, estimator.classes_)] = found
    return full


def search_grid(
    estimator: Any, grid: Any, X: Any, y: Any, groups: Any, inner: list[tuple[Any, Any]]
) -> dict[str, Any]:
    """Return the best parameters by balanced accuracy on inner folds.

    scikit-learn's own search keeps groups for its splitter and does not pass them on to ``fit``.
    """
    best: tuple[float, dict[str, Any]] = (-np.inf, {})
    for params in ParameterGrid(grid):
        scores = []
        for train, test in inner:
            candidate = clone(estimator).set_params(**params)
            fit_with_groups(candidate, X[train], y[train], take(groups, train))
            scores.append(mean_recall(y[test], candidate.predict(X[test])))
        score = float(np.mean(scores))
        if score > best[0]:
            best = (score, params)
    return best[1]


def take(values: Any, index: NDArray[np.intp]) -> Any:
    """Index an optional array."""
    return None if values is None else values[index]


def run_fold(
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    groups: NDArray[Any] | None,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    *,
    validation: NDArray[np.intp] | None = None,
    grid: Any = None,
    calibrate: str | None = None,
    seed: int = 0,
    cache: Path | None = None,
    explain: bool = True,
) -> FoldResult:
    """Fit a clone on `train`, predict `test`; tune inside `train` when there is a grid."""
    if cache is not None and (kept := _kept(cache)) is not None:
        return kept
    classes = np.unique(y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = _fit_and_predict(
                estimator,
                X,
                y,
                groups,
                train,
                test,
                validation,
                grid,
                calibrate,
                seed,
                classes,
                explain,
            )
        except Exception as error:  # the other recipes and folds go on; the table names this one
            raise_if_interrupted(error)
            result = FoldResult(None, None, error=f"{type(error).__name__}: {error}")
    said = dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught)
    result.warnings = tuple(said)[:5]
    if cache is not None and not result.error:
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cache.with_suffix(f".{os.getpid()}.part")
        joblib.dump(result, unfinished)
        os.replace(unfinished, cache)
    return result


def _kept(cache: Path) -> FoldResult | None:
    """Return a finished fold, or None where there is none or its file is damaged."""
    if not cache.exists():
        return None
    try:
        return joblib.load(cache)
    except Exception as error:
        raise_if_interrupted(error)
        warnings.warn(
            f"{cache} cannot be read ({type(error).__name__}: {error}); the fold is fitted anew.",
            stacklevel=2,
        )
        return None


def _fit_and_predict(
    estimator: Any,
    X: Any,
    y: Any,
    groups: Any,
    train: Any,
    test: Any,
    validation: Any,
    grid: Any,
    calibrate: str | None,
    seed: int,
    classes: Any,
    explain: bool,
) -> FoldResult:
    model = clone(estimator)
    start = time.perf_counter()
    best = None
    if grid:
        if validation is not None and len(validation):
            both = np.concatenate([train, validation])
            at = np.arange(len(both))
            inner = [(at[: len(train)], at[len(train) :])]
        else:
            both = train
            folds = GroupedFolds(3, random_state=seed)
            inner = list(folds.split(None, y[train], take(groups, train)))
        best = search_grid(model, grid, X[both], y[both], take(groups, both), inner)
        model = model.set_params(**best)
    if calibrate is None:
        fit_with_groups(model, X[train], y[train], take(groups, train))
    else:
        model = fit_calibrated(model, calibrate, X[train], y[train], take(groups, train), seed)
    fitted = time.perf_counter()
    predicted = np.asarray(model.predict(X[test]))
    done = time.perf_counter()
    codes = np.searchsorted(classes, predicted)
    strange = (codes >= len(classes)) | (classes[np.minimum(codes, len(classes) - 1)] != predicted)
    if strange.any():
        raise ValueError(
            f"predict gave {predicted[strange][0]!r}, which is none of the classes {list(classes)}."
        )
    probability = probabilities(model, X[test], classes)
    result = FoldResult(codes, probability, fitted - start, done - fitted, best)
    result.trained_on = len(train)
    if explain:
        result.insight = _insight(model, X, test, np.searchsorted(classes, y[test]), result)
    return result


def _insight(model: Any, X: Any, test: Any, true: Any, result: FoldResult) -> Insight | None:
    """Look into the fitted model; that this fails must not cost the fold."""
    sure = None if result.probability is None else result.probability.max(1)
    chosen = test[telling(true, result.predicted, sure)]
    try:
        return look_into(model, X[chosen], chosen)
    except Exception as error:
        raise_if_interrupted(error)
        warnings.warn(f"no picture of what it looks at: {error}", stacklevel=2)
        return None


def shrunk(
    train: NDArray[np.intp], y: NDArray[Any], groups: Any, share: float, seed: int
) -> NDArray[np.intp]:
    """Return a share of the training images: stratified, whole groups, the larger hold the smaller.

    Examples
    --------
    >>> train, y, patients = np.arange(16), np.tile(["a", "b"], 8), np.repeat(np.arange(8), 2)
    >>> half = shrunk(train, y, patients, 0.5, 0)
    >>> len(half), set(shrunk(train, y, patients, 0.25, 0)) <= set(half)
    (8, True)
    """
    own = take(groups, train)
    parts = min(8, len(train) if own is None else len(np.unique(own)))
    folds = GroupedFolds(parts, random_state=seed).split(None, y[train], own)
    kept = [test for _, test in folds][: max(1, round(share * parts))]
    return train[np.sort(np.concatenate(kept))]


def hash_images(X: Any) -> str:
    """Hash pixels, and the bytes of files: the same data have the same hash on any machine."""
    digest = hashlib.sha256()
    for item in X:
        if isinstance(item, ImageRef):
            digest.update(Path(item.path).read_bytes())
        else:
            digest.update(repr(item.shape).encode())
            digest.update(np.ascontiguousarray(item).data)
    return digest.hexdigest()


def fold_key(estimator: Any, how: Any, data: str, seed: int, *index: Any) -> str:
    """Name one piece of work: recipe, data, fold and version."""
    parts = (estimator, how, data, seed, [np.asarray(i) for i in index], hemaest.__version__)
    return joblib.hash(parts)
