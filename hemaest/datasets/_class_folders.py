"""Images with one folder for each class: any such folder, and the engine of sets laid out so.

``load_image_folder`` is for users. ``_class_folder_sets`` and ``_table_sets`` call the rest.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from hemaest._words import some
from hemaest.datasets._image_files import (
    Listing,
    folder_key,
    image_files,
    list_files,
    subfolder,
)
from hemaest.datasets._loading import (
    ImageSet,
    existing_folder,
    image_bunch,
    layout_error,
    relative_names,
)
from hemaest.groups import infer_groups


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    groups: str | Sequence[Any] | None = "infer",
    verify: bool = False,
) -> Bunch:
    """Load a folder with one subfolder for each class.

    Hidden files, ``Thumbs.db`` and files that are not images are skipped. Images are not read
    yet: each is an :class:`~hemaest.images.ImageRef`.

    Parameters
    ----------
    path : str or path-like
        The folder. An image's label is the name of the first folder on the way to it.
    groups : {"infer"}, regular expression, sequence or None, default="infer"
        What must stay together in a split. ``"infer"`` looks for a known rule in the file names;
        another string is a regular expression whose first group is used; a sequence gives the
        groups themselves, one for each file (broken ones too) in the order of ``filenames``
        without ``verify``; None makes every image its own group.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``, with everything else that is left out: other image formats, folders
        that cannot be read. Images are read again when they are used.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names``, ``groups``, ``group_source``, ``filenames``,
        ``DESCR``; with ``verify`` also ``failures``, a DataFrame of file and reason, and
        ``others``: how many files of which kinds are no images.

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
    found = list_files(folder) if verify else Listing(image_files(folder), {}, Counter())
    loose = [f for f in found.files if f.parent == folder]
    files = [f for f in found.files if f.parent != folder]
    if not files:
        raise layout_error(folder, layout)
    if loose and not verify:
        warnings.warn(
            f"{len(loose)} image(s) lie in {folder} itself, in no folder of a class, and are left "
            f"out: {some([f.name for f in loose])}.",
            stacklevel=2,
        )
    names = relative_names(folder, files)
    target = [name.split("/", 1)[0] for name in names]
    bunch = image_bunch(
        folder,
        files,
        target,
        class_names={label: label for label in sorted(set(target))},
        groups=groups_given(groups, names),
        descr="",
        verify=verify,
        left_out={**found.left_out, **dict.fromkeys(loose, "it lies in no folder of a class.")},
    )
    bunch.others = found.others_in_words()
    n_classes = len(set(bunch.target))
    bunch.DESCR = f"{len(bunch.images)} images of {n_classes} classes in {folder.name}/"
    return bunch


def groups_given(
    groups: str | Sequence[Any] | None, names: Sequence[str]
) -> tuple[NDArray[Any], str]:
    """Return the groups of files by name, and how they are known; see `load_image_folder`."""
    if groups is None:
        return np.array(names), "none"
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


def load_class_folders(
    path: str | os.PathLike[str],
    image_set: ImageSet,
    *,
    groups: Callable[[list[str]], tuple[Any, str]] | None = None,
    only: Collection[str] | None = None,
    subset: str = "all",
    verify: bool = False,
) -> Bunch:
    """Load a set that keeps each class in a folder, in parts (train, test) or not.

    Parameters
    ----------
    path : path
        The folder of the set.
    image_set : ImageSet
        What is expected there.
    groups : callable, optional
        Takes the relative names and returns groups and how they are known.
    only : collection of str, optional
        The classes wanted, where not all are.
    subset : str, default="all"
        A part.
    verify : bool, default=False
        Read every file once, and list those that are broken.
    """
    folder = existing_folder(path, image_set.layout)
    files: list[Path] = []
    target: list[str] = []
    parts: list[str] = []
    for part, root in _part_folders(folder, image_set, subset).items():
        for file, label in zip(*files_of_classes(root, image_set), strict=True):
            if only is None or label in only:
                files.append(file)
                target.append(label)
                parts.append(part)
    if not files:
        raise layout_error(folder, image_set.layout)
    names = relative_names(folder, files)
    present = set(target)
    more: dict[str, Any] = {"subset": parts} if image_set.parts else {}
    return image_bunch(
        folder,
        files,
        target,
        class_names={k: words for k, words in image_set.classes.items() if k in present},
        groups=groups(names) if groups else (np.array(names), "none"),
        descr=image_set.descr,
        verify=verify,
        **more,
    )


def _part_folders(folder: Path, image_set: ImageSet, subset: str) -> dict[str, Path]:
    parts = image_set.parts
    if not parts:
        return {"all": folder}
    if subset != "all" and subset not in parts:
        allowed = ", ".join(map(repr, ["all", *parts]))
        raise ValueError(f"subset={subset!r}; it must be one of {allowed}.")
    wanted = [p for p in parts if p not in image_set.repeated] if subset == "all" else [subset]
    roots = {part: subfolder(folder, parts[part]) for part in wanted}
    return {part: root for part, root in roots.items() if root is not None}


def files_of_classes(folder: Path, image_set: ImageSet) -> tuple[list[Path], list[str]]:
    """Return the files that lie under a folder named after a class, and their labels.

    A folder may have the label, its full words or a synonym, in the plural too, whatever the case;
    the label is written as in `image_set`. Images elsewhere are left out with a warning.
    """
    known = _labels_of_folders(image_set.classes, image_set.synonyms)
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
        _warn_of_elsewhere(elsewhere, image_set.classes)
    return files, target


def _labels_of_folders(classes: Mapping[str, str], synonyms: Mapping[str, str]) -> dict[str, str]:
    names = {folder_key(words): label for label, words in classes.items()}
    names |= {folder_key(name): label for name, label in synonyms.items()}
    names |= {folder_key(label): label for label in classes}
    return {f"{name}s": label for name, label in names.items()} | names


def _warn_of_elsewhere(elsewhere: Counter[str], classes: Mapping[str, str]) -> None:
    folders = [f"{name}/ ({count})" for name, count in elsewhere.most_common()]
    warnings.warn(
        f"{elsewhere.total()} image(s) lie in no folder of a class and are left out: "
        f"{some(folders, limit=8)}. Classes are {', '.join(classes)}: rename a folder that is one "
        "of them.",
        stacklevel=4,
    )
