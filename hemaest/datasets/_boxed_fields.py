"""Fields of smears with boxes of their cells (BCCD): annotations, tables, types of fields."""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest._docs import fill_doc
from hemaest._words import some
from hemaest.datasets._image_files import files_with, image_files, tables_named
from hemaest.datasets._loading import (
    SHARED_DOCS,
    ImageSet,
    existing_folder,
    image_bunch,
    layout_error,
    own_groups,
    read_table,
)
from hemaest.images import to_object_array

BCCD = ImageSet(
    classes={
        "BASOPHIL": "basophil",
        "EOSINOPHIL": "eosinophil",
        "LYMPHOCYTE": "lymphocyte",
        "MONOCYTE": "monocyte",
        "NEUTROPHIL": "neutrophil",
    },
    layout=(
        "JPEGImages/BloodImage_NNNNN.jpg and Annotations/BloodImage_NNNNN.xml, or "
        "images/BloodImage_NNNNN.jpg and boxes.csv; with labels.csv or field_labels.csv (columns "
        "Image and Category) for the types of the fields"
    ),
    descr="""
364 fields of blood smears, 640 x 480 pixels, with boxes of red cells (RBC), white cells (WBC) and
platelets, and the type of the white cell of most fields (in the Kaggle edition). Some boxes and
labels are wrong or missing.
The Kaggle set of 12,400 rotated copies was made from photographs of these. License: MIT.

BCCD dataset, github.com/Shenggan/BCCD_Dataset, after cosmicad and akshaylamba.
""",
)
CORNERS = ["xmin", "ymin", "xmax", "ymax"]
COLUMNS = ["filename", "cell_type", *CORNERS]
FIELD = re.compile(r"bloodimage_(\d+)", re.IGNORECASE)


@fill_doc(**SHARED_DOCS)
def load_bccd(
    path: str | os.PathLike[str],
    *,
    subset: Literal["all", "single"] = "all",
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
    subset : {"all", "single"}, default="all"
        All fields, or only those with exactly one type of white cell named.
    %(verify)s

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
    if subset not in {"all", "single"}:
        raise ValueError(f"subset={subset!r}; it must be 'all' or 'single'.")
    folder = existing_folder(path, BCCD.layout)
    images = _by_field(image_files(folder))
    boxes = _read_boxes(folder)
    if not images or boxes is None:
        raise layout_error(folder, BCCD.layout)
    _compare(images, boxes)
    labels = _field_labels(folder)
    if subset == "single":
        images = _of_one_type(folder, images, labels)
    files = list(images.values())
    return image_bunch(
        folder,
        files,
        [labels.get(number, "") for number in images],
        class_names=BCCD.classes,
        groups=own_groups(folder, files),
        descr=BCCD.descr,
        verify=verify,
        **_boxes_of(images, boxes),
    )


def _by_field(files: Iterable[Path]) -> dict[int, Path]:
    """Return number -> file of all that begin as fields do; those of no or another's number out."""
    kept: dict[int, Path] = {}
    others = []
    for file in files:
        number = _field_number(file.name)
        if number is not None and number not in kept:
            kept[number] = file
        elif file.name.lower().startswith("bloodimage_"):
            others.append(file)
    if others:
        warnings.warn(
            f"{len(others)} file(s) are copies of other fields or have no name such as "
            f"BloodImage_00000, and are left out: {some(others)}.",
            stacklevel=3,
        )
    return dict(sorted(kept.items()))


def _field_number(name: str) -> int | None:
    """Return the number of a field from a file's name; None where it is no such name.

    Examples
    --------
    >>> _field_number("bloodimage_00007.JPG"), _field_number("BloodImage_00007 (1).jpg")
    (7, None)
    """
    found = FIELD.fullmatch(Path(name).stem)
    return int(found[1]) if found else None


def _read_boxes(folder: Path) -> pd.DataFrame | None:
    """Return field, cell_type and corners (half open, from 0); None where no boxes are given.

    A table ``boxes.csv`` goes before annotations. Boxes that enclose nothing are left out.
    """
    tables = tables_named(folder, "boxes")
    annotations = _by_field(files_with(folder, ".xml"))
    if tables:
        table = read_table(tables[0], COLUMNS)[COLUMNS]
    elif annotations:
        table = _annotated(annotations.values())
    else:
        return None
    # boxes are given by inclusive pixels counted from 1, as Pascal VOC does
    corners = table[CORNERS].apply(pd.to_numeric, errors="coerce").astype(float)
    corners[["xmin", "ymin"]] -= 1
    numbers = [_field_number(name) for name in table["filename"]]
    sound = (
        pd.notna(pd.Series(numbers, index=table.index, dtype=float))
        & np.isfinite(corners).all(axis=1)
        & (corners["xmax"] > corners["xmin"])
        & (corners["ymax"] > corners["ymin"])
    )
    if not sound.all():
        _warn_of_boxes(table[~sound])
    kept = corners[sound].assign(
        field=[n for n, s in zip(numbers, sound, strict=True) if s],
        cell_type=table.loc[sound, "cell_type"],
    )
    return kept.reset_index(drop=True)


def _annotated(files: Iterable[Path]) -> pd.DataFrame:
    rows, broken = [], []
    for file in files:
        try:
            objects = ElementTree.parse(file).getroot().iter("object")
        except (ElementTree.ParseError, ValueError) as error:
            broken.append(f"{file} ({error})")
            continue
        for item in objects:
            texts = [
                item.findtext("name", ""),
                *(item.findtext(f"bndbox/{c}", "") for c in CORNERS),
            ]
            rows.append([file.name, *(text.strip() for text in texts)])
    if broken:
        warnings.warn(
            f"{len(broken)} annotation(s) are broken, and their fields have no boxes; copy them "
            f"again: {some(broken)}.",
            stacklevel=4,
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _warn_of_boxes(table: pd.DataFrame) -> None:
    rows = [
        f"{row.cell_type} of {row.filename} ({row.xmin}, {row.ymin}, {row.xmax}, {row.ymax})"
        for row in table.itertuples()
    ]
    warnings.warn(
        f"{len(rows)} box(es) are left out: they name no field such as BloodImage_00000, or their "
        f"corners (xmin, ymin, xmax, ymax) are no numbers or enclose nothing: {some(rows)}.",
        stacklevel=4,
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


def _boxes_of(numbers: Iterable[int], boxes: pd.DataFrame) -> dict[str, Any]:
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
            f"{folder} has no table of the types of its fields, which subset='single' needs: "
            "labels.csv (of the Kaggle edition) or field_labels.csv, with the columns Image and "
            f"Category. Put it there, or load subset='all'.\nExpected: {BCCD.layout}"
        )
    given = {number: labels[number] for number in images if number in labels}
    unknown = [
        f"{label} ({images[number].name})"
        for number, label in given.items()
        if not {part.strip() for part in label.split(",")} <= set(BCCD.classes)
    ]
    if unknown:
        warnings.warn(
            f"{len(unknown)} field(s) have labels of unknown types and are left out: "
            f"{some(unknown)}; known are {', '.join(BCCD.classes)}.",
            stacklevel=3,
        )
    single = {number: images[number] for number, label in given.items() if label in BCCD.classes}
    if not single:
        raise ValueError(
            f"none of the {len(images)} fields in {folder} has a label of one type "
            f"({', '.join(BCCD.classes)}); {len(given)} have a label at all. Load subset='all' for "
            "them."
        )
    return single
