"""The Kaggle set of turned copies of about 350 photographs."""

import os
from typing import Literal

from sklearn.utils import Bunch

from hemaest.datasets._class_folders import load_class_folders
from hemaest.groups import infer_groups

CLASSES = {
    "EOSINOPHIL": "eosinophil",
    "LYMPHOCYTE": "lymphocyte",
    "MONOCYTE": "monocyte",
    "NEUTROPHIL": "neutrophil",
}
PARTS = {"train": ("TRAIN",), "test": ("TEST",), "test_simple": ("TEST_SIMPLE",)}
LAYOUT = "TRAIN/ and TEST/, each with EOSINOPHIL, LYMPHOCYTE, MONOCYTE and NEUTROPHIL folders"
DESCR = """
About 12,400 images of 320 x 240 pixels, made by rotating and mirroring about 350 photographs
(those of the BCCD set). TRAIN and TEST come from different photographs, TEST from only 71; a random
split of TRAIN puts copies of one photograph on both sides. All copies of a photograph are one group
here. TEST_SIMPLE holds the photographs of TEST again, not turned: it is loaded by its name only,
and is no set of its own beside TEST.
License: MIT.

Mooney P. (2018), Blood cell images, Kaggle.
"""


def load_kaggle_wbc(
    path: str | os.PathLike[str],
    *,
    subset: Literal["all", "train", "test", "test_simple"] = "all",
    verify: bool = False,
) -> Bunch:
    """Load the Kaggle blood cell images (four types), copies of one photograph as one group.

    Parameters
    ----------
    path : str or path-like
        The folder that holds TRAIN and TEST, at any depth.
    subset : {"all", "train", "test", "test_simple"}, default="all"
        Which part. ``"all"`` is train and test: TEST_SIMPLE shows the photographs of TEST again.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names``, ``groups`` (photographs), ``group_source``,
        ``subset``, ``filenames``, ``DESCR``, ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "TRAIN" / "MONOCYTE").mkdir(parents=True)
    >>> for copy in ["_3_501", "_3_77", "_4_12"]:
    ...     path = folder / "TRAIN" / "MONOCYTE" / f"{copy}.jpeg"
    ...     Image.new("RGB", (320, 240), "white").save(path)
    >>> len(set(load_kaggle_wbc(folder, subset="train").groups))
    2
    """
    return load_class_folders(
        path,
        CLASSES,
        layout=LAYOUT,
        descr=DESCR,
        groups=lambda names: infer_groups(names, "kaggle", unmatched="own", return_source=True),
        parts=PARTS,
        chosen=subset,
        repeated=("test_simple",),
        verify=verify,
    )
