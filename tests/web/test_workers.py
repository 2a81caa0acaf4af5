"""Worker processes: a dead one is replaced, its field is tried once more and then reported."""

import os
import signal
import time

import cv2
import numpy as np
import pytest

from hemaest.datasets import make_cells, make_smear
from hemaest.persistence import save
from hemaest.recipes import make_recipe
from hemaest.web import Settings, create_app

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    cells = make_cells(24, classes=["lymphocyte", "neutrophil"], image_size=64, random_state=0)
    recipe = make_recipe("color-logistic", random_state=0).fit(cells.images, cells.target)
    path = tmp_path_factory.mktemp("model") / "model.hemaest"
    save(recipe, path)
    return path


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    path = tmp_path_factory.mktemp("field") / "field.png"
    cv2.imwrite(str(path), make_smear((400, 500), n_cells=4, random_state=3).image[..., ::-1])
    return path


@pytest.fixture(scope="module")
def large_field(tmp_path_factory):
    """A field that takes seconds, so that a process can be killed in the middle of it."""
    path = tmp_path_factory.mktemp("field") / "large.png"
    cv2.imwrite(str(path), make_smear(2000, random_state=3).image[..., ::-1])
    return path


def wait_for(what, seconds=240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def open_review(tmp_path):
    """Return a function that opens a review with a model; its processes are not started yet."""
    opened = []

    def make(model):
        opened.append(create_app(Settings(state=tmp_path / "state", model=model)).state.review)
        return opened[-1].store, opened[-1].pool

    yield make
    for review in opened:
        review.pool.stop()
        review.store.close()


def test_a_dead_process_is_replaced_and_its_field_tried_once_more(
    open_review, model, field, large_field
):
    store, pool = open_review(model)
    session = store.new_session("x")
    first = store.add_field(session, "field.png", field)
    pool.start()
    state = lambda n: store.field(session, n)["state"]  # noqa: E731
    wait_for(lambda: state(first) == "done")
    cells = store.cells(session, "A", outlines=True)
    assert cells and {c["type"] for c in cells} <= {"lymphocyte", "neutrophil"}
    assert all(len(c["outline"]) > 4 and 0 < c["nc_ratio"] <= 1 for c in cells)

    def kill_at_work(number):
        wait_for(lambda: state(number) == "working")
        (process,) = pool.process_ids
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: pool.process_ids != [process])
        return process

    again = store.add_field(session, "again.png", large_field)
    pool.wake()
    old = kill_at_work(again)
    wait_for(lambda: state(again) == "done")
    assert pool.process_ids != [old]
    found = store.cells(session, "A", again)
    assert len({(c["x0"], c["y0"]) for c in found}) == len(found) > 0

    lost = store.add_field(session, "lost.png", large_field)
    pool.wake()
    for _ in range(2):
        kill_at_work(lost)
    wait_for(lambda: state(lost) == "failed")
    assert "ended 2 times" in store.field(session, lost)["reason"]


def test_a_model_that_cannot_be_loaded_is_named(open_review, field, tmp_path):
    store, pool = open_review(tmp_path / "none.hemaest")
    session = store.new_session("x")
    number = store.add_field(session, "field.png", field)
    pool.start()
    wait_for(lambda: store.field(session, number)["state"] == "failed")
    assert "none.hemaest" in store.field(session, number)["reason"]


def test_a_broken_file_fails_alone(open_review, model, field, tmp_path):
    store, pool = open_review(model)
    session = store.new_session("x")
    broken = tmp_path / "broken.png"
    broken.write_bytes(field.read_bytes()[:200])
    bad = store.add_field(session, "broken.png", broken)
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((120, 120, 3), 240, np.uint8))
    good = store.add_field(session, "blank.png", blank)
    pool.start()
    wait_for(lambda: store.field(session, good)["state"] == "done")
    assert store.field(session, bad)["state"] == "failed"
    assert store.cells(session, "A", good) == []
