"""Run the joblib work of scikit-learn and hemaest on a dask cluster.

``compare``, ``GridSearchCV``, feature extraction and ``predict`` share their work through joblib,
so the cluster is chosen around them and nothing else changes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["on_cluster"]

# options of glibc (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) in bytes, as it sets them by itself for a
# process that often needs large arrays
KEPT = {-3: 32 * 2**20, -1: 64 * 2**20}


@contextmanager
def on_cluster(cluster: Any, *, scatter: Sequence[Any] = ()) -> Iterator[Any]:
    """Send joblib's work to a dask cluster while the block runs.

    In every worker torch, BLAS, OpenMP and OpenCV use as many threads as dask gives the worker, so
    that nothing is oversubscribed. A worker that dies is replaced by dask and its tasks run again.

    Parameters
    ----------
    cluster : str, dask cluster or distributed.Client
        The address of a scheduler (``"tcp://10.0.0.5:8786"``), a cluster object (LocalCluster,
        ``dask_jobqueue.SLURMCluster``, ``dask_kubernetes.operator.KubeCluster``), or a client.
    scatter : sequence, optional
        Large arrays that all tasks use; each is sent once to every worker.

    Yields
    ------
    client : distributed.Client

    Examples
    --------
    >>> from hemaest.scale import on_cluster
    >>> with on_cluster("tcp://10.0.0.5:8786"):  # doctest: +SKIP
    ...     result = compare(["handcrafted-logistic"], X, y, groups=groups, n_jobs=-1)
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            'clusters need dask and distributed: pip install "hemaest[scale]"'
        ) from None
    from joblib import parallel_config

    own = not isinstance(cluster, Client)
    client = Client(cluster) if own else cluster
    try:
        client.register_plugin(_thread_limits(), name="hemaest-threads")
        with parallel_config(backend="dask", client=client, scatter=list(scatter) or None):
            yield client
    finally:
        if own:
            client.close()


def _thread_limits() -> Any:
    """Return a plugin that limits the threads of libraries in each worker."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class ThreadLimits(WorkerPlugin):
        """One pool of threads a worker: that of dask."""

        def setup(self, worker: Any) -> None:
            """Read by libraries that load later; those that are loaded are limited here."""
            import os

            from threadpoolctl import threadpool_limits

            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
                os.environ[name] = "1"
            self._limits = threadpool_limits(1)
            keep_freed_memory()

    return ThreadLimits()


def keep_freed_memory() -> None:
    """Let the C library keep some freed memory.

    dask starts its workers with a setting under which glibc gives every large array back to the
    system at once. Each layer of a network then waits for new pages, a fifth of the time in all.
    """
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    for option, size in KEPT.items():
        set_option(option, size)
