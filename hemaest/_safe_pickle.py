"""Pickle that can name only what is on a list, with weights of nets kept outside as safetensors.

A pickle is a small program that calls whatever it names. Here it can name the classes of the
packages that models are made of and a few functions that rebuild arrays, and nothing else: no
``os.system``, no ``eval``. Python's documentation calls this restricting globals.
"""

import io
import pickle
from importlib import import_module
from typing import Any

import numpy as np

# models are made of the classes of these; their test helpers, loaders and process pools are not
PACKAGES = frozenset({"hemaest", "sklearn", "imblearn", "xgboost"})
REFUSED = (
    "sklearn.utils._testing",
    "sklearn.utils.parallel",
    "sklearn.externals",
    "sklearn.datasets",
    "sklearn.tests",
    "xgboost.testing",
    "xgboost.callback",
    "hemaest.cli",
)
# what rebuilds arrays, tables, random states and plain containers
ALLOWED = frozenset(
    {
        "builtins.bytearray",
        "builtins.complex",
        "builtins.dict",
        "builtins.frozenset",
        "builtins.list",
        "builtins.object",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "builtins.tuple",
        "_codecs.encode",
        "collections.OrderedDict",
        "collections.defaultdict",
        "copyreg._reconstructor",
        "copyreg.__newobj__",
        "numpy.ndarray",
        "numpy.dtype",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.ma.MaskedArray",
        "numpy.ma.core.MaskedArray",
        "numpy.ma.core._mareconstruct",
        "numpy.random._pickle.__randomstate_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random.bit_generator.SeedSequence",
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
        "numpy.random._mt19937.MT19937",
        "numpy.random._pcg64.PCG64",
        "pandas.DataFrame",
        "pandas.Series",
        "pandas.Index",
        "pandas.core.frame.DataFrame",
        "pandas.core.series.Series",
        "pandas.core.indexes.base.Index",
        "pandas.core.indexes.base._new_Index",
        "pandas.core.indexes.range.RangeIndex",
        "pandas.RangeIndex",
        "pandas.core.internals.managers.BlockManager",
        "pandas.core.internals.managers.SingleBlockManager",
        "pandas._libs.internals._unpickle_block",
        "pathlib.Path",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "scipy.sparse._csr.csr_matrix",
        "scipy.sparse._csr.csr_array",
        "torch._utils._rebuild_parameter",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
    }
)


class UntrustedError(ValueError):
    """A file names something that loading it would have to run."""


def is_safe(module: str, name: str) -> bool:
    """Return whether a pickle may name this.

    Examples
    --------
    >>> is_safe("sklearn.linear_model._logistic", "LogisticRegression")
    True
    >>> is_safe("os", "system"), is_safe("builtins", "eval"), is_safe("numpy", "load")
    (False, False, False)
    """
    full = f"{module}.{name}"
    if full in ALLOWED:
        return True
    package = module.split(".")[0]
    if "." in name or package not in PACKAGES | {"numpy", "torch"}:
        return False
    # a module is imported to look into it: one that runs when it is imported must not be
    if full.startswith(REFUSED) or ".tests" in module or "__main__" in module:
        return False
    if package == "numpy" and module not in {"numpy", "numpy.dtypes"}:
        return False
    if package == "torch" and module != "torch" and not module.startswith("torch.nn.modules."):
        return False
    try:
        item = getattr(import_module(module), name, None)
    except ImportError:
        return False
    if package == "numpy":
        return isinstance(item, type) and issubclass(item, (np.generic, np.dtype))
    if package == "torch":
        import torch

        is_module = isinstance(item, type) and issubclass(item, torch.nn.Module)
        return is_module or isinstance(item, torch.dtype)
    if package == "sklearn" and (name == "newObj" or name.startswith("__pyx_unpickle_")):
        return True  # how compiled classes are made again: an empty one of a given class
    # a class of another package that is only imported there does not count
    return isinstance(item, type) and item.__module__.split(".")[0] in PACKAGES


def _is_weights(item: Any) -> bool:
    """Return whether an object is a dict of named arrays: what the weights of a net are."""
    return (
        type(item) is dict
        and len(item) > 0
        and all(type(k) is str for k in item)
        and all(type(v) is np.ndarray and v.dtype.kind in "fiub" for v in item.values())
    )


class Packer(pickle.Pickler):
    """Write an object, and collect its weights apart from it.

    Attributes
    ----------
    weights : list of dict
        Arrays by name, one dict for each net.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.weights: list[dict[str, np.ndarray]] = []
        self._known: dict[int, tuple[Any, Any]] = {}

    def persistent_id(self, item: Any) -> Any:
        """Return a name for weights, None for all else."""
        if id(item) in self._known:
            return self._known[id(item)][1]
        if _is_weights(item):
            arrays = item
            orders = tuple(
                (name, "F" if v.flags.f_contiguous and not v.flags.c_contiguous else "C")
                for name, v in item.items()
            )
            pid: Any = ("arrays", len(self.weights), orders)
        elif type(item).__module__ == "torch" and type(item).__name__ == "Tensor":
            arrays = {"tensor": item.detach().cpu().numpy()}
            pid = ("tensor", len(self.weights))
        else:
            return None
        self.weights.append(
            {n: np.ascontiguousarray(v).reshape(v.shape) for n, v in arrays.items()}
        )
        # the item is kept alive, so that its id is not given to another
        self._known[id(item)] = (item, pid)
        return pid


class Unpacker(pickle.Unpickler):
    """Read what :class:`Packer` wrote; name nothing that is not on the list.

    Parameters
    ----------
    file : file of bytes
        The pickle.
    weights : list of dict
        Arrays by name.
    trusted : collection of str or bool
        Full names that are allowed besides; True allows everything, as plain pickle does.

    Attributes
    ----------
    extra : set of str
        Names that were met and are not on the list.
    packages : set of str
        The packages that were named.
    """

    def __init__(self, file: Any, weights: list[dict[str, np.ndarray]], trusted: Any = ()) -> None:
        super().__init__(file)
        self._weights = weights
        self._trusts_all = trusted is True
        names = [trusted] if isinstance(trusted, str) else trusted
        self._trusted = frozenset() if isinstance(trusted, bool) else frozenset(names)
        self._known: dict[Any, Any] = {}
        self.extra: set[str] = set()
        self.packages: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names, or refuse."""
        self.packages.add(module.split(".")[0])
        if not is_safe(module, name):
            self.extra.add(f"{module}.{name}")
            if not self._trusts_all and f"{module}.{name}" not in self._trusted:
                raise UntrustedError(f"{module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Return weights by their name."""
        if pid not in self._known:
            arrays = self._weights[pid[1]]
            if pid[0] == "tensor":
                import torch

                self._known[pid] = torch.from_numpy(arrays["tensor"].copy())
            else:
                self._known[pid] = {n: np.array(arrays[n], order=order) for n, order in pid[2]}
        return self._known[pid]
