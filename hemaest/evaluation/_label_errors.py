"""Labels that the rest of the data speak against (confident learning, Northcutt et al. 2021)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def label_error_candidates(
    true: NDArray[np.intp], probability: NDArray[np.float64]
) -> pd.DataFrame:
    """Rank images whose label an out-of-fold model confidently denies.

    A class is confidently given where its probability is at least the mean probability that images
    labelled so get themselves. An image is a candidate where the likeliest of those classes is not
    its own.

    Parameters
    ----------
    true : int array of shape (n,)
        Labels as they stand.
    probability : array of shape (n, n_classes)
        Out-of-fold probabilities.

    Returns
    -------
    candidates : DataFrame
        Columns position, given, suggested, margin; the surest first.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9]])
    >>> label_error_candidates(np.array([0, 0, 1, 1]), p)["position"].tolist()
    [2]
    """
    n, n_classes = probability.shape
    present = np.isin(np.arange(n_classes), true)
    usual = np.array(
        [probability[true == k, k].mean() if present[k] else np.inf for k in range(n_classes)]
    )
    confident = np.where(probability >= usual, probability, -1.0)
    suggested = confident.argmax(1)
    own = probability[np.arange(n), true]
    margin = probability[np.arange(n), suggested] - own
    wrong = (confident.max(1) >= 0) & (suggested != true) & (margin > 0)
    position = np.flatnonzero(wrong)
    table = pd.DataFrame(
        {
            "position": position,
            "given": true[position],
            "suggested": suggested[position],
            "margin": margin[position],
        }
    )
    return table.sort_values("margin", ascending=False, kind="stable").reset_index(drop=True)
