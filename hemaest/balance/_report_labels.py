"""The labels of real, synthetic and training images, and which of them stand for what."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest.groups import check_labels


def labels_of(labels: ArrayLike | None, n: int) -> NDArray[Any]:
    """Return checked labels, all alike where none are given."""
    if labels is None:
        return np.full(n, "all", dtype=object)
    return check_labels(labels, n, "generative_report")


def check_that_labels_meet(
    real: NDArray[Any], synthetic: NDArray[Any], training: NDArray[Any]
) -> None:
    """Raise where synthetic labels have no class in common with others."""
    made = set(synthetic.tolist())
    for name, labels in (("real_labels", real), ("training_labels", training)):
        if made.isdisjoint(labels.tolist()):
            raise ValueError(
                f"synthetic_labels {np.unique(synthetic).tolist()} and {name} "
                f"{np.unique(labels).tolist()} have no class in common; call the classes alike."
            )


def alternate(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return every second image of each class.

    Examples
    --------
    >>> alternate(np.array(["a", "b", "a", "a", "b"]))
    array([ True,  True, False,  True, False])
    """
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        chosen[np.flatnonzero(labels == label)[::2]] = True
    return chosen
