"""From a file to the cells on the page: find, outline, name, compare with reference cells.

Runs in the worker processes. It uses the detector, the classifier and the counter of the package
and adds only what the page shows: polygons, small crops, the nearest reference cells.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap, datasets, persistence, pretrained
from hemaest.clinical.reading import assess_cells, field_warnings, scale_of_field
from hemaest.images import read_image, rgb, to_object_array
from hemaest.segmentation import SmearDetector
from hemaest.web._store import UNIDENTIFIED

__all__ = ["CROP_SIDE", "FieldAnalyzer", "describe_cell", "jpeg", "load_model"]

CROP_SIDE = 128
N_REFERENCES = 3


class FieldAnalyzer:
    """Analyze fields with one model, loaded once.

    Parameters
    ----------
    model : path, optional
        A saved classifier of single cells. None: the shipped one.
    max_pixels : int
        Larger images are refused.
    """

    def __init__(self, model: str | Path | None = None, max_pixels: int = 100_000_000) -> None:
        self.max_pixels = max_pixels
        self.detector = SmearDetector().fit(_blank_fields())
        self.classifier, self.name = load_model(model)
        self.classes = [str(c) for c in self.classifier.classes_]
        self.references = ReferenceCells(self.classifier, self.classes)

    def analyze(self, path: str | Path) -> dict[str, Any]:
        """Return size, warnings and cells of a field, as values that travel between processes."""
        image = rgb(read_image(path, max_pixels=self.max_pixels))
        found = self.detector.detect_cells(to_object_array([image]), quality=True)
        cells: list[dict[str, Any]] = []
        if len(found.images):
            _, probabilities, familiar = assess_cells(
                self.classifier, found.images, um_per_pixel=scale_of_field(found.quality)
            )
            assert probabilities is not None  # load_model refuses a classifier without
            shown = self.compared(found.images, probabilities, familiar)
            for i, row in enumerate(found.table.to_dict("records")):
                nucleus = np.asarray(cellmap.nuclei(found.maps[i])) > 0
                cell = nucleus | (np.asarray(cellmap.cytoplasm(found.maps[i])) > 0)
                corner = float(row["crop_x0"]), float(row["crop_y0"])
                cells.append(
                    describe_cell(row, found.images[i], (nucleus, cell), corner)
                    | self.named(probabilities[i])
                    | shown[i]
                )
        return {
            "width": int(image.shape[1]),
            "height": int(image.shape[0]),
            "warnings": field_warnings(found.quality),
            "cells": cells,
            "model": self.name,
        }

    def named(self, probabilities: NDArray[np.float64]) -> dict[str, Any]:
        """Return type, confidence and probabilities of a cell."""
        best = int(np.argmax(probabilities))
        return {
            "type": self.classes[best] if probabilities[best] > 0 else UNIDENTIFIED,
            "confidence": float(probabilities[best]),
            "probabilities": {
                c: round(float(p), 4)
                for c, p in zip(self.classes, probabilities, strict=True)
                if p >= 0.0005
            },
        }

    def compared(
        self,
        images: NDArray[Any],
        probabilities: NDArray[np.float64],
        familiar: NDArray[np.bool_],
    ) -> list[dict[str, Any]]:
        """Return the nearest reference cells of each crop, and whether it is unlike all of them."""
        references = self.references.nearest(images, probabilities)
        return [
            {"reference_cells": near, "novel": int(not known)}
            for near, known in zip(references, familiar, strict=True)
        ]


def describe_cell(
    row: Mapping[str, Any],
    crop: NDArray[np.uint8],
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    corner: tuple[float, float],
    factor: float = 1.0,
) -> dict[str, Any]:
    """Return box, outlines, N:C ratio and image of a cell.

    Parameters
    ----------
    row : mapping
        ``x0``, ``y0``, ``x1``, ``y1`` in pixels of the field.
    crop : uint8 array
        The cell.
    masks : pair of bool arrays
        Nucleus and cell.
    corner : pair of float
        Where the masks begin in the field.
    factor : float
        Pixels of the field in a pixel of the masks.
    """
    nucleus, cell = masks
    return {
        **{key: float(row[key]) for key in ("x0", "y0", "x1", "y1")},
        "outline": _polygon(cell, *corner, factor),
        "nucleus": _polygon(nucleus, *corner, factor),
        "nc_ratio": float(nucleus.sum() / cell.sum()) if cell.any() else None,
        "crop": jpeg(crop, CROP_SIDE),
    }


class ReferenceCells:
    """Rendered cells of the classifier's types, and which of them a cell looks like most.

    Parameters
    ----------
    classifier : fitted classifier
        Its embedding (``embed``) measures likeness; without one its probabilities do.
    classes : list of str
        The types of the classifier.
    n_each : int
        Rendered cells for each type.
    """

    def __init__(self, classifier: Any, classes: list[str], n_each: int = 6) -> None:
        self._classifier = classifier
        images, types = _rendered(classes, n_each)
        self._images, self.types = images, types
        self.rows = [
            {
                "id": hashlib.sha256(crop).hexdigest()[:24],
                "type": t,
                "source": "rendered",
                "crop": crop,
            }
            for t, crop in zip(types, (jpeg(image, CROP_SIDE) for image in images), strict=True)
        ]
        self._vectors = self._embed(images, None) if len(images) else np.empty((0, 1))

    def _embed(
        self, images: NDArray[Any], probabilities: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        if hasattr(self._classifier, "embed"):
            vectors = np.asarray(self._classifier.embed(images), float)
        elif probabilities is not None:
            vectors = np.sqrt(probabilities)
        else:
            vectors = np.sqrt(np.asarray(self._classifier.predict_proba(images), float))
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def nearest(self, images: NDArray[Any], probabilities: NDArray[np.float64]) -> list[list[str]]:
        """Return the names of the nearest reference cells of each image."""
        if not self.rows:
            return [[] for _ in images]
        likeness = self._embed(images, probabilities) @ self._vectors.T
        order = np.argsort(-likeness, axis=1, kind="stable")[:, :N_REFERENCES]
        return [[self.rows[j]["id"] for j in row] for row in order]


def jpeg(image: NDArray[np.uint8], side: int | None = None, quality: int = 88) -> bytes:
    """Return an image as JPEG, reduced so that its longer side is at most ``side``."""
    import cv2

    if side is not None and max(image.shape[:2]) > side:
        scale = side / max(image.shape[:2])
        size = [max(1, round(n * scale)) for n in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"an image of {image.shape} cannot be written as JPEG.")
    return data.tobytes()


def _polygon(
    mask: NDArray[np.bool_], x0: float, y0: float, factor: float = 1.0
) -> list[list[float]]:
    """Return the outline of the largest part of a mask in pixels of the field."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return []
    points = cv2.approxPolyDP(max(contours, key=cv2.contourArea), 0.7, closed=True)[:, 0]
    # contours go through the centers of pixels
    return [[x0 + factor * (float(x) + 0.5), y0 + factor * (float(y) + 0.5)] for x, y in points]


def load_model(model: str | Path | None) -> tuple[Any, str]:
    if model is None:
        return pretrained.load_pretrained("blood-cells"), "blood-cells"
    classifier = persistence.load(model)
    if not hasattr(classifier, "predict_proba"):
        raise ValueError(
            f"{Path(model).name} gives no probabilities; the page needs a classifier that does."
        )
    return classifier, Path(model).name


def _rendered(classes: list[str], n_each: int) -> tuple[NDArray[Any], list[str]]:
    """Return rendered cells of those types that the renderer knows."""
    images: list[NDArray[np.uint8]] = []
    types: list[str] = []
    for name in classes:
        try:
            cells = datasets.make_cells(n_each, classes=[name], image_size=96, random_state=0)
        except ValueError:  # a type of the user's own
            continue
        images += list(cells.images)
        types += [name] * n_each
    return to_object_array(images), types


def _blank_fields() -> NDArray[np.uint8]:
    """Return what the detector is fitted on: without boxes it learns nothing from images."""
    return np.full((1, 64, 64, 3), 235, np.uint8)
