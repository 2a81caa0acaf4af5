"""Folders of the four leukemias, from wherever they were put together."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from hemaest.datasets._class_folders import load_class_folders
from hemaest.datasets._folder import given_groups

CLASSES = {
    "ALL": "acute lymphoblastic leukemia",
    "AML": "acute myeloid leukemia",
    "CLL": "chronic lymphocytic leukemia",
    "CML": "chronic myeloid leukemia",
    "Healthy": "healthy",
}
SYNONYMS = {"Normal": "Healthy", "Control": "Healthy"}
LAYOUT = "the folders ALL, AML, CLL and CML (and Healthy, if there is one) with images inside"
DESCR = """
Images of four leukemias by folder. Such collections are put together from several sources: each
class may have its own microscope and stain, so always read a score beside the color-only control;
and without patients as groups a score is at image level.
License and citation: those of the sources, which the folders do not state. Ask whoever put them
together, and cite each source.
"""


def load_leukemia_folders(
    path: str | os.PathLike[str],
    *,
    groups: Sequence[Any] | str | None = None,
    verify: bool = False,
) -> Bunch:
    r"""Load folders named ALL, AML, CLL, CML (and Healthy).

    Parameters
    ----------
    path : str or path-like
        The folder with the class folders. Normal and Control are taken for Healthy.
    groups : sequence, regular expression or None, default=None
        The patient of each file (broken ones too), in the order of ``filenames`` without
        ``verify``, or a rule for
        :func:`hemaest.evaluation.infer_groups`. Without it every image is a group of its own, and
        any score is at image level.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names``, ``groups``, ``group_source``, ``filenames``,
        ``DESCR``, ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for label, name in [("aml", "ann-1.png"), ("cml", "bob-1.png")]:
    ...     (folder / label).mkdir()
    ...     Image.new("RGB", (8, 8), "white").save(folder / label / name)
    >>> leukemias = load_leukemia_folders(folder, groups=r"(\w+)-")
    >>> leukemias.target.tolist(), leukemias.groups.tolist()
    (['AML', 'CML'], ['ann', 'bob'])
    """

    def known(names: list[str]) -> tuple[Any, str]:
        return (np.asarray(names), "none") if groups is None else given_groups(groups, names)

    return load_class_folders(
        path,
        CLASSES,
        layout=LAYOUT,
        descr=DESCR,
        groups=known,
        synonyms=SYNONYMS,
        verify=verify,
    )
