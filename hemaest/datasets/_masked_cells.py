"""Single white cells with masks by experts, from two laboratories: images, masks, tables."""

import os
import re
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils import Bunch

from hemaest import cellmap
from hemaest._words import some
from hemaest.datasets._image_files import failure_table, image_files, subfolder, tables_named
from hemaest.datasets._loading import (
    ImageSet,
    existing_folder,
    image_bunch,
    layout_error,
    read_table,
    relative_names,
)
from hemaest.images import read_image, to_object_array

SEGMENTATION_WBC = ImageSet(
    classes={1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"},
    layout=(
        "'Dataset 1' and 'Dataset 2' with images NNN.bmp and masks NNN.png, or dataset1 and "
        "dataset2 with NNN_image and NNN_mask files; 'Class Labels of Dataset 1.csv' and '... "
        "2.csv' beside them (columns 'image ID' and 'class' or 'class label'); subset='dataset1' "
        "or 'dataset2' loads one of them only"
    ),
    descr="""
White blood cells with nucleus and cytoplasm outlined by experts. Dataset 1: 300 cells of about
120 x 120 pixels, Jiangxi Tecom, quickly stained, yellow. Dataset 2: 100 cells of 300 x 300 pixels,
CellaVision blog, purple. A method tuned to one fails on the other.
License: not known; the set's README names none. Its authors ask those who publish with dataset 1 to
acknowledge Jiangxi Tecom Science Corporation, with dataset 2 the CellaVision blog.

Zheng X. et al. (2018), Fast and robust segmentation of white blood cell images by self-supervised
learning, Micron 107, 55-71; github.com/zxaoyou/segmentation_WBC.
""",
)
FILE = re.compile(r"(\d+)(?:_(image|mask))?")
# masks hold 0, 128 (cytoplasm) and 255 (nucleus); a few hold stray values between
CYTOPLASM_FROM, NUCLEUS_FROM = 60, 200


def load_segmentation_wbc(
    path: str | os.PathLike[str],
    *,
    subset: Literal["all", "dataset1", "dataset2"] = "all",
    verify: bool = False,
) -> Bunch:
    r"""Load the white cells with expert masks of nucleus and cytoplasm.

    Parameters
    ----------
    path : str or path-like
        The folder of the set: as it comes from GitHub (``Dataset 1/001.bmp`` with its mask
        ``Dataset 1/001.png``), or with ``dataset1/001_image.png`` and ``dataset1/001_mask.png``;
        and the tables of labels.
    subset : {"all", "dataset1", "dataset2"}, default="all"
        Both laboratories, or one of them.
    verify : bool, default=False
        Read every file once (some milliseconds each), leave out those that are broken, and list
        them in ``failures``; so with masks that are broken, absent, empty or of another size,
        which are an error otherwise.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images``, ``masks`` (object array of cell maps: 1 cytoplasm, 2 nucleus), ``target`` (1 to
        5), ``class_names``, ``lab`` (1 or 2), ``groups``, ``group_source``, ``filenames``,
        ``DESCR``, ``failures``.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "Dataset 2").mkdir()
    >>> Image.new("RGB", (30, 30)).save(folder / "Dataset 2" / "001.bmp")
    >>> Image.new("L", (30, 30), 255).save(folder / "Dataset 2" / "001.png")
    >>> _ = (folder / "Class Labels of Dataset 2.csv").write_text("image ID,class\n1,4\n")
    >>> load_segmentation_wbc(folder, subset="dataset2").class_names
    {4: 'eosinophil'}
    """
    if subset not in {"all", "dataset1", "dataset2"}:
        raise ValueError(f"subset={subset!r}; it must be 'all', 'dataset1' or 'dataset2'.")
    folder = existing_folder(path, SEGMENTATION_WBC.layout)
    numbers = [n for n in (1, 2) if subset in {"all", f"dataset{n}"}]
    parts = [_part(folder, number) for number in numbers]
    cells = pd.concat(parts, ignore_index=True)
    masks, reasons = _masks(cells, verify)
    names = relative_names(folder, cells["image"])
    kept = [i for i, reason in enumerate(reasons) if not reason]
    failures = failure_table(names, reasons)
    if not kept:
        raise ValueError(f"none of the masks in {folder} can be used:\n{failures.to_string()}")
    cells = cells.iloc[kept]
    bunch = image_bunch(
        folder,
        cells["image"].tolist(),
        cells["label"].to_numpy(),
        class_names={
            label: SEGMENTATION_WBC.classes[label] for label in sorted(set(cells["label"]))
        },
        groups=([names[i] for i in kept], "none"),
        descr=SEGMENTATION_WBC.descr,
        verify=verify,
        masks=to_object_array([masks[i] for i in kept]),
        lab=cells["lab"].to_numpy(),
    )
    bunch.failures = pd.concat([failures, bunch.failures], ignore_index=True)
    return bunch


def _part(folder: Path, number: int) -> pd.DataFrame:
    """Return one laboratory's cells in the order of their numbers: image, mask, label, lab."""
    root = subfolder(folder, f"dataset{number}")
    tables = tables_named(folder, f"class labels of dataset {number}")
    if root is None or not tables:
        raise layout_error(folder, SEGMENTATION_WBC.layout)
    images, masks = _images_and_masks(root)
    if not images:
        raise layout_error(root, SEGMENTATION_WBC.layout)
    labels = _labels(tables[0])
    unlabeled = [file.name for key, file in images.items() if key not in labels]
    if unlabeled:
        raise ValueError(
            f"{len(unlabeled)} image(s) in {root} have no row in {tables[0].name}: "
            f"{some(unlabeled)}. Add their rows, or take the images away."
        )
    _warn_of(f"mask(s) in {root} have no image", [masks[k].name for k in masks.keys() - images])
    _warn_of(f"row(s) of {tables[0].name} have no image", sorted(labels.keys() - images))
    rows = [(file, masks.get(key), labels[key], number) for key, file in images.items()]
    return pd.DataFrame(rows, columns=["image", "mask", "label", "lab"])


def _images_and_masks(root: Path) -> tuple[dict[int, Path], dict[int, Path]]:
    """Part images and masks, by number; without a word in its name, a PNG is a mask."""
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    others = []
    for file in image_files(root):
        found = FILE.fullmatch(file.stem.lower())
        is_mask = found and (found[2] or {".png": "mask"}.get(file.suffix.lower())) == "mask"
        side = masks if is_mask else images
        if found is None or int(found[1]) in side:
            others.append(file.name)
        else:
            side[int(found[1])] = file
    _warn_of(f"file(s) in {root} are named otherwise or are second copies", sorted(others))
    return dict(sorted(images.items())), masks


def _warn_of(what: str, names: list[Any]) -> None:
    if names:
        warnings.warn(f"{len(names)} {what} and are left out: {some(names)}.", stacklevel=4)


def _labels(file: Path) -> dict[int, int]:
    """Return image number -> class; the two published tables name their columns differently."""
    table = read_table(file, ["image ID"])
    column = next((name for name in ("class", "class label") if name in table), None)
    if column is None:
        raise ValueError(
            f"{file} lacks the column 'class' (or 'class label'); it has {', '.join(table)}."
        )
    numbers = table[["image ID", column]].apply(pd.to_numeric, errors="coerce")
    sound = (
        (numbers["image ID"] % 1 == 0)
        & numbers[column].isin(SEGMENTATION_WBC.classes)
        & ~numbers["image ID"].duplicated()
    )
    if not sound.all():
        rows = [f"{i!r}: {c!r}" for i, c in table.loc[~sound, ["image ID", column]].to_numpy()]
        allowed = ", ".join(f"{label} ({name})" for label, name in SEGMENTATION_WBC.classes.items())
        raise ValueError(
            f"{len(rows)} row(s) of {file} do not hold an image's number, once, and its class, "
            f"{allowed}: {some(rows)}. Correct these rows."
        )
    return dict(numbers.astype(int).itertuples(index=False, name=None))


def _masks(cells: pd.DataFrame, verify: bool) -> tuple[list[NDArray[np.uint8] | None], list[str]]:
    """Return the masks, and why one cannot be used; an error at the first without `verify`."""
    masks: list[NDArray[np.uint8] | None] = []
    reasons = []
    for image, mask in zip(cells["image"], cells["mask"], strict=True):
        try:
            masks.append(_mask_of(image, mask))
            reasons.append("")
        except (ValueError, FileNotFoundError) as error:
            if not verify:
                raise type(error)(
                    f"{error} To leave it out and have it listed in `failures`, load with "
                    "verify=True."
                ) from error
            masks.append(None)
            reasons.append(str(error))
    return masks, reasons


def _mask_of(image: Path, mask: Path | None) -> NDArray[np.uint8]:
    """Return the cell map of an image; refuse a mask that is absent or of another size."""
    if mask is None:
        raise FileNotFoundError(f"{image} has no mask beside it.")
    labels = _read_mask(mask)
    size = _size(image)
    if size not in (None, labels.shape):
        raise ValueError(
            f"{mask} has {labels.shape} rows and columns, its image {image.name} {size}: it "
            "belongs to another image, or was resized."
        )
    return labels


def _read_mask(path: Path) -> NDArray[np.uint8]:
    """Return a cell map (1 cytoplasm, 2 nucleus) from a mask of 0, 128 and 255.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "mask.png"
    >>> Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(path)
    >>> _read_mask(path)
    array([[0, 1, 2]], dtype=uint8)
    """
    values = _gray_values(path)
    labels = cellmap.encode(values >= CYTOPLASM_FROM, values >= NUCLEUS_FROM)
    if not labels.any():
        raise ValueError(
            f"{path} shows no cell: its values go from {values.min()} to {values.max()}, where a "
            "mask holds 0, 128 (cytoplasm) and 255 (nucleus). Write it with these values."
        )
    return labels


def _gray_values(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        # Pillow's own errors do not name the file
        raise ValueError(
            f"{path} is broken and cannot be read as a mask ({error}); copy it again."
        ) from error


def _size(image: Path) -> tuple[int, ...] | None:
    """Return rows and columns; None for a broken image, which names itself where it is read."""
    try:
        return read_image(image).shape[:2]
    except (ValueError, OSError):
        return None
