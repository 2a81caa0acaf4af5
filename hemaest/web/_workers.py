"""Worker processes that analyze the queued fields, so that the page answers meanwhile.

One thread serves one process. A process that dies is replaced; its field is tried once more and
then reported as failed. What a killed server left half done waits in the queue again.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hemaest.web._analysis import FieldAnalyzer
from hemaest.web._slides import analyze_slide
from hemaest.web._store import Store

__all__ = ["WorkerPool"]

MAX_ATTEMPTS = 2
WAIT_FOR_MODEL = 300.0
STOP_SECONDS = 60.0
NICENESS = 10  # the page goes first


def _serve(pipe: Connection, model: str | None, max_pixels: int) -> None:
    """Run in a process until the server ends."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    with contextlib.suppress(BrokenPipeError, EOFError):
        _answer_paths(pipe, model, max_pixels)


def _answer_paths(pipe: Connection, model: str | None, max_pixels: int) -> None:
    """Load the model, then answer one path at a time."""
    try:
        analyzer = FieldAnalyzer(model, max_pixels)
    except Exception as error:
        pipe.send(("no model", f"{type(error).__name__}: {error}"))
        return
    pipe.send(("ready", analyzer.references.rows))

    def report(tiles: int) -> None:
        pipe.send(("tiles", tiles))

    while True:
        path, kind = pipe.recv()
        answer: tuple[str, Any]
        try:
            if kind == "slide":
                answer = "done", analyze_slide(analyzer, path, report)
            else:
                answer = "done", analyzer.analyze(path)
        except Exception as error:
            answer = "failed", f"{type(error).__name__}: {error}"
        pipe.send(answer)


class WorkerPool:
    """Processes that take fields from the queue of a store.

    Parameters
    ----------
    store : Store
        Where fields wait and results go.
    n_workers : int
        Number of processes.
    model : path, optional
        A saved classifier. None: the shipped one.
    max_pixels : int
        Larger images are refused.
    timeout : float
        Seconds after which a process that does not answer counts as dead.
    on_change : callable, optional
        Called with the session whenever the state of a field changed.
    """

    def __init__(
        self,
        store: Store,
        n_workers: int = 1,
        *,
        model: Path | None = None,
        max_pixels: int = 100_000_000,
        timeout: float = 600.0,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._store, self._timeout = store, timeout
        self._arguments = (None if model is None else str(model), max_pixels)
        self.on_change = on_change or (lambda session: None)
        self._context = multiprocessing.get_context("spawn")
        self._stop, self._work = threading.Event(), threading.Condition()
        self._processes: list[Any] = [None] * n_workers
        self._threads = [
            threading.Thread(target=self._loop, args=(i,), daemon=True) for i in range(n_workers)
        ]
        self.model_problem = ""
        self.progress: dict[int, int] = {}

    def start(self) -> None:
        """Let fields wait again that a killed process left, and start the processes."""
        self._store.requeue()
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that a field was queued."""
        with self._work:
            self._work.notify_all()

    def stop(self) -> None:
        """Stop the processes; fields that they worked on are queued at the next start."""
        self._stop.set()
        self.wake()
        end = time.monotonic() + STOP_SECONDS
        # a thread may be starting a process just now: it is ended as soon as it is there
        while any(t.is_alive() for t in self._threads) and time.monotonic() < end:
            self._end_processes()
            for thread in self._threads:
                if thread.is_alive():
                    thread.join(timeout=0.2)
        self._end_processes()

    def _end_processes(self) -> None:
        for process in filter(None, list(self._processes)):
            process.terminate()
            process.join(timeout=5)
            if process.is_alive():
                process.kill()

    @property
    def process_ids(self) -> list[int]:
        """Numbers of the running processes."""
        return [p.pid for p in self._processes if p is not None and p.is_alive()]

    def _loop(self, place: int) -> None:
        pipe: Connection | None = None
        while not self._stop.is_set():
            if pipe is None:
                pipe = self._new_process(place)
                if pipe is None:
                    self._fail_queue()
                    self._pause(5.0)
                    continue
            job = self._store.next_job()
            if job is None:
                self._pause(1.0)
                continue
            self.on_change(job["session"])
            if not self._do(job, pipe):
                pipe.close()
                pipe = None
            self.on_change(job["session"])

    def _pause(self, seconds: float) -> None:
        with self._work:
            if not self._stop.is_set():
                self._work.wait(seconds)

    def _new_process(self, place: int) -> Connection | None:
        """Start a process and wait for its model; None where it has none."""
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there, *self._arguments), daemon=True)
        process.start()
        there.close()
        self._processes[place] = process
        kind, value = self._answer(here, WAIT_FOR_MODEL)
        if kind == "ready":
            self._store.keep_references(value)
            self.model_problem = ""
            return here
        process.terminate()
        if not self._stop.is_set():
            self.model_problem = value
        return None

    def _do(self, job: dict[str, Any], pipe: Connection) -> bool:
        """Analyze one field; return whether the process can continue."""
        try:
            pipe.send((job["path"], job["kind"]))
            kind, value = self._answer(pipe, self._timeout)
            while kind == "tiles":
                self.progress[job["id"]] = value
                self.on_change(job["session"])
                kind, value = self._answer(pipe, self._timeout)
        except OSError:
            kind, value = "died", ""
        self.progress.pop(job["id"], None)
        if self._stop.is_set() and kind not in {"done", "failed"}:
            return False
        if kind == "done":
            self._store.finish(job["id"], value)
        elif kind == "failed":
            self._store.fail(job["id"], value)
        elif job["attempts"] < MAX_ATTEMPTS:
            self._store.requeue(job["id"])
        else:
            self._store.fail(
                job["id"],
                f"the analysis ended {MAX_ATTEMPTS} times without an answer "
                "(too little memory, or a file that breaks the reader).",
            )
        return kind in {"done", "failed"}

    def _answer(self, pipe: Connection, seconds: float) -> tuple[str, Any]:
        try:
            if pipe.poll(seconds):
                return pipe.recv()
        except (EOFError, OSError):
            return "died", "the process ended while it loaded the model."
        return "died", f"no answer within {seconds:.0f} s."

    def _fail_queue(self) -> None:
        """Fields that wait for a model that cannot be loaded fail with the reason."""
        while not self._stop.is_set() and (job := self._store.next_job()) is not None:
            self._store.fail(job["id"], f"the model cannot be loaded: {self.model_problem}")
            self.on_change(job["session"])
