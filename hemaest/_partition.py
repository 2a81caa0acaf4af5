"""Assign groups to parts of given sizes; the splitters of ``hemaest.groups`` call this.

Groups are placed one by one, each where it brings the class counts of all parts closest to what the
sizes require. No group is divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state


def partition(
    classes: NDArray[np.intp],
    groups: NDArray[np.intp] | None,
    sizes: Sequence[float],
    random_state: Any,
    *,
    folds: bool = False,
) -> NDArray[np.intp]:
    """Give each image a part number; parts are as large as `sizes` says, and no group is divided.

    Groups are placed one by one, roughly the largest and most one-sided first, each where it brings
    the class counts of all parts closest (in the chi-square sense) to what the sizes require. Part
    0 is the training part, unless the parts are folds: a class of one group goes there.

    Parameters
    ----------
    classes : int array of shape (n_samples,)
        Class codes to balance.
    groups : int array of shape (n_samples,) or None
        Group codes from 0; None: every image for itself.
    sizes : sequence of float
        Shares of the parts.
    random_state : int, RandomState instance or None
        Seed.
    folds : bool, default=False
        Whether the parts are folds, each of which is the test part once.
    """
    rng = check_random_state(random_state)
    share = np.asarray(sizes, dtype=float)
    share = share / share.sum()
    n = len(classes)
    codes = np.arange(n) if groups is None else groups
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < len(share):
        raise ValueError(
            f"{n_groups} group(s) cannot be split into {len(share)} parts. Request fewer parts, "
            "or check that groups does not hold one value for everybody."
        )
    counts = np.zeros((n_groups, int(classes.max()) + 1))
    np.add.at(counts, (codes, classes), 1)
    holds = counts > 0
    # the only group of a class can only be trained on
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
    """Assign single images, class after class, each to the part furthest below its share."""
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
