"""What a fitted recipe shows of itself before it is dropped: training curves, where it looked.

A fold's model has not seen the images it is tested on, so where it looks there is where it would
look in new ones. Only a few small images are kept, never the model. :func:`run_fold` calls this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from hemaest import inspection
from hemaest.images import as_array, cell_map, check_images, rgb
from hemaest.inspection.drawing import outlined, overlay, thumbnail

WRONG, RIGHT = 8, 8
SIDE = 160
GRADCAM, ATTENTION, OUTLINE = "Grad-CAM", "attention", "outline"

Image = NDArray[np.uint8]


@dataclass
class Insight:
    """What is kept of one fitted model.

    Attributes
    ----------
    curves : DataFrame or None
        One row an epoch, where the recipe holds a network.
    kind : str
        What the images show: "Grad-CAM", "attention", "outline", or "" where there are none.
    images : dict of int to uint8 array
        Position in the data -> the image under its map.
    """

    curves: Any = None
    kind: str = ""
    images: dict[int, Image] = field(default_factory=dict)


def most_telling(
    true: NDArray[np.intp], predicted: NDArray[np.intp], confidence: NDArray[np.floating] | None
) -> NDArray[np.intp]:
    """Return the most confident errors, and the most confident right prediction of each class.

    Examples
    --------
    >>> true, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    >>> most_telling(true, predicted, np.array([0.6, 0.9, 0.8, 0.7])).tolist()
    [2, 1, 3]
    """
    confidence = np.zeros(len(true)) if confidence is None else confidence
    order = np.argsort(-confidence, kind="stable")
    wrong = order[true[order] != predicted[order]][:WRONG]
    right = order[true[order] == predicted[order]]
    _, first = np.unique(true[right], return_index=True)
    return np.concatenate([wrong, right[np.sort(first)][:RIGHT]])


def look_into(
    model: Any, images: NDArray[Any], positions: NDArray[np.intp], *, before: Sequence[Any] = ()
) -> Insight:
    """Return the training curves of a fitted recipe, and where it looks in some images.

    Parameters
    ----------
    model : fitted classifier
        A recipe, or what comes after the steps `before`.
    images : images
        As they enter the first step.
    positions : int array
        Their positions in the data.
    before : sequence of (name, fitted step)
        Steps that were applied before the model.
    """
    model = uncalibrated(model)
    if before:
        own = model.steps if isinstance(model, Pipeline) else [("model", model)]
        kind = type(model) if isinstance(model, Pipeline) else Pipeline
        model = kind([*before, *own])
    found = Insight(curves=training_curves(model))
    if len(positions):
        found.kind, shown = looked_at(model, images)
        found.images = dict(zip(positions.tolist(), shown, strict=False))
    return found


def networks_in(model: Any) -> Iterator[Any]:
    """Yield the fitted deep classifiers of a pipeline or an ensemble."""
    if hasattr(model, "net_") and hasattr(model, "history_"):
        yield model
    elif isinstance(model, Pipeline):
        for _, step in model.steps:
            yield from networks_in(step)
    else:
        for part in list(getattr(model, "estimators_", ())):
            yield from networks_in(part)


def training_curves(model: Any) -> pd.DataFrame | None:
    """Return the history of the networks that were trained to classify in this fit."""
    tables = [part.history_ for part in networks_in(model) if hasattr(part, "classes_")]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else None


def looked_at(model: Any, X: NDArray[Any]) -> tuple[str, list[Image]]:
    """Return what kind of map there is, and each image under its map."""
    if hasattr(_last(model), "net_"):
        for kind, display in ((GRADCAM, inspection.GradCAM), (ATTENTION, inspection.AttentionMap)):
            try:
                shown = display.compute(model, X)
            except TypeError:  # the network has no such map
                continue
            heated = zip(shown.images, shown.maps, strict=True)
            return kind, [thumbnail(overlay(rgb(image), heat), SIDE) for image, heat in heated]
        return "", []
    maps = segmented(model, X)
    return ("", []) if maps is None else (OUTLINE, [outlined(image, SIDE) for image in maps])


def uncalibrated(model: Any) -> Any:
    """Return the recipe inside a calibrated one."""
    inner = getattr(model, "calibrated_classifiers_", None)
    return inner[0].estimator if inner and len(inner) == 1 else model


def _last(model: Any) -> Any:
    return _last(model.steps[-1][1]) if isinstance(model, Pipeline) else model


def segmented(model: Any, X: NDArray[Any]) -> NDArray[Any] | None:
    """Return the images with the cell maps that a recipe measures, or None where it uses none."""
    if not isinstance(model, Pipeline):
        return None
    if cell_map(as_array(X[0])) is not None:
        return X
    for _, step in model.steps[:-1]:
        if not hasattr(step, "transform"):  # samplers do nothing at prediction
            continue
        X = step.transform(X)
        if getattr(X, "ndim", 0) == 2:  # features: no image comes after them
            return None
        X = check_images(X, estimator="compare")
        if cell_map(as_array(X[0])) is not None:
            return X
    return None
