"""C-NMC 2019: leukemic blasts against normal precursors, with subjects."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.utils import Bunch

from hemaest.datasets._class_folders import files_of_classes
from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    image_files,
    layout_error,
    read_table,
    subfolder,
)
from hemaest.groups import infer_groups

CLASSES = {"all": "acute lymphoblastic leukemia blast", "hem": "normal precursor (hematogone)"}
LAYOUT = (
    "C-NMC_training_data/fold_N/all and hem with files such as UID_1_1_1_all.bmp, and "
    "C-NMC_test_prelim_phase_data/ with C-NMC_test_prelim_phase_data_labels.csv"
)
DESCR = """
Cells of bone marrow smears, segmented on black, 450 x 450 pixels, Jenner-Giemsa stain, from 118
subjects; file names hold the subject, which is the group. Licence: CC BY 3.0.

Gupta A., Gupta R. (2019), ALL challenge dataset of ISBI 2019 (C-NMC 2019), TCIA, doi
10.7937/tcia.2019.dc64i46r.
"""


def load_cnmc(
    path: str | os.PathLike[str], *, subset: Literal["all", "train", "prelim"] = "all"
) -> Bunch:
    """Load C-NMC 2019 (all, hem) with subjects as groups.

    Parameters
    ----------
    path : str or path-like
        The folder of the challenge.
    subset : {"all", "train", "prelim"}, default="all"
        The training folds, the preliminary test phase (whose labels are in a table), or both.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target`` ("all", "hem"), ``class_names``, ``groups`` (subjects),
        ``group_source``, ``subset``, ``filenames``, ``DESCR``.

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
        root = subfolder(folder, "C-NMC_training_data") or folder
        files, target = files_of_classes(root, CLASSES)
        identity = [file.name for file in files]
    n_train = len(files)
    if subset != "train":
        for file, name, label in _preliminary(folder):
            files.append(file)
            identity.append(name)
            target.append(label)
    if not files:
        raise layout_error(folder, LAYOUT)
    groups, source = infer_groups(identity, "cnmc", return_source=True)
    return image_bunch(
        folder,
        files,
        target,
        class_names=CLASSES,
        groups=groups,
        group_source=source,
        descr=DESCR,
        subset=np.array(["train"] * n_train + ["prelim"] * (len(files) - n_train)),
    )


def _preliminary(folder: Path) -> list[tuple[Path, str, str]]:
    """Return file, original name (which holds the subject) and label of the preliminary phase."""
    tables = sorted(folder.rglob("C-NMC_test_prelim_phase_data_labels.csv"))
    if not tables:
        return []
    table = read_table(tables[0], ["Patient_ID", "new_names", "labels"])
    by_name = {f.name: f for f in image_files(tables[0].parent)}
    labels = {"1": "all", "0": "hem"}
    rows = zip(table["new_names"], table["Patient_ID"], table["labels"], strict=True)
    missing = [new for new, _, _ in rows if new not in by_name]
    if missing:
        raise FileNotFoundError(
            f"{tables[0]} names {len(missing)} images that are not beside it, the first being "
            f"{missing[0]}."
        )
    rows = zip(table["new_names"], table["Patient_ID"], table["labels"], strict=True)
    return [(by_name[new], original, labels[label]) for new, original, label in rows]
