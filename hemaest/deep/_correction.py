"""The class balance is corrected once or not at all."""

from typing import Any


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
