"""Reviewed cells: what a person's words mean, and which cells to review next.

For DifferentialCounter, and for programs that show cells to a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._words import some
from hemaest.clinical._taxonomy import CellTaxonomy

Array = NDArray[np.float64]


def reviewed_labels(reviewed: Any, n: int) -> dict[int, Any]:
    """Return the reviewed labels by position."""
    if isinstance(reviewed, Mapping):
        pairs = dict(reviewed)
        wrong = [i for i in pairs if not isinstance(i, Integral) or not 0 <= int(i) < n]
        if wrong:
            raise ValueError(
                f"reviewed names the positions {some(wrong)}, but the smear has cells 0 to {n - 1}."
            )
    else:
        labels = np.asarray(reviewed, dtype=object)
        if labels.shape != (n,):
            raise ValueError(
                f"reviewed has shape {labels.shape}, but there are {n} cells: give a label or "
                "None for each, or a dict of position to label."
            )
        pairs = dict(enumerate(labels))
    return {int(i): v for i, v in pairs.items() if not (pd.isna(v) or v == "")}


def members(label: Any, types: Sequence[Any], vocabulary: CellTaxonomy | None) -> list[int]:
    """Return the types that a reviewer's word may mean; none for a new type."""
    exact = [i for i, t in enumerate(types) if t == label]
    if exact:
        return exact
    if vocabulary is None:
        raise ValueError(f"the reviewer's label {label!r} is none of the types {list(types)}.")
    name = vocabulary.resolve(label)  # raises with the likely word
    same = [i for i, t in enumerate(types) if vocabulary.resolve(t) == name]
    narrower = [i for i, t in enumerate(types) if vocabulary.is_a(t, name)]
    if same or narrower:
        return same or narrower
    above = [i for i, t in enumerate(types) if vocabulary.is_a(name, t)]
    # of several wider ones the nearest
    return sorted(above, key=lambda i: -len(vocabulary.ancestors(types[i])))[:1]


def covered(wanted: Any, types: Sequence[Any], vocabulary: CellTaxonomy | None) -> list[int]:
    """Return the types that a word covers: itself, or what a wider type holds."""
    exact = [i for i, t in enumerate(types) if t == wanted]
    if exact:
        return exact
    if vocabulary is not None and wanted in vocabulary:
        inside = [i for i, t in enumerate(types) if vocabulary.is_a(t, wanted)]
        if inside:
            return inside
    more = "" if vocabulary is None else " and holds none of them"
    raise ValueError(f"{wanted!r} is none of the types {list(types)}{more}.")


def allocate(
    counts: NDArray[np.float32], free: Sequence[int], targets: list[list[int]], k: int
) -> list[int]:
    """Return the columns to review cells of, one after another: the largest gain first.

    The true counts of a target among the m cells of a column are taken as beta-binomial, with mean
    and variance as drawn; after r of them are known, what is left varies by
    ``(m - r) t (1 - t) s / (s + 1) * (s + m) / (s + r)``, s being the beta's size.

    Examples
    --------
    >>> counts = np.zeros((100, 1, 2), np.float32)
    >>> counts[:, 0, 1] = np.arange(100) % 5
    >>> allocate(counts, [10, 10], [[0]], 2)
    [1, 1]
    """
    sizes = np.array(free, dtype=float)
    m = np.maximum(sizes, 1)
    mean = np.array([counts[:, t].sum(1).mean(0) for t in targets]) / m
    spread = np.array([counts[:, t].sum(1).var(0) for t in targets])
    mean = mean.clip(0, 1)
    plain = np.maximum(mean * (1 - mean), 1e-9)
    ratio = (spread / (m * plain)).clip(1 + 1e-3, np.maximum(m, 2) - 1e-3)
    size = np.maximum(m - ratio, 1e-3) / (ratio - 1)

    def left(r: Array) -> Array:
        return (m - r) * plain * size / (size + 1) * (size + m) / (size + r)

    taken, r = [], np.zeros(len(sizes))
    for _ in range(min(k, int(sizes.sum()))):
        gain = (left(r) - left(np.minimum(r + 1, m))).sum(0)
        gain[r >= sizes] = -1
        best = int(gain.argmax())
        r[best] += 1
        taken.append(best)
    return taken
