"""Batches of square images: scaled, cached on disk, read ahead by threads, never all in memory.

The estimators of ``hemaest.deep`` and ``hemaest.balance`` train and predict on these batches, and
``hemaest.inspection`` explains networks on them.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import compute_sample_weight
from torch import Tensor

from hemaest._parallel import iterate_items
from hemaest.deep.letterbox import letterbox
from hemaest.images import as_array

# limit of a temporary file; 4 GB hold 87,000 squares of 128 pixels
CACHE_BYTES = 2**32


class DiskCache:
    """Squares in a nameless temporary file, so that they are made once and need no memory.

    Parameters
    ----------
    n : int
        Largest number of squares.
    size : int
        Side of the squares.
    """

    def __init__(self, n: int, size: int) -> None:
        self.bytes = size * size * 3
        self.known = bytearray(n)
        self.file = -1
        if n and hasattr(os, "preadv"):
            self.file, name = tempfile.mkstemp(prefix="hemaest-")
            os.unlink(name)
            weakref.finalize(self, os.close, self.file)

    def read(self, i: int, square: NDArray[np.uint8]) -> bool:
        """Fill a square from the file; return whether it was there."""
        if i >= len(self.known) or not self.known[i]:
            return False
        return os.preadv(self.file, [square.data.cast("B")], i * self.bytes) == self.bytes

    def write(self, i: int, square: NDArray[np.uint8]) -> None:
        """Store a square; on a full disk nothing is stored, and squares are made each time."""
        if self.file < 0 or i >= len(self.known):
            return
        try:
            done = os.pwrite(self.file, square.data.cast("B"), i * self.bytes)
        except OSError:
            self.known = self.known[:0]
            return
        # last, so that no other thread reads an unwritten square
        self.known[i] = done == self.bytes


class LetterboxedImages:
    """The images of X as squares of one size, each made on demand.

    Dense images of the right size are used as they are.

    Parameters
    ----------
    X : array
        Checked images.
    size : int
        Side of the squares.
    cache : bool, default=False
        Store the squares on disk, so that files are read and scaled once.
    """

    def __init__(self, X: NDArray[Any], size: int, *, cache: bool = False) -> None:
        self.X = X
        self.size = size
        self.ready = X.dtype != object and X.shape[1:3] == (size, size)
        room = CACHE_BYTES // (size * size * 3) if cache and not self.ready else 0
        self.cache = DiskCache(min(room, len(X)), size)

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return some squares as one array (n, size, size, 3)."""
        if self.ready:
            return self.X[rows][..., :3]
        out = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for k, i in enumerate(rows):
            if not self.cache.read(i, out[k]):
                out[k] = letterbox(as_array(self.X[i]), self.size)
                self.cache.write(i, out[k])
        return out


@dataclass(slots=True)
class TrainingSet:
    """Images with their targets and weights: the data set of a training network.

    Parameters
    ----------
    images : LetterboxedImages
    target : integer Tensor
        Class of each image, from 0.
    weight : float Tensor
        Weight of each image in the loss.
    sampling_weight : float array, optional
        Draw images with replacement, in proportion to it; by default each once an epoch.
    """

    images: LetterboxedImages
    target: Tensor
    weight: Tensor
    sampling_weight: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.images)


def make_training_set(
    X: NDArray[Any],
    target: NDArray[np.int64],
    weight: NDArray[np.float64],
    size: int,
    *,
    balanced: bool = False,
    per_class: NDArray[np.float64] | None = None,
) -> TrainingSet:
    """Return a training set; weights are scaled to a mean of one.

    Weights ``per_class`` are multiplied afterwards, unscaled: a part of a stream may hold one class
    only. ``balanced`` draws every class equally often.
    """
    if not weight.any():
        raise ValueError(
            "every training image has a weight of 0, so none would count; give larger "
            "sample_weight or class_weight."
        )
    weight = weight / weight.mean()
    if per_class is not None:
        weight = weight * per_class[target]
    return TrainingSet(
        LetterboxedImages(X, size, cache=True),
        torch.from_numpy(target),
        torch.from_numpy(weight).float(),
        compute_sample_weight("balanced", target) if balanced else None,
    )


def ordered(n: int, batch_size: int) -> list[NDArray[np.intp]]:
    """Return the rows of each batch in order.

    Examples
    --------
    >>> [rows.tolist() for rows in ordered(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    return [np.arange(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]


def shuffled(
    n: int,
    batch_size: int,
    rng: np.random.Generator,
    sampling_weight: NDArray[np.floating] | None = None,
) -> list[NDArray[np.intp]]:
    """Return the rows of each batch of one epoch, in random order.

    The last batch is left out if it is smaller than half or a single image (other images in the
    next epoch): it would count as much as a full one, and batch norm cannot use a single image.

    Parameters
    ----------
    n, batch_size : int
        Number of images, and of images in a batch.
    rng : Generator
        Decides the order.
    sampling_weight : float array, optional
        Draw with replacement, in proportion to it; by default each image once.
    """
    if sampling_weight is None:
        order = rng.permutation(n)
    else:
        order = rng.choice(n, size=n, p=sampling_weight / sampling_weight.sum())
    batches = [order[rows] for rows in ordered(n, batch_size)]
    last = len(batches[-1])
    if len(batches) > 1 and (2 * last < batch_size or last < min(2, batch_size)):
        batches.pop()
    return batches


def prefetch(
    images: LetterboxedImages,
    batches: list[NDArray[np.intp]],
    *,
    pin: bool = False,
    workers: int | None = None,
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Yield (rows, uint8 tensor (n, size, size, 3)) for each batch, a few of them made ahead.

    Parameters
    ----------
    images : LetterboxedImages
        Source of the batches.
    batches : list of int arrays
        Rows of each batch.
    pin : bool, default=False
        Make tensors in pinned memory, which a GPU copies while it computes.
    workers : int, optional
        Number of threads; by default as in :func:`hemaest._parallel.pool_size`.
    """

    def make(rows: NDArray[np.intp]) -> Tensor:
        batch = torch.from_numpy(images.take(rows))
        return batch.pin_memory() if pin else batch

    if images.ready and not pin:
        made: Iterator[Tensor] = map(make, batches)
    else:
        made = iterate_items(make, batches, n_jobs=workers)
    yield from zip(batches, made, strict=True)


def to_floats(images: Tensor, device: torch.device) -> Tensor:
    """Bring uint8 (n, h, w, 3) to the device as floats from 0 to 1, viewed as (n, 3, h, w)."""
    images = images.to(device, non_blocking=True)
    return images.permute(0, 3, 1, 2).float().div_(255)
