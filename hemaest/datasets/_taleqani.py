"""The Taleqani set of B-ALL blood films."""

import os

from sklearn.utils import Bunch

from hemaest.datasets._class_folders import files_of_classes
from hemaest.datasets._folder import (
    existing_folder,
    groups_of_duplicates,
    image_bunch,
    layout_error,
    read_table,
    relative_names,
)

CLASSES = {
    "Benign": "benign (hematogones)",
    "Early": "early pre-B lymphoblastic leukemia",
    "Pre": "pre-B lymphoblastic leukemia",
    "Pro": "pro-B lymphoblastic leukemia",
}
LAYOUT = "the folders Benign, Early, Pre and Pro, with files such as Pre/WBC-Malignant-Pre-001.jpg"
DESCR = """
Fields of peripheral blood films of 89 patients suspected of acute lymphoblastic leukemia, Taleqani
Hospital, Tehran, 224 x 224 pixels. Which patient a field is from was not released, so a score on
them is at image level; some fields are near-duplicates of one another. Colour alone separates the
classes almost wholly: always read a score beside the colour-only control. Licence: see the
publishers' page.

Aria M. et al. (2021), Acute lymphoblastic leukemia (ALL) image dataset, doi
10.34740/KAGGLE/DSV/2175623. Ghaderzadeh M. et al. (2022), A fast and efficient CNN model for B-ALL
diagnosis and its subtypes classification using peripheral blood smear images, International
Journal of Intelligent Systems 37.
"""


def load_taleqani(path: str | os.PathLike[str]) -> Bunch:
    """Load the fields of B-ALL blood films (Benign, Early, Pre, Pro).

    Parameters
    ----------
    path : str or path-like
        The folder with the four class folders. A ``labels.csv`` there (file, label, dup_group) is
        used, and its clusters of near-duplicates become the groups.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names`` (full words), ``groups``, ``group_source``,
        ``filenames``, ``DESCR``.

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
    folder = existing_folder(path, LAYOUT)
    labels = folder / "labels.csv"
    if labels.is_file():
        table = read_table(labels, ["file", "label", "dup_group"])
        files = [folder / name for name in table["file"]]
        target = table["label"].tolist()
        groups, source = groups_of_duplicates(table["dup_group"], table["file"])
    else:
        files, target = files_of_classes(folder, CLASSES)
        groups, source = relative_names(folder, files), "none"
    if not files:
        raise layout_error(folder, LAYOUT)
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: CLASSES.get(label, label) for label in sorted(set(target))},
        groups=groups,
        group_source=source,
        descr=DESCR,
    )
