"""AML cytomorphology of Munich (TCIA)."""

import os

from sklearn.utils import Bunch

from hemaest.datasets._class_folders import load_class_folders

CLASSES = {
    "BAS": "basophil",
    "EBO": "erythroblast",
    "EOS": "eosinophil",
    "KSC": "smudge cell",
    "LYA": "atypical lymphocyte",
    "LYT": "lymphocyte",
    "MMZ": "metamyelocyte",
    "MOB": "monoblast",
    "MON": "monocyte",
    "MYB": "myelocyte",
    "MYO": "myeloblast",
    "NGB": "band neutrophil",
    "NGS": "segmented neutrophil",
    "PMB": "bilobed promyelocyte",
    "PMO": "promyelocyte",
}
LAYOUT = "folders by class with files such as MYO/MYO_0001.tiff"
DESCR = """
18,365 cells of peripheral smears of 100 patients with acute myeloid leukemia and 100 without,
400 x 400 pixels, RGBA TIFF. Which patient a cell is from was not released, so a score is at image
level. License: CC BY 3.0.

Matek C. et al. (2019), Human-level recognition of blast cells in acute myeloid leukaemia with
convolutional neural networks, Nature Machine Intelligence 1, 538-544; doi
10.7937/tcia.2019.36f5o9ld.
"""


def load_aml_matek(path: str | os.PathLike[str], *, verify: bool = False) -> Bunch:
    """Load the AML cytomorphology cells (15 classes).

    Parameters
    ----------
    path : str or path-like
        The folder with one folder for each class.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target`` (abbreviations), ``class_names`` (full words), ``groups``,
        ``group_source``, ``filenames``, ``DESCR``, ``failures``.

    Examples
    --------
    >>> load_aml_matek("nowhere")
    Traceback (most recent call last):
    ...
    FileNotFoundError: nowhere is no folder. Expected: folders by class with files such as ...
    """
    return load_class_folders(path, CLASSES, layout=LAYOUT, descr=DESCR, verify=verify)
