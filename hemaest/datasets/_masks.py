"""Experts' masks of one cell, read as cell maps and checked against their images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest.images import read_image

# masks hold 0, 128 (cytoplasm) and 255 (nucleus); a few hold stray values between
CYTOPLASM_FROM, NUCLEUS_FROM = 60, 200


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Return a cell map (1 cytoplasm, 2 nucleus) from a mask of 0, 128 and 255.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> path = Path(tempfile.mkdtemp()) / "mask.png"
    >>> Image.fromarray(np.array([[0, 128, 255]], np.uint8)).save(path)
    >>> read_mask(path)
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
    from PIL import Image

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


def mask_of(image: Path, mask: Path | None) -> NDArray[np.uint8]:
    """Return the cell map of an image; refuse a mask that is absent or of another size."""
    if mask is None:
        raise FileNotFoundError(f"{image} has no mask beside it.")
    labels = read_mask(mask)
    size = _size(image)
    if size not in (None, labels.shape):
        raise ValueError(
            f"{mask} has {labels.shape} rows and columns, its image {image.name} {size}: it "
            "belongs to another image, or was resized."
        )
    return labels


def _size(image: Path) -> tuple[int, ...] | None:
    """Return rows and columns; None for a broken image, which names itself where it is read."""
    try:
        return read_image(image).shape[:2]
    except (ValueError, OSError):
        return None
