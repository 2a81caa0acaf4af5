"""Folders of images: listing, labels from folder names, one Bunch for all loaders."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from hemaest._words import some
from hemaest.datasets._tree import image_files, is_debris
from hemaest.datasets._verify import failure_table, image_refs, reasons_unreadable
from hemaest.groups import infer_groups
from hemaest.images import to_object_array


def existing_folder(path: str | os.PathLike[str], layout: str) -> Path:
    """Return the folder, or an error that describes what was expected there."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file and no folder; give the folder around it" if folder.is_file() else ""
        raise FileNotFoundError(f"{folder} {what or 'is no folder'}. Expected: {layout}")
    return folder


def describe_content(folder: Path) -> str:
    """Return the first few names in a folder, for an error about its layout."""
    names = sorted(
        p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if not is_debris(p)
    )
    if not names:
        return "nothing (the folder is empty)"
    return some(names, limit=8)


def layout_error(folder: Path, layout: str) -> FileNotFoundError:
    """Return the error for a folder that is laid out otherwise than expected."""
    return FileNotFoundError(
        f"{folder} does not have the expected layout.\nExpected: {layout}\n"
        f"Found: {describe_content(folder)}."
    )


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


def image_bunch(
    folder: Path,
    files: Sequence[Path],
    target: Sequence[Any],
    *,
    class_names: Mapping[Any, str],
    groups: Any,
    group_source: str,
    descr: str,
    verify: bool = False,
    **more: Any,
) -> Bunch:
    """Return the Bunch that every loader returns.

    ``target``, ``groups`` and each entry of ``more`` hold one value for each file. With ``verify``
    every file is read once, and what cannot be read is left out of all of them and listed.
    """
    names = relative_names(folder, files)
    reasons = reasons_unreadable(files) if verify else [""] * len(files)
    failures = failure_table(names, reasons)
    kept = np.array([not reason for reason in reasons], dtype=bool)
    if files and not kept.any():
        raise ValueError(f"none of the images in {folder} can be read:\n{failures.to_string()}")
    return Bunch(
        images=to_object_array(image_refs([f for f, k in zip(files, kept, strict=True) if k])),
        target=np.asarray(target)[kept],
        class_names=dict(class_names),
        groups=np.asarray(groups)[kept],
        group_source=group_source,
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


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    groups: str | Sequence[Any] | None = "infer",
    verify: bool = False,
) -> Bunch:
    """Load a folder with one subfolder for each class.

    Hidden files, ``Thumbs.db`` and files that are no images are passed over. Images are not read
    yet: each is an :class:`~hemaest.images.ImageRef`.

    Parameters
    ----------
    path : str or path-like
        The folder. An image's label is the name of the first folder on the way to it.
    groups : {"infer"}, regular expression, sequence or None, default="infer"
        What must stay together in a split. ``"infer"`` looks for a known rule in the file names;
        another string is a regular expression whose first group is taken; a sequence gives the
        groups themselves, one for each file (broken ones too) in the order of ``filenames``
        without ``verify``; None makes every image its own group.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``. Images are read again when they are used.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names``, ``groups``, ``group_source``, ``filenames``,
        ``DESCR``, and ``failures``: a DataFrame of file and reason.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for label in ["blast", "lymphocyte"]:
    ...     (folder / label).mkdir()
    ...     Image.new("RGB", (8, 8), "white").save(folder / label / "1.png")
    >>> cells = load_image_folder(folder)
    >>> cells.target
    array(['blast', 'lymphocyte'], dtype='<U10')
    """
    layout = "one subfolder for each class, with images inside: FOLDER/<class>/<image>.jpg"
    folder = existing_folder(path, layout)
    files = image_files(folder)
    loose = [f.name for f in files if f.parent == folder]
    files = [f for f in files if f.parent != folder]
    if not files:
        raise layout_error(folder, layout)
    if loose:
        warnings.warn(
            f"{len(loose)} image(s) lie in {folder} itself, in no folder of a class, and are left "
            f"out: {some(loose)}.",
            stacklevel=2,
        )
    names = relative_names(folder, files)
    target = [name.split("/", 1)[0] for name in names]
    found, source = _groups(groups, names)
    bunch = image_bunch(
        folder,
        files,
        target,
        class_names={label: label for label in sorted(set(target))},
        groups=found,
        group_source=source,
        descr="",
        verify=verify,
    )
    n_classes = len(set(bunch.target))
    bunch.DESCR = f"{len(bunch.images)} images of {n_classes} classes in {folder.name}/"
    return bunch


def _groups(groups: Any, names: list[str]) -> tuple[NDArray[Any], str]:
    if groups is None:
        return np.asarray(names), "none"
    return given_groups(groups, names)


def given_groups(groups: Any, names: list[str]) -> tuple[NDArray[Any], str]:
    """Return groups that a user gave, as a sequence or as a rule for the file names."""
    if isinstance(groups, str):
        rule = "auto" if groups == "infer" else groups
        return infer_groups(names, rule, return_source=True)
    if len(groups) != len(names):
        raise ValueError(
            f"groups has {len(groups)} entries, but there are {len(names)} images: give one for "
            "each file, those that cannot be read included, in the order of `filenames` as they "
            "are with verify=False."
        )
    return np.asarray(groups), "given"
