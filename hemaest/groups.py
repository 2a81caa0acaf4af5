"""Groups: what must stay together when data are split.

Images of one patient, one smear or one photograph resemble each other for reasons that have nothing
to do with the label. A split that puts some of them in training and some in test measures memory.
Every function here keeps a group on one side, balances the classes as well as the groups allow, and
works with ``groups=None`` (each image for itself) too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from hemaest._file_names import infer_groups
from hemaest._words import some

__all__ = ["GroupedFolds", "Split", "group_quantile", "grouped_holdout", "infer_groups", "split"]


def check_groups(groups: Any, n_samples: int) -> np.ndarray | None:
    """Return the groups as integer codes, or None; refuse a wrong length or a missing group.

    Examples
    --------
    >>> check_groups(["ann", "bob", "ann"], 3)
    array([0, 1, 0])
    """
    if groups is None:
        return None
    values = np.asarray(groups)
    if values.ndim != 1 or len(values) != n_samples:
        raise ValueError(
            f"groups has shape {values.shape}, but there are {n_samples} images: "
            "give one group for each image."
        )
    _refuse_missing(
        groups,
        "groups",
        "An image whose patient is unknown needs a group of its own, for instance its file name.",
    )
    if values.dtype == object:
        values = values.astype(str)
    return np.unique(values, return_inverse=True)[1]


def _refuse_missing(values: Any, what: str, advice: str) -> None:
    # as objects: among strings numpy writes NaN as a string, which would pass for a name
    missing = np.flatnonzero([_is_missing(v) for v in np.asarray(values, dtype=object).ravel()])
    if len(missing):
        raise ValueError(
            f"{len(missing)} of {len(values)} {what} are missing (None or NaN), of images "
            f"{some(missing.tolist())}. {advice}"
        )


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # the NA of pandas is neither equal nor unequal to anything
        return True


def _classes(y: Any, n_samples: int) -> np.ndarray:
    """Class codes to stratify by; everything is one class where y is absent or continuous."""
    if y is None:
        return np.zeros(n_samples, dtype=int)
    if np.size(y) != n_samples:
        raise ValueError(
            f"y has shape {np.shape(y)}, but there are {n_samples} images: give one label for each."
        )
    _refuse_missing(y, "labels", "Leave out images without a label.")
    if type_of_target(y).startswith("continuous"):
        return np.zeros(n_samples, dtype=int)
    return np.unique(np.asarray(y).ravel(), return_inverse=True)[1]


def _partition(
    n: int, y: Any, groups: Any, sizes: Sequence[float], random_state: Any, *, folds: bool = False
) -> np.ndarray:
    """Give each image a part number, parts being as large as `sizes` says and no group torn.

    Groups are placed one by one, roughly the largest and most one-sided first, each where it brings
    the class counts of all parts closest (in the chi-square sense) to what the sizes ask for. Part
    0 is what is learnt from, unless the parts are folds: a class of one group goes there.
    """
    rng = check_random_state(random_state)
    share = np.asarray(sizes, dtype=float)
    share = share / share.sum()
    classes = _classes(y, n)
    codes = check_groups(groups, n)
    if codes is None:
        codes = np.arange(n)
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < len(share):
        raise ValueError(
            f"{n_groups} group(s) cannot be split into {len(share)} parts. Ask for fewer parts, "
            "or check that groups does not hold one value for everybody."
        )
    counts = np.zeros((n_groups, int(classes.max()) + 1))
    np.add.at(counts, (codes, classes), 1)
    holds = counts > 0
    # the only group of a class can only be learnt
    kept = (holds & (holds.sum(axis=0) == 1)).any(axis=1)
    if folds or kept.all():
        kept[:] = False
    if n_groups == n:
        part = _deal_singles(counts.argmax(axis=1), kept, share, rng)
    else:
        part = _deal_groups(counts, kept, share, rng)
    _fill_empty(part, counts.sum(axis=1) + n * kept, len(share))
    return part[codes]


def _deal_singles(
    classes: np.ndarray, kept: np.ndarray, share: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Deal single images, class after class, each to the part furthest behind its share."""
    if np.bincount(classes).max() == 1:
        classes = np.zeros_like(classes)
    part = np.zeros(len(classes), dtype=int)
    order = rng.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    owed = np.zeros(len(share))
    for item in order[~kept[order]]:
        owed += share
        part[item] = owed.argmax()
        owed[part[item]] -= 1
    return part


def _deal_groups(
    counts: np.ndarray, kept: np.ndarray, share: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    totals = np.maximum(counts.sum(axis=0), 1)
    portion = counts / totals
    order = rng.permutation(len(counts))
    # coarse steps of size only: an exact order would leave the seed nothing to decide
    weight = np.floor(np.log2(portion.std(axis=1) + portion.mean(axis=1)))
    order = order[np.argsort(-weight[order], kind="stable")]
    filled = np.zeros((len(share), counts.shape[1]))
    part = np.zeros(len(counts), dtype=int)
    for group in order:
        gap = filled - share[:, None]
        # the cost of adding this group to part p, less the cost of leaving p as it is
        change = ((2 * gap * portion[group] + portion[group] ** 2) / share[:, None]).sum(axis=1)
        best = np.flatnonzero(np.isclose(change, change.min()))
        if kept[group]:
            best = np.zeros(1, dtype=int)
        chosen = best[0] if len(best) == 1 else rng.choice(best)
        part[group] = chosen
        filled[chosen] += portion[group]
    return part


def _fill_empty(part: np.ndarray, costs: np.ndarray, n_parts: int) -> None:
    """Move the cheapest group of the part that has most groups into each empty part."""
    for p in range(n_parts):
        if not np.any(part == p):
            donor = np.bincount(part, minlength=n_parts).argmax()
            members = np.flatnonzero(part == donor)
            part[members[costs[members].argmin()]] = p


def grouped_holdout(
    y: Any, groups: Any = None, fraction: float = 0.1, random_state: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Hold out about `fraction` of the images, classes balanced and no group on both sides.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels to balance. A class that has a single group stays in training, as long as there is
        another group to hold out.
    groups : array-like of shape (n_samples,) or None
        What must stay together; None: every image for itself.
    fraction : float, default=0.1
        Share of the images to hold out, between 0 and 1.
    random_state : int, RandomState instance or None
        Seed.

    Returns
    -------
    train, held_out : ndarray of int
        Sorted positions of the two sides; neither is empty.

    Examples
    --------
    >>> train, held_out = grouped_holdout(["a", "b"] * 5, groups=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
    ...                                   fraction=0.2, random_state=0)
    >>> len(train), len(held_out)
    (8, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction!r} must lie between 0 and 1, both excluded.")
    part = _partition(len(y), y, groups, (1 - fraction, fraction), random_state)
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def group_quantile(scores: np.ndarray, groups: np.ndarray, level: float) -> float:
    """Return the score that a new group's image stays below with probability `level`.

    Every group counts alike however many images it has, and one more group, the new one, counts as
    infinitely strange (Dunn, Wasserman and Ramdas 2022). With one image a group this is the usual
    split-conformal quantile.

    Parameters
    ----------
    scores : float array of shape (n_samples,)
        How strange each image is.
    groups : array of shape (n_samples,)
        Patient or smear of each.
    level : float
        Probability, between 0 and 1.

    Returns
    -------
    score : float
        Infinite where there are too few groups for this level.

    Examples
    --------
    >>> group_quantile(np.arange(1.0, 20), np.arange(19), level=0.9)
    18.0
    >>> group_quantile(np.arange(1.0, 6), np.arange(5), level=0.9)
    inf
    """
    codes, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    weight = 1 / counts[codes] / (len(counts) + 1)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order])
    at = np.searchsorted(reached, level - 1e-12)
    return float(scores[order[at]]) if at < len(scores) else float("inf")


class Split(tuple):
    """Index arrays of one split: unpack it, or give it to ``compare(cv=...)``.

    Attributes
    ----------
    train, validation, test : ndarray of int
        Positions of the parts; `validation` is empty for a split into two.

    Examples
    --------
    >>> parts = split(None, ["a", "b"] * 10, sizes=(0.7, 0.3), random_state=0)
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (14, 0, 6)
    """

    @property
    def train(self) -> np.ndarray:  # noqa: D102
        return self[0]

    @property
    def validation(self) -> np.ndarray:  # noqa: D102
        return self[1] if len(self) == 3 else np.empty(0, dtype=int)

    @property
    def test(self) -> np.ndarray:  # noqa: D102
        return self[-1]

    def folds(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return ``[(train, test)]``, the form that scikit-learn takes as ``cv``."""
        return [(self.train, self.test)]


def split(
    X: Any,
    y: Any,
    groups: Any = None,
    sizes: Sequence[float] = (0.8, 0.1, 0.1),
    random_state: Any = None,
) -> Split:
    """Split once into train, validation and test, no group torn and the classes balanced.

    Parameters
    ----------
    X : sequence of images or None
        Only its length is looked at; None where there is y.
    y : array-like of shape (n_samples,) or None
        Labels to balance.
    groups : array-like of shape (n_samples,) or None
        Patients, smears, photographs: what must not be torn apart.
    sizes : sequence of float, default=(0.8, 0.1, 0.1)
        Shares of train, validation and test, or of train and test. With groups they are met as
        closely as the groups allow.
    random_state : int, RandomState instance or None
        Seed.

    Returns
    -------
    Split
        A tuple of sorted index arrays, with the names `train`, `validation` and `test`.

    Examples
    --------
    >>> train, validation, test = split(None, ["a", "b"] * 50, random_state=0)
    >>> len(train), len(validation), len(test)
    (80, 10, 10)
    """
    if len(sizes) not in (2, 3) or not all(0 < size < np.inf for size in sizes):
        raise ValueError(
            f"sizes={sizes!r}: give the shares of train and test, or of train, validation and "
            "test, all above 0."
        )
    part = _partition(_n_images(X, y), y, groups, sizes, random_state)
    return Split(np.flatnonzero(part == p) for p in range(len(sizes)))


def _n_images(X: Any, y: Any) -> int:
    lengths = {len(values) for values in (X, y) if values is not None}
    if len(lengths) == 1:
        return lengths.pop()
    if not lengths:
        raise ValueError("X and y are both None; one of them must say how many images there are.")
    raise ValueError(f"X has {len(X)} images and y has {len(y)} labels.")


class GroupedFolds(StratifiedGroupKFold):
    """Repeated, stratified folds that tear no group; every image for itself without groups.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds in each repeat.
    n_repeats : int, default=1
        How often to deal the folds anew.
    random_state : int, RandomState instance or None
        Seed.

    Examples
    --------
    >>> folds = GroupedFolds(n_splits=2, n_repeats=3, random_state=0)
    >>> folds.get_n_splits()
    6
    >>> patients = [1, 1, 2, 2, 3, 3, 4, 4]
    >>> train, test = next(folds.split(None, list("abababab"), patients))
    >>> len(set(train) & set(test)), len(test)
    (0, 4)
    """

    def __init__(self, n_splits: int = 5, *, n_repeats: int = 1, random_state: Any = None):
        super().__init__(n_splits=n_splits, shuffle=True, random_state=random_state)
        self.n_repeats = n_repeats
        if not isinstance(n_repeats, Integral) or n_repeats < 1:
            raise ValueError(f"n_repeats={n_repeats!r}; it must be an int of 1 or more.")

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds, all repeats together."""
        return self.n_splits * self.n_repeats

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (train, test) positions, fold by fold."""
        rng = check_random_state(self.random_state)
        n = _n_images(X, y)
        for _ in range(self.n_repeats):
            part = _partition(n, y, groups, [1.0] * self.n_splits, rng, folds=True)
            for p in range(self.n_splits):
                yield np.flatnonzero(part != p), np.flatnonzero(part == p)
