"""Smear fields with boxes of their cells."""

import os
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    layout_error,
    read_table,
    relative_names,
)
from hemaest.images import to_object_array

CLASSES = {
    "BASOPHIL": "basophil",
    "EOSINOPHIL": "eosinophil",
    "LYMPHOCYTE": "lymphocyte",
    "MONOCYTE": "monocyte",
    "NEUTROPHIL": "neutrophil",
}
LAYOUT = "images/BloodImage_NNNNN.jpg, boxes.csv and field_labels.csv"
DESCR = """
364 fields of blood smears, 640 x 480 pixels, with boxes of red cells (RBC), white cells (WBC) and
platelets, and the type of the white cell of most fields. Some boxes and labels are wrong or
missing.
The Kaggle set of 12,400 turned copies was made from photographs of these. Licence: MIT.

BCCD dataset, github.com/Shenggan/BCCD_Dataset, after cosmicad and akshaylamba.
"""


def load_bccd(path: str | os.PathLike[str], *, fields: Literal["all", "single"] = "all") -> Bunch:
    """Load the smear fields with boxes.

    Parameters
    ----------
    path : str or path-like
        The folder with images/, boxes.csv and field_labels.csv.
    fields : {"all", "single"}, default="all"
        All fields, or only those with exactly one type of white cell named.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``boxes`` (object array; for each field a float array (k, 4) of x0, y0, x1, y1,
        half open), ``box_labels`` (object array of str arrays: RBC, WBC, Platelets), ``target``
        (the field's label as it stands, e.g. ``"NEUTROPHIL, EOSINOPHIL"``, empty where none is
        given), ``class_names``, ``groups``, ``group_source``, ``filenames``, ``DESCR``.

    Examples
    --------
    >>> load_bccd("nowhere")
    Traceback (most recent call last):
    ...
    FileNotFoundError: nowhere is no folder. Expected: images/BloodImage_NNNNN.jpg, ...
    """
    if fields not in {"all", "single"}:
        raise ValueError(f"fields={fields!r}; it must be 'all' or 'single'.")
    folder = existing_folder(path, LAYOUT)
    files = sorted((folder / "images").glob("BloodImage_*.jpg"))
    if not files or not (folder / "boxes.csv").is_file():
        raise layout_error(folder, LAYOUT)
    labels = _field_labels(folder)
    target = [labels.get(int(f.stem.split("_")[1]), "") for f in files]
    if fields == "single":
        kept = [i for i, label in enumerate(target) if label in CLASSES]
        files, target = [files[i] for i in kept], [target[i] for i in kept]
    boxes, box_labels = _boxes(folder, [f.name for f in files])
    return image_bunch(
        folder,
        files,
        target,
        class_names=CLASSES,
        groups=relative_names(folder, files),
        group_source="none",
        descr=DESCR,
        boxes=boxes,
        box_labels=box_labels,
    )


def _field_labels(folder: "os.PathLike[str]") -> dict[int, str]:
    file = existing_folder(folder, LAYOUT) / "field_labels.csv"
    if not file.is_file():
        return {}
    table = read_table(file, ["Image", "Category"])
    return dict(zip(table["Image"].astype(int), table["Category"].str.strip(), strict=True))


def _boxes(folder: "os.PathLike[str]", names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    corners = ["xmin", "ymin", "xmax", "ymax"]
    file = existing_folder(folder, LAYOUT) / "boxes.csv"
    table = read_table(file, ["filename", "cell_type", *corners])
    table[corners] = table[corners].apply(pd.to_numeric).astype(float)
    # boxes are given by inclusive pixels counted from 1, as Pascal VOC does
    table[["xmin", "ymin"]] = table[["xmin", "ymin"]] - 1
    by_file = dict(list(table.groupby("filename")))
    empty = table.iloc[:0]
    parts = [by_file.get(name, empty) for name in names]
    boxes = to_object_array([part[corners].to_numpy() for part in parts])
    kinds = to_object_array([part["cell_type"].to_numpy(dtype=str) for part in parts])
    return boxes, kinds
