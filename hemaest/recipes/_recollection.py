"""What ``memory=`` keeps of a pipeline: the results of its steps, known by how they came about."""

from collections.abc import Callable
from typing import Any

import joblib


def _compute(key: str, run: Callable[[], Any]) -> Any:
    """Return what ``run`` gives; a cache knows it by the key alone."""
    return run()


class Recollection:
    """Results of a chain of steps, each known by what it is made of rather than by its data.

    The images are hashed once. The key of each step's result is the hash of the key before it and
    of the step's own settings, so the last result that is stored is found without loading, or
    hashing, any before it.

    Parameters
    ----------
    memory : joblib.Memory or None
        Where results are kept; None keeps none.
    """

    def __init__(self, memory: Any) -> None:
        self.on = getattr(memory, "location", None) is not None
        self._cached = memory.cache(_compute, ignore=["run"]) if self.on else _compute

    def key(self, *parts: Any) -> str:
        """Return the name of a result that follows from these parts."""
        return str(joblib.hash(parts)) if self.on else ""

    def __call__(self, key: str, run: Callable[[], Any]) -> Any:
        """Return the result of that name, from the store or made now."""
        return self._cached(key, run)


class FittedFront:
    """The fitted steps before the last as one transformer, whose results are kept.

    Parameters
    ----------
    steps : list of transformers
        Fitted.
    recollection : Recollection
        The store.
    fitted_from : list of str
        For each step, what it was fitted from.
    """

    def __init__(
        self, steps: list[Any], recollection: Recollection, fitted_from: list[str]
    ) -> None:
        self.steps, self.recollection, self.fitted_from = steps, recollection, fitted_from

    def transform(self, X: Any) -> Any:
        """Return X after all steps."""
        keys = [self.recollection.key(X)]
        for step, source in zip(self.steps, self.fitted_from, strict=True):
            keys.append(self.recollection.key(keys[-1], source, step.get_params()))

        def after(i: int) -> Any:
            if i == 0:
                return X
            return self.recollection(keys[i], lambda: self.steps[i - 1].transform(after(i - 1)))

        return after(len(self.steps))
