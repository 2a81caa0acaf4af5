"""Work on the workers of a dask cluster, where joblib is set to use one.

``with joblib.parallel_config(backend="dask")`` or :func:`hemaest.scale.on_cluster` chooses the
cluster; the maps of :mod:`hemaest._parallel` and the streams of :mod:`hemaest.scale` then send
their items there, and everything else stays as it is.
"""

import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

from joblib.parallel import get_active_backend

__all__ = ["active_client", "in_worker", "iterate_on_workers"]

# tasks for each thread of the cluster: one that runs, two whose input is on its way
TASKS_A_THREAD = 3


def in_worker() -> bool:
    """Return whether this code is a task of a dask worker; its work stays in its thread.

    Examples
    --------
    >>> in_worker()
    False
    """
    worker = sys.modules.get("distributed.worker")
    if worker is None:
        return False
    try:
        worker.get_worker()
    except ValueError:
        return False
    return True


def active_client() -> Any:
    """Return the client of the cluster that joblib uses now; None without one.

    Examples
    --------
    >>> active_client() is None
    True
    """
    client = getattr(get_active_backend()[0], "client", None)
    return None if client is None or in_worker() else client


def iterate_on_workers(
    client: Any, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """Yield ``function(item)`` of each item, in order, each item being a task of the cluster.

    The function, with all that it holds (a fitted model, say), is sent once to each worker: it is
    the result of a task of its own, so it is made again where the worker that held it dies. The
    tasks of a worker that dies run again on the others; each result is taken once.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    function : callable
        Takes one item. It is pickled.
    items : iterable
        Taken as they are needed: a few for each thread of the cluster are on their way.
    """
    import cloudpickle

    name = f"hemaest-{uuid4().hex}"
    sent = client.submit(cloudpickle.loads, cloudpickle.dumps(function), key=name)
    ahead = TASKS_A_THREAD * max(1, sum(client.nthreads().values()))
    remaining = enumerate(items)
    waiting: deque[Any] = deque()
    try:
        while True:
            for number, item in itertools.islice(remaining, ahead - len(waiting)):
                # a list would be searched for other tasks, image by image
                packed = cloudpickle.dumps(item)
                waiting.append(client.submit(_apply, sent, packed, key=f"{name}-{number}"))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        client.cancel([sent, *waiting])


def _apply(function: Callable[[Any], Any], packed: bytes) -> Any:
    import cloudpickle

    return function(cloudpickle.loads(packed))
