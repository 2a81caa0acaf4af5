"""Values as data: JSON nodes that refer to earlier nodes, and arrays beside them.

The one encoding of saved models and cached folds. A node is a list, ``[kind, ...]``. Inside a node
a value is a JSON scalar, or ``[i]``, which refers to node i. A node refers only to nodes before
it, so a file holds no cycles, decoding needs no recursion, and an object that is used twice is
decoded once. The kinds are the methods of :class:`Decoder`; nothing in a file is called.

Libraries were considered: skops.io (0.16) imports and calls the classes and functions that a file
names as long as their names are trusted, refuses forests and XGBoost unless set otherwise, and
bounds no memory. Hence an encoding by hand.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

__all__ = ["Decoder", "Encoder", "UnsafeFileError", "describe"]

DEPTH = 100
# what a file may demand of the JSON parser: containers, and values in them
MAX_CONTAINERS, MAX_VALUES = 500_000, 2_000_000
PLAIN = re.compile(
    r"[<>|=][biufc](1|2|4|8|16)|[<>|=][US][0-9]{1,6}|[<>|=][mM]8(\[[A-Za-z]{1,2}\])?"
)
# attributes whose arrays lie in a safetensors entry of their own, under their names
WEIGHTS = frozenset({"weights", "_weights", "weights_"})
CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
MAPPINGS = {"dict": dict, "ordered": OrderedDict, "bunch": Bunch}
TYPES = {
    t.__name__: t
    for t in (float, int, bool, str, object, np.float16, np.float32, np.float64, np.uint8, np.int8)
    + (np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64, np.bool_)
}
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class UnsafeFileError(ValueError):
    """A file holds something that :func:`hemaest.persistence.save` does not write.

    Examples
    --------
    >>> from hemaest.persistence import UnsafeFileError
    >>> issubclass(UnsafeFileError, ValueError)
    True
    """


def describe(item: Any) -> str:
    """Return what a value is, for an error.

    Examples
    --------
    >>> describe(len), describe(np.float64), describe(3)
    ('the function builtins.len', 'the class numpy.float64', 'a value of type builtins.int')
    """
    of = item if isinstance(item, type) or hasattr(item, "__qualname__") else type(item)
    name = f"{getattr(of, '__module__', None) or '?'}.{of.__qualname__}"
    if isinstance(item, type):
        return f"the class {name}"
    return f"the function {name}" if of is item else f"a value of type {name}"


class Encoder:
    """Encode a value, and collect its arrays.

    Parameters
    ----------
    encode_object : callable
        Takes an object that is no plain value and this encoder; returns its node, or None.

    Attributes
    ----------
    nodes : list of list
        The last one is the value that was encoded.
    arrays : list of array
        Contiguous, referred to by position.
    weights : list of dict
        Named arrays of networks.

    Examples
    --------
    >>> encoder = Encoder(lambda item, encoder: None)
    >>> encoder.add({"C": 0.5, "classes": ("blast", "lymphocyte")})
    [1]
    >>> encoder.nodes
    [['tuple', ['blast', 'lymphocyte']], ['dict', [['C', 0.5], ['classes', [0]]]]]
    >>> Decoder(encoder.nodes, [], [], None).decode()
    {'C': 0.5, 'classes': ('blast', 'lymphocyte')}
    """

    def __init__(self, encode_object: Callable[[Any, "Encoder"], list[Any] | None]) -> None:
        self.nodes: list[list[Any]] = []
        self.arrays: list[NDArray[Any]] = []
        self.weights: list[dict[str, NDArray[Any]]] = []
        self._encode_object = encode_object
        self._known: dict[int, tuple[Any, int]] = {}
        self._where: list[str] = []

    def add(self, item: Any, where: str = "") -> Any:
        """Return a value as it stands in a node; what is no scalar becomes a node of its own."""
        if item is None or type(item) in (bool, int, str):
            return item
        if type(item) is float and math.isfinite(item):
            return item
        if id(item) in self._known:
            return [self._known[id(item)][1]]
        self._where.append(where)
        if len(self._where) > DEPTH:
            raise ValueError(f"it is nested more than {DEPTH} deep, or holds itself.")
        node = self._encode(item)
        if node is None:
            raise ValueError(f"{'.'.join(filter(None, self._where))} is {describe(item)}.")
        self._where.pop()
        self.nodes.append(node)
        # the item is kept alive, so that its id is not given to another
        self._known[id(item)] = (item, len(self.nodes) - 1)
        return [len(self.nodes) - 1]

    def add_all(self, items: Iterable[Any]) -> list[Any]:
        """Return several values."""
        return [self.add(item) for item in items]

    def attributes(self, state: dict[str, Any]) -> list[Any]:
        """Return attributes as pairs of name and value."""
        return [[name, self.add(value, name)] for name, value in state.items()]

    def array(self, values: NDArray[Any]) -> int:
        """Keep an array beside the nodes, and return its position."""
        self.arrays.append(np.ascontiguousarray(values))
        return len(self.arrays) - 1

    def _encode(self, item: Any) -> list[Any] | None:
        kind = type(item)
        for name, container in CONTAINERS.items():
            if kind is container:
                return [name, self.add_all(item)]
        for name, mapping in MAPPINGS.items():
            if kind is mapping:
                return self._mapping(name, item)
        if kind is float:
            return ["float", repr(item)]
        if kind is complex:
            return ["complex", repr(item)]
        if kind in (bytes, bytearray):
            return [kind.__name__, self.array(np.frombuffer(bytes(item), np.uint8))]
        if kind in (slice, range):
            return [kind.__name__, self.add_all((item.start, item.stop, item.step))]
        if isinstance(item, np.generic) and PLAIN.fullmatch(item.dtype.str):
            return ["scalar", item.dtype.str, item.tobytes().hex()]
        if isinstance(item, np.dtype) and PLAIN.fullmatch(item.str):
            return ["dtype", item.str]
        if isinstance(item, type) and TYPES.get(name := str(getattr(item, "__name__", ""))) is item:
            return ["type", name]
        if isinstance(item, np.ndarray):
            return self._array(item)
        if kind is np.random.RandomState:
            name, keys, *rest = item.get_state()
            return ["random state", name, self.array(keys), rest]
        if kind is np.random.Generator:
            return ["generator", self.add(dict(item.bit_generator.state))]
        return self._encode_object(item, self)

    def _mapping(self, kind: str, item: dict[Any, Any]) -> list[Any]:
        if kind == "dict" and self._where[-1] in WEIGHTS and _is_weights(item):
            self.weights.append({name: np.ascontiguousarray(v) for name, v in item.items()})
            orders = [[name, _order(v), list(v.shape)] for name, v in item.items()]
            return ["weights", len(self.weights) - 1, orders]
        pairs = []
        for key, value in item.items():
            name = key if type(key) is str else ""
            pairs.append([self.add(key), self.add(value, name)])
        return [kind, pairs]

    def _array(self, item: NDArray[Any]) -> list[Any] | None:
        if type(item) is np.ma.MaskedArray:
            data, mask = np.ma.getdata(item), np.ma.getmaskarray(item)
            return ["masked", *self.add_all((data, mask, item.fill_value))]
        if type(item) is not np.ndarray:
            return self._encode_object(item, self)
        if item.dtype.kind == "O":
            return ["objects", list(item.shape), self.add_all(item.ravel().tolist())]
        if not PLAIN.fullmatch(item.dtype.str):
            return None
        return ["array", item.dtype.str, list(item.shape), _order(item), self.array(item)]


class Decoder:
    """Decode nodes, in their order.

    Parameters
    ----------
    nodes : list
        As they come from the file; every part of them is checked.
    arrays : list of array
        Of bytes, or of numbers.
    weights : list of dict
        Named arrays.
    decode_object : callable or None
        Takes the kind, the arguments of a node and this decoder; returns the object, or raises
        KeyError for an unknown kind.
    """

    def __init__(
        self,
        nodes: Any,
        arrays: list[NDArray[Any]],
        weights: list[dict[str, NDArray[Any]]],
        decode_object: Callable[[str, list[Any], "Decoder"], Any] | None,
    ) -> None:
        self._nodes = nodes
        self._arrays: list[NDArray[Any] | None] = list(arrays)
        self._weights: list[dict[str, NDArray[Any]] | None] = list(weights)
        self._decode_object = decode_object
        self._done: list[Any] = []

    def decode(self) -> Any:
        """Return the value of the last node."""
        if not isinstance(self._nodes, list) or not self._nodes:
            raise UnsafeFileError("it holds no list of nodes.")
        for i, node in enumerate(self._nodes):
            try:
                self._done.append(self._node(*node))
            except UnsafeFileError:
                raise
            except Exception as error:
                raise UnsafeFileError(
                    f"node {i} is not what save writes ({type(error).__name__}: {error!s:.200})."
                ) from None
        return self._done[-1]

    def value(self, item: Any, *, table: bool = False) -> Any:
        """Return the value that stands in a node; tables only where they are expected."""
        if type(item) is list:
            (i,) = item
            if type(i) is not int or not 0 <= i < len(self._done):
                raise UnsafeFileError(f"a node refers to {i!r}, which is no node before it.")
            found = self._done[i]
            if not table and type(found).__module__.split(".")[0] == "pandas":
                raise UnsafeFileError("it holds a table where none belongs.")
            return found
        if type(item) is dict:
            raise UnsafeFileError("it holds a JSON object where a value belongs.")
        return item

    def values(self, items: Any) -> list[Any]:
        """Return several values."""
        return [self.value(item) for item in _listed(items)]

    def array(self, position: Any) -> NDArray[Any]:
        """Return an array by its position; each is used once."""
        if type(position) is not int or position < 0:
            raise UnsafeFileError(f"{position!r} is no position of an array.")
        found = self._arrays[position]
        if found is None:
            raise UnsafeFileError("two nodes hold one array.")
        self._arrays[position] = None
        return found

    def _node(self, kind: Any, *parts: Any) -> Any:
        if kind in CONTAINERS:
            (items,) = parts
            return CONTAINERS[kind](self.values(items))
        if kind in MAPPINGS:
            (pairs,) = parts
            made = MAPPINGS[kind]()
            made.update([(self.value(k), self.value(v)) for k, v in _listed(pairs)])
            return made
        if kind in OWN_KINDS:
            return OWN_KINDS[kind](self, *parts)
        if self._decode_object is None:
            raise UnsafeFileError(f"it holds a node of the unknown kind {kind!r}.")
        return self._decode_object(kind, list(parts), self)

    def _float(self, text: str) -> float:
        return float(text)

    def _complex(self, text: str) -> complex:
        return complex(text)

    def _bytes(self, position: int) -> bytes:
        return self.array(position).tobytes()

    def _bytearray(self, position: int) -> bytearray:
        return bytearray(self.array(position).tobytes())

    def _slice(self, parts: Any) -> slice:
        return slice(*self.values(parts))

    def _range(self, parts: Any) -> range:
        return range(*self.values(parts))

    def _scalar(self, dtype: str, text: str) -> Any:
        (found,) = np.frombuffer(bytes.fromhex(text), _dtype(dtype))
        return found

    def _dtype(self, text: str) -> np.dtype[Any]:
        return _dtype(text)

    def _type(self, name: str) -> type:
        return TYPES[name]

    def _array(self, dtype: str, shape: Any, order: str, position: int) -> NDArray[Any]:
        values = self.array(position).reshape(-1).view(np.uint8).view(_dtype(dtype))
        return np.array(values.reshape(_shape(shape)), order="F" if order == "F" else "C")

    def _objects(self, shape: Any, items: Any) -> NDArray[Any]:
        values = self.values(items)
        found = np.empty(len(values), dtype=object)
        for i, value in enumerate(values):
            found[i] = value
        return found.reshape(_shape(shape))

    def _masked(self, data: Any, mask: Any, fill: Any) -> Any:
        values = [self.value(part) for part in (data, mask, fill)]
        return np.ma.MaskedArray(values[0], values[1], fill_value=values[2])

    def _named_arrays(self, position: int, orders: Any) -> dict[str, NDArray[Any]]:
        if type(position) is not int or position < 0:
            raise UnsafeFileError(f"{position!r} is no position of weights.")
        found, self._weights[position] = self._weights[position], None
        if found is None:
            raise UnsafeFileError("two nodes hold the same weights.")
        if sorted(name for name, _, _ in orders) != sorted(found):
            raise UnsafeFileError("the names of weights do not match.")
        return {
            name: np.array(found[name].reshape(_shape(shape)), order="F" if how == "F" else "C")
            for name, how, shape in orders
        }

    def _random_state(self, name: str, position: int, rest: Any) -> np.random.RandomState:
        if name != "MT19937":
            raise UnsafeFileError(f"{name!r} is no random state.")
        state = np.random.RandomState()
        state.set_state((name, self.array(position).view(np.uint32), *rest))
        return state

    def _generator(self, state: Any) -> np.random.Generator:
        values = self.value(state)
        if values["bit_generator"] not in BIT_GENERATORS:
            raise UnsafeFileError(f"{values['bit_generator']!r} is no generator of random numbers.")
        bits = getattr(np.random, values["bit_generator"])()
        bits.state = values
        return np.random.Generator(bits)


OWN_KINDS: dict[str, Callable[..., Any]] = {
    "float": Decoder._float,
    "complex": Decoder._complex,
    "bytes": Decoder._bytes,
    "bytearray": Decoder._bytearray,
    "slice": Decoder._slice,
    "range": Decoder._range,
    "scalar": Decoder._scalar,
    "dtype": Decoder._dtype,
    "type": Decoder._type,
    "array": Decoder._array,
    "objects": Decoder._objects,
    "masked": Decoder._masked,
    "weights": Decoder._named_arrays,
    "random state": Decoder._random_state,
    "generator": Decoder._generator,
}


def _listed(items: Any) -> list[Any]:
    if type(items) is not list:
        raise UnsafeFileError("it holds no list where a list belongs.")
    return items


def _dtype(text: str) -> np.dtype[Any]:
    if not PLAIN.fullmatch(text) or (found := np.dtype(text)).itemsize == 0:
        raise UnsafeFileError(f"{text!r} is no type of numbers or text.")
    return found


def _shape(shape: Any) -> tuple[int, ...]:
    sizes = tuple(_listed(shape))
    if any(type(n) is not int or n < 0 for n in sizes) or len(sizes) > 32:
        raise UnsafeFileError(f"{shape!r:.80} is no shape.")
    return sizes


def _order(values: NDArray[Any]) -> str:
    return "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"


def _is_weights(item: dict[Any, Any]) -> bool:
    """Return whether an object is a dict of named arrays: what the weights of a network are."""
    return len(item) > 0 and all(
        type(k) is str and type(v) is np.ndarray and v.dtype.kind in "fiub" for k, v in item.items()
    )
