"""Sets that keep each class in a folder, in parts (train, test) or not: one loader for them all."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from hemaest._words import some
from hemaest.datasets._folder import existing_folder, image_bunch, layout_error, relative_names
from hemaest.datasets._tree import folder_key, image_files, subfolder


def files_of_classes(
    folder: Path, classes: Mapping[str, str], synonyms: Mapping[str, str] | None = None
) -> tuple[list[Path], list[str]]:
    """Return the files that lie under a folder named after a class, and their labels.

    A folder may bear the label, its full words or a synonym, in the plural too, whatever the case;
    the label is written as in `classes`. Images elsewhere are left out with a warning.
    """
    known = _labels_of_folders(classes, synonyms or {})
    files, target = [], []
    elsewhere: Counter[str] = Counter()
    for file in image_files(folder):
        on_the_way = [folder_key(p) for p in file.relative_to(folder).parts[:-1]]
        label = next((known[key] for key in reversed(on_the_way) if key in known), None)
        if label is None:
            elsewhere[file.parent.relative_to(folder.parent).as_posix()] += 1
        else:
            files.append(file)
            target.append(label)
    if elsewhere:
        _warn_of(elsewhere, classes)
    return files, target


def _labels_of_folders(classes: Mapping[str, str], synonyms: Mapping[str, str]) -> dict[str, str]:
    names = {folder_key(words): label for label, words in classes.items()}
    names |= {folder_key(name): label for name, label in synonyms.items()}
    names |= {folder_key(label): label for label in classes}
    return {f"{name}s": label for name, label in names.items()} | names


def _warn_of(elsewhere: Counter[str], classes: Mapping[str, str]) -> None:
    folders = [f"{name}/ ({count})" for name, count in elsewhere.most_common()]
    warnings.warn(
        f"{elsewhere.total()} image(s) lie in no folder of a class and are left out: "
        f"{some(folders, limit=8)}. Classes are {', '.join(classes)}: rename a folder that is one "
        "of them.",
        stacklevel=4,
    )


def load_class_folders(
    path: str | os.PathLike[str],
    classes: Mapping[str, str],
    *,
    layout: str,
    descr: str,
    groups: Callable[[list[str]], tuple[Any, str]] | None = None,
    synonyms: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
    chosen: str = "all",
    repeated: Collection[str] = (),
    verify: bool = False,
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
    synonyms : dict, optional
        Another name of a class folder -> its label.
    only : collection of str, optional
        The classes wanted, where not all are.
    parts : dict, optional
        Name of a part -> names that its folder goes by.
    chosen : str, default="all"
        A part.
    repeated : collection of str, optional
        Parts that repeat images of other parts: "all" does not take them.
    verify : bool, default=False
        Read every file once, and list those that are broken.
    """
    folder = existing_folder(path, layout)
    files: list[Path] = []
    target: list[str] = []
    subset: list[str] = []
    for part, root in _parts(folder, parts, chosen, repeated).items():
        found = files_of_classes(root, classes, synonyms)
        for file, label in zip(*found, strict=True):
            if only is None or label in only:
                files.append(file)
                target.append(label)
                subset.append(part)
    if not files:
        raise layout_error(folder, layout)
    names = relative_names(folder, files)
    found_groups, source = groups(names) if groups else (np.array(names), "none")
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: classes[label] for label in classes if label in set(target)},
        groups=found_groups,
        group_source=source,
        descr=descr,
        verify=verify,
        **({} if parts is None else {"subset": subset}),
    )


def _parts(
    folder: Path,
    parts: Mapping[str, Sequence[str]] | None,
    chosen: str,
    repeated: Collection[str],
) -> dict[str, Path]:
    if parts is None:
        return {"all": folder}
    if chosen != "all" and chosen not in parts:
        allowed = ", ".join(map(repr, ["all", *parts]))
        raise ValueError(f"subset={chosen!r}; it must be one of {allowed}.")
    wanted = [p for p in parts if p not in repeated] if chosen == "all" else [chosen]
    roots = {part: subfolder(folder, *parts[part]) for part in wanted}
    return {part: root for part, root in roots.items() if root is not None}
