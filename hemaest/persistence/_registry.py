"""Which classes and functions a saved model may name: closed lists, whatever a file says.

A file names a class by a key such as ``sklearn.svm:SVC`` or ``hemaest.stain:MacenkoNormalizer``.
The key is looked up; it is never imported. Classes of other packages stand one by one in
``classes.toml``. Of hemaest's own classes, the public estimators and dataclasses may be named, and
the few in ``UNLISTED`` that public estimators hold.
"""

import dataclasses
import inspect
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.resources import files
from pkgutil import iter_modules
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from hemaest.persistence._values import UnsafeFileError, describe

__all__ = ["Registry", "parameters_of"]

# the subpackages whose public estimators and dataclasses may be in a file
SUBPACKAGES = (
    *("groups", "preprocessing", "stain", "segmentation", "features", "deep", "balance"),
    *("nets", "pretrained", "recipes", "evaluation", "clinical", "scale"),
)
# classes that are not public, inside of public ones
UNLISTED = frozenset(
    {"BloodCellClassifier", "BoostedTrees", "FeatureSampler", "InnerFolds", "PatternHistogram"}
    | {"Judge", "Judges", "FamiliarVectors", "Columns", "Confusion"}
)
# public classes whose __setstate__ makes the object again from plain values, with all checks
MADE_AGAIN = frozenset({"CellTaxonomy"})
FUNCTIONS: dict[str, Any] = {
    f"numpy:{f.__name__}": f
    for f in (np.log, np.log1p, np.log2, np.log10, np.exp, np.expm1, np.sqrt, np.square, np.abs)
} | {"numpy:cbrt": np.cbrt, "numpy:reciprocal": np.reciprocal, "numpy:arcsinh": np.arcsinh}
SCORES = ("f_classif", "chi2", "mutual_info_classif", "f_regression")


class Registry:
    """The classes and functions that a file may name.

    Parameters
    ----------
    trusted : iterable of classes and functions
        Those of the caller, besides the ones of the library.

    Examples
    --------
    >>> registry = Registry()
    >>> from sklearn.svm import SVC
    >>> registry.key_of(SVC)
    'sklearn.svm:SVC'
    >>> registry.class_of("sklearn.svm:SVC") is SVC
    True
    >>> registry.class_of("os:system")
    Traceback (most recent call last):
    ...
    hemaest.persistence._values.UnsafeFileError: it names 'os:system', which ...
    """

    def __init__(self, trusted: Iterable[Any] = ()) -> None:
        self.trusted = {_own_key(item): item for item in _checked(trusted)}

    def key_of(self, cls: type) -> str | None:
        """Return the key of a class, None where it may not be saved."""
        own = _own_key(cls)
        if self.trusted.get(own) is cls:
            return own
        package, _, rest = cls.__module__.partition(".")
        if package == "hemaest":
            key = f"hemaest.{rest.split('.')[0]}:{cls.__qualname__}"
            return key if _own_class(key) is cls else None
        for module, names in foreign_classes().items():
            if cls.__name__ in names and module.split(".")[0] == package:
                if getattr(import_module(module), cls.__name__, None) is cls:
                    return f"{module}:{cls.__name__}"
        return None

    def class_of(self, key: Any) -> type:
        """Return the class of a key, or refuse it."""
        if type(key) is str:
            found = self.trusted.get(key) or _own_class(key)
            module, _, name = key.partition(":")
            if found is None and name in foreign_classes().get(module, ()):
                found = getattr(import_module(module), name, None)
            if isinstance(found, type):
                return found
        raise UnsafeFileError(
            f"it names {str(key)[:100]!r}, which is none of the classes that a model may hold. (If "
            "the class is your own, give it: trusted=[TheClass].)"
        )

    def attributes_of(self, key: str, cls: type) -> frozenset[str] | None:
        """Return the names that may be set on an object; None leaves it to the class."""
        module, _, name = key.partition(":")
        if key in self.trusted or module.startswith("hemaest."):
            return None
        common = {"n_features_in_", "feature_names_in_", "_sklearn_output_config"}
        known = foreign_classes()[module][name]
        return frozenset({*parameters_of(cls), *known, *common})

    def key_of_function(self, item: Any) -> str | None:
        """Return the key of a function, None where it may not be saved."""
        for key, known in {**functions(), **self.trusted}.items():
            if known is item:
                return key
        return None

    def function_of(self, key: Any) -> Any:
        """Return the function of a key, or refuse it."""
        found = functions().get(key) or self.trusted.get(key)
        if found is None or isinstance(found, type):
            raise UnsafeFileError(
                f"it names the function {str(key)[:100]!r}, which is not on the list. (If it is "
                "your own, give it: trusted=[the_function].)"
            )
        return found

    def network_of(self, name: Any) -> type:
        """Return a public class of networks, whose ``config`` says how it is built, or refuse."""
        from torch import nn

        found = _find("nets", name) if type(name) is str and name.isidentifier() else None
        if found is None or not issubclass(found, nn.Module):
            raise UnsafeFileError(f"{name!r:.80} is no network that save writes.")
        return found


@cache
def foreign_classes() -> dict[str, dict[str, frozenset[str]]]:
    """Return the attributes of the classes of other packages, by module and name."""
    text = files("hemaest.persistence").joinpath("classes.toml").read_text("utf-8")
    return {
        module: {name: frozenset(words.split()) for name, words in names.items()}
        for module, names in tomllib.loads(text).items()
    }


@cache
def functions() -> dict[str, Any]:
    """Return the functions that parameters may be, by key."""
    from sklearn import feature_selection

    scores = {f"sklearn.feature_selection:{n}": getattr(feature_selection, n) for n in SCORES}
    return FUNCTIONS | scores


@cache
def parameters_of(cls: type) -> frozenset[str]:
    """Return the names of the parameters of a class.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> sorted(parameters_of(FrozenEstimator))
    ['estimator']
    """
    names: set[str] = set()
    for base in cls.__mro__[:-1]:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
            names |= parameters.keys() - {"self", "args", "kwargs"}
            # a class that hands **kwargs on has the parameters of its base too
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return frozenset(names)


def _own_class(key: str) -> type | None:
    """Return a class of hemaest, None where the key names none that may be saved."""
    module, _, name = key.partition(":")
    package, _, subpackage = module.partition(".")
    if package != "hemaest" or subpackage not in SUBPACKAGES or not name.isidentifier():
        return None
    found = _find(subpackage, name)
    saved = isinstance(found, type) and (
        issubclass(found, BaseEstimator)
        or dataclasses.is_dataclass(found)
        or hasattr(found, "get_n_splits")
        or name in MADE_AGAIN
    )
    return found if saved else None


@cache
def _find(subpackage: str, name: str) -> type | None:
    """Return a class that is public in a subpackage or in a public module of it, or unlisted."""
    try:
        package = import_module(f"hemaest.{subpackage}")
    except ImportError:
        return None
    inside = [info.name for info in iter_modules(getattr(package, "__path__", ()))]
    public = [module for module in inside if not module.startswith("_")]
    for where in ("", *public, *(inside if name in UNLISTED else ())):
        module = import_module(f"{package.__name__}.{where}".rstrip("."))
        if name in getattr(module, "__all__", ()) or name in UNLISTED:
            found = getattr(module, name, None)
            if isinstance(found, type) and found.__module__.startswith("hemaest."):
                return found
    return None


def _own_key(item: Any) -> str:
    return f"{item.__module__}:{item.__qualname__}"


def _checked(trusted: Any) -> list[Any]:
    if isinstance(trusted, (bool, str)):
        raise TypeError(
            f"trusted={trusted!r}; give the classes and functions of your own that the file may "
            "use, as in trusted=[MyStep]. There is no way to allow everything."
        )
    for item in trusted:
        if not (hasattr(item, "__qualname__") and callable(item)):
            raise TypeError(f"trusted holds {describe(item)}; give classes and functions.")
    return list(trusted)
