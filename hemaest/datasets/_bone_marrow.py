"""Bone marrow cytomorphology of the Munich Leukemia Laboratory (TCIA)."""

import os
from typing import Literal

from sklearn.utils import Bunch

from hemaest.datasets._class_folders import load_class_folders

CLASSES = {
    "ABE": "abnormal eosinophil",
    "ART": "artefact",
    "BAS": "basophil",
    "BLA": "blast",
    "EBO": "erythroblast",
    "EOS": "eosinophil",
    "FGC": "faggot cell",
    "HAC": "hairy cell",
    "KSC": "smudge cell",
    "LYI": "immature lymphocyte",
    "LYT": "lymphocyte",
    "MMZ": "metamyelocyte",
    "MON": "monocyte",
    "MYB": "myelocyte",
    "NGB": "band neutrophil",
    "NGS": "segmented neutrophil",
    "NIF": "not identifiable",
    "OTH": "other cell",
    "PEB": "proerythroblast",
    "PLM": "plasma cell",
    "PMO": "promyelocyte",
}
# the fourteen that have at least 2,700 images, as the ResNet-50 against ViT study took them
FOURTEEN = "ART BLA EBO EOS LYT MMZ MON MYB NGB NGS NIF PEB PLM PMO".split()
LAYOUT = "folders by class with files in thousands, such as BLA/0001-1000/BLA_00001.jpg"
DESCR = """
About 170,000 cells of bone marrow smears of 945 patients, May-Gruenwald-Giemsa or Pappenheim stain,
250 x 250 pixels, Munich Leukemia Laboratory. Which patient a cell is from was not released, so a
score is at image level. License: CC BY 4.0.

Matek C. et al. (2021), Highly accurate differentiation of bone marrow cell morphologies using deep
neural networks on a large image data set, Blood 138, 1917-1927; doi 10.7937/TCIA.AXH3-T579.
"""


def load_bone_marrow(
    path: str | os.PathLike[str],
    *,
    classes: Literal["21", "14"] = "21",
    verify: bool = False,
) -> Bunch:
    """Load the bone marrow cells (21 classes, or the 14 common ones).

    Parameters
    ----------
    path : str or path-like
        The folder with one folder for each class.
    classes : {"21", "14"}, default="21"
        All, or the fourteen of which there are at least 2,700 images.
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
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "BLA" / "0001-1000"
    >>> folder.mkdir(parents=True)
    >>> Image.new("RGB", (250, 250), "white").save(folder / "BLA_00001.jpg")
    >>> cells = load_bone_marrow(folder.parents[1])
    >>> cells.class_names[cells.target[0]]
    'blast'
    """
    if classes not in {"21", "14"}:
        raise ValueError(f"classes={classes!r}; it must be '21' (all) or '14' (the common ones).")
    only = None if classes == "21" else FOURTEEN
    return load_class_folders(path, CLASSES, layout=LAYOUT, descr=DESCR, only=only, verify=verify)
