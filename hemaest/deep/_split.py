"""Hold out a part of the training images so that nothing of it is also trained on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.groups import grouped_holdout, join_copies


def hold_out(
    X: NDArray[Any], y: NDArray[Any], groups: Any, fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows into (training, held out) by group; exact copies stay together too.

    Parameters
    ----------
    X : array
        Checked images.
    y : array
        Labels, to balance.
    groups : array-like or None
        Patients, smears.
    fraction : float
        Share to hold out.
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
