"""What the review page remembers: labels of each observer, undo, the log, the queue."""

import sqlite3
import subprocess
import sys
import time

import pytest

from hemaest.web._store import NOT_COUNTED, Conflict, Missing, Store


def cell(kind="lymphocyte", **values):
    box = {"x0": 10.0, "y0": 10.0, "x1": 30.0, "y1": 34.0}
    return {
        **box, "outline": [], "nucleus": [], "type": kind, "confidence": 0.8, "nc_ratio": 0.7,
        "probabilities": {kind: 0.8}, "crop": b"x", **values,
    }  # fmt: skip


def analyzed(store, n_cells=3):
    """Return a session with one analyzed field, and the numbers of its cells."""
    session = store.new_session("smear")
    store.add_field(session, "a.png", "a.png")
    job = store.next_job()
    result = {"width": 64, "height": 48, "warnings": [], "cells": [cell() for _ in range(n_cells)]}
    store.finish(job["id"], result)
    return session, [c["id"] for c in store.cells(session, "A")]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "review.sqlite")
    yield store
    store.close()


def labels(store, session, observer="A"):
    return [c["label"] for c in store.cells(session, observer)]


def test_undo_and_redo_go_through_every_step(store):
    session, cells = analyzed(store)
    kinds = ["monocyte", "blast", "neutrophil", "eosinophil"]
    states = [labels(store, session)]
    for i, kind in enumerate(kinds):
        store.review(session, "A", cells[: i % 3 + 1], kind)
        states.append(labels(store, session))
    for state in states[-2::-1]:
        store.undo(session, "A")
        assert labels(store, session) == state
    assert store.undo(session, "A") == {}
    for state in states[1:]:
        store.undo(session, "A", redo=True)
        assert labels(store, session) == state
    assert store.undo(session, "A", redo=True) == {}


def test_a_new_step_ends_what_could_be_redone(store):
    session, cells = analyzed(store)
    store.review(session, "A", cells[:1], "blast")
    store.undo(session, "A")
    store.review(session, "A", cells[:1], "monocyte")
    assert store.steps(session, "A") == {"undo": 1, "redo": 0}


def test_observers_do_not_see_each_other(store):
    session, cells = analyzed(store)
    store.review(session, "A", cells, "blast")
    store.add_cell(session, "A", store.fields(session)[0]["id"], cell("monocyte"))
    assert labels(store, session, "B") == ["lymphocyte"] * 3
    store.review(session, "B", cells[:1], "monocyte")
    assert labels(store, session, "A") == ["blast"] * 3 + ["monocyte"]


def test_sessions_do_not_mix(store):
    one, cells = analyzed(store)
    other, _ = analyzed(store)
    with pytest.raises(Missing):
        store.review(other, "A", cells[:1], "blast")
    with pytest.raises(Missing):
        store.cell(other, cells[0])
    assert labels(store, one) == ["lymphocyte"] * 3


def test_an_added_cell_goes_with_undo(store):
    session, _ = analyzed(store)
    store.add_cell(session, "A", store.fields(session)[0]["id"], cell("blast"))
    assert labels(store, session)[-1] == "blast"
    store.undo(session, "A")
    assert labels(store, session)[-1] == NOT_COUNTED


def test_the_log_holds_every_step_and_cannot_be_changed(store, tmp_path):
    session, cells = analyzed(store)
    store.review(session, "A", cells[:2], "blast")
    store.undo(session, "A")
    store.sign(session, "A", {"note": ""})
    events = [e["event"] for e in store.log(session)]
    assert events == [
        "session opened", "field added", "field analyzed", "labeled", "undone", "signed",
    ]  # fmt: skip
    other = sqlite3.connect(tmp_path / "review.sqlite")
    for query in ("DELETE FROM log", "UPDATE log SET observer = 'B'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(query)
    other.close()


def test_after_the_signature_nothing_changes_until_it_is_reopened(store):
    session, cells = analyzed(store)
    store.sign(session, "A", {})
    for change in (
        lambda: store.review(session, "A", cells[:1], "blast"),
        lambda: store.undo(session, "A"),
        lambda: store.add_cell(session, "A", store.fields(session)[0]["id"], cell()),
        lambda: store.sign(session, "A", {}),
    ):
        with pytest.raises(Conflict, match="signed"):
            change()
    store.review(session, "B", cells[:1], "blast")
    store.reopen(session, "A", "wrong patient")
    store.review(session, "A", cells[:1], "blast")
    assert labels(store, session)[0] == "blast"
    with pytest.raises(Conflict, match="not signed"):
        store.reopen(session, "A", "again")


def test_a_field_that_a_killed_process_left_waits_again(store):
    session = store.new_session("smear")
    store.add_field(session, "a.png", "a.png")
    assert store.next_job()["attempts"] == 1
    assert store.next_job() is None
    store.requeue()
    assert store.next_job()["attempts"] == 1


def test_a_result_is_kept_once(store):
    session, _ = analyzed(store)
    store.finish(
        store.fields(session)[0]["id"], {"width": 1, "height": 1, "warnings": [], "cells": [cell()]}
    )
    assert len(labels(store, session)) == 3


def test_a_deleted_session_leaves_its_log_only(store):
    session, _ = analyzed(store)
    assert store.delete_session(session, "A") == ["a.png"]
    assert store.sessions() == []
    assert store.log(session)[-1]["event"] == "session deleted"


WRITER = """
import sys
from hemaest.web._store import Store
store = Store(sys.argv[1])
session, cells = sys.argv[2], [int(n) for n in sys.argv[3].split(",")]
for step in range(100_000):
    kind = ("blast", "monocyte")[step % 2]
    store.review(session, "A", [cells[step % len(cells)]], kind)
    print(step, flush=True)
"""


def test_no_label_that_was_acknowledged_is_lost_when_the_process_is_killed(tmp_path):
    path = tmp_path / "review.sqlite"
    store = Store(path)
    session, cells = analyzed(store, 7)
    store.close()
    for _ in range(3):
        store = Store(path)
        before = store.steps(session, "A")["undo"]
        store.close()
        command = [sys.executable, "-c", WRITER, path, session, ",".join(map(str, cells))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.2)
            process.kill()
            acknowledged = 1 + len(process.stdout.read().splitlines())
        store = Store(path)
        done = store.steps(session, "A")["undo"] - before
        logged = sum(e["event"] == "labeled" for e in store.log(session))
        assert acknowledged <= done <= acknowledged + 1
        assert logged == store.steps(session, "A")["undo"]
        store.close()
