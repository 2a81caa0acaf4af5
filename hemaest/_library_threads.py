"""How many threads torch, OpenMP, BLAS and OpenCV use: set for a while, and put back.

Used by :mod:`hemaest._parallel`, which says when to use how many.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock, local
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["enter_pool", "in_pool", "library_threads", "one_blas_thread", "process_wide"]

# how to get and how to set a number of threads
Switch = tuple[Callable[[], int], Callable[[int], None]]

_here = local()


def in_pool() -> bool:
    """Return whether this thread is one of a pool, in which every library uses one thread.

    Examples
    --------
    >>> in_pool()
    False
    """
    return getattr(_here, "in_pool", False)


def enter_pool() -> None:
    """Mark a thread as one of a pool, and bring what is counted for each thread to one."""
    _here.in_pool = True
    for _, put in _of_thread():
        put(1)


@contextmanager
def library_threads(n: int) -> Iterator[None]:
    """Let torch, OpenMP, BLAS and OpenCV use ``n`` threads, where they are loaded, for a while.

    What torch and OpenMP use counts for the thread that calls this; of what BLAS and OpenCV use the
    least of all open blocks counts. What the user had set is put back at the end. Inside a pool
    ``n`` is 1.

    Parameters
    ----------
    n : int
        How many threads, as in ``library_threads(free_threads())``.

    Examples
    --------
    >>> import cv2
    >>> with library_threads(1):
    ...     cv2.getNumThreads()
    1
    """
    n = 1 if in_pool() else n
    before = [(put, get()) for get, put in _of_thread()]
    with process_wide(n):
        for put, _ in before:
            put(n)
        try:
            yield
        finally:
            for put, value in before:
                put(value)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread for a while: its sums have one order, and the same last digits.

    torch and OpenMP keep their numbers of threads.

    Examples
    --------
    >>> import numpy as np
    >>> with one_blas_thread():
    ...     float(np.ones(3) @ np.ones(3))
    3.0
    """
    with process_wide(1):
        yield


_lock = Lock()
_wanted: list[int] = []
_outside: list[tuple[Callable[[int], None], int]] = []


@contextmanager
def process_wide(n: int) -> Iterator[None]:
    """Set what is one number for the whole process: BLAS and OpenCV."""
    with _lock:
        if not _wanted:
            _outside[:] = [(put, get()) for get, put in _of_process()]
        _wanted.append(n)
        for put, _ in _outside:
            put(min(_wanted))
    try:
        yield
    finally:
        with _lock:
            _wanted.remove(n)
            for put, value in _outside:
                put(min(_wanted, default=value))


def _of_thread() -> list[Switch]:
    switches: list[Switch] = [
        (library.get_num_threads, library.set_num_threads) for library in _libraries("openmp")
    ]
    if torch := sys.modules.get("torch"):
        switches.append((torch.get_num_threads, torch.set_num_threads))
    return switches


def _of_process() -> list[Switch]:
    switches: list[Switch] = [
        (library.get_num_threads, library.set_num_threads) for library in _libraries("blas")
    ]
    if cv2 := sys.modules.get("cv2"):
        switches.append((cv2.getNumThreads, cv2.setNumThreads))
    return switches


def _libraries(kind: str) -> list[Any]:
    """Return the loaded libraries of a kind that have a number of threads."""
    loaded = tuple(name in sys.modules for name in ("torch", "xgboost", "sklearn", "scipy.linalg"))
    return [found for found in _controller(loaded).lib_controllers if found.user_api == kind]


@lru_cache(maxsize=1)
def _controller(_loaded: tuple[bool, ...]) -> ThreadpoolController:
    """Return a handle of the loaded libraries; it takes milliseconds to look for them."""
    return ThreadpoolController()
