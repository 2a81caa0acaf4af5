"""The Barcelona set of peripheral blood cells."""

import os
from typing import Literal

from sklearn.utils import Bunch

from hemaest.datasets._class_folders import files_of_classes
from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    layout_error,
    relative_names,
)
from hemaest.datasets._label_table import (
    groups_of_duplicates,
    read_label_table,
    refuse_unknown_labels,
)

TYPES = {
    "basophil": "basophil",
    "eosinophil": "eosinophil",
    "erythroblast": "erythroblast",
    "ig": "immature granulocyte",
    "lymphocyte": "lymphocyte",
    "monocyte": "monocyte",
    "neutrophil": "neutrophil",
    "platelet": "platelet",
}
SUBTYPES = {
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
LAYOUT = (
    "one folder for each of " + ", ".join(TYPES) + ", with files such as basophil/BA_101381.jpg"
)
DESCR = """
Peripheral blood cells of normal individuals, imaged by a CellaVision DM96 at the Hospital Clinic of
Barcelona, stained with May-Gruenwald-Giemsa, about 360 x 363 pixels, named by clinical
pathologists.
No patient is named in the files. License: CC BY 4.0.

Acevedo A. et al. (2020), A dataset of microscopic peripheral blood cell images for development of
automatic recognition systems, Data in Brief 30, 105474.
"""


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
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``.

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
    folder = existing_folder(path, LAYOUT)
    labels = folder / "labels.csv"
    if labels.is_file():
        table = read_label_table(labels, ["file", "label", "subtype", "dup_group"])
        files = [folder / name for name in table["file"]]
        target = table["label" if level == "type" else "subtype"].tolist()
        groups, source = groups_of_duplicates(table["dup_group"], table["file"])
    else:
        files, target = files_of_classes(folder, TYPES)
        if level == "subtype":
            target = [f.stem.split("_")[0] for f in files]
        groups, source = relative_names(folder, files), "none"
    if not files:
        raise layout_error(folder, LAYOUT)
    names = TYPES if level == "type" else SUBTYPES
    refuse_unknown_labels(relative_names(folder, files), target, names)
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: names[label] for label in sorted(set(target))},
        groups=groups,
        group_source=source,
        descr=DESCR,
        verify=verify,
    )
