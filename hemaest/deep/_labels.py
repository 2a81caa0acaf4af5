"""Labels and weights of images, as every classifier here takes them."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d


def check_labels(y: ArrayLike, n: int, estimator: object) -> NDArray[Any]:
    """Return labels as a 1-D array, one for each image."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None."
        )
    if isinstance(y, list | tuple):
        # numpy would write numbers and NaN among strings as strings
        refuse_mixture(np.asarray(y, dtype=object))
    labels: NDArray[Any] = np.asarray(column_or_1d(y, warn=True))
    refuse_mixture(labels)
    if labels.dtype.kind in "fc":
        check_array(labels, ensure_2d=False, input_name="y")
    check_classification_targets(labels)
    if len(labels) != n:
        raise ValueError(f"there are {n} images but {len(labels)} labels; give one for each.")
    return labels


def refuse_mixture(labels: NDArray[Any]) -> None:
    """Refuse labels that cannot be sorted: strings and numbers together, or none at all.

    Examples
    --------
    >>> refuse_mixture(np.array(["basophil", None], dtype=object))
    Traceback (most recent call last):
    ...
    ValueError: y holds NoneType, str; labels are all strings or all numbers. Row 1 has None: ...
    """
    if labels.dtype != object or labels.ndim != 1:
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


def check_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return weights as floats, ones where none are given."""
    if sample_weight is None:
        return np.ones(n)
    weight = check_array(sample_weight, ensure_2d=False, dtype=float, input_name="sample_weight")
    if weight.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {weight.shape}, but there are {n} images; give one number "
            "for each."
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
