"""Checkpoints of a training run: which run a file belongs to, what is in it, how it is written.

A run is identified by everything that decides its result, so that folds, settings and data never
share a file. :class:`Checkpoint` is a callback of the training network; the GAN of
``hemaest.balance`` uses the functions.
"""

import copyreg
import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from numbers import Integral
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from skorch.history import History

from hemaest._files import write_whole
from hemaest.deep._callbacks import BestWeights
from hemaest.deep.training import TrainingNetwork, weights_of

# parameters and attributes that do not change the result
IRRELEVANT = {
    "callbacks",
    "checkpoint_dir",
    "device",
    "image_dir",
    "tta",
    "verbose",
    "_history",
}
ATOMS = (bool, int, float, complex, str, bytes, type(None), type(...))


class Checkpoint(Callback):
    """Write the state of a run after every epoch, and resume from it.

    Parameters
    ----------
    path : str
        The file, see :func:`checkpoint_path`.
    best : BestWeights, optional
        The callback whose state is stored too.
    """

    def __init__(self, path: str, best: BestWeights | None = None) -> None:
        self.path = path
        self.best = best

    def on_train_begin(self, net: TrainingNetwork, **_: Any) -> None:
        """Resume the run if there is a file."""
        if not os.path.exists(self.path):
            return
        state = torch.load(self.path, map_location=net.torch_device, weights_only=True)
        net.module_.load_state_dict(state["module"])
        net.optimizer_.load_state_dict(state["optimizer"])
        run = net.run
        run.scaler.load_state_dict(state["scaler"])
        if run.average is not None:
            run.average.module.load_state_dict(state["average"])
        run.step = state["step"]
        run.epochs_done = len(state["history"]) - state["first_epoch"]
        run.last_good = weights_of(net.current_module())
        net.history = History(state["history"])
        if self.best is not None:
            self.best.restore(state["best"])
            if self.best.exhausted(net):
                run.epochs_done = run.epochs

    def on_epoch_end(self, net: TrainingNetwork, **_: Any) -> None:
        """Write the state after this epoch."""
        run = net.run
        if not net.world.is_first:
            return
        write_atomically(
            {
                "module": net.module_.state_dict(),
                "optimizer": net.optimizer_.state_dict(),
                "scaler": run.scaler.state_dict(),
                "average": None if run.average is None else run.average.module.state_dict(),
                "step": run.step,
                "history": [
                    {k: v for k, v in dict(row).items() if k != "batches"} | {"batches": []}
                    for row in net.history
                ],
                "best": None if self.best is None else self.best.state(),
                "first_epoch": run.first_epoch,
                "seed": net.seed,
            },
            self.path,
        )


def checkpoint_path(estimator: BaseEstimator, *data: Any) -> str:
    """Return the file of a run; its name is a hash of everything that decides the result.

    Parameters
    ----------
    estimator : estimator
        With ``checkpoint_dir`` and ``random_state``. Its parameters count.
    *data
        Images, labels, groups, weights, and what else decides the result.
    """
    params = estimator.get_params(deep=False)
    folder = str(params["checkpoint_dir"])
    if not isinstance(params["random_state"], Integral):
        # the seed that was drawn is in the file
        params.pop("random_state")
    run = (type(estimator).__name__, fingerprint_of_settings(params), *data)
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f"{joblib.hash(run)}.ckpt")


def stored_seed(path: str, default: int) -> int:
    """Return the seed of an earlier, unfinished run; the default if there is none."""
    if not os.path.exists(path):
        return default
    return int(torch.load(path, map_location="cpu", weights_only=True)["seed"])


def write_atomically(state: dict[str, Any], path: str | Path) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one."""
    write_whole(path, lambda file: torch.save(state, file))


def fingerprint(value: Any) -> str:
    """Return a hash of any value, the same in every process.

    Functions are hashed by what they do: code, defaults, closure, and the data and functions of
    their module that they use. Objects are hashed by class and state. Estimators are hashed by
    class and parameters, because they are cloned before use; in a FrozenEstimator the fitted state
    counts.

    Parameters
    ----------
    value : object
        A parameter of an estimator.

    Examples
    --------
    >>> brighter, darker = [lambda x, by=by: x * by for by in (2.0, 0.5)]
    >>> fingerprint(brighter) == fingerprint(lambda x, by=2.0: x * by)
    True
    >>> fingerprint(brighter) == fingerprint(darker)
    False
    """
    return _Fingerprints().of(value)


def fingerprint_of_settings(settings: Mapping[str, Any]) -> str:
    """Return a hash of the parameters of an estimator, except those that do not change its result.

    Examples
    --------
    >>> one, other = {"lr": 0.1, "verbose": True}, {"verbose": False, "lr": 0.1}
    >>> fingerprint_of_settings(one) == fingerprint_of_settings(other)
    True
    """
    return _digest(_Fingerprints().of_settings(settings))


def file_hash(path: str | Path) -> str:
    """Return a hash of the content of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(parts: Iterator[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class _Fingerprints:
    """Hashes of all parts of one value; cycles end where they close."""

    def __init__(self, fitted: bool = False) -> None:
        # whether the fitted state of estimators counts
        self.fitted = fitted
        # holds the objects, so that their ids stay unique
        self.known: dict[int, tuple[Any, str]] = {}

    def of(self, value: Any) -> str:
        if isinstance(value, ATOMS):
            return f"{type(value).__name__} {value!r}"
        if id(value) not in self.known:
            self.known[id(value)] = value, f"again {len(self.known)}"
            self.known[id(value)] = value, _digest(self.parts(value))
        return self.known[id(value)][1]

    def parts(self, value: Any) -> Iterator[str]:
        """Yield the type of a value, then its parts."""
        yield type(value).__qualname__
        if isinstance(value, FunctionType):
            yield value.__module__
            closure = [_cell_content(cell) for cell in value.__closure__ or ()]
            defaults = (value.__defaults__, value.__kwdefaults__)
            yield from map(self.of, (value.__code__, *defaults, closure, _globals_used(value)))
        elif isinstance(value, CodeType):
            yield value.co_code.hex()
            yield from map(self.of, (value.co_consts, value.co_names, value.co_varnames))
        elif isinstance(value, MethodType):
            yield from map(self.of, (value.__func__, value.__self__))
        elif isinstance(value, partial):
            yield from map(self.of, (value.func, value.args, value.keywords))
        elif isinstance(value, type):
            yield from (value.__module__, value.__qualname__)
            yield self.of({k: v for k, v in vars(value).items() if _is_function(v)})
        elif isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, tuple | list):
            yield from map(self.of, value)
        elif isinstance(value, set | frozenset):
            yield from sorted(map(self.of, value))
        elif isinstance(value, Mapping):
            yield from sorted(f"{self.of(k)} {self.of(v)}" for k, v in value.items())
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield str(joblib.hash(value))
        elif isinstance(value, torch.Tensor):
            yield from (str(value.dtype), str(tuple(value.shape)))
            yield str(joblib.hash(value.detach().cpu().flatten().view(torch.uint8).numpy()))
        elif isinstance(value, FrozenEstimator):
            yield _Fingerprints(fitted=True).of(value.estimator)
        elif isinstance(value, BaseEstimator):
            yield self.of(type(value))
            state: Any = value.__getstate__() if self.fitted else value.get_params(deep=False)
            yield from self.of_settings(state)
        else:
            yield from self.state(value)

    def of_settings(self, settings: Mapping[str, Any]) -> Iterator[str]:
        for name in sorted(set(settings) - IRRELEVANT):
            value = settings[name]
            is_file = isinstance(value, str | Path) and Path(value).is_file()
            yield name
            yield file_hash(value) if name == "pretrained" and is_file else self.of(value)

    def state(self, value: Any) -> Iterator[str]:
        """Yield what a pickle would store of an object."""
        try:
            registered = copyreg.dispatch_table.get(type(value))
            kept = registered(value) if registered else value.__reduce_ex__(4)
        except Exception as error:
            raise ValueError(
                f"checkpoint_dir identifies a run by everything that decides its result, but the "
                f"state of a {type(value).__name__} cannot be read ({error}); give a function, an "
                "object that can be pickled, or checkpoint_dir=None."
            ) from error
        yield self.of(type(value))
        if isinstance(kept, str):
            yield kept
            return
        make, arguments, *rest = kept
        yield getattr(make, "__qualname__", "")
        yield self.of(arguments)
        for part in rest:
            yield self.of(list(part) if isinstance(part, Iterator) else part)


def _is_function(value: Any) -> bool:
    return isinstance(value, FunctionType)


def _cell_content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _globals_used(function: FunctionType) -> dict[str, Any]:
    """Return the data and functions of its module that a function uses."""
    known = function.__globals__
    used = {name: known[name] for name in _names(function.__code__) & set(known)}
    return {
        name: value
        for name, value in used.items()
        if _is_data(value) or (_is_function(value) and value.__module__ == function.__module__)
    }


def _names(code: CodeType) -> set[str]:
    inner = (_names(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def _is_data(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_data, value.values()))
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_is_data, value))
    return isinstance(value, (*ATOMS, np.ndarray))
