"""The class balance is corrected once or not at all."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_class_weight


def correct_once(resampler: Any, class_weight: Any, loss: str) -> None:
    """Refuse two corrections of the class balance.

    Examples
    --------
    >>> correct_once("balanced", None, "focal")
    >>> correct_once("balanced", None, "logit-adjusted")
    Traceback (most recent call last):
    ...
    ValueError: resampler='balanced' and loss='logit-adjusted' both correct the class balance, ...
    """
    asked = {
        "resampler": resampler,
        "class_weight": class_weight,
        "loss": loss if loss == "logit-adjusted" else None,
    }
    given = [f"{name}={value!r}" for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} both correct the class balance, which would correct it "
            "twice; choose one."
        )


def needs_no_shares(resampler: Any, class_weight: Any, loss: str) -> None:
    """Refuse, for a stream, what corrects by the shares of all classes.

    Examples
    --------
    >>> needs_no_shares(None, {"basophil": 10, "neutrophil": 1}, "focal")
    >>> needs_no_shares(None, "balanced", "focal")
    Traceback (most recent call last):
    ...
    ValueError: class_weight='balanced' needs the shares of all classes, which a stream does not ...
    """
    by_shares = {
        "resampler": resampler,
        "class_weight": class_weight if isinstance(class_weight, str) else None,
        "loss": loss if loss == "logit-adjusted" else None,
    }
    for name, value in by_shares.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} needs the shares of all classes, which a stream does not "
                "tell; call fit, or give class_weight as a dict."
            )


def weight_of_classes(
    class_weight: Mapping[Any, float] | None, classes: NDArray[Any]
) -> NDArray[np.float64]:
    """Return what each class counts, ones if nothing is given; refuse what no loss can use.

    Examples
    --------
    >>> weight_of_classes({"a": 1, "b": 3}, np.array(["a", "b"]))
    array([1., 3.])
    """
    if class_weight is None:
        return np.ones(len(classes))
    weight = np.asarray(
        compute_class_weight(dict(class_weight), classes=classes, y=classes), dtype=float
    )
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise ValueError(
            f"class_weight={class_weight!r}: the weights must be finite and 0 or more, at least "
            "one of them above 0."
        )
    return weight
