"""A cluster of real processes gives what this process gives, also when a worker is killed."""

import os
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_info

from hemaest.datasets import make_cells
from hemaest.evaluation import compare
from hemaest.features import HandcraftedFeatures
from hemaest.groups import near_duplicate_groups
from hemaest.images import ImageRef, to_object_array
from hemaest.pretrained import load_pretrained
from hemaest.scale import on_cluster, predict_stream
from hemaest.segmentation import CellSegmenter

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


@pytest.fixture(scope="module")
def folder(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    for i, image in enumerate(cells.images[:16]):
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    Image.fromarray(np.rot90(cells.images[3])).save(folder / "99.png")
    return folder


@pytest.fixture
def plain_joblib(cluster):
    """Joblib's own way to choose a cluster, without ``on_cluster``."""
    from distributed import Client

    with Client(cluster) as client, joblib.parallel_config(backend="dask"):
        yield client


def test_features_predictions_and_copies_of_files_are_those_of_this_process(folder, plain_joblib):
    X = to_object_array([ImageRef(file) for file in sorted(folder.iterdir())])
    model = load_pretrained("blood-cells").set_params(batch_size=2)
    steps = make_pipeline(CellSegmenter(), HandcraftedFeatures()).fit(X[:2])

    def work():
        return steps.transform(X), model.predict_proba(X), near_duplicate_groups(X)

    there = work()
    ran = plain_joblib.run(lambda dask_worker: dask_worker.state.executed_count)
    with joblib.parallel_config(backend="threading"):
        here = work()
    after = plain_joblib.run(lambda dask_worker: dask_worker.state.executed_count)
    for mine, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    assert here[2][3] == here[2][-1]
    assert min(ran.values()) > 0 and after == ran


def test_a_stream_through_a_cluster_has_the_same_rows(cluster, folder, tmp_path):
    (folder / "50.png").write_text("no image")
    model = load_pretrained("blood-cells")
    options = {"batch_size": 3, "part_size": 7}
    here = predict_stream(model, folder, tmp_path / "here", **options)
    with on_cluster(cluster):
        there = predict_stream(model, folder, tmp_path / "there", **options)
    assert here.n_failed == there.n_failed == 1
    pd.testing.assert_frame_equal(here.table(), there.table(), check_exact=True)
    pd.testing.assert_frame_equal(here.failures(), there.failures())


def test_the_libraries_of_a_worker_use_one_thread(cluster):
    with on_cluster(cluster) as client:
        # of the standard library and of threadpoolctl: workers cannot import this file
        for threads in client.run(os.getenv, "OMP_NUM_THREADS").values():
            assert threads == "1"
        for pools in client.run(threadpool_info).values():
            assert {pool["num_threads"] for pool in pools} <= {1}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_a_worker_keeps_freed_memory(cluster):
    def new_pages():
        import resource

        np.ones(500_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            np.ones(500_000)  # about 1,000 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with on_cluster(cluster) as client:
        assert max(client.run(new_pages).values()) < 5_000


SCRIPT = """
import os, signal, threading, time
from pathlib import Path
import numpy as np
from distributed import LocalCluster
from joblib import Parallel, delayed
from hemaest.scale import on_cluster, predict_stream

notes = Path(NOTES)

def slow_square(number):
    (notes / f"{number}").touch()
    time.sleep(0.2)
    return number**2

class Slow:
    def transform(self, X):
        time.sleep(0.2)
        return np.array([[image.mean()] for image in X])

def kill_one(client):
    worker = next(iter(client.run(os.getpid).values()))
    threading.Timer(0.7, os.kill, (worker, signal.SIGKILL)).start()
    return worker

if __name__ == "__main__":
    here = predict_stream(Slow(), FOLDER, notes.parent / "here", kind="transform", batch_size=1)
    with LocalCluster(
        n_workers=3, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster, on_cluster(cluster) as client:
        first = kill_one(client)
        found = Parallel(n_jobs=2)(delayed(slow_square)(i) for i in range(12))
        print(found == [i**2 for i in range(12)])
        second = kill_one(client)
        options = {"kind": "transform", "batch_size": 1}
        there = predict_stream(Slow(), FOLDER, notes.parent / "there", **options)
        print(there.table().equals(here.table()), there.n_failed == 0)
        print(not {first, second} & set(client.run(os.getpid).values()))
"""


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(tmp_path):
    """In a process of its own: workers get the functions of its main module."""
    (tmp_path / "notes").mkdir()
    for number in range(16):
        Image.new("RGB", (20, 20), (number, 90, 160)).save(tmp_path / f"{number:02d}.png")
    script = tmp_path / "script.py"
    words = {"NOTES": tmp_path / "notes", "FOLDER": tmp_path}
    text = SCRIPT
    for word, path in words.items():
        text = text.replace(word, repr(str(path)))
    script.write_text(text)
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["True"] * 4, done.stderr
    assert len(list((tmp_path / "notes").iterdir())) == 12
