"""How much of a score comes from splitting what belongs together."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hemaest.evaluation._compare import compare
from hemaest.groups import near_duplicate_groups


def leak_inflation(
    recipes: Any, X: Any, y: Any, groups: Any = None, cv: int = 5, **options: Any
) -> pd.DataFrame:
    """Score the same recipes under splits by image, by near-duplicate cluster and by group.

    Parameters
    ----------
    recipes : str, list of str, estimator or dict of str to estimator
        As :func:`compare` takes them.
    X : images
        As :func:`hemaest.images.check_images` takes them.
    y : array-like of shape (n_samples,)
        Labels.
    groups : array-like of shape (n_samples,), optional
        Patients or smears; without them there is no column for groups.
    cv : int, default=5
        Number of folds.
    **options
        Passed on to :func:`compare`.

    Returns
    -------
    table : DataFrame
        One row for each recipe: balanced accuracy under each split, and ``inflation``, what the
        split by image adds over the strictest one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> X = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)
    >>> y = np.repeat(["blast", "lymphocyte"], 6)
    >>> table = leak_inflation({"chance": DummyClassifier()}, X, y, cv=2, control=False)
    >>> table.columns.tolist(), float(table["inflation"][0])
    (['recipe', 'by image', 'by cluster', 'inflation'], 0.0)
    """
    units = {"by image": "image", "by cluster": near_duplicate_groups(X)}
    if groups is not None:
        units["by group"] = groups
    columns = {
        name: compare(recipes, X, y, unit, cv, **options).table.set_index("recipe")[
            "balanced accuracy"
        ]
        for name, unit in units.items()
    }
    table = pd.DataFrame(columns).loc[columns["by image"].index]
    table["inflation"] = table["by image"] - table.iloc[:, -1]
    return table.reset_index()
