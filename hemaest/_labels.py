"""The one check of labels and weights; ``hemaest.groups`` offers it to every subpackage."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from hemaest._words import some


def check_labels(
    y: ArrayLike | None,
    n_samples: int,
    estimator: object = None,
    *,
    min_classes: int = 1,
    min_per_class: int = 1,
) -> NDArray[Any]:
    """Return labels as a 1-D array, one for each image; the one check of labels in hemaest.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels: all strings or all numbers, none missing.
    n_samples : int
        Number of images.
    estimator : object or str, optional
        Who needs the labels, for the messages.
    min_classes : int, default=1
        Number of different labels that are needed.
    min_per_class : int, default=1
        Number of images that each class needs: 2 where some are trained on and some are scored.

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    Examples
    --------
    >>> check_labels(["blast", "lymphocyte"], 2)
    array(['blast', 'lymphocyte'], dtype='<U10')
    >>> check_labels(["blast", None], 2)
    Traceback (most recent call last):
    ...
    ValueError: 1 of 2 labels are missing (None or NaN), of images 1. Leave out images without ...
    """
    if y is None:
        who = estimator if isinstance(estimator, str) else type(estimator).__name__
        raise ValueError(f"{who} requires y to be passed, but the target y is None.")
    if isinstance(y, list | tuple):
        # numpy would write numbers and NaN among strings as strings
        _refuse_mixture(np.asarray(y, dtype=object))
    labels: NDArray[Any] = np.asarray(column_or_1d(y, warn=True))
    _refuse_mixture(labels)
    if labels.dtype.kind in "fc":
        check_array(labels, ensure_2d=False, input_name="y")
    check_classification_targets(labels)
    if len(labels) != n_samples:
        raise ValueError(
            f"there are {n_samples} images but {len(labels)} labels; give one label each."
        )
    if min_classes == min_per_class == 1:
        return labels
    classes, counts = np.unique(labels, return_counts=True)
    n_classes = len(classes)
    if n_classes < min_classes:
        raise ValueError(
            f"y holds one class only, {str(labels[0])!r}: there is nothing to classify."
            if n_classes == 1
            else f"y holds {n_classes} classes; at least {min_classes} are needed."
        )
    if (few := counts < min_per_class).any():
        short = [f"{str(c)!r} has {n}" for c, n in zip(classes[few], counts[few], strict=True)]
        raise ValueError(
            f"{some(short)} image(s); each class needs at least {min_per_class}, some to train on "
            "and some to score. Leave the class out, or join it with another."
        )
    return labels


def check_weights(sample_weight: ArrayLike | None, n_samples: int) -> NDArray[np.float64]:
    """Return weights as floats, ones where none are given."""
    if sample_weight is None:
        return np.ones(n_samples)
    weight = check_array(sample_weight, ensure_2d=False, dtype=float, input_name="sample_weight")
    if weight.shape != (n_samples,):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, but there are {n_samples} images; give one "
            "number for each."
        )
    if (weight < 0).any():
        raise ValueError("sample_weight has negative values; they must be 0 or more.")
    if not weight.any():
        raise ValueError("sample_weight is 0 everywhere; no image would count.")
    return weight


def encode(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the place of each label in sorted classes; refuse labels that are not there.

    Examples
    --------
    >>> encode(np.array(["b", "a"]), np.array(["a", "b", "c"]))
    array([1, 0])
    """
    codes = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    unknown = classes[codes] != y
    if unknown.any():
        raise ValueError(
            f"y has labels that are not among the classes {list(classes)}: "
            f"{np.unique(y[unknown]).tolist()[:5]}."
        )
    return codes.astype(np.int64)


def refuse_missing(values: Any, what: str, advice: str) -> None:
    """Raise where values, one for each image, are None or NaN."""
    # as objects: among strings numpy writes NaN as a string, which would pass for a name
    missing = np.flatnonzero([_is_missing(v) for v in np.asarray(values, dtype=object).ravel()])
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {len(values)} {what} are missing (None or NaN), of images "
            f"{some(missing.tolist())}. {advice}"
        )


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # the NA of pandas is neither equal nor unequal to anything
        return True


def _refuse_mixture(labels: NDArray[Any]) -> None:
    """Refuse missing labels, and labels that cannot be sorted: strings and numbers together."""
    if labels.ndim != 1 or labels.dtype.kind not in "OSfc":
        return
    if any(isinstance(label, bytes) for label in labels):
        raise ValueError("y holds bytes; decode them to strings: [label.decode() for label in y].")
    refuse_missing(labels, "labels", "Leave out images without a label.")
    if labels.dtype != object:
        return
    first = {type(label): row for row, label in reversed(list(enumerate(labels)))}
    if all(issubclass(kind, str) for kind in first):
        return
    if all(issubclass(kind, Real | np.bool_) for kind in first):
        return
    odd = min(first, key=lambda kind: sum(isinstance(label, kind) for label in labels))
    raise ValueError(
        f"y holds {', '.join(sorted(kind.__name__ for kind in first))}; labels are all strings or "
        f"all numbers. Row {first[odd]} has {labels[first[odd]]!r}: name it alike, or leave out "
        "images without a label."
    )
