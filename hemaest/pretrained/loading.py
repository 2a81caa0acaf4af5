"""From the name of a shipped model to a fitted estimator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from hemaest import segmentation
from hemaest.nets.cards import ModelCard, card_names, read_card
from hemaest.pretrained.cells import BloodCellClassifier

__all__ = ["ModelCard", "list_pretrained", "load_pretrained"]


def _blood_fields() -> Any:
    # without boxes nothing is learned from the field
    return segmentation.SmearDetector().fit(np.full((1, 64, 64, 3), 255, np.uint8))


def _blood_cells() -> Any:
    return BloodCellClassifier().fit()


BUILDERS: dict[str, Callable[[], Any]] = {
    "blood-cells": _blood_cells,
    "blood-fields": _blood_fields,
}


def list_pretrained() -> pd.DataFrame:
    """Return the shipped models: one row each, with the task and the size of the file.

    Returns
    -------
    models : DataFrame
        Indexed by name; columns ``task``, ``n_classes``, ``megabytes``, ``sha256``, ``license``.

    Examples
    --------
    >>> from hemaest.pretrained import list_pretrained
    >>> list_pretrained().columns.tolist()
    ['task', 'n_classes', 'megabytes', 'sha256', 'license']
    """
    cards = [read_card(name) for name in card_names()]
    rows = [
        (c.task, len(c.classes), c.path.stat().st_size / 1e6, c.sha256, c.license) for c in cards
    ]
    columns = ["task", "n_classes", "megabytes", "sha256", "license"]
    index = pd.Index([card.name for card in cards], name="name", dtype=str)
    return pd.DataFrame(rows, columns=columns, index=index)


def load_pretrained(name: str) -> Any:
    """Return a shipped model as a fitted estimator, its card in ``card_``.

    Nothing is downloaded and no code is read from a file: weights are ``safetensors``, and their
    hash is compared with the card first.

    Parameters
    ----------
    name : str
        One of :func:`list_pretrained`.

    Returns
    -------
    model : estimator
        Fitted.

    Examples
    --------
    >>> from hemaest.pretrained import load_pretrained
    >>> load_pretrained("blod-cells")
    Traceback (most recent call last):
    ...
    ValueError: no shipped model is called 'blod-cells'...
    """
    card = read_card(name)
    model = BUILDERS[name]()
    model.card_ = card
    return model
