"""The Taleqani set of B-ALL blood films."""

import os

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
from hemaest.datasets._tree import subfolder

CLASSES = {
    "Benign": "benign (hematogones)",
    "Early": "early pre-B lymphoblastic leukemia",
    "Pre": "pre-B lymphoblastic leukemia",
    "Pro": "pro-B lymphoblastic leukemia",
}
LAYOUT = (
    "the folders Benign, Early, Pre and Pro (in Original/ or not), with files such as "
    "Pre/WBC-Malignant-Pre-001.jpg"
)
DESCR = """
Fields of peripheral blood films of 89 patients suspected of acute lymphoblastic leukemia, Taleqani
Hospital, Tehran, 224 x 224 pixels. Which patient a field is from was not released, so a score on
them is at image level; some fields are near-duplicates of one another. Color alone separates the
classes almost wholly: always read a score beside the color-only control. The download also holds
the same fields as its authors segmented them, which are not loaded beside the originals. License:
not stated in the download; the authors ask to be cited, and can give you more information.

Aria M. et al. (2021), Acute lymphoblastic leukemia (ALL) image dataset, doi
10.34740/KAGGLE/DSV/2175623. Ghaderzadeh M. et al. (2022), A fast and efficient CNN model for B-ALL
diagnosis and its subtypes classification using peripheral blood smear images, International
Journal of Intelligent Systems 37, 5113-5133; doi 10.1002/int.22753.
"""


def load_taleqani(path: str | os.PathLike[str], *, verify: bool = False) -> Bunch:
    """Load the fields of B-ALL blood films (Benign, Early, Pre, Pro).

    Parameters
    ----------
    path : str or path-like
        The folder with the four class folders, or the one with Original and Segmented in it, of
        which Original is taken: both show the same fields. A ``labels.csv`` there (file, label,
        dup_group) is used, and its clusters of near-duplicates become the groups.
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
    >>> (folder / "Pre").mkdir()
    >>> Image.new("RGB", (224, 224), "white").save(folder / "Pre" / "WBC-Malignant-Pre-001.jpg")
    >>> load_taleqani(folder).target
    array(['Pre'], dtype='<U3')
    """
    folder = existing_folder(path, LAYOUT)
    labels = folder / "labels.csv"
    if labels.is_file():
        table = read_label_table(labels, ["file", "label", "dup_group"])
        files = [folder / name for name in table["file"]]
        target = table["label"].tolist()
        groups, source = groups_of_duplicates(table["dup_group"], table["file"])
    else:
        files, target = files_of_classes(subfolder(folder, "Original") or folder, CLASSES)
        groups, source = relative_names(folder, files), "none"
    if not files:
        raise layout_error(folder, LAYOUT)
    refuse_unknown_labels(relative_names(folder, files), target, CLASSES)
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: CLASSES[label] for label in sorted(set(target))},
        groups=groups,
        group_source=source,
        descr=DESCR,
        verify=verify,
    )
