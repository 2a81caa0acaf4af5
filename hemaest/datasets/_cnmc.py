"""C-NMC 2019: leukemic blasts against normal precursors, with subjects."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest._words import some
from hemaest.datasets._class_folders import files_of_classes
from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    layout_error,
    read_table,
)
from hemaest.datasets._names import tables_named
from hemaest.datasets._tree import image_files, subfolder, walk
from hemaest.groups import infer_groups

CLASSES = {"all": "acute lymphoblastic leukemia blast", "hem": "normal precursor (hematogone)"}
# labels as the table of the preliminary phase writes them
LABELS = {"1": "all", "0": "hem", "all": "all", "hem": "hem"}
LAYOUT = (
    "C-NMC_training_data/fold_N/all and hem with files such as UID_1_1_1_all.bmp, and "
    "C-NMC_test_prelim_phase_data/ with C-NMC_test_prelim_phase_data_labels.csv"
)
DESCR = """
Cells of bone marrow smears, segmented on black, 450 x 450 pixels, Jenner-Giemsa stain, from 118
subjects; file names hold the subject, which is the group. License: CC BY 3.0.

Gupta A., Gupta R. (2019), ALL challenge dataset of ISBI 2019 (C-NMC 2019), TCIA, doi
10.7937/tcia.2019.dc64i46r.
"""


def load_cnmc(
    path: str | os.PathLike[str],
    *,
    subset: Literal["all", "train", "prelim"] = "all",
    verify: bool = False,
) -> Bunch:
    """Load C-NMC 2019 (all, hem) with subjects as groups.

    Parameters
    ----------
    path : str or path-like
        The folder of the challenge.
    subset : {"all", "train", "prelim"}, default="all"
        The training folds, the preliminary test phase (whose labels are in a table), or both.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``; so with those that the table names and that are not there.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target`` ("all", "hem"), ``class_names``, ``groups`` (subjects; a
        file whose name has none is a group of its own, with a warning),
        ``group_source``, ``subset``, ``filenames``, ``DESCR``, ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "C-NMC_training_data" / "fold_0"
    >>> for label, name in [("all", "UID_7_1_1_all"), ("hem", "UID_H3_1_1_hem")]:
    ...     (folder / label).mkdir(parents=True)
    ...     Image.new("RGB", (450, 450)).save(folder / label / f"{name}.bmp")
    >>> load_cnmc(folder.parents[1]).groups.tolist()
    ['7', 'H3']
    """
    if subset not in {"all", "train", "prelim"}:
        raise ValueError(f"subset={subset!r}; it must be 'all', 'train' or 'prelim'.")
    folder = existing_folder(path, LAYOUT)
    files: list[Path] = []
    target: list[str] = []
    identity: list[str] = []
    if subset != "prelim":
        root = _training_folder(folder)
        files, target = files_of_classes(root, CLASSES) if root else ([], [])
        identity = [file.name for file in files]
    n_train = len(files)
    if subset != "train":
        for file, name, label in _preliminary(folder, verify):
            files.append(file)
            identity.append(name)
            target.append(label)
    if not files:
        raise layout_error(folder, LAYOUT)
    groups, source = infer_groups(identity, "cnmc", unmatched="own", return_source=True)
    return image_bunch(
        folder,
        files,
        target,
        class_names=CLASSES,
        groups=groups,
        group_source=source,
        descr=DESCR,
        verify=verify,
        subset=np.array(["train"] * n_train + ["prelim"] * (len(files) - n_train)),
    )


def _training_folder(folder: Path) -> Path | None:
    """Return the folder of the training folds; None where only the preliminary phase is there."""
    named = subfolder(folder, "C-NMC_training_data", "training_data")
    if named is not None:
        return named
    has_classes = any(name.lower() in CLASSES for _, names, _ in walk(folder) for name in names)
    return folder if has_classes else None


def _preliminary(folder: Path, verify: bool) -> list[tuple[Path, str, str]]:
    """Return file, original name (which holds the subject) and label of the preliminary phase."""
    tables = tables_named(folder, "C-NMC_test_prelim_phase_data_labels")
    if not tables:
        return []
    table = read_table(tables[0], ["Patient_ID", "new_names", "labels"])
    _refuse_unknown(tables[0], table)
    files = _files_of(table["new_names"], tables[0].parent)
    missing = [name for name, file in zip(table["new_names"], files, strict=True) if file is None]
    if missing and not verify:
        raise FileNotFoundError(
            f"{tables[0]} names {len(missing)} images that are not beside it, the first being "
            f"{missing[0]!r}. Copy them there, or load with verify=True, which leaves them out and "
            "lists them in `failures`."
        )
    rows = zip(files, table["new_names"], table["Patient_ID"], table["labels"], strict=True)
    return [
        (file or tables[0].parent / name, original, LABELS[label.lower()])
        for file, name, original, label in rows
    ]


def _refuse_unknown(file: Path, table: pd.DataFrame) -> None:
    wrong = table[~table["labels"].str.lower().isin(LABELS)]
    if len(wrong):
        rows = [f"{row.new_names} {row.labels!r}" for row in wrong.itertuples()]
        raise ValueError(
            f"{file} holds {len(wrong)} label(s) that are none of {', '.join(LABELS)}: "
            f"{some(rows)}. Correct or remove these rows."
        )


def _files_of(names: Iterable[str], folder: Path) -> list[Path | None]:
    """Return the file of each name, else the one that differs in case or extension, or None."""
    files = image_files(folder)
    exact = {file.name: file for file in files}
    alike = {file.stem.lower(): file for file in files}
    found = [exact.get(name) or alike.get(Path(name).stem.lower()) for name in names]
    unnamed = sorted(file.name for file in set(files) - set(found))
    if unnamed:
        warnings.warn(
            f"{len(unnamed)} image(s) in {folder} are named by no row of the table there, and are "
            f"left out: {some(unnamed)}.",
            stacklevel=4,
        )
    return found
