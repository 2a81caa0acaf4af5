"""Probabilities of training cells by models that have not seen them; for the estimators here.

DifferentialCounter and RejectingClassifier learn from them how a classifier errs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from hemaest._words import some
from hemaest.base import fit_with_groups
from hemaest.groups import GroupedFolds, check_groups
from hemaest.images import check_images

Array = NDArray[np.float64]


def check_samples(X: Any, estimator: Any) -> NDArray[Any]:
    """Return checked images, or a table of features (2-D) as it stands."""
    if isinstance(X, (list, tuple)) and len(X) and np.ndim(X[0]) == 1:
        X = np.asarray(X)
    if isinstance(X, pd.DataFrame) or (isinstance(X, np.ndarray) and X.ndim == 2):
        table = np.asarray(X)
        if table.dtype != object:
            return table
    return check_images(X, estimator=estimator)


def check_labels(y: Any, n: int) -> NDArray[Any]:
    """Return the labels of n samples; refuse missing ones and a single type."""
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ValueError(f"y has shape {labels.shape}, but there are {n} cells: one label each.")
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise ValueError(
            f"y has no label for {len(missing)} of {n} cells, at positions "
            f"{some(missing.tolist())}: leave these out."
        )
    if len(np.unique(labels)) < 2:
        kind = f", {str(labels[0])!r}" if n else ""
        raise ValueError(f"y holds one type only{kind}: a classifier needs two or more.")
    return labels


def aligned(classifier: Any, X: Any, classes: NDArray[Any]) -> Array:
    """Return class probabilities in the order of `classes`, 0 for those it does not know."""
    if len(X) == 0:
        return np.zeros((0, len(classes)))
    found = np.asarray(classifier.predict_proba(X), dtype=float)
    full = np.zeros((len(found), len(classes)))
    full[:, np.searchsorted(classes, classifier.classes_)] = found
    return full


def out_of_fold(
    classifier: Any, X: Any, y: NDArray[Any], groups: Any, cv: int, seed: int
) -> tuple[Any, Array, NDArray[Any]]:
    """Return the fitted classifier, probabilities by models that had not seen a cell, the classes.

    Parameters
    ----------
    classifier : classifier with ``predict_proba``
        A ``FrozenEstimator`` is taken as it is; it must not have seen these cells.
    X, y, groups
        Training cells, labels and patients.
    cv : int
        Number of folds; fewer where there are fewer patients.
    seed : int
        Of the folds.
    """
    if isinstance(classifier, FrozenEstimator):
        classes = np.unique(classifier.classes_)
        return classifier, aligned(classifier, X, classes), classes
    classes = np.unique(y)
    codes = check_groups(groups, len(y))
    n_groups = len(y) if codes is None else int(codes.max()) + 1
    if n_groups < 2:
        raise ValueError(
            "all cells are of one group, so that none can be held out. Give cells of at least two "
            "patients, or a FrozenEstimator that was fitted on others."
        )
    folds = GroupedFolds(min(cv, n_groups), random_state=seed)
    probability = np.zeros((len(y), len(classes)))
    own = None if groups is None else np.asarray(groups)
    for train, test in folds.split(None, y, codes):
        part = None if own is None else own[train]
        model = fit_with_groups(clone(classifier), X[train], y[train], part)
        probability[test] = aligned(model, X[test], classes)
    return fit_with_groups(clone(classifier), X, y, own), probability, classes
