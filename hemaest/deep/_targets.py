"""The training part of a fit: what is held out, how it is resampled, how classes are balanced."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import compute_class_weight

from hemaest.groups import grouped_holdout, join_copies
from hemaest.images import rgb, to_object_array


def hold_out(
    X: NDArray[Any], y: NDArray[Any], groups: Any, fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows (training, held out), split by group; exact copies stay together too.

    Parameters
    ----------
    X : array
        Checked images.
    y : array
        Labels, for balance.
    groups : array-like or None
        Patients, smears.
    fraction : float
        Proportion to hold out.
    seed : int
        Decides which.
    """
    if len(X) < 2:
        raise ValueError(
            "early_stopping=True holds images out, but there is only 1 sample; set "
            "early_stopping=False."
        )
    try:
        return grouped_holdout(y, join_copies(X, groups), fraction, random_state=seed)
    except ValueError as error:
        raise ValueError(
            f"nothing can be held out for early_stopping: {error} Or set early_stopping=False."
        ) from error


def resample(
    resampler: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    weight: NDArray[np.float64],
    groups: Any = None,
    *,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Apply a sampler to the training part; synthetic images get the mean weight.

    A sampler that splits inside receives the groups. Cell maps, which no network reads, are left
    out.
    """
    if resampler is None or isinstance(resampler, str):
        return X, y, weight
    sampler = clone(resampler)
    params = sampler.get_params(deep=False)
    if "random_state" in params and params["random_state"] is None:
        sampler.set_params(random_state=seed)
    splits = groups is not None and "groups" in signature(sampler.fit_resample).parameters
    colors = _without_maps(X)
    new_X, new_y = sampler.fit_resample(colors, y, **({"groups": groups} if splits else {}))
    if isinstance(new_X, list):
        new_X = to_object_array(new_X)
    if np.ptp(weight) == 0:
        return new_X, np.asarray(new_y), np.full(len(new_y), weight[0])
    rows = getattr(sampler, "sample_indices_", None)
    if rows is None or len(rows) != len(new_y):
        raise ValueError(
            f"sample_weight needs sample_indices_, which {type(sampler).__name__} does not have: "
            "it states where the images come from. Leave out sample_weight or the resampler."
        )
    rows = np.asarray(rows)
    return new_X, np.asarray(new_y), np.where(rows >= 0, weight[rows], weight.mean())


def _without_maps(X: NDArray[Any]) -> NDArray[Any]:
    """Return checked images without their cell maps; files have none."""
    if X.dtype != object:
        return X[..., :3]
    return to_object_array([rgb(x) if isinstance(x, np.ndarray) else x for x in X])


def refuse_double_balance(resampler: Any, class_weight: Any, loss: str) -> None:
    """Refuse two corrections of the class balance.

    Examples
    --------
    >>> refuse_double_balance("balanced", None, "focal")
    >>> refuse_double_balance("balanced", None, "logit-adjusted")
    Traceback (most recent call last):
    ...
    ValueError: resampler='balanced' and loss='logit-adjusted' both correct the class balance, ...
    """
    corrections = {
        "resampler": resampler,
        "class_weight": class_weight,
        "loss": loss if loss == "logit-adjusted" else None,
    }
    given = [f"{name}={value!r}" for name, value in corrections.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            f"{' and '.join(given)} both correct the class balance, which would correct it "
            "twice; choose one."
        )


def refuse_balance_in_stream(resampler: Any, class_weight: Any, loss: str) -> None:
    """Refuse, for ``partial_fit``, corrections that need the frequencies of all classes.

    Examples
    --------
    >>> refuse_balance_in_stream(None, {"basophil": 10, "neutrophil": 1}, "focal")
    >>> refuse_balance_in_stream(None, "balanced", "focal")
    Traceback (most recent call last):
    ...
    ValueError: class_weight='balanced' needs the frequencies of all classes, which partial_fit ...
    """
    by_frequency = {
        "resampler": resampler,
        "class_weight": class_weight if isinstance(class_weight, str) else None,
        "loss": loss if loss == "logit-adjusted" else None,
    }
    for name, value in by_frequency.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} needs the frequencies of all classes, which partial_fit does "
                "not know; call fit, or give class_weight as a dict."
            )


def weight_of_classes(
    class_weight: Mapping[Any, float] | None, classes: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the weight of each class, ones by default; refuse weights that no loss can use.

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
