"""Which image files can be read: the rest of a set goes on, and the failures are listed."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hemaest._parallel import thread_pool
from hemaest._progress import track
from hemaest.images import ImageRef


def why_unreadable(file: Path) -> str:
    """Return why a file cannot be read as a color image; empty where it can.

    Examples
    --------
    >>> why_unreadable(Path("nowhere.png"))
    'nowhere.png cannot be read: No such file or directory.'
    """
    try:
        ImageRef(file).read()
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def reasons_unreadable(files: Sequence[Path]) -> list[str]:
    """Return for each file why it cannot be read; this reads and decodes them all."""
    with thread_pool() as pool:
        return list(track(pool.map(why_unreadable, files), "reading images", total=len(files)))


def failure_table(names: Sequence[str], reasons: Sequence[str]) -> pd.DataFrame:
    """Return the files that have a reason, as a table of file and reason."""
    rows = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason]
    return pd.DataFrame(rows, columns=["file", "reason"], dtype=str)


def image_refs(files: Sequence[Path]) -> list[ImageRef]:
    """Return references to the files; one that is gone is named, with the way out."""
    try:
        return [ImageRef(file) for file in files]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} It is a link to nowhere, or it is named in a table and is not in the folder; "
            "copy it again, or load with verify=True, which leaves out what cannot be read and "
            "lists it in `failures`."
        ) from error
