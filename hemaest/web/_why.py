"""Why the model names a cell as it does: which parts it cannot do without.

The routes send a crop to a process of its own, which starts when it is first needed and returns
the crop under a heat map (:func:`hemaest.inspection.occlusion`). So the queue of fields is not in
the way.
"""

import contextlib
import multiprocessing
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.inspection import occlusion
from hemaest.web._analysis import jpeg, load_model

__all__ = ["Busy", "Explainer"]

SHOWN_SIDE = 256
MOST_WAITING = 4
SECONDS = 120.0


class Busy(RuntimeError):
    """Too many requests at once."""


def _serve(pipe: Connection, model: str | None) -> None:
    """Load the model, then explain one cell at a time until the server ends."""
    from hemaest.inspection.drawing import overlay

    with contextlib.suppress(BrokenPipeError, EOFError):
        try:
            classifier, _ = load_model(model)
        except Exception as error:
            pipe.send(("failed", f"the model cannot be loaded: {error}"))
            return
        while True:
            image, kind = pipe.recv()
            answer: tuple[str, Any]
            try:
                fall = occlusion(classifier, image, kind)
                largest = float(fall.max())
                drawn = overlay(_enlarged(image), _smooth(fall))
                answer = "done", (jpeg(drawn, SHOWN_SIDE), largest)
            except Exception as error:
                answer = "failed", f"{type(error).__name__}: {error}"
            pipe.send(answer)


def _enlarged(image: NDArray[Any]) -> NDArray[Any]:
    import cv2

    scale = SHOWN_SIDE / max(image.shape[:2])
    size = [max(1, round(n * scale)) for n in image.shape[1::-1]]
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=how))


def _smooth(fall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the map without the edges of the covers, at the size that is shown, up to 1."""
    import cv2

    blurred = cv2.GaussianBlur(fall, (0, 0), max(1.0, 0.05 * max(fall.shape)))
    large = np.asarray(_enlarged(blurred), float).clip(min=0)
    return large / max(float(large.max()), 1e-9)


class Explainer:
    """Explains types, in a process that starts when it is first needed.

    Parameters
    ----------
    model : path, optional
        A saved classifier. None: the shipped one.
    """

    def __init__(self, model: Path | None = None) -> None:
        self._model = None if model is None else str(model)
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)
        self._turn = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None

    def why(self, image: NDArray[np.uint8], kind: str) -> tuple[bytes, float]:
        """Return the crop under its heat as JPEG, and the largest fall of the probability.

        Raises
        ------
        Busy
            Where too many others wait.
        ValueError
            Where the model has no answer.
        """
        if not self._waiting.acquire(blocking=False):
            raise Busy("the model is busy; try again in a few seconds.")
        try:
            with self._turn:
                outcome, value = self._answer(image, kind)
        finally:
            self._waiting.release()
        if outcome != "done":
            raise ValueError(value)
        return value

    def _answer(self, image: NDArray[np.uint8], kind: str) -> tuple[str, Any]:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(there, self._model), daemon=True)
            self._process.start()
            there.close()
        try:
            self._pipe.send((image, kind))
            if self._pipe.poll(SECONDS):
                return self._pipe.recv()
            problem = f"no answer within {SECONDS:.0f} s."
        except (EOFError, OSError):
            problem = "the process of the model ended."
        self.stop()
        return "failed", problem

    def stop(self) -> None:
        """End the process; the next request starts it again."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None:
            process.kill()
            process.join(timeout=5)
        if pipe is not None:
            pipe.close()
