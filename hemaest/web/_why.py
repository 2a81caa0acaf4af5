"""Why the model names a cell as it does: which parts it cannot do without.

Parts of the crop are covered one after the other; where the probability of the type falls, the
model looks. This holds for every model that gives probabilities. The routes ask; a process of its
own answers, which starts at the first question, so the queue of fields is not in the way.
"""

import contextlib
import multiprocessing
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.images import to_object_array
from hemaest.web._analysis import jpeg, load_model

__all__ = ["Busy", "Explainer", "occlusion"]

GRID = 9
SHARE = 0.28  # side of the cover, as a share of the crop's
SHOWN_SIDE = 256
MOST_WAITING = 4
SECONDS = 120.0


class Busy(RuntimeError):
    """Too many questions at once."""


def occlusion(classifier: Any, image: NDArray[np.uint8], kind: str) -> NDArray[np.float64]:
    """Return by how much the probability of a type falls where a part is covered.

    Parameters
    ----------
    classifier : fitted classifier
        It has ``predict_proba`` and ``classes_``.
    image : uint8 array (h, w, 3)
        A crop.
    kind : str
        The type, one of the classes.

    Returns
    -------
    fall : float array (h, w)
        0 where nothing falls. Each pixel has the mean over the covers that lie on it.

    Examples
    --------
    >>> class Dark:
    ...     classes_ = np.array(["dark", "light"])
    ...     def predict_proba(self, X):
    ...         dark = np.array([(x < 100).any() for x in X], float)
    ...         return np.column_stack([dark, 1 - dark])
    >>> image = np.full((40, 40, 3), 200, np.uint8)
    >>> image[4:8, 4:8] = 0
    >>> fall = occlusion(Dark(), image, "dark")
    >>> bool(fall[6, 6] > 0.9), float(fall[30, 30])
    (True, 0.0)
    """
    place = [str(c) for c in classifier.classes_].index(kind)
    height, width = image.shape[:2]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    color = np.median(border, axis=0).astype(np.uint8)
    high, wide = max(1, round(SHARE * height)), max(1, round(SHARE * width))
    corners = [
        (round(y), round(x))
        for y in np.linspace(0, height - high, GRID)
        for x in np.linspace(0, width - wide, GRID)
    ]
    covered = []
    for y, x in corners:
        copy = image.copy()
        copy[y : y + high, x : x + wide] = color
        covered.append(copy)
    answers = np.asarray(classifier.predict_proba(to_object_array([image, *covered])), float)
    falls = np.maximum(answers[0, place] - answers[1:, place], 0)
    total, number = np.zeros((height, width)), np.zeros((height, width))
    for (y, x), fall in zip(corners, falls, strict=True):
        total[y : y + high, x : x + wide] += fall
        number[y : y + high, x : x + wide] += 1
    return total / np.maximum(number, 1)


def _serve(pipe: Connection, model: str | None) -> None:
    """Load the model, then answer one question at a time until the server ends."""
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
    """Answers why, in a process that starts when it is first needed.

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
        """End the process; the next question starts it again."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None:
            process.kill()
            process.join(timeout=5)
        if pipe is not None:
            pipe.close()
