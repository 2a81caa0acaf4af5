"""The thread policy: what a pool does to the libraries, and what counts as available and free."""

import os
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import torch
from joblib import Parallel, cpu_count, delayed
from threadpoolctl import threadpool_info

from hemaest._library_threads import library_threads
from hemaest._parallel import (
    available_threads,
    free_threads,
    map_images,
    map_items,
    pool_size,
    thread_pool,
)


def numbers():
    """Return the number of threads of every library, as this thread sees it."""
    found = {i["filepath"]: i["num_threads"] for i in threadpool_info()}
    return {**found, "torch": torch.get_num_threads(), "cv2": cv2.getNumThreads()}


@pytest.fixture
def two_everywhere():
    before = cv2.getNumThreads()
    with library_threads(2):
        cv2.setNumThreads(2)
        yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_library_uses_one_thread_inside_a_map(two_everywhere, n_jobs):
    outside = numbers()
    inside = map_items(lambda _: numbers(), range(4), n_jobs=n_jobs)
    assert all(set(found.values()) == {1} for found in inside)
    assert numbers() == outside


def test_a_pool_leaves_torch_of_its_owner_alone(two_everywhere):
    with thread_pool(2) as pool:
        assert torch.get_num_threads() == 2
        assert set(pool.submit(numbers).result().values()) == {1}
        # a network computes in the worker with one thread, also at its very first operation
        pool.submit(lambda: torch.ones(400, 400) @ torch.ones(400, 400)).result()
        assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_a_pool_leaves_no_trace_in_a_process_that_has_not_used_torch_yet():
    code = (
        "import sys, torch; from hemaest._parallel import map_items\n"
        "if len(sys.argv) > 1: map_items(pow, range(4), range(4), n_jobs=2)\n"
        "print(torch.get_num_threads())"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("OMP")}
    fresh, after = (
        subprocess.run(
            [sys.executable, "-c", code, *more], env=env, capture_output=True, check=True
        )
        for more in ([], ["map"])
    )
    assert fresh.stdout == after.stdout


def test_numbers_come_back_after_an_error(two_everywhere):
    outside = numbers()
    for n_jobs in (1, 2):
        with pytest.raises(ZeroDivisionError):
            map_items(lambda i: 1 // i, [1, 0, 1], n_jobs=n_jobs)
    assert numbers() == outside


def test_blocks_in_several_threads_end_in_any_order(two_everywhere):
    entered, leave = threading.Event(), threading.Event()

    def other():
        with library_threads(1):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with library_threads(2):
        thread.start()
        assert entered.wait(10)
        assert cv2.getNumThreads() == 1  # one number for the process: the least
        assert torch.get_num_threads() == 2  # a number for each thread
    assert cv2.getNumThreads() == 1
    leave.set()
    thread.join()
    assert cv2.getNumThreads() == 2


def test_nothing_is_shared_out_twice():
    inner = map_items(
        lambda _: (available_threads(), pool_size(None), free_threads()), range(3), n_jobs=2
    )
    assert inner == [(1, 1, 1)] * 3
    with thread_pool(2) as pool:

        def limited():
            with library_threads(8):
                return torch.get_num_threads()

        assert pool.submit(limited).result() == 1


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_worker_of_joblib_has_its_share(backend):
    n_jobs = cpu_count()
    if n_jobs == 1:
        pytest.skip("one core: there is nothing to share")
    parallel = Parallel(n_jobs=n_jobs, backend=backend)
    assert parallel(delayed(available_threads)() for _ in range(2)) == [1, 1]


def test_the_user_limits_threads():
    code = (
        "from hemaest._parallel import available_threads, pool_size, free_threads\n"
        "print(available_threads(), pool_size(None), pool_size(3), free_threads())"
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.split() == [b"1", b"1", b"3", b"1"]


@pytest.mark.skipif(sys.platform != "linux", reason="the load is known on Linux")
def test_cores_that_others_keep_busy_are_not_free(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cpu_count())
    ]
    try:
        code = (
            "import time; from hemaest._parallel import free_threads; time.sleep(0.3);"
            "print(free_threads())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert int(done.stdout) == 1
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_results_come_in_order_and_files_are_read_in_the_workers(tmp_path):
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    for n_jobs in (None, 1, 3, -1):
        assert map_images(lambda image, k: (image.max(), k), images, "abcde", n_jobs=n_jobs) == [
            (i, k) for i, k in enumerate("abcde")
        ]
    with pytest.raises(ValueError, match="one length"):
        map_items(pow, [1, 2], [1])
    assert map_items(pow, [], []) == []


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_opencv_starts_no_threads_while_images_are_shared_out(cells, n_jobs):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        inner = map_images(
            lambda _: map_images(lambda _: cv2.getNumThreads(), cells[0][:2], n_jobs=n_jobs),
            cells[0][:4],
            n_jobs=n_jobs,
        )
        assert inner == [[1, 1]] * 4
        with pytest.raises(ZeroDivisionError):
            map_images(lambda _: 1 / 0, cells[0], n_jobs=n_jobs)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_second_arguments_go_along_with_their_images(cells):
    assert map_images(lambda image, k: (image[0, 0, 0], k), cells[0], range(24), n_jobs=2) == [
        (image[0, 0, 0], k) for k, image in enumerate(cells[0])
    ]
