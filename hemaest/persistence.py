"""Save a fitted estimator in one file, and load it without running what the file says.

The file is a zip of a card (JSON: versions, classes, steps, data, claim), the weights of nets as
safetensors, and the rest as a pickle that may name only what is on a list. Its last bytes are a
checksum of all before them.
"""

import hashlib
import io
import json
import os
import platform
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from hemaest._safe_pickle import Packer, Unpacker, UntrustedError

__all__ = ["info", "load", "save"]

FORMAT = 1
MARK = b"hemaest sha256 "
DIGEST = 64
NAMES = {"sklearn": "scikit-learn", "cv2": "opencv-python-headless"}
# their results may change with their version even where no class of theirs is in the file
ALWAYS = ("numpy", "scipy", "scikit-learn", "scikit-image", "opencv-python-headless", "numba")
WITH_NETS = ("torch", "torchvision", "timm", "skorch")


def save(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    data_hash: str | None = None,
    claim: Any = None,
    trained_on: Mapping[str, Any] | None = None,
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

    Returns
    -------
    path : Path
        Of the written file.

    Raises
    ------
    NotFittedError
        When the estimator was never fitted.
    OSError
        When nothing can be written to the path; a file that was there stays.

    Notes
    -----
    Anyone can make a file whose checksum is right: it protects from damage, not from malice. What
    protects from malice is that :func:`load` calls nothing but the constructors of a list of
    packages. Their compiled parts (trees of scikit-learn and XGBoost) still trust the numbers they
    are given, so a hostile file may crash Python. A model kept with ``joblib.dump`` has no such
    protection at all: load it only if you trust its maker.

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
    stream = io.BytesIO()
    packer = Packer(stream)
    try:
        packer.dump(estimator)
    except Exception as error:
        raise ValueError(
            f"{type(estimator).__name__} cannot be saved: {error} Functions defined in a script or "
            "notebook, and lambdas, cannot; move them into a module."
        ) from error
    # read it back as load will: what it names is then known, and that it can be read at all
    reader = Unpacker(io.BytesIO(stream.getvalue()), packer.weights, trusted=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader.load()
    card = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "classes": _plain(getattr(estimator, "classes_", None)),
        "steps": _steps(estimator),
        "versions": _versions(reader.packages, with_nets=bool(packer.weights)),
        "names_beyond_the_list": sorted(reader.extra),
        "data_hash": data_hash,
        "trained_on": dict(trained_on or {}),
        "claim": _claim(claim),
    }
    content = _zipped(card, stream.getvalue(), packer.weights)
    try:
        _write(content, target)
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror}.") from error
    return target


def load(path: str | os.PathLike[str], *, trusted: bool | Collection[str] = ()) -> Any:
    """Load a saved estimator.

    A damaged file is refused. A file that names anything beyond the packages that models are made
    of (your own classes, functions) is refused as well, and the names are told.

    Parameters
    ----------
    path : str or path-like
        A file that :func:`save` wrote.
    trusted : str, collection of str or bool, default=()
        Names beyond the list that may be used; True allows all, which is as dangerous as
        ``joblib.load``: the file can then run anything. False allows none.

    Returns
    -------
    estimator : fitted estimator
        Predicts as the saved one did, on a CPU bit for bit.

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
    card, pickled, weights = _opened(path)
    different = _different(card["versions"])
    if different:
        warnings.warn(
            f"{path} was saved with other versions, and may predict otherwise or fail: "
            f"{', '.join(different)}.",
            stacklevel=2,
        )
    reader = Unpacker(io.BytesIO(pickled), weights, trusted=trusted)
    try:
        with warnings.catch_warnings():
            # said above already, for all packages at once
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
            return reader.load()
    except UntrustedError as error:
        names = card.get("names_beyond_the_list") or [str(error)]
        raise UntrustedError(
            f"{path} names {', '.join(names)}, which loading would run. If you trust its maker, "
            f"use load(path, trusted={names!r})."
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
        ``claim``, ``names_beyond_the_list``, and ``checksum`` of the file.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier().fit([[0], [1]], ["blast", "blast"])
    >>> path = save(model, tempfile.mkdtemp() + "/model.hemaest")
    >>> info(path)["classes"]
    ['blast']
    """
    return _opened(path, with_estimator=False)[0]


def _is_fitted(estimator: Any) -> bool:
    """Return whether an estimator was fitted, or has nothing to learn.

    Of a pipeline scikit-learn asks the last step alone; one that ends in a frozen step, or in one
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


def _write(content: bytes, target: Path) -> None:
    """Write a file that is there only when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _zipped(card: Any, pickled: bytes, weights: list[Any]) -> bytes:
    """Return the bytes of a file: the zip, whose comment ends in the checksum of what is before."""
    from safetensors.numpy import save as to_safetensors

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        # a fixed time: the same model gives the same bytes
        def add(name: str, content: bytes, how: int = zipfile.ZIP_DEFLATED) -> None:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content, compress_type=how)

        add("card.json", json.dumps(card, indent=2, default=_for_json).encode())
        add("estimator.pickle", pickled)
        for i, arrays in enumerate(weights):
            add(f"weights-{i}.safetensors", to_safetensors(arrays), zipfile.ZIP_STORED)
        archive.comment = MARK + b"0" * DIGEST
    content = stream.getvalue()[:-DIGEST]
    return content + hashlib.sha256(content).hexdigest().encode()


def _opened(path: Any, with_estimator: bool = True) -> tuple[dict[str, Any], bytes, list[Any]]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}.") from None
    body, digest = content[:-DIGEST], content[-DIGEST:]
    if not (content.startswith(b"PK") and body.endswith(MARK)):
        known = content.startswith(b"PK") or b"PK\x03\x04" in content[:64]
        raise ValueError(
            f"{path} is cut off: its end, with the checksum, is missing. Copy it again."
            if known
            else f"{path} is no file of hemaest.persistence.save. (Models of joblib.dump are read "
            "by joblib.load, if you trust their maker.)"
        )
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ValueError(f"{path} was changed or damaged: its checksum is wrong. Copy it again.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        card = json.loads(archive.read("card.json"))
        if card["format"] > FORMAT:
            raise ValueError(
                f"{path} has format {card['format']}, written by a newer hemaest "
                f"({card['versions'].get('hemaest')}); this one reads up to {FORMAT}."
            )
        card["checksum"] = digest.decode()
        if not with_estimator:
            return card, b"", []
        from safetensors.numpy import load as from_safetensors

        count = sum(name.startswith("weights-") for name in archive.namelist())
        weights = [from_safetensors(archive.read(f"weights-{i}.safetensors")) for i in range(count)]
        return card, archive.read("estimator.pickle"), weights


def _versions(packages: Collection[str], *, with_nets: bool) -> dict[str, str]:
    """Return the version of hemaest, of Python and of what the estimator is made of."""
    import hemaest

    distributions = packages_distributions()
    named = {NAMES.get(p, (distributions.get(p) or [p])[0]) for p in packages} - {"hemaest"}
    wanted = sorted({*named, *ALWAYS, *(WITH_NETS if with_nets else ())})
    found = {name: v for name in wanted if (v := _version(name))}
    return {"hemaest": hemaest.__version__, "python": platform.python_version(), **found}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _different(saved: Mapping[str, str]) -> list[str]:
    """Return the packages that are not as they were; of Python only 3.x matters."""
    import hemaest

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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
