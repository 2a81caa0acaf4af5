"""Labels and weights of images, as every classifier here takes them."""

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
    labels: NDArray[Any] = np.asarray(column_or_1d(y, warn=True))
    if labels.dtype.kind in "fc":
        check_array(labels, ensure_2d=False, input_name="y")
    check_classification_targets(labels)
    if len(labels) != n:
        raise ValueError(f"there are {n} images but {len(labels)} labels; give one for each.")
    return labels


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
