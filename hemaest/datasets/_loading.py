"""What the loaders of folders share: the expected layout, tables beside images, the Bunch.

``load_image_folder`` and the loaders of public sets call it.
"""

import os
import posixpath
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest._words import some
from hemaest.datasets._image_files import (
    failure_table,
    image_files,
    image_refs,
    is_debris,
    reasons_unreadable,
)
from hemaest.images import to_object_array

# paragraphs that the docstrings of loaders share
SHARED_DOCS = {
    "verify": """
        verify : bool, default=False
            Read every file once (some milliseconds each), leave out those that are broken, and list
            them in ``failures``.
        """,
}


@dataclass(frozen=True)
class ImageSet:
    """What a public set holds, and how its folder is laid out.

    Parameters
    ----------
    classes : dict
        Label -> full words.
    layout : str
        What its folder looks like, for errors.
    descr : str
        What the set is, with license and citation.
    synonyms : dict
        Another name of a class folder -> its label.
    parts : dict
        Name of a part (train, test) -> name of its folder; empty where a set has no parts.
    repeated : tuple of str
        Parts that show images of other parts again: "all" does not include them.
    """

    classes: Mapping[Any, str]
    layout: str
    descr: str
    synonyms: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()


def image_bunch(
    folder: Path,
    files: Sequence[Path],
    target: Sequence[Any],
    *,
    class_names: Mapping[Any, str],
    groups: tuple[Any, str],
    descr: str,
    verify: bool = False,
    left_out: Mapping[Path, str] | None = None,
    **more: Any,
) -> Bunch:
    """Return the Bunch that every loader returns.

    ``target``, the groups and each entry of ``more`` hold one value for each file; ``groups`` is
    those values and how they are known. With ``verify`` every file is read once, and what cannot
    be read is left out of all of them and listed, after what was ``left_out`` before.
    """
    names = relative_names(folder, files)
    reasons = reasons_unreadable(files) if verify else [""] * len(files)
    before = left_out or {}
    failures = failure_table(
        [*relative_names(folder, before), *names], [*before.values(), *reasons]
    )
    kept = np.array([not reason for reason in reasons], dtype=bool)
    if files and not kept.any():
        raise ValueError(f"none of the images in {folder} can be read:\n{failures.to_string()}")
    return Bunch(
        images=to_object_array(image_refs([f for f, k in zip(files, kept, strict=True) if k])),
        target=np.asarray(target)[kept],
        class_names=dict(class_names),
        groups=np.asarray(groups[0])[kept],
        group_source=groups[1],
        filenames=[name for name, k in zip(names, kept, strict=True) if k],
        DESCR=descr.strip(),
        failures=failures,
        **{name: np.asarray(values)[kept] for name, values in more.items()},
    )


def relative_names(folder: Path, files: Iterable[Path]) -> list[str]:
    """Return names below the folder, with forward slashes everywhere.

    Bytes of a name that are no text are written out, since tables and reports hold text.
    """
    names = (f.relative_to(folder).as_posix() for f in files)
    return [name.encode(errors="backslashreplace").decode() for name in names]


def own_groups(folder: Path, files: Iterable[Path]) -> tuple[np.ndarray, str]:
    """Return each file as a group of its own, for a set whose groups are not known."""
    return np.array(relative_names(folder, files)), "none"


def existing_folder(path: str | os.PathLike[str], layout: str) -> Path:
    """Return the folder, or an error that describes what was expected there."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file and no folder; give the folder around it" if folder.is_file() else ""
        raise FileNotFoundError(f"{folder} {what or 'is no folder'}. Expected: {layout}")
    return folder


def layout_error(folder: Path, layout: str) -> FileNotFoundError:
    """Return the error for a folder that is laid out otherwise than expected."""
    return FileNotFoundError(
        f"{folder} does not have the expected layout.\nExpected: {layout}\n"
        f"Found: {_describe_content(folder)}."
    )


def _describe_content(folder: Path) -> str:
    """Return the first few names in a folder, for an error about its layout."""
    names = sorted(
        p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if not is_debris(p.name)
    )
    if not names:
        return "nothing (the folder is empty)"
    return some(names, limit=8)


def read_table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    r"""Return a CSV file as strings without spaces around them, empty where nothing stands.

    A file that is no such table, or lacks one of the columns, is named with what is wrong.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
    >>> _ = path.write_text("file, label\n1.png, blast \n")
    >>> read_table(path, ["label"])["label"].tolist()
    ['blast']
    """
    try:
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty; copy it again.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not written in UTF-8 ({error}); save it as UTF-8.") from error
    except pd.errors.ParserError as error:
        raise ValueError(
            f"{path} cannot be read as a table with commas ({str(error).strip()}); put texts that "
            "hold commas in quotes, or save it as CSV again."
        ) from error
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(
            f"{path} has more cells in its rows than names in its header; correct the header."
        )
    table.columns = table.columns.str.strip()
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise ValueError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns)}. "
            "The first row must hold the names, with commas between them."
        )
    if table.empty:
        raise ValueError(f"{path} holds no row below its header; copy it again, or remove it.")
    return table.fillna("").apply(lambda column: column.str.strip())


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
            stacklevel=4,
        )
    _warn_of_unlisted(path, once["file"])
    return once.reset_index(drop=True)


def _refuse_contradictions(path: Path, table: pd.DataFrame) -> None:
    clash = table["file"][table["file"].duplicated()].unique()
    if len(clash):
        rows = table[table["file"] == clash[0]].drop(columns="file").to_dict("records")
        raise ValueError(
            f"{path} says different things of {len(clash)} file(s), the first being {clash[0]}: "
            f"{' and '.join(map(str, rows))}. Keep one row for each file."
        )


def _warn_of_unlisted(path: Path, listed: Iterable[str]) -> None:
    there = {file.relative_to(path.parent).as_posix() for file in image_files(path.parent)}
    unlisted = sorted(there - set(listed))
    if unlisted:
        warnings.warn(
            f"{len(unlisted)} image(s) in {path.parent} are in no row of {path.name} and are left "
            f"out: {some(unlisted)}. Give them a row, or remove the table to take labels from the "
            "folders.",
            stacklevel=5,
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
