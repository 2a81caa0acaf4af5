"""Groups and labels: what must stay together when data are split, and what is to be predicted.

Images of one patient, one smear or one photograph resemble each other for reasons that have nothing
to do with the label. A split that puts some of them in training and some in test measures memory.
Every splitter here keeps a group on one side, balances the classes as well as the groups allow, and
works with ``groups=None`` (each image for itself) too.

This module is the home of everything about groups: the splitters, groups from file names and from
near-duplicates, exact copies, groups that are joined, inner folds. The one check of labels is here
too. Every subpackage calls it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from hemaest._file_names import infer_groups
from hemaest._labels import (
    check_labels,
    check_weights as check_weights,
    encode as encode,
    refuse_missing,
)
from hemaest._near_duplicates import (
    Pair,
    connect_pairs as connect_pairs,
    near_duplicate_groups,
)
from hemaest._partition import partition
from hemaest._words import some
from hemaest.images import ImageRef

__all__ = [
    "GroupedFolds",
    "Split",
    "check_labels",
    "group_quantile",
    "grouped_holdout",
    "infer_groups",
    "inner_folds",
    "near_duplicate_groups",
    "split",
]

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def check_groups(groups: Any, n_samples: int) -> NDArray[np.intp] | None:
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
    refuse_missing(
        groups,
        "groups",
        "An image whose patient is unknown needs a group of its own, for instance its file name.",
    )
    if values.dtype == object:
        values = values.astype(str)
    return np.unique(values, return_inverse=True)[1]


def copy_codes(X: NDArray[Any]) -> NDArray[np.intp]:
    """Return a number for each image, the same for exact copies.

    A sampler in front of an estimator may have made copies; they must not lie on both sides of a
    split. A file counts by its path.

    Examples
    --------
    >>> copy_codes(np.array([0, 9, 0], np.uint8).reshape(3, 1, 1, 1))
    array([0, 1, 0])
    """
    seen: dict[Any, int] = {}
    keys = (
        image
        if isinstance(image, ImageRef)
        else hashlib.sha1(np.ascontiguousarray(image).tobytes()).digest()
        for image in X
    )
    return np.array([seen.setdefault(key, len(seen)) for key in keys])


def join_groups(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the finest groups that divide neither a group of ``a`` nor one of ``b``.

    Examples
    --------
    >>> join_groups(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
    array([0, 0, 0, 1])
    """
    n_a, n_b = a.max() + 1, b.max() + 1
    links = coo_array((np.ones(len(a)), (a, n_a + b)), shape=(n_a + n_b, n_a + n_b))
    parts = connected_components(links, directed=False)[1][a]
    return np.unique(parts, return_inverse=True)[1]


def join_copies(X: NDArray[Any], groups: Any = None) -> NDArray[np.intp]:
    """Return the groups as codes, exact copies of an image joined.

    Parameters
    ----------
    X : array
        Checked images.
    groups : array-like of shape (n_samples,) or None
        What must stay together; None: every image for itself.

    Examples
    --------
    >>> X = np.array([0, 9, 0], np.uint8).reshape(3, 1, 1, 1)
    >>> join_copies(X, ["ann", "bob", "eve"])
    array([0, 1, 0])
    """
    copies = copy_codes(X)
    given = check_groups(groups, len(X))
    return copies if given is None else join_groups(given, copies)


def group_links(groups: NDArray[np.intp] | None) -> list[Pair]:
    """Return pairs that connect the images of each group, for :func:`connect_pairs`.

    Examples
    --------
    >>> [(pair.first, pair.second) for pair in group_links(np.array([0, 1, 0, 0]))]
    [(0, 2), (0, 3)]
    """
    if groups is None:
        return []
    first: dict[int, int] = {}
    return [
        Pair(first.setdefault(int(g), i), i, False, 1.0)
        for i, g in enumerate(groups)
        if first.setdefault(int(g), i) != i
    ]


def _partition(
    n: int, y: Any, groups: Any, sizes: Sequence[float], random_state: Any, *, folds: bool = False
) -> NDArray[np.intp]:
    return partition(_classes(y, n), check_groups(groups, n), sizes, random_state, folds=folds)


def _classes(y: Any, n: int) -> NDArray[np.intp]:
    """Class codes to stratify by; everything is one class where y is absent or continuous."""
    if y is None:
        return np.zeros(n, dtype=int)
    if np.size(y) != n:
        raise ValueError(
            f"y has shape {np.shape(y)}, but there are {n} images: give one label for each."
        )
    refuse_missing(y, "labels", "Leave out images without a label.")
    if type_of_target(y).startswith("continuous"):
        return np.zeros(n, dtype=int)
    return np.unique(np.asarray(y).ravel(), return_inverse=True)[1]


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
    """Split once into train, validation and test, no group divided and the classes balanced.

    Parameters
    ----------
    X : sequence of images or None
        Only its length is looked at; None where there is y.
    y : array-like of shape (n_samples,) or None
        Labels to balance.
    groups : array-like of shape (n_samples,) or None
        Patients, smears, photographs: what must stay together.
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
    """Repeated, stratified folds that divide no group; every image for itself without groups.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds in each repeat.
    n_repeats : int, default=1
        Number of times the folds are drawn.
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


def inner_folds(
    y: NDArray[Any],
    groups: Any = None,
    n_folds: int = 5,
    random_state: Any = None,
    *,
    every_class: bool = False,
) -> list[Fold]:
    """Return group-aware folds for an estimator that splits its training data inside.

    Parameters
    ----------
    y : array of shape (n_samples,)
        Labels to balance.
    groups : array-like of shape (n_samples,) or None
        What must stay together; None: every image for itself.
    n_folds : int, default=5
        Number of folds; fewer where there are fewer groups.
    random_state : int, RandomState instance or None
        Seed.
    every_class : bool, default=False
        Whether the training side of every fold must hold every class. The rows of a class in too
        few groups are then assigned one by one, with a warning.

    Returns
    -------
    folds : list of (train, test)

    Examples
    --------
    >>> folds = inner_folds(np.array(list("abababab")), [0, 0, 1, 1, 2, 2, 3, 3], 2, random_state=0)
    >>> [len(test) for train, test in folds]
    [4, 4]
    """
    codes = check_groups(groups, len(y))
    if codes is None:
        codes = np.arange(len(y))
    if not every_class:
        n_groups = len(np.unique(codes))
        if n_groups < 2:
            raise ValueError(f"all {len(y)} images are of one group, and folds divide no group.")
        return _folds(y, codes, min(n_folds, n_groups), random_state)
    classes = np.unique(y)
    least = min(len(np.unique(codes[y == c])) for c in classes)
    n_folds = max(min(n_folds, least), 2)
    folds = _folds(y, codes, n_folds, random_state)
    lacking = [c for c in classes if not all((y == c)[train].any() for train, _ in folds)]
    if lacking:
        codes = _ungroup(y, codes, lacking)
        least = min(len(np.unique(codes[y == c])) for c in classes)
        folds = _folds(y, codes, max(min(n_folds, least), 2), random_state)
    return folds


def _folds(y: NDArray[Any], codes: NDArray[np.intp], n_folds: int, random_state: Any) -> list[Fold]:
    return list(GroupedFolds(n_folds, random_state=random_state).split(None, y, codes))


def _ungroup(y: NDArray[Any], codes: NDArray[np.intp], classes: list[Any]) -> NDArray[np.intp]:
    """Return groups in which each row of these classes, which have too few groups, is one."""
    for c in classes:
        if np.sum(y == c) < 2:
            raise ValueError(
                f"class {c!s} has a single row: without it, an inner fold cannot train on this "
                "class. Leave the class out, or take a recipe that does not split inside."
            )
    warnings.warn(
        f"an inner fold would hold no training row of {some(classes)}, which is in too few groups: "
        "its rows are assigned one by one. The outer folds are unchanged.",
        UserWarning,
        stacklevel=4,
    )
    return np.where(np.isin(y, classes), len(y) + np.arange(len(y)), codes)
