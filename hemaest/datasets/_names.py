"""Files by their names as people and machines write them, and names in messages."""

from collections.abc import Sequence
from pathlib import Path

from hemaest.datasets._folder import is_debris


def plain(name: str) -> str:
    """Return a name in lower case, without spaces, hyphens and underscores.

    Examples
    --------
    >>> plain("Class Labels of Dataset 1.csv") == plain("class_labels_of_dataset_1.CSV")
    True
    """
    return "".join(c for c in name.lower() if c not in " -_")


def files_with(folder: Path, extension: str) -> list[Path]:
    """Return the files of one extension at any depth, the shallowest first, without debris."""
    found = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() == extension
        and not any(is_debris(Path(part)) for part in file.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda file: (len(file.parts), file))


def tables_named(folder: Path, *names: str) -> list[Path]:
    """Return the CSV files of these names at any depth, compared by their plain form."""
    wanted = {plain(name) for name in names}
    return [file for file in files_with(folder, ".csv") if plain(file.name) in wanted]


def some(names: Sequence[object], limit: int = 5) -> str:
    """Return the first few names for a message.

    Examples
    --------
    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = ", ".join(map(str, names[:limit]))
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
