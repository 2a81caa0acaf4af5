"""Raabin-WBC: five types, two microscopes."""

import os
from typing import Literal

from sklearn.utils import Bunch

from hemaest.datasets._class_folders import load_class_folders
from hemaest.groups import infer_groups

CLASSES = {
    "Basophil": "basophil",
    "Eosinophil": "eosinophil",
    "Lymphocyte": "lymphocyte",
    "Monocyte": "monocyte",
    "Neutrophil": "neutrophil",
}
PARTS = {
    "train": ("Train",),
    "testA": ("TestA",),
    "testB": ("TestB",),
}
LAYOUT = "Train/, TestA/ and TestB/, each with folders such as Basophil/ and Neutrophil/"
DESCR = """
White blood cells of normal peripheral smears, Giemsa stain, cropped and named by two experts.
Train and Test A are from one microscope and camera, Test B from another: a score on Test A says
little about another laboratory. File names begin with their smear or day, which is the group.
License: called a free access dataset by its authors, who state no terms in the download; ask them
before you pass images on.

Mousavi Kouzehkanan Z. et al. (2022), A large dataset of white blood cells containing cell locations
and types, along with segmented nuclei and cytoplasm, Scientific Reports 12, 1123; the images are
at raabindata.com/free-data.
"""


def load_raabin(
    path: str | os.PathLike[str],
    *,
    subset: Literal["all", "train", "testA", "testB"] = "all",
    verify: bool = False,
) -> Bunch:
    """Load Raabin-WBC (basophil, eosinophil, lymphocyte, monocyte, neutrophil).

    Parameters
    ----------
    path : str or path-like
        The folder that holds Train, TestA and TestB.
    subset : {"all", "train", "testA", "testB"}, default="all"
        Which part; Test B comes from another microscope.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names``, ``groups`` (smears; a file whose name
        has none is a group of its own, with a warning), ``group_source``, ``subset``,
        ``filenames``, ``DESCR``, ``failures``.

    Examples
    --------
    >>> load_raabin("nowhere")
    Traceback (most recent call last):
    ...
    FileNotFoundError: nowhere is no folder. Expected: Train/, TestA/ and TestB/, ...
    """
    return load_class_folders(
        path,
        CLASSES,
        layout=LAYOUT,
        descr=DESCR,
        groups=lambda names: infer_groups(names, "raabin", unmatched="own", return_source=True),
        parts=PARTS,
        chosen=subset,
        verify=verify,
    )
