"""Public sets whose labels or subjects are in tables or file names: PBC, Taleqani, C-NMC."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest._docs import fill_doc
from hemaest._words import some
from hemaest.datasets._class_folders import files_of_classes
from hemaest.datasets._image_files import image_files, subfolder, tables_named, walk
from hemaest.datasets._loading import (
    SHARED_DOCS,
    ImageSet,
    existing_folder,
    groups_of_duplicates,
    image_bunch,
    layout_error,
    own_groups,
    read_label_table,
    read_table,
    refuse_unknown_labels,
    relative_names,
)
from hemaest.groups import infer_groups

PBC = ImageSet(
    classes={
        "basophil": "basophil",
        "eosinophil": "eosinophil",
        "erythroblast": "erythroblast",
        "ig": "immature granulocyte",
        "lymphocyte": "lymphocyte",
        "monocyte": "monocyte",
        "neutrophil": "neutrophil",
        "platelet": "platelet",
    },
    layout=(
        "one folder for each of basophil, eosinophil, erythroblast, ig, lymphocyte, monocyte, "
        "neutrophil, platelet, with files such as basophil/BA_101381.jpg"
    ),
    descr="""
Peripheral blood cells of normal individuals, imaged by a CellaVision DM96 at the Hospital Clinic of
Barcelona, stained with May-Gruenwald-Giemsa, about 360 x 363 pixels, named by clinical
pathologists.
No patient is named in the files. License: CC BY 4.0.

Acevedo A. et al. (2020), A dataset of microscopic peripheral blood cell images for development of
automatic recognition systems, Data in Brief 30, 105474.
""",
)
PBC_SUBTYPES = {
    "BA": "basophil",
    "BNE": "band neutrophil",
    "EO": "eosinophil",
    "ERB": "erythroblast",
    "IG": "immature granulocyte, stage not given",
    "LY": "lymphocyte",
    "MMY": "metamyelocyte",
    "MO": "monocyte",
    "MY": "myelocyte",
    "NEUTROPHIL": "neutrophil, stage not given",
    "PLATELET": "platelet",
    "PMY": "promyelocyte",
    "SNE": "segmented neutrophil",
}


@fill_doc(**SHARED_DOCS)
def load_pbc(
    path: str | os.PathLike[str],
    *,
    level: Literal["type", "subtype"] = "type",
    verify: bool = False,
) -> Bunch:
    """Load the Barcelona peripheral blood cells (8 types, 11 fine types).

    Parameters
    ----------
    path : str or path-like
        The folder with one folder for each type. A ``labels.csv`` there (file, label, subtype,
        dup_group) is used; without it, labels come from folders and file names.
    level : {"type", "subtype"}, default="type"
        The folder's label (``ig``) or the file name's (``MMY``).
    %(verify)s

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names`` (full words), ``groups``, ``group_source``,
        ``filenames``, ``DESCR``, ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "ig").mkdir()
    >>> Image.new("RGB", (360, 363), "white").save(folder / "ig" / "MMY_1.jpg")
    >>> cells = load_pbc(folder, level="subtype")
    >>> cells.class_names[cells.target[0]]
    'metamyelocyte'
    """
    if level not in {"type", "subtype"}:
        raise ValueError(f"level={level!r}; it must be 'type' (8 types) or 'subtype' (fine types).")
    folder = existing_folder(path, PBC.layout)
    if (folder / "labels.csv").is_file():
        label = "label" if level == "type" else "subtype"
        files, target, groups = _from_label_table(folder, ["label", "subtype"], label)
    else:
        files, target = files_of_classes(folder, PBC)
        groups = own_groups(folder, files)
        if level == "subtype":
            target = [f.stem.split("_")[0] for f in files]
    names = PBC if level == "type" else replace(PBC, classes=PBC_SUBTYPES)
    return _labeled_bunch(folder, files, target, names, groups=groups, verify=verify)


TALEQANI = ImageSet(
    classes={
        "Benign": "benign (hematogones)",
        "Early": "early pre-B lymphoblastic leukemia",
        "Pre": "pre-B lymphoblastic leukemia",
        "Pro": "pro-B lymphoblastic leukemia",
    },
    layout=(
        "the folders Benign, Early, Pre and Pro (in Original/ or not), with files such as "
        "Pre/WBC-Malignant-Pre-001.jpg"
    ),
    descr="""
Fields of peripheral blood films of 89 patients suspected of acute lymphoblastic leukemia, Taleqani
Hospital, Tehran, 224 x 224 pixels. Which patient a field is from was not released, so a score on
them is at image level; some fields are near-duplicates of one another. Color alone separates the
classes almost wholly: always read a score beside the color-only control. The download also holds
the same fields as its authors segmented them, which are not loaded beside the originals. License:
not stated in the download; the authors ask to be cited, and know more.

Aria M. et al. (2021), Acute lymphoblastic leukemia (ALL) image dataset, doi
10.34740/KAGGLE/DSV/2175623. Ghaderzadeh M. et al. (2022), A fast and efficient CNN model for B-ALL
diagnosis and its subtypes classification using peripheral blood smear images, International
Journal of Intelligent Systems 37, 5113-5133; doi 10.1002/int.22753.
""",
)


@fill_doc(**SHARED_DOCS)
def load_taleqani(path: str | os.PathLike[str], *, verify: bool = False) -> Bunch:
    """Load the fields of B-ALL blood films (Benign, Early, Pre, Pro).

    Parameters
    ----------
    path : str or path-like
        The folder with the four class folders, or the one with Original and Segmented in it, of
        which Original is used: both show the same fields. A ``labels.csv`` there (file, label,
        dup_group) is used, and its clusters of near-duplicates become the groups.
    %(verify)s

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names`` (full words), ``groups``, ``group_source``,
        ``filenames``, ``DESCR``, ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "Pre").mkdir()
    >>> Image.new("RGB", (224, 224), "white").save(folder / "Pre" / "WBC-Malignant-Pre-001.jpg")
    >>> load_taleqani(folder).target
    array(['Pre'], dtype='<U3')
    """
    folder = existing_folder(path, TALEQANI.layout)
    if (folder / "labels.csv").is_file():
        files, target, groups = _from_label_table(folder, ["label"], "label")
    else:
        files, target = files_of_classes(subfolder(folder, "Original") or folder, TALEQANI)
        groups = own_groups(folder, files)
    return _labeled_bunch(folder, files, target, TALEQANI, groups=groups, verify=verify)


def _from_label_table(
    folder: Path, columns: list[str], label: str
) -> tuple[list[Path], list[str], tuple[Any, str]]:
    """Return files, labels (of one column) and groups from the ``labels.csv`` of a folder."""
    table = read_label_table(folder / "labels.csv", ["file", *columns, "dup_group"])
    files = [folder / name for name in table["file"]]
    groups = groups_of_duplicates(table["dup_group"], table["file"])
    return files, table[label].tolist(), groups


def _labeled_bunch(
    folder: Path,
    files: list[Path],
    target: list[str],
    image_set: ImageSet,
    *,
    groups: tuple[Any, str],
    verify: bool,
) -> Bunch:
    if not files:
        raise layout_error(folder, image_set.layout)
    refuse_unknown_labels(relative_names(folder, files), target, image_set.classes)
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: image_set.classes[label] for label in sorted(set(target))},
        groups=groups,
        descr=image_set.descr,
        verify=verify,
    )


CNMC = ImageSet(
    classes={"all": "acute lymphoblastic leukemia blast", "hem": "normal precursor (hematogone)"},
    layout=(
        "C-NMC_training_data/fold_N/all and hem with files such as UID_1_1_1_all.bmp, and "
        "C-NMC_test_prelim_phase_data/ with C-NMC_test_prelim_phase_data_labels.csv"
    ),
    descr="""
Cells of bone marrow smears, segmented on black, 450 x 450 pixels, Jenner-Giemsa stain, from 118
subjects; file names hold the subject, which is the group. License: CC BY 3.0.

Gupta A., Gupta R. (2019), ALL challenge dataset of ISBI 2019 (C-NMC 2019), TCIA, doi
10.7937/tcia.2019.dc64i46r.
""",
)
# labels as the table of the preliminary phase writes them
CNMC_LABELS = {"1": "all", "0": "hem", "all": "all", "hem": "hem"}


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
        file whose name holds none is a group of its own, with a warning),
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
    folder = existing_folder(path, CNMC.layout)
    files: list[Path] = []
    target: list[str] = []
    identity: list[str] = []
    if subset != "prelim":
        root = _training_folder(folder)
        files, target = files_of_classes(root, CNMC) if root else ([], [])
        identity = [file.name for file in files]
    n_train = len(files)
    if subset != "train":
        for file, name, label in _preliminary(folder, verify):
            files.append(file)
            identity.append(name)
            target.append(label)
    if not files:
        raise layout_error(folder, CNMC.layout)
    return image_bunch(
        folder,
        files,
        target,
        class_names=CNMC.classes,
        groups=infer_groups(identity, "cnmc", unmatched="own", return_source=True),
        descr=CNMC.descr,
        verify=verify,
        subset=np.array(["train"] * n_train + ["prelim"] * (len(files) - n_train)),
    )


def _training_folder(folder: Path) -> Path | None:
    """Return the folder of the training folds; None where only the preliminary phase is there."""
    named = subfolder(folder, "C-NMC_training_data", "training_data")
    if named is not None:
        return named
    has_classes = any(
        name.lower() in CNMC.classes for _, names, _ in walk(folder) for name in names
    )
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
        (file or tables[0].parent / name, original, CNMC_LABELS[label.lower()])
        for file, name, original, label in rows
    ]


def _refuse_unknown(file: Path, table: pd.DataFrame) -> None:
    wrong = table[~table["labels"].str.lower().isin(CNMC_LABELS)]
    if len(wrong):
        rows = [f"{row.new_names} {row.labels!r}" for row in wrong.itertuples()]
        raise ValueError(
            f"{file} holds {len(wrong)} label(s) that are none of {', '.join(CNMC_LABELS)}: "
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
