"""What the review page remembers: labels of each observer, undo, the log, the queue."""

import sqlite3
import subprocess
import sys
import time

import pytest

from .conftest import analyzed, field_file, open_store, some_cell

THREE = ["lymphocyte"] * 3


def missed(smear, kind, observer="A", **how):
    return smear.post("cells", observer, field=smear.field(), x=40.0, y=60.0, type=kind, **how)


def test_undo_and_redo_go_through_every_step(new_smear):
    smear = new_smear(*THREE)
    cells = smear.numbers()
    states = [smear.labels()]
    for i, kind in enumerate(["monocyte", "blast", "neutrophil", "eosinophil"]):
        smear.label(cells[: i % 3 + 1], kind)
        states.append(smear.labels())
    for state in states[-2::-1]:
        smear.post("undo")
        assert smear.labels() == state
    assert smear.post("undo")["cells"] == []
    for state in states[1:]:
        smear.post("redo")
        assert smear.labels() == state
    assert smear.post("redo")["cells"] == []


def test_a_new_step_ends_what_could_be_redone(new_smear):
    smear = new_smear(*THREE)
    smear.label(smear.numbers()[:1], "blast")
    smear.post("undo")
    assert smear.label(smear.numbers()[:1], "monocyte") == {"undo": 1, "redo": 0}


def test_observers_do_not_see_each_other(new_smear):
    smear = new_smear(*THREE)
    cells = smear.numbers()
    smear.label(cells, "blast")
    missed(smear, "monocyte", status=201)
    assert smear.labels("B") == THREE
    smear.label(cells[:1], "monocyte", "B")
    assert smear.labels("A") == ["blast"] * 3 + ["monocyte"]


def test_sessions_do_not_mix(new_smear):
    one, other = new_smear(*THREE), new_smear(*THREE)
    other.label(one.numbers()[:1], "blast", status=404)
    answer = other.client.get(f"{other.at}/cells/{one.numbers()[0]}/image")
    assert answer.status_code == 404
    assert one.labels() == other.labels() == THREE


def test_an_added_cell_goes_with_undo(new_smear):
    smear = new_smear(*THREE)
    missed(smear, "blast", status=201)
    assert smear.labels()[-1] == "blast"
    smear.post("undo")
    assert smear.labels()[-1] == "not counted"


def test_the_log_holds_every_step_and_cannot_be_changed(app, new_smear):
    smear = new_smear(*THREE)
    smear.label(smear.numbers()[:2], "blast")
    smear.post("undo")
    smear.post("signature", status=201)
    assert [e["event"] for e in smear.log()] == [
        "session opened", "field added", "field analyzed", "labeled", "undone", "signed",
    ]  # fmt: skip
    other = sqlite3.connect(app.state.review.folder / "review.sqlite")
    for query in ("DELETE FROM log", "UPDATE log SET observer = 'B'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(query)
    other.close()


def test_after_the_signature_nothing_changes_until_it_is_reopened(new_smear):
    smear = new_smear(*THREE)
    cells = smear.numbers()
    smear.post("signature", status=201)
    for refused in (
        smear.label(cells[:1], "blast", status=409),
        smear.post("undo", status=409),
        missed(smear, "monocyte", status=409),
        smear.post("signature", status=409),
    ):
        assert "signed" in refused["detail"]
    smear.label(cells[:1], "blast", "B")
    smear.post("reopen", reason="wrong patient")
    smear.label(cells[:1], "blast")
    assert smear.labels()[0] == "blast"
    assert "not signed" in smear.post("reopen", reason="again", status=409)["detail"]


def test_a_field_that_a_killed_process_left_waits_again(app, tmp_path):
    store = app.state.review.store
    store.add_field(store.new_session("smear"), "a.png", field_file(tmp_path / "a.png"))
    assert store.next_job()["attempts"] == 1
    assert store.next_job() is None
    store.requeue()
    assert store.next_job()["attempts"] == 1


def test_a_result_is_kept_once(app, new_smear):
    smear = new_smear(*THREE)
    again = {"width": 1, "height": 1, "warnings": [], "cells": [some_cell()]}
    app.state.review.store.finish(smear.field(), again)
    assert smear.labels() == THREE


def test_a_deleted_session_leaves_its_log_only(app, client, tmp_path):
    review = app.state.review
    session = analyzed(review, tmp_path)
    answer = client.delete(f"/api/sessions/{session}", params={"observer": "A"})
    assert answer.status_code == 204
    assert client.get("/api/sessions").json() == []
    assert review.store.log(session)[-1]["event"] == "session deleted"


WRITER = """
import sys
from pathlib import Path
from hemaest.web import Settings, create_app
store = create_app(Settings(state=Path(sys.argv[1]))).state.review.store
session, cells = sys.argv[2], [int(n) for n in sys.argv[3].split(",")]
for step in range(100_000):
    kind = ("blast", "monocyte")[step % 2]
    store.review(session, "A", [cells[step % len(cells)]], kind)
    print(step, flush=True)
"""


@pytest.mark.slow
def test_no_label_that_was_acknowledged_is_lost_when_the_process_is_killed(tmp_path, app):
    review = app.state.review
    session = analyzed(review, tmp_path, ["lymphocyte"] * 7)
    cells = [c["id"] for c in review.store.cells(session, "A")]
    review.store.close()
    for _ in range(3):
        store = open_store(review.folder)
        before = store.steps(session, "A")["undo"]
        store.close()
        command = [
            sys.executable, "-c", WRITER, review.folder, session, ",".join(map(str, cells))
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.2)
            process.kill()
            acknowledged = 1 + len(process.stdout.read().splitlines())
        store = open_store(review.folder)
        done = store.steps(session, "A")["undo"] - before
        logged = sum(e["event"] == "labeled" for e in store.log(session))
        assert acknowledged <= done <= acknowledged + 1
        assert logged == store.steps(session, "A")["undo"]
        store.close()
