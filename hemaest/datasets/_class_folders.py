"""Sets that keep each class in a folder, in parts (train, test) or not: one loader for them all."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    image_files,
    layout_error,
    relative_names,
    subfolder,
)


def files_of_classes(folder: Path, classes: Mapping[str, str]) -> tuple[list[Path], list[str]]:
    """Return the files that lie under a folder named after a class, and their labels.

    Names of folders are compared without regard to case; the label is written as in `classes`.
    """
    known = {name.lower(): name for name in classes}
    files, target = [], []
    for file in image_files(folder):
        on_the_way = file.relative_to(folder).parts[:-1]
        label = next((known[p.lower()] for p in reversed(on_the_way) if p.lower() in known), None)
        if label is not None:
            files.append(file)
            target.append(label)
    return files, target


def load_class_folders(
    path: str | os.PathLike[str],
    classes: Mapping[str, str],
    *,
    layout: str,
    descr: str,
    groups: Callable[[list[str]], tuple[Any, str]] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    chosen: str = "all",
    **more: Any,
) -> Bunch:
    """Load a set that keeps each class in a folder, in parts (train, test) or not.

    Parameters
    ----------
    path : path
        The folder of the set.
    classes : dict
        Name of a class folder -> full words.
    layout, descr : str
        What is expected, for errors; what the set is.
    groups : callable, optional
        Takes the relative names and returns groups and how they are known.
    parts : dict, optional
        Name of a part -> names that its folder goes by.
    chosen : str, default="all"
        A part.
    **more : arrays
        Further entries of the Bunch.
    """
    folder = existing_folder(path, layout)
    files: list[Path] = []
    target: list[str] = []
    subset: list[str] = []
    for part, root in _parts(folder, parts, chosen).items():
        if root is not None:
            found, labels = files_of_classes(root, classes)
            files += found
            target += labels
            subset += [part] * len(found)
    if not files:
        raise layout_error(folder, layout)
    names = relative_names(folder, files)
    found_groups, source = groups(names) if groups else (np.array(names), "none")
    if parts is not None:
        more["subset"] = np.array(subset)
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: classes[label] for label in classes if label in set(target)},
        groups=found_groups,
        group_source=source,
        descr=descr,
        **more,
    )


def _parts(
    folder: Path, parts: Mapping[str, Sequence[str]] | None, chosen: str
) -> dict[str, Path | None]:
    if parts is None:
        return {"all": folder}
    if chosen != "all" and chosen not in parts:
        allowed = ", ".join(map(repr, ["all", *parts]))
        raise ValueError(f"subset={chosen!r}; it must be one of {allowed}.")
    wanted = parts if chosen == "all" else {chosen: parts[chosen]}
    return {part: subfolder(folder, *names) for part, names in wanted.items()}
