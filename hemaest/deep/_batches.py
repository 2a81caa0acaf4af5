"""Batches of letterboxed images: read in worker threads, a few ahead, never all in memory."""

import os
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hemaest.deep._letterbox import letterbox
from hemaest.images import as_array

# of a temporary file; 4 GB are 87,000 squares of 128 pixels
SPOOL_BYTES = 2**32


def n_workers() -> int:
    """Return how many threads read: the cores this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(16, cores or 1))


class Spool:
    """Squares that were made once, in a nameless temporary file: no memory, however many.

    Parameters
    ----------
    n : int
        How many at most.
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
        """Keep a square; where the disk is full it is made again each time."""
        if self.file < 0 or i >= len(self.known):
            return
        try:
            done = os.pwrite(self.file, square.data.cast("B"), i * self.bytes)
        except OSError:
            self.known = self.known[:0]
            return
        # last, so that no other thread reads what is not yet there
        self.known[i] = done == self.bytes


class Squares:
    """The images of X as squares of one size, each made when it is asked for.

    Dense images of the right size are taken as they are.

    Parameters
    ----------
    X : array
        Checked images.
    size : int
        Side of the squares.
    keep : bool, default=False
        Keep what was made on the disk, so that files are read and scaled once.
    """

    def __init__(self, X: NDArray[Any], size: int, *, keep: bool = False) -> None:
        self.X = X
        self.size = size
        self.ready = X.dtype != object and X.shape[1:3] == (size, size)
        room = SPOOL_BYTES // (size * size * 3) if keep and not self.ready else 0
        self.spool = Spool(min(room, len(X)), size)

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return some squares as one array (n, size, size, 3)."""
        if self.ready:
            return self.X[rows][..., :3]
        out = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        for k, i in enumerate(rows):
            if not self.spool.read(i, out[k]):
                out[k] = letterbox(as_array(self.X[i]), self.size)
                self.spool.write(i, out[k])
        return out


@dataclass(slots=True)
class Examples:
    """Images with what training needs to know of each; the data set that the net sees.

    Parameters
    ----------
    squares : Squares
    target : integer Tensor
        The class of each, from 0.
    weight : float Tensor
        How much each counts.
    chance : float array, optional
        How often each is drawn in training, by default each once an epoch.
    """

    squares: Squares
    target: Tensor
    weight: Tensor
    chance: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.squares)


def ordered(n: int, batch_size: int) -> list[NDArray[np.intp]]:
    """Return the rows of each batch in order.

    Examples
    --------
    >>> [rows.tolist() for rows in ordered(5, 2)]
    [[0, 1], [2, 3], [4]]
    """
    return [np.arange(i, min(i + batch_size, n)) for i in range(0, n, batch_size)]


def shuffled(
    n: int, batch_size: int, rng: np.random.Generator, chance: NDArray[np.floating] | None = None
) -> list[NDArray[np.intp]]:
    """Return the rows of each batch of one epoch, in random order.

    A last batch that is smaller than half, or one image, is left out (others in the next epoch):
    it would count as much as a full one, and batch norm cannot use a single image.

    Parameters
    ----------
    n, batch_size : int
        How many images there are, and how many go into a batch.
    rng : Generator
        Decides the order.
    chance : float array, optional
        How often each is drawn, with replacement; by default each once.
    """
    if chance is None:
        order = rng.permutation(n)
    else:
        order = rng.choice(n, size=n, p=chance / chance.sum())
    batches = [order[rows] for rows in ordered(n, batch_size)]
    last = len(batches[-1])
    if len(batches) > 1 and (2 * last < batch_size or last < min(2, batch_size)):
        batches.pop()
    return batches


def prefetch(
    squares: Squares,
    batches: list[NDArray[np.intp]],
    *,
    pin: bool = False,
    workers: int | None = None,
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Yield (rows, uint8 tensor (n, size, size, 3)) for each batch, a few of them made ahead.

    Parameters
    ----------
    squares : Squares
        Where the images come from.
    batches : list of int arrays
        Rows of each batch.
    pin : bool, default=False
        Make tensors that copy to a GPU while it computes.
    workers : int, optional
        Threads; by default one for each core.
    """
    workers = n_workers() if workers is None else workers

    def make(rows: NDArray[np.intp]) -> Tensor:
        batch = torch.from_numpy(squares.take(rows))
        return batch.pin_memory() if pin else batch

    if squares.ready and not pin:
        for rows in batches:
            yield rows, make(rows)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[NDArray[np.intp], Future[Tensor]]] = deque()
        todo = iter(batches)
        try:
            for rows in todo:
                waiting.append((rows, pool.submit(make, rows)))
                if len(waiting) > workers:
                    break
            while waiting:
                rows, future = waiting.popleft()
                batch = future.result()
                following = next(todo, None)
                if following is not None:
                    waiting.append((following, pool.submit(make, following)))
                yield rows, batch
        finally:
            for _, future in waiting:
                future.cancel()


def to_floats(images: Tensor, device: torch.device) -> Tensor:
    """Bring uint8 (n, h, w, 3) to the device as floats from 0 to 1, seen as (n, 3, h, w)."""
    images = images.to(device, non_blocking=True)
    return images.permute(0, 3, 1, 2).float().div_(255)
