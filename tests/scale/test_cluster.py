"""A cluster of real processes gives what this process gives, also when a worker is killed."""

import os
import signal
import sys
import threading
import time

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold

from hemaest.datasets import make_cells
from hemaest.evaluation import compare
from hemaest.scale import on_cluster

# workers cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = [
    pytest.mark.slow,
    # distributed opens sockets that its own clean-up closes late
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cells():
    return make_cells(36, classes=["lymphocyte", "neutrophil"], image_size=48, random_state=0)


def test_compare_gives_the_same_scores(cluster, cells):
    arguments = (["color-logistic"], cells.images, cells.target)
    here = compare(*arguments, groups=cells.groups, cv=3)
    with on_cluster(cluster):
        there = compare(*arguments, groups=cells.groups, cv=3, n_jobs=2)
    times = [c for c in here.table if c.endswith(("_s", "_ms"))]
    first, second = here.table.drop(columns=times), there.table.drop(columns=times)
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_a_grid_search_gives_the_same_results(cluster, cells):
    X = cells.images.reshape(len(cells.images), -1)[:, ::97] / 255
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, cv=GroupKFold(3))
    here = search.fit(X, cells.target, groups=cells.groups).cv_results_["mean_test_score"]
    with on_cluster(cluster):
        there = search.fit(X, cells.target, groups=cells.groups).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(here, there)


def threads_of_a_worker():
    from threadpoolctl import threadpool_info

    return os.environ["OMP_NUM_THREADS"], [pool["num_threads"] for pool in threadpool_info()]


def test_the_libraries_of_a_worker_use_one_thread(cluster):
    with on_cluster(cluster) as client:
        for threads, pools in client.run(threads_of_a_worker).values():
            assert threads == "1" and set(pools) <= {1}


def slow_square(number, folder):
    """Square a number, and leave a note of each attempt."""
    with open(f"{folder}/{number}", "a") as note:
        note.write("x")
    time.sleep(0.2)
    return number**2


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(cluster, tmp_path):
    with on_cluster(cluster) as client:
        workers = [w["pid"] for w in client.run(lambda: {"pid": os.getpid()}).values()]

        threading.Timer(0.7, os.kill, (workers[0], signal.SIGKILL)).start()
        found = Parallel(n_jobs=2)(delayed(slow_square)(i, str(tmp_path)) for i in range(12))
    assert found == [i**2 for i in range(12)]
    assert len(list(tmp_path.iterdir())) == 12
