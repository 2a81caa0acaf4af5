"""What can be scored without looking at a cell: colour, border and file facts alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemaest.evaluation import _metrics as metrics
from hemaest.evaluation._statistics import GroupedBootstrap

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def simple_models() -> dict[str, Any]:
    """Two models that need no tuning: a plane and the five nearest."""
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "5 nearest": make_pipeline(StandardScaler(), KNeighborsClassifier(5)),
    }


def out_of_fold(
    model: Any, features: NDArray[Any], true: NDArray[np.intp], folds: Folds, n_classes: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return tested positions and the class probabilities that a model gave them."""
    index = np.concatenate([test for _, test in folds])
    probability = np.zeros((len(index), n_classes))
    at = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, test in folds:
            k = min(5, len(train))
            if "kneighborsclassifier" in model.named_steps:
                model.set_params(kneighborsclassifier__n_neighbors=k)
            model.fit(features[train], true[train])
            probability[at : at + len(test), model.classes_] = model.predict_proba(features[test])
            at += len(test)
    return index, probability


def shortcut_scores(
    features: dict[str, NDArray[np.float64]],
    true: NDArray[np.intp],
    groups: NDArray[np.intp],
    folds: Folds,
    random_state: int,
) -> pd.DataFrame:
    """Balanced accuracy of each kind of feature under the given folds, the better model of two."""
    n_classes = int(true.max()) + 1
    tested = np.concatenate([test for _, test in folds])
    codes = np.unique(groups[tested], return_inverse=True)[1]
    draws = GroupedBootstrap(codes, 1000, random_state=random_state)
    rows = []
    for name, values in features.items():
        best: dict[str, Any] = {}
        for model_name, model in simple_models().items():
            index, probability = out_of_fold(model, values, true, folds, n_classes)
            predicted = probability.argmax(1)
            matrix = metrics.confusions(true[index], predicted, n_classes)
            score = float(metrics.balanced_accuracy(matrix))
            if score > best.get("balanced accuracy", -1.0):
                drawn = metrics.balanced_accuracy(
                    draws.confusions(true[index], predicted, n_classes)
                )
                low, high = draws.interval(drawn)
                best = {
                    "seen": name,
                    "model": model_name,
                    "balanced accuracy": score,
                    "low": low,
                    "high": high,
                    "chance": 1 / len(np.unique(true[index])),
                }
        rows.append(best)
    return pd.DataFrame(rows)
