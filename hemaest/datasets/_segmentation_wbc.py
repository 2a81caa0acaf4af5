"""Single white cells with expert masks, from two laboratories."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from hemaest.datasets._folder import (
    existing_folder,
    image_bunch,
    layout_error,
    relative_names,
)
from hemaest.images import to_object_array

CLASSES = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
LAYOUT = (
    "dataset1/ and dataset2/ with NNN_image and NNN_mask files beside each other, and "
    "class_labels_of_dataset_1.csv and class_labels_of_dataset_2.csv"
)
# masks hold 0, 128 (cytoplasm) and 255 (nucleus); a few hold stray values between
CYTOPLASM_FROM, NUCLEUS_FROM = 60, 200
DESCR = """
White blood cells with nucleus and cytoplasm outlined by experts. Dataset 1: 300 cells of about
120 x 120 pixels, Jiangxi Tecom, quickly stained, yellow. Dataset 2: 100 cells of 300 x 300 pixels,
CellaVision blog, purple. A method tuned to one fails on the other. Licence: see the authors' page.

Zheng X. et al. (2018), Fast and robust segmentation of white blood cell images by self-supervised
learning, Micron 107, 55-71.
"""


def load_segmentation_wbc(
    path: str | os.PathLike[str], *, dataset: Literal["both", 1, 2] = "both"
) -> Bunch:
    """Load the white cells with expert masks of nucleus and cytoplasm.

    Parameters
    ----------
    path : str or path-like
        The folder that holds dataset1, dataset2 and the tables of labels.
    dataset : {"both", 1, 2}, default="both"
        Which laboratory's.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``masks`` (object array of cell maps: 1 cytoplasm, 2 nucleus), ``target`` (1 to
        5), ``class_names``, ``lab`` (1 or 2), ``groups``, ``group_source``, ``filenames``,
        ``DESCR``.

    Examples
    --------
    >>> load_segmentation_wbc("nowhere")
    Traceback (most recent call last):
    ...
    FileNotFoundError: nowhere is no folder. Expected: dataset1/ and dataset2/ ...
    """
    if dataset not in {"both", 1, 2}:
        raise ValueError(f"dataset={dataset!r}; it must be 'both', 1 or 2.")
    folder = existing_folder(path, LAYOUT)
    files: list[Path] = []
    masks: list[NDArray[np.uint8]] = []
    target: list[int] = []
    lab: list[int] = []
    for number in (1, 2) if dataset == "both" else (dataset,):
        labels = _labels(folder, number)
        for image, mask in _pairs(folder, number):
            key = int(image.name.split("_")[0])
            if key not in labels:
                raise ValueError(f"{image} has no row in class_labels_of_dataset_{number}.csv.")
            files.append(image)
            masks.append(read_mask(mask))
            target.append(labels[key])
            lab.append(number)
    if not files:
        raise layout_error(folder, LAYOUT)
    return image_bunch(
        folder,
        files,
        target,
        class_names={label: CLASSES.get(label, str(label)) for label in sorted(set(target))},
        groups=relative_names(folder, files),
        group_source="none",
        descr=DESCR,
        masks=to_object_array(masks),
        lab=np.array(lab),
    )


def _labels(folder: Path, number: int) -> dict[int, int]:
    """Return image id -> class; the two tables name their columns differently."""
    import pandas as pd

    file = folder / f"class_labels_of_dataset_{number}.csv"
    if not file.is_file():
        raise layout_error(folder, LAYOUT)
    table = pd.read_csv(file)
    return {int(i): int(c) for i, c in zip(table.iloc[:, 0], table.iloc[:, 1], strict=True)}


def _pairs(folder: Path, number: int) -> list[tuple[Path, Path]]:
    pairs = []
    for image in sorted((folder / f"dataset{number}").glob("[0-9]*_image.*")):
        mask = image.with_name(image.name.replace("_image.", "_mask."))
        if not mask.is_file():
            mask = mask.with_suffix(".png")
        if not mask.is_file():
            raise FileNotFoundError(f"{image} has no mask beside it (expected {mask.name}).")
        pairs.append((image, mask))
    return pairs


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Return a cell map (1 cytoplasm, 2 nucleus) from a mask of 0, 128 and 255."""
    from PIL import Image

    with Image.open(path) as image:
        values = np.asarray(image.convert("L"))
    labels = (values >= CYTOPLASM_FROM).astype(np.uint8)
    labels[values >= NUCLEUS_FROM] = 2
    return labels
