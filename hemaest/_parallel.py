"""How work is shared among the cores of the processor: the one thread policy of the library.

torch, BLAS, XGBoost and OpenCV each start a thread for every core, for every small piece of work,
and their threads wait for each other by spinning. On small work, or beside other work, that costs
several times what it saves. So there are three kinds of work, and each has its own call:

- **Many small pieces** (images, files, crops for a small network): :func:`map_images`, or
  :func:`map_items` for other things, :func:`iterate_items` for results that are too many to keep,
  or :func:`thread_pool` where they are not simply a list. A pool of threads goes over the items,
  and every library uses one thread for each of them. Threads that wait for nothing do no harm
  beside other work, so ``n_jobs=None`` takes all cores.
- **One large piece** (a training step of a deep network, boosted trees on a large table):
  ``with library_threads(free_threads()):``. Its threads do wait for each other, so it takes only
  the cores that no other process keeps busy. Libraries with an argument of their own get the
  number there, as in ``XGBClassifier(n_jobs=free_threads())``.

- **Whole fits beside each other** (the folds of a comparison): processes of joblib, as many as
  :func:`process_count` says, one thread in each. What one thread of a small network or of Python
  code leaves unused, the others use.

Inside a pool, and inside a worker of joblib or dask, both give what is left for one worker: one
thread, as a rule. Where joblib is set to use a dask cluster, the maps run there. The results of
the library do not depend on the number of threads.
"""

import itertools
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from joblib import cpu_count, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray

from hemaest._dask import active_client, in_worker, iterate_on_workers
from hemaest._library_threads import enter_pool, in_pool, library_threads, process_wide
from hemaest.images import as_array

__all__ = [
    "available_threads",
    "free_threads",
    "iterate_items",
    "map_images",
    "map_items",
    "pool_size",
    "process_count",
    "send",
    "thread_pool",
]

# more threads than this hold each other up at the lock of the interpreter
LARGEST_POOL = 8
# seconds: how long the load of the other processes is measured, and how long that counts
SAMPLE, VALID = 0.1, 5.0
# fewer items are not sent to a cluster; more than this are not sent together
WORTH_SENDING, LARGEST_TASK = 8, 32

# bytes that a process with torch needs while it fits a recipe on a few thousand images
MEMORY_OF_A_PROCESS = 1.5 * 2**30


# ---------------------------------------------------------------------------- how many threads


def available_threads() -> int:
    """Return the number of threads that this process, or this worker of it, may use.

    That is what the affinity and the container allow, and no more than ``OMP_NUM_THREADS`` where
    that is set; joblib sets it in the processes that it starts. Inside a pool of threads it is 1.

    Examples
    --------
    >>> available_threads() >= 1
    True
    """
    if in_pool() or in_worker():
        return 1
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    cores = min(cpu_count(), int(limit)) if limit.isdigit() and int(limit) else cpu_count()
    nested = getattr(get_active_backend()[0], "nesting_level", 0) or 0
    return 1 if nested and not limit else max(1, cores)


def free_threads() -> int:
    """Return how many of the available threads no other process has work for; at least 1.

    For one large piece of work whose threads wait for each other. On Linux the load is measured for
    a tenth of a second, once in five seconds; elsewhere all available threads count as free.

    Examples
    --------
    >>> 1 <= free_threads() <= available_threads()
    True
    """
    most = available_threads()
    if most == 1:
        return 1
    return max(1, min(most, round(cpu_count() - _load_of_others(int(time.monotonic() / VALID)))))


@lru_cache(maxsize=1)
def _load_of_others(_period: int) -> float:
    """Return how many cores other processes keep busy."""
    before = _busy_and_own()
    if before is None:
        return 0.0
    start = time.monotonic()
    time.sleep(SAMPLE)
    after, seconds = _busy_and_own(), time.monotonic() - start
    if after is None:
        return 0.0
    (busy, own), (busy_before, own_before) = after, before
    return max(0.0, ((busy - busy_before) - (own - own_before)) / seconds)


def _busy_and_own() -> tuple[float, float] | None:
    """Return the seconds of all cores that this process may use, and its own; None if unknown."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        cores = {f"cpu{i}" for i in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    rows = [line.split() for line in lines if line.split()[0] in cores]
    # user, nice, system, idle, iowait, irq, softirq, steal
    busy = sum(int(v) for row in rows for v in (*row[1:4], *row[6:9]))
    own = os.times()
    return busy / ticks, own.user + own.system


def pool_size(n_jobs: int | None, n_items: int | None = None) -> int:
    """Return the number of threads of a pool over items.

    Parameters
    ----------
    n_jobs : int or None
        As in joblib, -1 for all cores. None is all that are available, at most 8.
    n_items : int, optional
        There are no more threads than items.

    Examples
    --------
    >>> pool_size(4, n_items=2)
    2
    """
    if n_jobs is None:
        threads = min(available_threads(), LARGEST_POOL)
    else:
        threads = effective_n_jobs(n_jobs)
    return threads if n_items is None else max(1, min(threads, n_items))


def process_count(n_jobs: int | None) -> int:
    """Return how many processes that fit models this computer has cores and free memory for.

    Parameters
    ----------
    n_jobs : int or None
        As in joblib, -1 for all cores; None is one process.

    Examples
    --------
    >>> process_count(None)
    1
    """
    cores = 1 if n_jobs is None else effective_n_jobs(n_jobs)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # no such count on this system
        return int(cores)
    return int(max(1, min(cores, free // MEMORY_OF_A_PROCESS)))


# ------------------------------------------------------------------------- many small pieces


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
        Threads, as in :func:`pool_size`.
    """
    return map_items(lambda item, *row: function(as_array(item), *row), X, *more, n_jobs=n_jobs)


def map_items(
    function: Callable[..., Any], *sequences: Any, n_jobs: int | None = None
) -> list[Any]:
    """Return ``[function(*row) for each row of the sequences]``, in order.

    Parameters
    ----------
    function : callable
        Takes one item of each sequence, and changes nothing else: on a cluster it has copies. It
        gains from threads where it spends its time in code without the lock of the interpreter:
        decoders, OpenCV, compiled kernels, torch.
    *sequences : sequences
        Of one length.
    n_jobs : int, optional
        Threads, as in :func:`pool_size`.

    Examples
    --------
    >>> map_items(pow, [2, 3], [3, 2], n_jobs=2)
    [8, 9]
    """
    lengths = {len(sequence) for sequence in sequences}
    if len(lengths) > 1:
        raise ValueError(f"the sequences have {sorted(lengths)} items; all have one length.")
    n, rows = max(lengths), zip(*sequences, strict=True)
    if n >= WORTH_SENDING:
        size = max(1, min(LARGEST_TASK, n // 32))
        parts = iter(lambda: list(itertools.islice(rows, size)), [])
        done = send(partial(_star_map, function), parts)
        if done is not None:
            return [value for part in done for value in part]
    if pool_size(n_jobs, *lengths) <= 1:
        with library_threads(1):
            return _star_map(function, rows)
    with thread_pool(n_jobs, *lengths) as pool:
        return list(pool.map(function, *sequences))


def _star_map(function: Callable[..., Any], rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [function(*row) for row in rows]


def send(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any] | None:
    """Return an iterator over ``function(item)``, worked out on a cluster; None without one.

    In the workers every library uses one thread.

    Examples
    --------
    >>> send(abs, [-1]) is None
    True
    """
    client = active_client()
    return None if client is None else iterate_on_workers(client, partial(_alone, function), items)


def _alone(function: Callable[[Any], Any], item: Any) -> Any:
    with library_threads(1):
        return function(item)


def iterate_items(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    ahead: int | None = None,
    n_jobs: int | None = None,
) -> Iterator[Any]:
    """Yield ``function(item)`` of each item, in order, while threads work on the next ones.

    Parameters
    ----------
    function : callable
        As for :func:`map_items`.
    items : iterable
        Taken as they are needed, so there may be any number of them.
    ahead : int, optional
        How many items are worked on, or done, before they are asked for; by default one more than
        there are threads.
    n_jobs : int, optional
        Threads, as in :func:`pool_size`.

    Examples
    --------
    >>> import itertools
    >>> list(itertools.islice(iterate_items(abs, itertools.count(-2)), 4))
    [2, 1, 0, 1]
    """
    ahead = pool_size(n_jobs) + 1 if ahead is None else ahead
    remaining = iter(items)
    with thread_pool(n_jobs) as pool:
        waiting: deque[Future[Any]] = deque()
        try:
            while True:
                for item in itertools.islice(remaining, max(1, ahead) - len(waiting)):
                    waiting.append(pool.submit(function, item))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def thread_pool(
    n_jobs: int | None = None, n_items: int | None = None
) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of threads in which every library uses one thread.

    The thread that opens the pool keeps its number for torch and OpenMP, so that it can train a
    network while the pool prepares its batches.

    Parameters
    ----------
    n_jobs, n_items : int, optional
        As in :func:`pool_size`.

    Examples
    --------
    >>> with thread_pool(2) as pool:
    ...     [future.result() for future in [pool.submit(pow, 2, n) for n in range(3)]]
    [1, 2, 4]
    """
    size = pool_size(n_jobs, n_items)
    # a thread that never used torch takes over what any other thread has set last
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with process_wide(1), ThreadPoolExecutor(size, initializer=enter_pool) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            if torch:
                torch.set_num_threads(before)
