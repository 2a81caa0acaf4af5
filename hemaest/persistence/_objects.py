"""Objects as data: estimators by their attributes, and what compiled code holds by its numbers.

Extends the nodes of :mod:`hemaest.persistence._values` by the classes of
:mod:`hemaest.persistence._registry`. An object is made empty and its attributes are set; no
``__init__``, ``__reduce__`` or ``__setstate__`` of another package runs. Numbers that compiled code
would use as an address (children of trees, support vectors) are checked here, because that code
does not check them.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from hemaest.persistence._compiled import COMPILED, check_consistent, encode_compiled
from hemaest.persistence._networks import (
    build_within,
    decode_device,
    decode_network,
    decode_size,
    decode_tensor,
    encode_torch,
    is_torch,
)
from hemaest.persistence._registry import Registry, parameters_of
from hemaest.persistence._values import Decoder, Encoder, UnsafeFileError

__all__ = ["Objects"]

# they concern the machine or the run, not the model; a file that sets them could make a loaded
# model read from, or write to, any path
NOT_SAVED = frozenset({"memory", "callbacks", "checkpoint_dir", "extra_images", "image_dir"})
# rebuilt when they are needed, or of use during fitting only
DROPPED = frozenset({"_optimizer", "_loss_function_", "_rng", "_sklearn_version", "f_"})
METHODS = frozenset({"auto", "predict", "predict_proba", "decision_function"})
OUTPUTS = frozenset({"default", "pandas", "polars", None})
MAX_JOBS = 1024
# options of timm's models that name files or addresses
FETCHING = frozenset(
    "checkpoint_path pretrained pretrained_cfg pretrained_cfg_overlay cache_dir local_dir "
    "scriptable features_only".split()
)


class Objects:
    """Encode and decode what is no plain value.

    Parameters
    ----------
    registry : Registry
        The classes and functions that may occur.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.packages: set[str] = set()

    def encode(self, item: Any, encoder: Encoder) -> list[Any] | None:
        """Return the node of an object, None where it may not be saved."""
        if isinstance(item, (pd.DataFrame, pd.Series, pd.Index)):
            return _encode_table(item, encoder)
        if isinstance(item, PurePath):
            return ["path", str(item)]
        found = encode_compiled(item, encoder)
        if found is not None:
            return found
        if is_torch(item):
            return encode_torch(item, encoder)
        if key := self.registry.key_of_function(item):
            return ["function", key]
        key = None if isinstance(item, type) else self.registry.key_of(type(item))
        if key is None:
            return None
        self.packages.add(type(item).__module__.split(".")[0])
        return ["object", key, encoder.attributes(self._state(item, key))]

    def _state(self, item: Any, key: str) -> dict[str, Any]:
        cls = type(item)
        if _is_record(cls):
            return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
        own = key in self.registry.trusted or cls.__module__.startswith("hemaest.")
        state = dict(item.__getstate__() if own else vars(item))
        parameters = parameters_of(cls)  # type: ignore[arg-type]
        state = {name: value for name, value in state.items() if name not in DROPPED}
        for name in state.keys() & parameters & NOT_SAVED:
            state[name] = None
        allowed = self.registry.attributes_of(key, cls)
        for name in state:
            if allowed is not None and name not in allowed:
                raise ValueError(f"{cls.__name__}.{name} is an attribute that is not on the list.")
        _refuse_hiding(cls, vars(item), ValueError)
        return state

    def decode(self, kind: str, parts: list[Any], decoder: Decoder) -> Any:
        """Return the object of a node."""
        if kind == "object":
            return self._object(parts[0], parts[1], decoder)
        if kind == "function":
            return self.registry.function_of(*parts)
        if kind == "network":
            return decode_network(self.registry, decoder, *parts)
        if kind in COMPILED:
            return COMPILED[kind](decoder, *parts)
        if kind in TABLES:
            return TABLES[kind](decoder, *parts)
        raise UnsafeFileError(f"it holds a node of the unknown kind {kind!r}.")

    def _object(self, key: Any, attributes: Any, decoder: Decoder) -> Any:
        cls = self.registry.class_of(key)
        own = cls.__module__.startswith("hemaest.") or key in self.registry.trusted
        allowed = self.registry.attributes_of(key, cls)
        parameters = parameters_of(cls)  # type: ignore[arg-type]
        state: dict[str, Any] = {}
        for name, value in attributes:
            if type(name) is not str or not name.isidentifier() or name.startswith("__"):
                raise UnsafeFileError(f"{key} has an attribute {name!r:.80}.")
            fields = getattr(cls, "__dataclass_fields__", {}) if _is_record(cls) else {}
            known = name in parameters or name in fields
            if allowed is not None and name not in allowed:
                raise UnsafeFileError(f"{key} has no attribute {name!r:.80} that save writes.")
            table = own and (name in fields or not known)
            state[name] = _checked(key, name, decoder.value(value, table=table))
        if len(state) < len(attributes):
            raise UnsafeFileError(f"{key} has one attribute twice.")
        return _make(cls, state, own)


def _is_record(cls: type) -> bool:
    """Return whether objects of a class are their fields; an estimator has fitted state besides."""
    return dataclasses.is_dataclass(cls) and not issubclass(cls, BaseEstimator)


def _make(cls: type, state: dict[str, Any], own: bool) -> Any:
    """Make an object without running what the file could choose."""
    made: Any = object.__new__(cls)
    if _is_record(cls):
        names = {field.name for field in dataclasses.fields(cls)}
        if names != state.keys():
            raise UnsafeFileError(f"{cls.__name__} needs the fields {sorted(names)}.")
        for name, value in state.items():
            object.__setattr__(made, name, value)
    elif own and hasattr(made, "__setstate__"):
        missing = {n for n in parameters_of(cls) - state.keys() if issubclass(cls, BaseEstimator)}
        if missing:
            raise UnsafeFileError(f"{cls.__name__} lacks {sorted(missing)}.")
        if getattr(cls, "__setstate__") is BaseEstimator.__setstate__:  # noqa: B009
            made.__setstate__(state)
        else:
            _refuse_fetching(state)
            held = [value for value in state.values() if type(value) is dict]
            weights = {
                (i, name): part
                for i, parts in enumerate(held)
                for name, part in parts.items()
                if isinstance(part, np.ndarray)
            }
            build_within(lambda: made.__setstate__(dict(state)), weights)
    else:
        made.__dict__.update(state)
    _refuse_hiding(cls, getattr(made, "__dict__", {}), UnsafeFileError)
    if isinstance(made, FrozenEstimator) and not hasattr(state["estimator"], "get_params"):
        raise UnsafeFileError("a FrozenEstimator holds what is no estimator.")
    check_consistent(made)
    if own and hasattr(made, "_check_loaded"):
        made._check_loaded()
    return made


def _refuse_fetching(state: dict[str, Any]) -> None:
    """Refuse options of a network that would read a file or fetch one."""
    waiting = [value for value in state.values() if type(value) is dict]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop()
        if id(part) not in seen:
            seen.add(id(part))
            waiting += [value for value in part.values() if type(value) is dict]
            if found := FETCHING & {key for key in part if type(key) is str}:
                raise UnsafeFileError(f"a network is built with {sorted(found)}.")
    if ":" in str(state.get("backbone", "")):
        raise UnsafeFileError(f"{state['backbone']!r:.80} is no name of a network.")


def _refuse_hiding(cls: type, state: dict[str, Any], error: type[ValueError]) -> None:
    """Refuse attributes that would take the place of a method or property."""
    known = parameters_of(cls) | getattr(cls, "__dataclass_fields__", {}).keys()
    for name in state:
        if name not in known and hasattr(cls, name):
            raise error(f"{cls.__name__}.{name} hides what its class defines.")


def _checked(key: str, name: str, value: Any) -> Any:
    """Return the value of an attribute, or refuse one that would choose a method or a path."""
    refused = False
    if name in NOT_SAVED:
        refused = value is not None
    elif name in ("stack_method", "stack_method_"):
        chosen = value if isinstance(value, list) else [value]
        refused = not all(type(v) is str and v in METHODS for v in chosen)
    elif name in ("n_jobs", "nthread", "_n_threads"):
        refused = value is not None and not (type(value) is int and abs(value) <= MAX_JOBS)
    elif name == "_sklearn_output_config":
        refused = not set(value.values()) <= OUTPUTS
    elif name in ("func", "inverse_func", "score_func"):
        refused = value is not None and not callable(value)
    elif name in ("kw_args", "inv_kw_args"):
        refused = bool(value)
    if refused:
        raise UnsafeFileError(f"{key}.{name} is {value!r:.80}, which save does not write.")
    return value


def _encode_table(item: Any, encoder: Encoder) -> list[Any] | None:
    if type(item) is pd.RangeIndex:
        return ["counted", encoder.add(range(item.start, item.stop, item.step)), *_names(item)]
    if type(item) in (pd.Index, pd.DatetimeIndex):
        return ["index", *_column(item, encoder), *_names(item)]
    if type(item) is pd.Series:
        name = encoder.add(item.name)
        return ["series", encoder.add(item.index), name, *_column(item, encoder)]
    if type(item) is pd.DataFrame:
        columns = [_column(item.iloc[:, i], encoder) for i in range(item.shape[1])]
        return ["table", encoder.add(item.index), encoder.add(item.columns), columns]
    return None


def _names(index: pd.Index) -> list[Any]:
    return [index.name if isinstance(index.name, (str, int, type(None))) else str(index.name)]


def _column(values: Any, encoder: Encoder) -> list[Any]:
    """Return the type and the values of a column: text, categories, or an array of NumPy."""
    if isinstance(found := values.array, pd.Categorical):
        parts = encoder.add_all((found.codes, found.categories.to_numpy()))
        return ["category", [*parts, found.ordered]]
    if isinstance(values.dtype, pd.StringDtype):
        return ["str", encoder.add(values.to_numpy(dtype=object, na_value=None))]
    if isinstance(values.dtype, np.dtype):
        return ["numpy", encoder.add(np.asarray(values))]
    raise ValueError(f"a column of type {values.dtype} cannot be saved.")


def _decode_column(decoder: Decoder, kind: Any, values: Any) -> Any:
    if kind == "category":
        codes, categories = decoder.values(values[:2])
        return pd.Categorical.from_codes(codes, categories, ordered=bool(values[2]))
    found = decoder.value(values)
    if not isinstance(found, np.ndarray) or found.ndim != 1:
        raise UnsafeFileError("a column of a table is no array.")
    if kind == "str":
        return pd.array([None if v is None else str(v) for v in found], dtype="str")
    return found


def _decode_counted(decoder: Decoder, counted: Any, name: Any) -> pd.Index:
    return pd.RangeIndex(decoder.value(counted), name=name)


def _decode_index(decoder: Decoder, kind: Any, values: Any, name: Any) -> pd.Index:
    return pd.Index(_decode_column(decoder, kind, values), name=name)


def _decode_series(decoder: Decoder, index: Any, name: Any, kind: Any, values: Any) -> pd.Series:
    where = decoder.value(index, table=True)
    return pd.Series(_decode_column(decoder, kind, values), where, name=decoder.value(name))


def _decode_table(decoder: Decoder, index: Any, columns: Any, values: Any) -> pd.DataFrame:
    where, names = decoder.value(index, table=True), decoder.value(columns, table=True)
    if len(names) != len(values):
        raise UnsafeFileError("a table has another number of columns than of their names.")
    parts = {i: _decode_column(decoder, *column) for i, column in enumerate(values)}
    table = pd.DataFrame(parts, index=where)
    table.columns = names
    return table


def _decode_path(decoder: Decoder, text: Any) -> Path:
    return Path(str(text))


TABLES: dict[str, Callable[..., Any]] = {
    "table": _decode_table,
    "series": _decode_series,
    "index": _decode_index,
    "counted": _decode_counted,
    "path": _decode_path,
    "tensor": decode_tensor,
    "size": decode_size,
    "device": decode_device,
}
