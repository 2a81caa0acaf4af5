"""The design of a comparison: what keeps images together, the folds, and both in words.

``compare`` reads its arguments into a :class:`Design` by :func:`group_codes` and
:func:`make_folds`; tables, page and claim card take from it what they say about the split.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest.groups import GroupedFolds, Split, check_groups, near_duplicate_groups

# the words of the loaders, in words of the report
UNITS: dict[str | None, str | None] = {
    "none": None,
    "near-duplicate": "near-duplicate cluster",
    "file name": "group read from the file name",
}
# units that keep copies together and say nothing about patients
NO_PATIENT = ("near-duplicate cluster", "photograph")
PLURALS = {"group read from the file name": "groups read from the file names"}


@dataclass(frozen=True)
class Design:
    """How the comparison was made.

    Attributes
    ----------
    folds : list of (train, test)
        Positions of the images.
    validation : int array or None
        Positions that chose parameters, with a split into three parts.
    protocol, unit : str
        In words: how the images were split, and what stays together.
    groups : int array or None
        Group code of each image; None where each image is on its own.
    seed, confidence_level, data_hash : int, float, str
        Of the call, and of the images.
    """

    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    validation: NDArray[np.intp] | None
    protocol: str
    unit: str
    groups: NDArray[np.intp] | None
    seed: int
    confidence_level: float
    data_hash: str
    searched: list[str] = field(default_factory=list)
    control: str | None = None
    positive: list[int] = field(default_factory=list)
    estimators: dict[str, Any] = field(default_factory=dict)
    covariates: pd.DataFrame | None = None
    group_names: NDArray[Any] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def knows_patients(self) -> bool:
        """Whether the unit can stand for patients or smears."""
        return self.unit not in (*NO_PATIENT, "image")

    @property
    def unit_name(self) -> str:
        """The unit without how it is known, which stands in parentheses."""
        return self.unit.partition(" (")[0]

    @property
    def units(self) -> str:
        """The unit in the plural."""
        return PLURALS.get(self.unit_name, f"{self.unit_name}s")

    @property
    def tested(self) -> NDArray[np.intp]:
        """Positions of the images that are tested, in order."""
        return np.unique(np.concatenate([test for _, test in self.folds]))

    def summary(self) -> str:
        """Say in one line how the data were split."""
        tested = self.tested
        n = len(tested)
        units = n if self.groups is None else len(np.unique(self.groups[tested]))
        if self.unit == "near-duplicate cluster" and units == n:
            split = (
                f"Split by image: {n} images tested, no two of them near-duplicates (no patient is "
                "known, so images of one patient may lie on both sides)"
            )
        else:
            split = (
                f"Split by {self.unit}: {units} {self.unit_name if units == 1 else self.units}, "
            )
            split += f"{n} images tested"
            if self.unit == "image":
                split += " (nothing keeps images of one patient together: scores may be inflated)"
            elif not self.knows_patients:
                split += " (no patient is known, so images of one patient may lie on both sides)"
        return f"{split}; {self.protocol}; seed {self.seed}."


def group_codes(groups: Any, source: str | None, X: Any) -> tuple[NDArray[np.intp] | None, str]:
    """Return the group codes and what a group is."""
    if isinstance(groups, str):
        if groups != "image":
            raise ValueError(f"groups={groups!r}: give one group for each image, 'image' or None.")
        return None, "image"
    if groups is not None:
        codes = np.asarray(check_groups(groups, len(X)))
        source = UNITS.get(source, source)
        if source is None and len(np.unique(codes)) == len(X):
            return None, "image"
        return codes, source or "group"
    return check_groups(near_duplicate_groups(X), len(X)), "near-duplicate cluster"


def make_folds(
    cv: Any, n_repeats: int, seed: int, X: Any, y: Any, groups: Any
) -> tuple[list[tuple[Any, Any]], Any, str]:
    """Return (train, test) pairs, a validation part, and the protocol in words."""
    if isinstance(cv, Split):
        sizes = " / ".join(str(len(part)) for part in cv)
        words = "train / validation / test" if len(cv) == 3 else "train / test"
        _refuse_split_groups(cv.folds(), groups)
        if len(cv) == 3:
            _refuse_split_groups([(cv.validation, cv.test)], groups)
        return cv.folds(), cv.validation, f"one split into {words} of {sizes} images"
    if isinstance(cv, Integral):
        folds = list(
            GroupedFolds(int(cv), n_repeats=n_repeats, random_state=seed).split(X, y, groups)
        )
        times = f", repeated {n_repeats} times" if n_repeats > 1 else ""
        return folds, None, f"{cv} stratified folds{times}"
    with warnings.catch_warnings():  # a splitter that ignores groups is refused below, by its folds
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        folds = list(cv.split(X, y, groups)) if hasattr(cv, "split") else [tuple(f) for f in cv]
    _refuse_split_groups(folds, groups)
    return folds, None, f"{len(folds)} folds of {type(cv).__name__}"


def _refuse_split_groups(folds: list[tuple[Any, Any]], groups: Any) -> None:
    for number, (train, test) in enumerate(folds):
        if len(np.intersect1d(train, test)):
            raise ValueError(f"fold {number} of cv has images in training and in test at once.")
        if groups is not None:
            both = np.intersect1d(groups[train], groups[test])
            if len(both):
                raise ValueError(
                    f"fold {number} of cv has {len(both)} group(s) both in training and in test. "
                    "Use a number of folds, hemaest.evaluation.split with the same groups, or a "
                    "splitter that respects groups; groups='image' if images are truly unrelated."
                )
