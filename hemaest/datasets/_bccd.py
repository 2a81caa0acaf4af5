"""Smear fields with boxes of their cells."""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest._words import some
from hemaest.datasets._bccd_boxes import CORNERS, by_field, read_boxes
from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    layout_error,
    read_table,
    relative_names,
)
from hemaest.datasets._names import tables_named
from hemaest.datasets._tree import image_files
from hemaest.images import to_object_array

CLASSES = {
    "BASOPHIL": "basophil",
    "EOSINOPHIL": "eosinophil",
    "LYMPHOCYTE": "lymphocyte",
    "MONOCYTE": "monocyte",
    "NEUTROPHIL": "neutrophil",
}
LAYOUT = (
    "JPEGImages/BloodImage_NNNNN.jpg and Annotations/BloodImage_NNNNN.xml, or "
    "images/BloodImage_NNNNN.jpg and boxes.csv; with labels.csv or field_labels.csv (columns Image "
    "and Category) for the types of the fields"
)
DESCR = """
364 fields of blood smears, 640 x 480 pixels, with boxes of red cells (RBC), white cells (WBC) and
platelets, and the type of the white cell of most fields (in the Kaggle edition). Some boxes and
labels are wrong or missing.
The Kaggle set of 12,400 turned copies was made from photographs of these. License: MIT.

BCCD dataset, github.com/Shenggan/BCCD_Dataset, after cosmicad and akshaylamba.
"""


def load_bccd(
    path: str | os.PathLike[str],
    *,
    fields: Literal["all", "single"] = "all",
    verify: bool = False,
) -> Bunch:
    """Load the smear fields with boxes.

    Parameters
    ----------
    path : str or path-like
        The folder of the set: as it comes from GitHub (``BCCD/JPEGImages`` and
        ``BCCD/Annotations``), from Kaggle (``dataset-master`` with the same folders, and a table
        ``labels.csv`` of field types), or with all boxes in one table (``boxes.csv``, with
        ``field_labels.csv``). Images, boxes and labels belong together by the number of the
        field.
    fields : {"all", "single"}, default="all"
        All fields, or only those with exactly one type of white cell named.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``boxes`` (object array; for each field a float array (k, 4) of x0, y0, x1, y1,
        half open), ``box_labels`` (object array of str arrays: RBC, WBC, Platelets), ``target``
        (the field's label in capitals, e.g. ``"NEUTROPHIL, EOSINOPHIL"``, empty where none is
        given), ``class_names``, ``groups``, ``group_source``, ``filenames``, ``DESCR``,
        ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ["JPEGImages", "Annotations"]:
    ...     (folder / name).mkdir()
    >>> Image.new("RGB", (64, 48)).save(folder / "JPEGImages" / "BloodImage_00000.jpg")
    >>> _ = (folder / "Annotations" / "BloodImage_00000.xml").write_text(
    ...     "<annotation><object><name>WBC</name><bndbox><xmin>1</xmin><ymin>5</ymin>"
    ...     "<xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>"
    ... )
    >>> load_bccd(folder).boxes[0]
    array([[ 0.,  4., 20., 30.]])
    """
    if fields not in {"all", "single"}:
        raise ValueError(f"fields={fields!r}; it must be 'all' or 'single'.")
    folder = existing_folder(path, LAYOUT)
    images = by_field(image_files(folder))
    boxes = read_boxes(folder)
    if not images or boxes is None:
        raise layout_error(folder, LAYOUT)
    _compare(images, boxes)
    labels = _field_labels(folder)
    if fields == "single":
        images = _of_one_type(folder, images, labels)
    files = list(images.values())
    return image_bunch(
        folder,
        files,
        [labels.get(number, "") for number in images],
        class_names=CLASSES,
        groups=relative_names(folder, files),
        group_source="none",
        descr=DESCR,
        verify=verify,
        **_boxes_of(images, boxes),
    )


def _compare(images: dict[int, Path], boxes: pd.DataFrame) -> None:
    """Warn of images without boxes, and of boxes without images."""
    boxed = set(boxes["field"])
    bare = [file.name for number, file in images.items() if number not in boxed]
    absent = sorted(boxed - set(images))
    if bare:
        warnings.warn(f"{len(bare)} field(s) have no boxes: {some(bare)}.", stacklevel=3)
    if absent:
        warnings.warn(
            f"the boxes of {len(absent)} field(s) are left out, because there are no images of "
            f"number {some(absent)}.",
            stacklevel=3,
        )


def _boxes_of(numbers: Iterable[int], boxes: pd.DataFrame) -> dict[str, np.ndarray]:
    by_number = dict(list(boxes.groupby("field")))
    empty = boxes.iloc[:0]
    parts = [by_number.get(number, empty) for number in numbers]
    return {
        "boxes": to_object_array([part[CORNERS].to_numpy() for part in parts]),
        "box_labels": to_object_array([part["cell_type"].to_numpy(dtype=str) for part in parts]),
    }


def _field_labels(folder: Path) -> dict[int, str]:
    """Return field -> label in capitals; the Kaggle edition holds its table twice."""
    labels: dict[int, str] = {}
    unnamed, contradicted = [], []
    for file in tables_named(folder, "field_labels", "labels"):
        table = read_table(file, ["Image", "Category"])
        for image, label in zip(table["Image"], table["Category"].str.upper(), strict=True):
            found = re.fullmatch(r"(?:bloodimage_)?(\d+)(?:\.\w+)?", image.lower())
            if found is None:
                unnamed.append(f"{label or 'blank'} of {image!r}")
            elif label and labels.setdefault(int(found[1]), label) != label:
                contradicted.append(f"{label} of {image}, {labels[int(found[1])]} before")
    _warn_of("whose Image is no number of a field", unnamed)
    _warn_of("that contradict an earlier one", contradicted)
    return labels


def _warn_of(what: str, labels: list[str]) -> None:
    if labels:
        warnings.warn(f"{len(labels)} label(s) {what} are left out: {some(labels)}.", stacklevel=4)


def _of_one_type(folder: Path, images: dict[int, Path], labels: dict[int, str]) -> dict[int, Path]:
    """Return the fields whose label is one type; name labels that hold no known type."""
    if not labels:
        raise FileNotFoundError(
            f"{folder} has no table of the types of its fields, which fields='single' needs: "
            "labels.csv (of the Kaggle edition) or field_labels.csv, with the columns Image and "
            f"Category. Put it there, or load fields='all'.\nExpected: {LAYOUT}"
        )
    given = {number: labels[number] for number in images if number in labels}
    unknown = [
        f"{label} ({images[number].name})"
        for number, label in given.items()
        if not {part.strip() for part in label.split(",")} <= set(CLASSES)
    ]
    if unknown:
        warnings.warn(
            f"{len(unknown)} field(s) have labels of unknown types and are left out: "
            f"{some(unknown)}; known are {', '.join(CLASSES)}.",
            stacklevel=3,
        )
    single = {number: images[number] for number, label in given.items() if label in CLASSES}
    if not single:
        raise ValueError(
            f"none of the {len(images)} fields in {folder} has a label of one type "
            f"({', '.join(CLASSES)}); {len(given)} have a label at all. Load fields='all' for them."
        )
    return single
