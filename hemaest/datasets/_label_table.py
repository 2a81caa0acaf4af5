"""Labels and clusters of near-duplicates from a ``labels.csv`` beside the class folders."""

import posixpath
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemaest._words import some
from hemaest.datasets._folder import read_table
from hemaest.datasets._tree import image_files


def read_label_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    r"""Return the table with one row for each file; a row written twice is taken once.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> _ = path.write_text("file,label\nPre/1.jpg,Pre\n./Pre/2.jpg,Pre\n")
    >>> read_label_table(path, ["file", "label"])["file"].tolist()
    ['Pre/1.jpg', 'Pre/2.jpg']
    """
    columns = list(columns)
    table = read_table(path, columns)[columns]
    blank = np.flatnonzero(table["file"].str.strip() == "")
    if len(blank):
        raise ValueError(
            f"{path} names no file in {len(blank)} of {len(table)} rows, the first being row "
            f"{blank[0] + 1} below the header; fill it in or remove it."
        )
    table["file"] = [posixpath.normpath(name.strip()) for name in table["file"]]
    outside = table["file"][table["file"].str.startswith(("/", "../"))]
    if len(outside):
        raise ValueError(
            f"{path} names {len(outside)} file(s) outside its folder, the first being "
            f"{outside.iloc[0]}; names are relative to the folder of the table."
        )
    once = table.drop_duplicates()
    _refuse_contradictions(path, once)
    if len(once) < len(table):
        again = table.loc[table.duplicated(), "file"].unique()
        warnings.warn(
            f"{path} lists {len(again)} file(s) more than once, each taken once: {some(again)}.",
            stacklevel=3,
        )
    _warn_of_unlisted(path, once["file"])
    return once.reset_index(drop=True)


def _warn_of_unlisted(path: Path, listed: Iterable[str]) -> None:
    there = {file.relative_to(path.parent).as_posix() for file in image_files(path.parent)}
    unlisted = sorted(there - set(listed))
    if unlisted:
        warnings.warn(
            f"{len(unlisted)} image(s) in {path.parent} are in no row of {path.name} and are left "
            f"out: {some(unlisted)}. Give them a row, or remove the table to take labels from the "
            "folders.",
            stacklevel=4,
        )


def _refuse_contradictions(path: Path, table: pd.DataFrame) -> None:
    clash = table["file"][table["file"].duplicated()].unique()
    if len(clash):
        rows = table[table["file"] == clash[0]].drop(columns="file").to_dict("records")
        raise ValueError(
            f"{path} says different things of {len(clash)} file(s), the first being {clash[0]}: "
            f"{' and '.join(map(str, rows))}. Keep one row for each file."
        )


def groups_of_duplicates(dup_group: Sequence[str], filenames: Sequence[str]) -> tuple[Any, str]:
    """Return groups from a column of duplicate clusters; an empty one is a group of its own.

    Examples
    --------
    >>> groups_of_duplicates(["", "7", "7", " "], ["a", "b", "c", "d"])
    (array(['a', '7', '7', 'd'], dtype='<U1'), 'near-duplicate')
    """
    clusters = [cluster.strip() for cluster in dup_group]
    groups = np.array([c or name for c, name in zip(clusters, filenames, strict=True)])
    return groups, "near-duplicate" if any(clusters) else "none"


def refuse_unknown_labels(
    names: Sequence[str], target: Sequence[str], classes: Mapping[str, str]
) -> None:
    """Refuse a label that is none of the set's, and name the file that has it."""
    for name, label in zip(names, target, strict=True):
        if label not in classes:
            raise ValueError(
                f"{name} has the label {label!r}; known in this set are {', '.join(classes)}."
            )
