"""Values as the entries of a container, and files of data such as cached folds.

Called by ``save`` and ``load``, and by what keeps results for a later run.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hemaest.persistence._container import MAX_JSON, Container, write_container
from hemaest.persistence._objects import Objects
from hemaest.persistence._registry import Registry
from hemaest.persistence._values import (
    MAX_CONTAINERS,
    MAX_VALUES,
    Decoder,
    Encoder,
    UnsafeFileError,
)

__all__ = ["decode_entries", "encode_entries", "load_data", "parse_json", "save_data"]

NODES = "estimator.json"


def save_data(value: Any, path: str | os.PathLike[str], *, trusted: Iterable[Any] = ()) -> Path:
    """Write plain values, arrays, tables and dataclasses to a file that cannot run code.

    The format of saved models, for what a program keeps for itself: results of folds, features,
    runs to be resumed.

    Parameters
    ----------
    value : object
        Numbers, text, lists, tuples, dicts, sets, arrays, tables, and estimators that
        :func:`save` takes.
    path : str or path-like
        The file; it is replaced only when the new one is complete.
    trusted : iterable of classes, default=()
        Dataclasses that `value` is made of, besides the public ones of hemaest.

    Returns
    -------
    path : Path

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Fold:
    ...     predicted: np.ndarray
    ...     seconds: float
    >>> path = tempfile.mkdtemp() + "/fold"
    >>> _ = save_data(Fold(np.array([0, 1, 1]), 0.5), path, trusted=[Fold])
    >>> load_data(path, trusted=[Fold])
    Fold(predicted=array([0, 1, 1]), seconds=0.5)
    """
    try:
        entries, _ = encode_entries(value, Registry(trusted))
    except ValueError as error:
        raise ValueError(f"{type(value).__name__} cannot be saved: {error}") from error
    return write_container(entries, path)


def load_data(path: str | os.PathLike[str], *, trusted: Iterable[Any] = ()) -> Any:
    """Read a file that :func:`save_data` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.
    trusted : iterable of classes, default=()
        As for :func:`save_data`.

    Returns
    -------
    value : object

    Raises
    ------
    FileNotFoundError
        When the file cannot be read.
    ValueError
        When it is damaged, or holds what :func:`save_data` does not write.

    Examples
    --------
    >>> import tempfile
    >>> path = save_data({"seed": 3, "classes": ("blast",)}, tempfile.mkdtemp() + "/run")
    >>> load_data(path)
    {'seed': 3, 'classes': ('blast',)}
    """
    with Container(path) as container:
        entries = {name: container.read(name) for name in container.names}
    try:
        return decode_entries(entries, Registry(trusted))
    except ValueError as error:
        raise UnsafeFileError(f"{path} holds what save_data does not write: {error}") from None


def encode_entries(value: Any, registry: Registry) -> tuple[dict[str, bytes], set[str]]:
    """Return a value as entries of a container, and the packages whose classes it is made of."""
    from safetensors.numpy import save as to_safetensors

    objects = Objects(registry)
    encoder = Encoder(objects.encode)
    root = encoder.add(value)
    text = json.dumps(
        {"nodes": encoder.nodes, "root": root, "n_arrays": len(encoder.arrays)},
        separators=(",", ":"),
    ).encode()
    if len(text) > MAX_JSON or text.count(b"[") > MAX_CONTAINERS or text.count(b",") > MAX_VALUES:
        raise ValueError("it holds too many single values; keep them as arrays.")
    # as bytes: safetensors knows no text, and no zeros of dimensions
    arrays = {str(i): a.reshape(-1).view(np.uint8) for i, a in enumerate(encoder.arrays) if a.size}
    entries = {NODES: text, "arrays.safetensors": to_safetensors(arrays)}
    for i, weights in enumerate(encoder.weights):
        entries[f"weights-{i}.safetensors"] = to_safetensors(weights)
    return entries, objects.packages


def decode_entries(entries: dict[str, bytes], registry: Registry) -> Any:
    """Return the value of entries, or refuse them."""
    count = sum(name.startswith("weights-") for name in entries)
    expected = {NODES, "arrays.safetensors", *(f"weights-{i}.safetensors" for i in range(count))}
    if entries.keys() != expected:
        raise UnsafeFileError(f"its entries are {sorted(entries)}.")
    content = parse_json(entries[NODES])
    if not isinstance(content, dict) or content.keys() != {"nodes", "root", "n_arrays"}:
        raise UnsafeFileError("its values are no list of nodes.")
    found = _arrays(entries["arrays.safetensors"])
    size = content["n_arrays"]
    if type(size) is not int or not 0 <= size <= MAX_CONTAINERS:
        raise UnsafeFileError("its arrays are not numbered.")
    empty = np.empty(0, np.uint8)
    arrays = [found.get(str(i), empty) for i in range(size)]
    weights = [_arrays(entries[f"weights-{i}.safetensors"]) for i in range(count)]
    decoder = Decoder(content["nodes"], arrays, weights, Objects(registry).decode)
    if content["nodes"]:
        decoder.decode()
    return decoder.value(content["root"], table=True)


def parse_json(text: bytes) -> Any:
    """Return parsed JSON; what would fill memory or the stack is refused before."""
    brackets = text.count(b"[") + text.count(b"{")
    if len(text) > MAX_JSON or brackets > MAX_CONTAINERS or text.count(b",") > MAX_VALUES:
        raise UnsafeFileError("it holds more single values than save writes.")
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UnsafeFileError(f"it holds JSON that cannot be read: {error!s:.100}.") from None


def _refuse(constant: str) -> Any:
    raise UnsafeFileError(f"it holds {constant}, which is no JSON.")


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_safetensors

    # the parser of the header allows 100 MB; ours are a few hundred bytes an array
    if len(content) < 8 or int.from_bytes(content[:8], "little") > min(len(content), MAX_JSON):
        raise UnsafeFileError("its arrays have no header.")
    try:
        return from_safetensors(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnsafeFileError(f"its arrays cannot be read: {error!s:.100}") from None
