"""Boxes of the fields of BCCD: from Pascal VOC annotations, or from one table."""

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from hemaest._words import some
from hemaest.datasets._folder import read_table
from hemaest.datasets._names import files_with, tables_named

CORNERS = ["xmin", "ymin", "xmax", "ymax"]
COLUMNS = ["filename", "cell_type", *CORNERS]
FIELD = re.compile(r"bloodimage_(\d+)", re.IGNORECASE)


def field_number(name: str) -> int | None:
    """Return the number of a field from a file's name; None where it is no such name.

    Examples
    --------
    >>> field_number("bloodimage_00007.JPG"), field_number("BloodImage_00007 (1).jpg")
    (7, None)
    """
    found = FIELD.fullmatch(Path(name).stem)
    return int(found[1]) if found else None


def by_field(files: Iterable[Path]) -> dict[int, Path]:
    """Return number -> file of all that begin as fields do; those of no or another's number out."""
    kept: dict[int, Path] = {}
    others = []
    for file in files:
        number = field_number(file.name)
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


def read_boxes(folder: Path) -> pd.DataFrame | None:
    """Return field, cell_type and corners (half open, from 0); None where no boxes are given.

    A table ``boxes.csv`` goes before annotations. Boxes that enclose nothing are left out.
    """
    tables = tables_named(folder, "boxes")
    annotations = by_field(files_with(folder, ".xml"))
    if tables:
        table = read_table(tables[0], COLUMNS)[COLUMNS]
    elif annotations:
        table = _annotated(annotations.values())
    else:
        return None
    # boxes are given by inclusive pixels counted from 1, as Pascal VOC does
    corners = table[CORNERS].apply(pd.to_numeric, errors="coerce").astype(float)
    corners[["xmin", "ymin"]] -= 1
    numbers = [field_number(name) for name in table["filename"]]
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
