"""Map a function over images with threads: the kernels inside release the GIL."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

from joblib import effective_n_jobs
from numpy.typing import NDArray

from hemaest.images import as_array


def map_images(
    function: Callable[..., Any], X: NDArray[Any], *more: Any, n_jobs: int | None = None
) -> list[Any]:
    """Return ``[function(image, *row) for each image]``, in order.

    Files are read inside the workers, so lazy input is never all in memory.

    Parameters
    ----------
    function : callable
        Takes one uint8 image, and one item of each of ``more``.
    X : array
        Checked images.
    *more : sequences
        Further arguments, one for each image.
    n_jobs : int, optional
        Threads, counted as joblib does; None means 1.
    """

    def work(item: Any, *row: Any) -> Any:
        return function(as_array(item), *row)

    threads = min(effective_n_jobs(n_jobs), len(X))
    with opencv_alone():
        if threads <= 1:
            return [work(*row) for row in zip(X, *more, strict=True)]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, X, *more))


_lock = Lock()
_outside = {"calls": 0, "threads": 1}


@contextmanager
def opencv_alone() -> Iterator[None]:
    """Keep OpenCV, where it is loaded, from starting threads of its own for a while.

    Images are what is shared out here, and most are so small that its threads cost a fifth of
    the time and gain nothing. The number is the process's: the last call to end puts it back.
    """
    cv2 = sys.modules.get("cv2")
    if cv2 is None:
        yield
        return
    with _lock:
        if _outside["calls"] == 0:
            _outside["threads"] = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _outside["calls"] += 1
    try:
        yield
    finally:
        with _lock:
            _outside["calls"] -= 1
            if _outside["calls"] == 0:
                cv2.setNumThreads(_outside["threads"])
