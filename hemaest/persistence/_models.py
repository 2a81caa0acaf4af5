"""Save a fitted estimator in one file, and load it without running what the file says.

The file is a container of a card (JSON: versions, classes, steps, data, claim), the estimator as
data, its arrays and the weights of its networks as safetensors. What a file may hold is a closed
list; see SECURITY.md for what that promises. Called by the command line and by users.
"""

import json
import os
import platform
import warnings
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

import hemaest
from hemaest.persistence._container import Container, write_container
from hemaest.persistence._data import decode_entries, encode_entries, parse_json
from hemaest.persistence._registry import Registry
from hemaest.persistence._values import UnsafeFileError

__all__ = ["info", "load", "save"]

FORMAT = 2
NAMES = {"sklearn": "scikit-learn", "cv2": "opencv-python-headless"}
# their results may change with their version even where no class of theirs is in the file
ALWAYS = ("numpy", "scipy", "scikit-learn", "scikit-image", "opencv-python-headless", "numba")
WITH_NETWORKS = ("torch", "torchvision", "timm", "skorch")


def save(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    data_hash: str | None = None,
    claim: Any = None,
    trained_on: Mapping[str, Any] | None = None,
    trusted: Iterable[Any] = (),
) -> Path:
    """Save a fitted estimator.

    Parameters
    ----------
    estimator : fitted estimator
        A pipeline, a classifier, a segmenter, a normalizer. What has nothing to learn (a
        :class:`~hemaest.preprocessing.Resize`, a sampler) is saved as it is.
    path : str or path-like
        The file to write, by custom ending in ``.hemaest``. It is replaced only when the new one
        is complete.
    data_hash : str, optional
        Hash of the data it was fitted on, to be found again.
    claim : ClaimCard or dict, optional
        How well it does and how that was measured: ``compare(...).claim()``.
    trained_on : dict, optional
        What the training images were (``input``: "cell" or "field", their number, their size);
        anything that JSON can hold.
    trusted : iterable of classes and functions, default=()
        Your own classes and functions that the estimator is made of. :func:`load` needs them too.

    Returns
    -------
    path : Path
        Of the written file.

    Raises
    ------
    NotFittedError
        When the estimator was never fitted.
    ValueError
        When a part of it cannot be saved; the part is named.
    OSError
        When nothing can be written to the path; a file that was there stays.

    Notes
    -----
    Saved are the estimators of hemaest, the usual ones of scikit-learn and imbalanced-learn,
    XGBoost's classifier, and your own classes in `trusted` whose attributes are plain values,
    arrays, tables and such estimators. The parameters ``memory``, ``callbacks``,
    ``checkpoint_dir`` and ``extra_images`` belong to the machine that trained, and are None in the
    loaded estimator.

    Examples
    --------
    >>> import tempfile
    >>> from hemaest.recipes import make_recipe
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(12, classes=["lymphocyte", "neutrophil"], random_state=0)
    >>> model = make_recipe("color-knn").fit(cells.images, cells.target)
    >>> path = save(model, tempfile.mkdtemp() + "/model.hemaest")
    >>> bool((load(path).predict(cells.images) == model.predict(cells.images)).all())
    True
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it: {target / 'm.hemaest'}.")
    if not _is_fitted(estimator):
        raise NotFittedError(
            f"this {type(estimator).__name__} was never fitted, so there is nothing to keep: call "
            "its fit before save."
        )
    registry = Registry(trusted)
    try:
        entries, packages = encode_entries(estimator, registry)
        # read it back as load will: that it can be read is then known
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decode_entries(entries, registry)
    except ValueError as error:
        raise ValueError(
            f"{type(estimator).__name__} cannot be saved: {str(error).strip()} What can be saved "
            "are estimators of hemaest, scikit-learn, imbalanced-learn and XGBoost; give classes "
            "and functions of your own as trusted=[...]. Lambdas cannot be saved."
        ) from error
    with_networks = any(name.startswith("weights") for name in entries)
    card = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "classes": _plain(getattr(estimator, "classes_", None)),
        "steps": _steps(estimator),
        "versions": _versions(packages, with_networks=with_networks),
        "names_beyond_the_list": sorted(registry.trusted),
        "data_hash": data_hash,
        "trained_on": dict(trained_on or {}),
        "claim": _claim(claim),
    }
    text = json.dumps(card, indent=2, default=_for_json).encode()
    return write_container({"card.json": text, **entries}, target)


def load(path: str | os.PathLike[str], *, trusted: Iterable[Any] = ()) -> Any:
    """Load a saved estimator.

    A damaged file is refused, and so is one that holds anything that :func:`save` does not write.
    A file chooses neither what is imported nor what is called.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` wrote.
    trusted : iterable of classes and functions, default=()
        Your own classes and functions that the file may use: the objects, not their names.

    Returns
    -------
    estimator : fitted estimator
        Predicts as the saved one did, on a CPU bit for bit.

    Raises
    ------
    FileNotFoundError
        When the file cannot be read.
    ValueError
        When the file is damaged, or holds what save does not write.

    Warns
    -----
    UserWarning
        When packages have another version than when it was saved; they are named.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier().fit([[0], [1]], ["blast", "blast"])
    >>> path = save(model, tempfile.mkdtemp() + "/model.hemaest")
    >>> load(path).predict([[5]])
    array(['blast'], dtype='<U5')
    """
    registry = Registry(trusted)
    with Container(path) as container:
        card = _card(container)
        entries = {name: container.read(name) for name in container.names if name != "card.json"}
    different = _different(card["versions"])
    if different:
        warnings.warn(
            f"{path} was saved with other versions, and may predict otherwise or fail: "
            f"{', '.join(different)}.",
            stacklevel=2,
        )
    try:
        return decode_entries(entries, registry)
    except ValueError as error:
        raise UnsafeFileError(
            f"{path} holds what hemaest.persistence.save does not write: {error}"
        ) from None


def info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a saved file says of itself, without loading the estimator.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` wrote.

    Returns
    -------
    card : dict
        ``estimator``, ``classes``, ``steps``, ``versions``, ``data_hash``, ``trained_on``,
        ``claim``, ``names_beyond_the_list`` (what :func:`load` needs as ``trusted``), and
        ``checksum`` of the file.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier().fit([[0], [1]], ["blast", "blast"])
    >>> path = save(model, tempfile.mkdtemp() + "/model.hemaest")
    >>> info(path)["classes"]
    ['blast']
    """
    with Container(path) as container:
        return _card(container)


def _card(container: Container) -> dict[str, Any]:
    try:
        card = parse_json(container.read("card.json"))
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{container.path}: its card is no card, {error}") from None
    if not _is_card(card):
        raise UnsafeFileError(f"{container.path} has a card that save does not write.")
    if card["format"] > FORMAT:
        raise ValueError(
            f"{container.path} has format {card['format']}, written by a newer hemaest "
            f"({card['versions'].get('hemaest')}); this one reads format {FORMAT}."
        )
    if card["format"] < FORMAT:
        raise UnsafeFileError(
            f"{container.path} has format {card['format']} of older versions of hemaest, which is "
            "no longer read. Fit the model and save it again."
        )
    return {**card, "checksum": container.checksum}


def _is_card(card: Any) -> bool:
    """Return whether a card has the parts that others read, each of its kind."""
    kinds: dict[str, Any] = {
        "format": int,
        "estimator": str,
        "classes": (list, type(None)),
        "steps": list,
        "versions": dict,
        "names_beyond_the_list": list,
        "data_hash": (str, type(None)),
        "trained_on": dict,
        "claim": (dict, type(None)),
    }
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        return False
    if card["format"] != FORMAT:
        return isinstance(card.get("versions"), dict)
    claim = card.get("claim") or {}
    return (
        card.keys() == kinds.keys()
        and all(isinstance(card[name], kind) for name, kind in kinds.items())
        and all(isinstance(v, str) for v in card["versions"].values())
        and all(isinstance(name, str) for name in card["names_beyond_the_list"])
        and all(
            isinstance(step, dict)
            and step.keys() == {"name", "class", "parameters"}
            and isinstance(step["parameters"], dict)
            for step in card["steps"]
        )
        and isinstance(claim.get("facts", {}), dict)
        and isinstance(claim.get("flags", []), list)
    )


def _is_fitted(estimator: Any) -> bool:
    """Return whether an estimator was fitted, or has nothing to learn.

    Of a pipeline scikit-learn checks the last step alone; one that ends in a frozen step, or in one
    that learns nothing, is then fitted where a step before it is.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> known = FrozenEstimator(DummyClassifier().fit([[0], [1]], [0, 1]))
    >>> model = make_pipeline(StandardScaler(), known)
    >>> _is_fitted(known), _is_fitted(model), _is_fitted(model.fit([[0], [1]], [0, 1]))
    (True, False, True)
    """
    if not _has_tags_and_fit(estimator):
        return True
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    learning = [step for _, step in getattr(estimator, "steps", ()) if _learns(step)]
    return not learning or any(map(_is_fitted, learning))


def _learns(step: Any) -> bool:
    if isinstance(step, FrozenEstimator) or not _has_tags_and_fit(step):
        return False
    return bool(get_tags(step).requires_fit)


def _has_tags_and_fit(estimator: Any) -> bool:
    return hasattr(estimator, "fit") and hasattr(estimator, "__sklearn_tags__")


def _versions(packages: Collection[str], *, with_networks: bool) -> dict[str, str]:
    """Return the version of hemaest, of Python and of what the estimator is made of."""
    distributions = _distributions()
    named = {NAMES.get(p, (distributions.get(p) or [p])[0]) for p in packages} - {"hemaest"}
    wanted = sorted({*named, *ALWAYS, *(WITH_NETWORKS if with_networks else ())})
    found = {name: v for name in wanted if (v := _version(name))}
    return {"hemaest": hemaest.__version__, "python": platform.python_version(), **found}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _different(saved: Mapping[str, str]) -> list[str]:
    """Return the packages that are not as they were; of Python only 3.x matters."""
    own = {"hemaest": hemaest.__version__, "python": platform.python_version()}
    changes = []
    for name, then in saved.items():
        now = own.get(name) or _version(name)
        same = (
            then.split(".")[:2] == now.split(".")[:2] if name == "python" and now else then == now
        )
        if not same:
            changes.append(f"{name} {then} then, {now or 'absent'} now")
    return changes


def _steps(estimator: Any) -> list[dict[str, Any]]:
    """Return the steps of a pipeline, or the estimator alone, with parameters that were set."""
    steps = getattr(estimator, "steps", None) or [("", estimator)]
    return [
        {"name": name, "class": type(step).__name__, "parameters": _parameters(step)}
        for name, step in steps
    ]


def _parameters(step: Any) -> dict[str, str]:
    """Return the parameters that differ from their default."""
    import inspect

    if not hasattr(step, "get_params"):
        return {}
    defaults = {n: p.default for n, p in inspect.signature(type(step).__init__).parameters.items()}
    return {
        name: text
        for name, value in step.get_params(deep=False).items()
        if (text := " ".join(repr(value).split())) != repr(defaults.get(name))
    }


def _claim(claim: Any) -> Any:
    return json.loads(claim.to_json()) if hasattr(claim, "to_json") else claim


def _plain(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def _for_json(value: Any) -> Any:
    """Return numbers and arrays of numpy as those of Python, all else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
