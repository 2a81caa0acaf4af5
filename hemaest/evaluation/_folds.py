"""Fit and score one recipe on one fold, and keep the result on disk so that a stop costs little.

``compare`` runs :func:`run_fold` for each recipe and fold. Finished folds are kept as plain arrays
and JSON (:func:`write_result`, :func:`read_result`): reading them runs no code.
"""

from __future__ import annotations

import hashlib
import io
import json
import signal
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

import hemaest
from hemaest._files import write_whole
from hemaest._numba import raise_if_interrupted
from hemaest.base import fit_with_groups
from hemaest.evaluation._insight import Insight, look_into, most_telling
from hemaest.evaluation.scores import mean_recall
from hemaest.features import ColorFeatures
from hemaest.groups import GroupedFolds
from hemaest.images import ImageRef
from hemaest.segmentation import CellSegmenter

# a kept fold is predictions and a few small images; a larger file is not one of ours
LARGEST_FILE = 256 * 2**20
# fitted without labels they learn nothing: their output for an image depends on that image alone
LABEL_FREE = (CellSegmenter, ColorFeatures)


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


@dataclass(frozen=True)
class Task:
    """One recipe on one fold: what to fit, on which images, and where to keep the result."""

    estimator: Any
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    validation: NDArray[np.intp] | None = None
    grid: Any = None
    calibrate: str | None = None
    seed: int = 0
    cache: Path | None = None
    explain: bool = True
    # leading steps that learn nothing and were applied to all images beforehand
    applied: list[Any] = field(default_factory=list)
    applied_seconds: float = 0.0


def run_fold(
    task: Task, X: Any, y: NDArray[Any], groups: NDArray[Any] | None, images: Any = None
) -> FoldResult:
    """Fit a clone on the training part, predict the test part; tune inside where there is a grid.

    Parameters
    ----------
    task : Task
        What to do.
    X : images or table
        What the estimator takes, for all images.
    y, groups : array
        Labels, and group codes or None.
    images : images, optional
        The images before the steps that were applied beforehand; `X` by default.
    """
    classes = np.unique(y)
    if task.cache is not None:
        kept = _kept(task.cache, len(task.test), len(classes))
        if kept is not None:
            return kept
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with stop_on_interrupt():
                images = X if images is None else images
                result = _fit_and_predict(task, X, y, groups, classes, images)
        except Exception as error:  # the other recipes and folds are done; the table names this one
            raise_if_interrupted(error)
            result = FoldResult(None, None, error=f"{type(error).__name__}: {error}")
    texts = dict.fromkeys(f"{w.category.__name__}: {w.message}" for w in caught)
    result.warnings = tuple(texts)[:5]
    if task.cache is not None and not result.error:
        write_result(result, task.cache)
    return result


@contextmanager
def stop_on_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end where an estimator swallowed the one it received.

    A network that stops early on Ctrl-C returns as if it were finished; its fold must neither
    count nor be kept.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    received = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received:
            raise KeyboardInterrupt


def _fit_and_predict(
    task: Task, X: Any, y: Any, groups: Any, classes: NDArray[Any], images: Any
) -> FoldResult:
    train, test = task.train, task.test
    model = clone(task.estimator)
    start = time.perf_counter()
    best = None
    if task.grid:
        best = _tune(model, task, X, y, groups)
        model = model.set_params(**best)
    if task.calibrate is None:
        fit_with_groups(model, rows(X, train), y[train], take(groups, train))
    else:
        model = fit_calibrated(
            model, task.calibrate, rows(X, train), y[train], take(groups, train), task.seed
        )
    fitted = time.perf_counter()
    predicted = np.asarray(model.predict(rows(X, test)))
    done = time.perf_counter()
    codes = np.searchsorted(classes, predicted)
    unknown = (codes >= len(classes)) | (classes[np.minimum(codes, len(classes) - 1)] != predicted)
    if unknown.any():
        raise ValueError(
            f"predict gave {predicted[unknown][0]!r}, which is none of the classes {list(classes)}."
        )
    probability = probabilities(model, rows(X, test), classes)
    each = task.applied_seconds / len(y)
    result = FoldResult(
        codes,
        probability,
        fitted - start + each * len(train),
        done - fitted + each * len(test),
        best,
        trained_on=len(train),
    )
    if task.explain:
        result.insight = _insight(model, task, images, np.searchsorted(classes, y[test]), result)
    return result


def _tune(model: Any, task: Task, X: Any, y: Any, groups: Any) -> dict[str, Any]:
    """Return the best parameters, chosen on the validation part or on inner folds."""
    train, validation = task.train, task.validation
    if validation is not None and len(validation):
        both = np.concatenate([train, validation])
        at = np.arange(len(both))
        inner = [(at[: len(train)], at[len(train) :])]
    else:
        both = train
        folds = GroupedFolds(3, random_state=task.seed)
        inner = list(folds.split(None, y[train], take(groups, train)))
    return search_grid(model, task.grid, rows(X, both), y[both], take(groups, both), inner)


def _insight(
    model: Any, task: Task, images: Any, true: NDArray[np.intp], result: FoldResult
) -> Insight | None:
    """Look into the fitted model; that this fails must not cost the fold."""
    confidence = None if result.probability is None else result.probability.max(1)
    chosen = task.test[most_telling(true, result.predicted, confidence)]
    try:
        return look_into(model, images[chosen], chosen, before=task.applied)
    except Exception as error:
        raise_if_interrupted(error)
        warnings.warn(f"no image of where it looks: {error}", stacklevel=2)
        return None


class SharedSteps:
    """Outputs of leading steps that learn nothing, computed once for all images and recipes."""

    def __init__(self, X: NDArray[Any]):
        self.X = X
        self._outputs: dict[str, tuple[Any, float, Any]] = {}

    def has(self, estimator: Any, grid: Any) -> bool:
        """Return whether there is anything to apply beforehand in a recipe."""
        return bool(_shareable(estimator, grid))

    def apply(self, estimator: Any, grid: Any) -> tuple[Any, list[Any], float, Any]:
        """Return what is left of a recipe, the fitted steps before it, their time and output.

        A recipe keeps all its steps where it is no pipeline, keeps a memory of its own, tunes the
        step, or would have no step left.
        """
        steps = getattr(estimator, "steps", [])
        applied, seconds, X = [], 0.0, self.X
        for k, (name, step) in enumerate(_shareable(estimator, grid)):
            key = joblib.hash([(type(s), s.get_params()) for _, s in steps[: k + 1]])
            if key not in self._outputs:
                start = time.perf_counter()
                try:
                    fitted = clone(step).fit(X)
                    output = fitted.transform(X)
                except (
                    Exception
                ):  # each fold will say what is wrong, and the other recipes are done
                    break
                self._outputs[key] = fitted, time.perf_counter() - start, output
            fitted, took, X = self._outputs[key]
            applied.append((name, fitted))
            seconds += took
        if not applied:
            return estimator, [], 0.0, self.X
        rest = type(estimator)(steps[len(applied) :], verbose=estimator.verbose)
        return rest, applied, seconds, X


def _shareable(estimator: Any, grid: Any) -> list[tuple[str, Any]]:
    """Return the leading steps of a recipe that learn nothing and are not tuned."""
    if not isinstance(estimator, Pipeline) or getattr(estimator, "memory", None) is not None:
        return []
    tuned = {name.split("__")[0] for part in _grids(grid) for name in part}
    steps = estimator.steps[:-1]
    return list(takewhile(lambda s: s[0] not in tuned and _learns_nothing(s[1]), steps))


def _grids(grid: Any) -> list[Mapping[str, Any]]:
    return [] if grid is None else [grid] if isinstance(grid, Mapping) else list(grid)


def _learns_nothing(step: Any) -> bool:
    """Return whether a step's transform of an image depends on nothing but that image."""
    if not hasattr(step, "transform") or hasattr(step, "fit_resample"):
        return False
    return type(step) in LABEL_FREE or not get_tags(step).requires_fit


def fit_calibrated(estimator: Any, method: str, X: Any, y: Any, groups: Any, seed: int) -> Any:
    """Fit on all images; calibrate on predictions for each third of the groups by the others."""
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
            fit_with_groups(candidate, rows(X, train), y[train], take(groups, train))
            scores.append(mean_recall(y[test], candidate.predict(rows(X, test))))
        score = float(np.mean(scores))
        if score > best[0]:
            best = (score, params)
    return best[1]


def rows(X: Any, index: NDArray[np.intp]) -> Any:
    """Return some rows of images or of a table of features."""
    return X.iloc[index] if hasattr(X, "iloc") else X[index]


def take(values: Any, index: NDArray[np.intp]) -> Any:
    """Index an optional array."""
    return None if values is None else values[index]


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
    """Hash pixels, and the bytes of files: the same data have the same hash on any machine.

    Parameters
    ----------
    X : images
        As :func:`hemaest.images.check_images` returns them.

    Returns
    -------
    digest : str
        SHA-256 in hexadecimal digits.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.evaluation import hash_images
    >>> image = np.zeros((1, 4, 4, 3), np.uint8)
    >>> hash_images(image) == hash_images(image.copy())
    True
    """
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


def write_result(result: FoldResult, path: Path) -> None:
    """Keep a finished fold as arrays and JSON; the file appears whole or not at all."""
    insight = result.insight
    meta = {
        "fit_seconds": result.fit_seconds,
        "predict_seconds": result.predict_seconds,
        "best_params": result.best_params,
        "warnings": result.warnings,
        "trained_on": result.trained_on,
        "kind": None if insight is None else insight.kind,
        "curves": None if insight is None or insight.curves is None else list(insight.curves),
    }
    arrays = {"meta": np.frombuffer(json.dumps(meta, default=_plain).encode(), np.uint8)}
    arrays["predicted"] = np.asarray(result.predicted)
    if result.probability is not None:
        arrays["probability"] = result.probability
    if insight is not None:
        arrays |= {f"image {i}": image for i, image in insight.images.items()}
        if insight.curves is not None:
            arrays |= {f"curve {c}": insight.curves[c].to_numpy() for c in insight.curves}
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def _plain(value: Any) -> Any:
    """Return what JSON can hold; a parameter that is an object is kept by its representation."""
    return value.item() if isinstance(value, np.generic) else repr(value)


def read_result(path: Path, n_images: int, n_classes: int) -> FoldResult:
    """Read a kept fold; raise ValueError where the file is not one for so many images."""
    content = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else b""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
            raise ValueError("it is larger than any kept fold")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(arrays.pop("meta").tobytes())
    predicted, probability = arrays.pop("predicted"), arrays.pop("probability", None)
    whole = predicted.dtype.kind == "i" and predicted.shape == (n_images,)
    whole &= n_images == 0 or (0 <= predicted.min() and predicted.max() < n_classes)
    if probability is not None:
        whole &= probability.shape == (n_images, n_classes) and probability.dtype == float
    if not whole:
        raise ValueError("it does not hold predictions of these images")
    insight = None
    if meta["kind"] is not None:
        curves = meta["curves"]
        table = None if curves is None else {c: arrays[f"curve {c}"] for c in curves}
        images = {int(name[6:]): a for name, a in arrays.items() if name.startswith("image ")}
        insight = Insight(None if table is None else pd.DataFrame(table), meta["kind"], images)
    return FoldResult(
        predicted,
        probability,
        meta["fit_seconds"],
        meta["predict_seconds"],
        meta["best_params"],
        tuple(meta["warnings"]),
        insight=insight,
        trained_on=meta["trained_on"],
    )


def _kept(cache: Path, n_images: int, n_classes: int) -> FoldResult | None:
    """Return a finished fold, or None where there is none or its file is damaged."""
    if not cache.exists():
        return None
    try:
        return read_result(cache, n_images, n_classes)
    except Exception as error:
        raise_if_interrupted(error)
        warnings.warn(
            f"{cache} cannot be read ({type(error).__name__}: {error}); the fold is fitted again.",
            stacklevel=2,
        )
        return None
