"""Public sets that keep each class in a folder: AML, bone marrow, Kaggle, Raabin, leukemias.

Each is a description (``ImageSet``) and a loader; ``_class_folders`` does the work.
"""

import os
from collections.abc import Sequence
from typing import Any, Literal

from sklearn.utils import Bunch

from hemaest._docs import fill_doc
from hemaest.datasets._class_folders import groups_given, load_class_folders
from hemaest.datasets._loading import SHARED_DOCS, ImageSet
from hemaest.groups import infer_groups

AML_MATEK = ImageSet(
    classes={
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
    },
    layout="folders by class with files such as MYO/MYO_0001.tiff",
    descr="""
18,365 cells of peripheral smears of 100 patients with acute myeloid leukemia and 100 without,
400 x 400 pixels, RGBA TIFF. Which patient a cell is from was not released, so a score is at image
level. License: CC BY 3.0.

Matek C. et al. (2019), Human-level recognition of blast cells in acute myeloid leukaemia with
convolutional neural networks, Nature Machine Intelligence 1, 538-544; doi
10.7937/tcia.2019.36f5o9ld.
""",
)


@fill_doc(**SHARED_DOCS)
def load_aml_matek(path: str | os.PathLike[str], *, verify: bool = False) -> Bunch:
    """Load the AML cytomorphology cells (15 classes).

    Parameters
    ----------
    path : str or path-like
        The folder with one folder for each class.
    %(verify)s

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
    return load_class_folders(path, AML_MATEK, verify=verify)


BONE_MARROW = ImageSet(
    classes={
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
    },
    layout="folders by class with files in thousands, such as BLA/0001-1000/BLA_00001.jpg",
    descr="""
About 170,000 cells of bone marrow smears of 945 patients, May-Gruenwald-Giemsa or Pappenheim stain,
250 x 250 pixels, Munich Leukemia Laboratory. Which patient a cell is from was not released, so a
score is at image level. License: CC BY 4.0.

Matek C. et al. (2021), Highly accurate differentiation of bone marrow cell morphologies using deep
neural networks on a large image data set, Blood 138, 1917-1927; doi 10.7937/TCIA.AXH3-T579.
""",
)
# the fourteen that have at least 2,700 images, as the ResNet-50 against ViT study took them
COMMON_MARROW_CLASSES = "ART BLA EBO EOS LYT MMZ MON MYB NGB NGS NIF PEB PLM PMO".split()


@fill_doc(**SHARED_DOCS)
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
    %(verify)s

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
    only = None if classes == "21" else COMMON_MARROW_CLASSES
    return load_class_folders(path, BONE_MARROW, only=only, verify=verify)


KAGGLE_WBC = ImageSet(
    classes={
        "EOSINOPHIL": "eosinophil",
        "LYMPHOCYTE": "lymphocyte",
        "MONOCYTE": "monocyte",
        "NEUTROPHIL": "neutrophil",
    },
    layout="TRAIN/ and TEST/, each with EOSINOPHIL, LYMPHOCYTE, MONOCYTE and NEUTROPHIL folders",
    descr="""
About 12,400 images of 320 x 240 pixels, made by rotating and mirroring about 350 photographs
(those of the BCCD set). TRAIN and TEST come from different photographs, TEST from only 71; a random
split of TRAIN puts copies of one photograph on both sides. All copies of a photograph are one group
here. TEST_SIMPLE holds the photographs of TEST again, not rotated: it is loaded by its name only,
and is no set of its own beside TEST.
License: MIT.

Mooney P. (2018), Blood cell images, Kaggle.
""",
    parts={"train": "TRAIN", "test": "TEST", "test_simple": "TEST_SIMPLE"},
    repeated=("test_simple",),
)


@fill_doc(**SHARED_DOCS)
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
    %(verify)s

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
        KAGGLE_WBC,
        groups=lambda names: infer_groups(names, "kaggle", unmatched="own", return_source=True),
        subset=subset,
        verify=verify,
    )


RAABIN = ImageSet(
    classes={
        "Basophil": "basophil",
        "Eosinophil": "eosinophil",
        "Lymphocyte": "lymphocyte",
        "Monocyte": "monocyte",
        "Neutrophil": "neutrophil",
    },
    layout="Train/, TestA/ and TestB/, each with folders such as Basophil/ and Neutrophil/",
    descr="""
White blood cells of normal peripheral smears, Giemsa stain, cropped and named by two experts.
Train and Test A are from one microscope and camera, Test B from another: a score on Test A says
little about another laboratory. File names begin with their smear or day, which is the group.
License: called a free access dataset by its authors, who state no terms in the download; ask them
before you pass images on.

Mousavi Kouzehkanan Z. et al. (2022), A large dataset of white blood cells containing cell locations
and types, along with segmented nuclei and cytoplasm, Scientific Reports 12, 1123; the images are
at raabindata.com/free-data.
""",
    parts={"train": "Train", "testA": "TestA", "testB": "TestB"},
)


@fill_doc(**SHARED_DOCS)
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
    %(verify)s

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``target``, ``class_names``, ``groups`` (smears; a file whose name
        holds none is a group of its own, with a warning), ``group_source``, ``subset``,
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
        RAABIN,
        groups=lambda names: infer_groups(names, "raabin", unmatched="own", return_source=True),
        subset=subset,
        verify=verify,
    )


LEUKEMIA = ImageSet(
    classes={
        "ALL": "acute lymphoblastic leukemia",
        "AML": "acute myeloid leukemia",
        "CLL": "chronic lymphocytic leukemia",
        "CML": "chronic myeloid leukemia",
        "Healthy": "healthy",
    },
    layout="the folders ALL, AML, CLL and CML (and Healthy, if there is one) with images inside",
    descr="""
Images of four leukemias by folder. Such collections are put together from several sources: each
class may have its own microscope and stain, so always read a score beside the color-only control;
and without patients as groups a score is at image level.
License and citation: those of the sources, which the folders do not state. Ask whoever put them
together, and cite each source.
""",
    synonyms={"Normal": "Healthy", "Control": "Healthy"},
)


@fill_doc(**SHARED_DOCS)
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
        The folder with the class folders. Normal and Control mean Healthy.
    groups : sequence, regular expression or None, default=None
        The patient of each file (broken ones too), in the order of ``filenames`` without
        ``verify``, or a rule for
        :func:`hemaest.evaluation.infer_groups`. Without it every image is a group of its own, and
        any score is at image level.
    %(verify)s

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
    return load_class_folders(
        path,
        LEUKEMIA,
        groups=lambda names: groups_given(groups, names),
        verify=verify,
    )
