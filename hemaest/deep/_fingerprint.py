"""Names for what decides a result: alike in every process, another for what acts differently."""

import copyreg
import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

# what changes nothing in the result
NO_MATTER = {
    "callbacks",
    "checkpoint_dir",
    "device",
    "picture_dir",
    "tta",
    "verbose",
    "_history",
}
ATOMS = (bool, int, float, complex, str, bytes, type(None), type(...))


def fingerprint(value: Any) -> str:
    """Return a name for a value, whatever it is, that another process finds too.

    Functions go by what they do: code, defaults, closure, and the data and functions of their own
    module that they read. Objects go by class and state, estimators by class and parameters, since
    they are cloned before they are used; in a FrozenEstimator all that was learnt counts.

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
    """Return a name for the parameters of an estimator, less those that decide no result.

    Examples
    --------
    >>> one, other = {"lr": 0.1, "verbose": True}, {"verbose": False, "lr": 0.1}
    >>> fingerprint_of_settings(one) == fingerprint_of_settings(other)
    True
    """
    return _digest(_Fingerprints().of_settings(settings))


def content_of(path: str | Path) -> str:
    """Return a name for what a file holds, wherever it lies."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(parts: Iterator[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class _Fingerprints:
    """The names of all that one value is made of; what leads back to itself ends there."""

    def __init__(self, learnt: bool = False) -> None:
        # whether estimators go by all that they know
        self.learnt = learnt
        # the objects are held, so that no other one gets an id meanwhile
        self.known: dict[int, tuple[Any, str]] = {}

    def of(self, value: Any) -> str:
        if isinstance(value, ATOMS):
            return f"{type(value).__name__} {value!r}"
        if id(value) not in self.known:
            self.known[id(value)] = value, f"again {len(self.known)}"
            self.known[id(value)] = value, _digest(self.parts(value))
        return self.known[id(value)][1]

    def parts(self, value: Any) -> Iterator[str]:
        """Say what kind of thing a value is, then what it is made of."""
        yield type(value).__qualname__
        if isinstance(value, FunctionType):
            yield value.__module__
            closure = [_content(cell) for cell in value.__closure__ or ()]
            defaults = (value.__defaults__, value.__kwdefaults__)
            yield from map(self.of, (value.__code__, *defaults, closure, _read(value)))
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
            yield _Fingerprints(learnt=True).of(value.estimator)
        elif isinstance(value, BaseEstimator):
            yield self.of(type(value))
            state: Any = value.__getstate__() if self.learnt else value.get_params(deep=False)
            yield from self.of_settings(state)
        else:
            yield from self.state(value)

    def of_settings(self, settings: Mapping[str, Any]) -> Iterator[str]:
        for name in sorted(set(settings) - NO_MATTER):
            value = settings[name]
            is_file = isinstance(value, str | Path) and Path(value).is_file()
            yield name
            yield content_of(value) if name == "pretrained" and is_file else self.of(value)

    def state(self, value: Any) -> Iterator[str]:
        """Say what a pickle would keep of an object."""
        try:
            registered = copyreg.dispatch_table.get(type(value))
            kept = registered(value) if registered else value.__reduce_ex__(4)
        except Exception as error:
            raise ValueError(
                f"checkpoint_dir names a run by all that decides its result, but what a "
                f"{type(value).__name__} holds cannot be read ({error}); give a function, or an "
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


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _read(function: FunctionType) -> dict[str, Any]:
    """Return what a function reads from its module: data, and functions that stand beside it."""
    there = function.__globals__
    read = {name: there[name] for name in _names(function.__code__) & set(there)}
    return {
        name: value
        for name, value in read.items()
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
