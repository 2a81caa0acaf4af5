"""Map a function over images with threads: the kernels inside release the GIL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    if threads <= 1:
        return [work(*row) for row in zip(X, *more, strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, X, *more))
