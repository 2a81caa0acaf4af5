"""A cluster of real processes gives what this process gives, also when a worker is killed."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from threadpoolctl import threadpool_info

from hemaest.datasets import make_cells
from hemaest.evaluation import compare
from hemaest.scale import on_cluster

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


def test_the_libraries_of_a_worker_use_one_thread(cluster):
    with on_cluster(cluster) as client:
        # of the standard library and of threadpoolctl: workers cannot import this file
        for threads in client.run(os.getenv, "OMP_NUM_THREADS").values():
            assert threads == "1"
        for pools in client.run(threadpool_info).values():
            assert {pool["num_threads"] for pool in pools} <= {1}


SCRIPT = """
import os, signal, sys, threading, time
from distributed import LocalCluster
from joblib import Parallel, delayed
from hemaest.scale import on_cluster

def slow_square(number):
    open(f"{sys.argv[1]}/{number}", "a").write("x")
    time.sleep(0.2)
    return number**2

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster, on_cluster(cluster) as client:
        worker = next(iter(client.run(os.getpid).values()))
        threading.Timer(0.7, os.kill, (worker, signal.SIGKILL)).start()
        found = Parallel(n_jobs=2)(delayed(slow_square)(i) for i in range(12))
        print(found == [i**2 for i in range(12)], worker not in client.run(os.getpid).values())
"""


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(tmp_path):
    """In a process of its own: workers get the functions of its main module."""
    (tmp_path / "notes").mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("sys.argv[1]", repr(str(tmp_path / "notes"))))
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["True", "True"], done.stderr
    assert len(list((tmp_path / "notes").iterdir())) == 12
