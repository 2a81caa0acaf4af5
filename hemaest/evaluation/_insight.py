"""What a fitted recipe shows of itself before it is dropped: training curves, what it looked at.

A fold's model has not seen the images it is tested on, so what it looks at there is what it would
look at in new ones. Only a few small pictures are kept, never the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from hemaest import cellmap
from hemaest.images import as_array, cell_map, check_images, rgb

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
        One row an epoch, where the recipe holds a net.
    kind : str
        What the pictures show: "Grad-CAM", "attention", "outline", or "" where there are none.
    pictures : dict of int to uint8 array
        Position in the data -> the image under its map.
    """

    curves: Any = None
    kind: str = ""
    pictures: dict[int, Image] = field(default_factory=dict)


def telling(
    true: NDArray[np.intp], predicted: NDArray[np.intp], confidence: NDArray[np.floating] | None
) -> NDArray[np.intp]:
    """Return the surest errors, and the surest right answer of each class.

    Examples
    --------
    >>> true, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    >>> telling(true, predicted, np.array([0.6, 0.9, 0.8, 0.7])).tolist()
    [2, 1, 3]
    """
    sure = np.zeros(len(true)) if confidence is None else confidence
    order = np.argsort(-sure, kind="stable")
    wrong = order[true[order] != predicted[order]][:WRONG]
    right = order[true[order] == predicted[order]]
    _, first = np.unique(true[right], return_index=True)
    return np.concatenate([wrong, right[np.sort(first)][:RIGHT]])


def look_into(model: Any, images: NDArray[Any], positions: NDArray[np.intp]) -> Insight:
    """Return the training curves of a fitted recipe, and what it looks at in some images."""
    model = uncalibrated(model)
    found = Insight(curves=training_curves(model))
    if len(positions):
        found.kind, pictures = looked_at(model, images)
        found.pictures = dict(zip(positions.tolist(), pictures, strict=False))
    return found


def nets_in(model: Any) -> Iterator[Any]:
    """Yield the fitted deep classifiers of a pipeline or an ensemble."""
    if hasattr(model, "net_") and hasattr(model, "history_"):
        yield model
    elif isinstance(model, Pipeline):
        for _, step in model.steps:
            yield from nets_in(step)
    else:
        for part in list(getattr(model, "estimators_", ())):
            yield from nets_in(part)


def training_curves(model: Any) -> pd.DataFrame | None:
    """Return the history of the nets that learnt to classify in this fit."""
    tables = [net.history_ for net in nets_in(model) if hasattr(net, "classes_")]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True) if tables else None


def looked_at(model: Any, X: NDArray[Any]) -> tuple[str, list[Image]]:
    """Return what kind of map there is, and each image under its map."""
    if hasattr(_last(model), "net_"):
        from hemaest.inspection import AttentionMap, GradCAM
        from hemaest.inspection._heat import overlay

        for kind, display in ((GRADCAM, GradCAM), (ATTENTION, AttentionMap)):
            try:
                shown = display.from_estimator(model, X)
            except TypeError:  # the net has no such map
                continue
            heated = zip(shown.images, shown.maps, strict=True)
            return kind, [reduced(overlay(rgb(image), heat)) for image, heat in heated]
        return "", []
    maps = segmented(model, X)
    return ("", []) if maps is None else (OUTLINE, [outlined(image) for image in maps])


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
        if getattr(X, "ndim", 0) == 2:  # features: no picture comes after them
            return None
        X = check_images(X, estimator="compare")
        if cell_map(as_array(X[0])) is not None:
            return X
    return None


def outlined(image: Image, side: int = SIDE) -> Image:
    """Return the picture with the outlines of its cells and nuclei, no larger than `side`.

    Examples
    --------
    >>> picture = np.full((40, 40, 4), 200, np.uint8)
    >>> picture[..., 3] = 0
    >>> picture[10:30, 10:30, 3] = 1
    >>> drawn = outlined(picture)
    >>> drawn.shape, int(drawn[20, 20, 0]), bool((drawn != 200).any())
    ((160, 160, 3), 200, True)
    """
    import cv2

    labels = cell_map(as_array(image))
    assert labels is not None
    scale = side / max(labels.shape)
    height, width = (max(1, round(n * scale)) for n in labels.shape)
    picture = cv2.resize(
        np.ascontiguousarray(rgb(as_array(image))), (width, height), interpolation=cv2.INTER_AREA
    )
    large = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    for mask, colour in ((large > 0, (255, 255, 255)), (cellmap.nuclei(large), (0, 0, 0))):
        lines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        cv2.drawContours(picture, lines, -1, colour, 1, cv2.LINE_AA)
    return picture


def reduced(image: Image, side: int = SIDE) -> Image:
    """Return a picture no larger than `side`."""
    from hemaest._geometry import scale_to

    share = side / max(image.shape[:2])
    if share >= 1:
        return image
    height, width = (max(1, round(n * share)) for n in image.shape[:2])
    return scale_to(image, height, width)
