"""What a smear is made of, given what a classifier says of its cells; used by DifferentialCounter.

The calibration set shows how cells of each type are named and how sure the classifier is (the
*columns*: sure and unsure cells of each name), and how much both differ from patient to patient. A
new patient's own shares come from Dirichlet distributions around those, the smear's composition is
unknown, and the posterior of the true type of every cell is sampled with both integrated out. So
the count is adjusted for the errors of the classifier under any prevalence, and its spread holds
counting error, the uncertainty of the confusion matrix and the differences between patients.
Reviewed cells enter as what they are.

Written by hand: QuaPy and mlquantify adjust counts, but know no patients and no reviewed cells.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._numba import kernel

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

# correlation between the cells of one patient: what is thinkable
CORRELATIONS = np.geomspace(0.001, 0.6, 40)
# cells that each row is given beforehand, spread over all columns
PRIOR_CELLS = 1.0
# each type's share beforehand, in cells
PRIOR_SHARE = 0.3
# confidence differs between patients in ways that no correlation describes (a shift moves all types
# at once), so what it says counts for little, until cells are reviewed
LEAST_DOUBT_CORRELATION = 0.4


@dataclass(frozen=True)
class Confusion:
    """What the calibration set says of each true type (row): how it is named, and how sure.

    Everything has one entry for each of ``CORRELATIONS``, how much cells of one patient may be
    alike; `name_weights` and `doubt_weights` say how likely each of those is in a row.
    """

    names: Array  # (correlations, rows, names): share of each name
    cells: Array  # (correlations, rows): independent cells that a row rests on
    name_weights: Array  # (rows, correlations)
    doubts: Array  # (correlations, rows, names): share of unsure cells among those so named
    doubt_cells: Array  # (correlations, rows, names)
    doubt_weights: Array  # (correlations,)
    known: NDArray[np.bool_]  # rows with calibration cells

    def _check_loaded(self) -> None:
        """Refuse parts of a file that do not fit each other: the sampler checks no bounds."""
        n = len(CORRELATIONS)
        (_, rows, names), floats = self.names.shape, {f.name for f in fields(self)} - {"known"}
        table = (n, rows, names)
        shapes = {
            "names": table,
            "cells": (n, rows),
            "name_weights": (rows, n),
            "doubts": table,
            "doubt_cells": table,
            "doubt_weights": (n,),
            "known": (rows,),
        }
        for name, shape in shapes.items():
            values = getattr(self, name)
            kind = np.float64 if name in floats else np.bool_
            if values.shape != shape or values.dtype != kind or not np.isfinite(values).all():
                raise ValueError(f"{name} of a confusion must be finite and of shape {shape}.")

    @property
    def n_rows(self) -> int:
        """Number of true types."""
        return self.names.shape[1]

    @property
    def n_columns(self) -> int:
        """Number of columns: sure and unsure cells of each name."""
        return 2 * self.names.shape[2]

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return the Dirichlet parameters of a new patient's names and (unsure, sure) splits."""
        alpha = np.empty(self.names.shape[1:])
        for k in range(self.n_rows):
            at = rng.choice(len(CORRELATIONS), p=self.name_weights[k])
            # a new patient differs from the mean by both: patients differ, the mean is estimated
            alpha[k] = _precision(CORRELATIONS[at], self.cells[at, k]) * self.names[at, k]
        alpha[~self.known] = 1.0  # any shares of names are equally likely
        at = rng.choice(len(CORRELATIONS), p=self.doubt_weights)
        between = max(CORRELATIONS[at], LEAST_DOUBT_CORRELATION)
        precision = _precision(between, self.doubt_cells[at])
        split = precision[..., None] * np.stack([self.doubts[at], 1 - self.doubts[at]], axis=-1)
        return alpha, split

    def correlation(self) -> Array:
        """Return the mean correlation of the names of one patient's cells, by row."""
        return self.name_weights @ CORRELATIONS

    def with_unknown_rows(self, more: int) -> Confusion:
        """Return a confusion with further types of which nothing is known."""
        if more == 0:
            return self
        n, _, names = self.names.shape
        wide = [(0, 0), (0, more)]
        return Confusion(
            np.pad(self.names, [*wide, (0, 0)], constant_values=1 / names),
            np.pad(self.cells, wide),
            np.concatenate([self.name_weights, np.tile(np.eye(n)[-1], (more, 1))]),
            np.pad(self.doubts, [*wide, (0, 0)], constant_values=0.5),
            np.pad(self.doubt_cells, [*wide, (0, 0)]),
            self.doubt_weights,
            np.pad(self.known, (0, more)),
        )


def _precision(between: Any, cells: Any) -> Any:
    spread = between + (1 - between) / (cells + 2)
    return 1 / spread - 1


def learn_confusion(
    rows: Codes, columns: Codes, groups: Codes | None, n_rows: int, n_names: int
) -> Confusion:
    """Estimate how cells of each type are named, and how much that varies between groups.

    Parameters
    ----------
    rows, columns : int array of shape (n_cells,)
        True type of each calibration cell; twice the number of its name, plus 1 where it is sure.
    groups : int array of shape (n_cells,) or None
        Patients; None assumes that they do not differ.
    n_rows, n_names : int
        Number of types and of names.
    """
    patients = np.zeros(len(rows), dtype=np.intp) if groups is None else groups
    n_groups = int(patients.max()) + 1
    flat = (patients * n_rows + rows) * 2 * n_names + columns
    table = np.bincount(flat, minlength=n_groups * n_rows * 2 * n_names).astype(float)
    table = table.reshape(n_groups, n_rows, n_names, 2)
    named = table.sum(3)
    name_weights, doubt_weights = _certain(n_rows), _certain(1)[0]
    if groups is not None:
        name_weights = _correlation_weights(named)
        # doubt is much alike in all types: one correlation for all
        by_name = table.reshape(n_groups, n_rows * n_names, 2)
        doubt_weights = _correlation_weights(by_name, alone=False)[0]
    counts = _effective(named, groups is None)
    total = named.sum((0, 1)) + 1
    # where a row has few cells of its own, the others' names stand in
    prior = PRIOR_CELLS * (0.5 * total / total.sum() + 0.5 / n_names)
    cells = counts.sum(2)
    names = (counts + prior) / (cells + PRIOR_CELLS)[..., None]
    known = named.sum((0, 2)) > 0
    names[:, ~known] = 1 / n_names
    doubt_counts = _effective(table.reshape(n_groups, -1, 2), groups is None)
    doubt_counts = doubt_counts.reshape(-1, n_rows, n_names, 2)
    common = _common_doubt(table)
    doubt_cells = doubt_counts.sum(3)
    doubts = (doubt_counts[..., 0] + 2 * common) / (doubt_cells + 2)
    return Confusion(names, cells, name_weights, doubts, doubt_cells, doubt_weights, known)


def _certain(n: int) -> Array:
    weights = np.zeros((n, len(CORRELATIONS)))
    weights[:, 0] = 1.0
    return weights


def _effective(table: Array, independent: bool) -> Array:
    """Return counts (correlations, rows, columns), each patient's weighed by what it adds."""
    if independent:
        return np.broadcast_to(table.sum(0), (len(CORRELATIONS), *table.shape[1:])).copy()
    sizes = table.sum(2)
    weight = 1 / (1 + (sizes - 1).clip(0) * CORRELATIONS[:, None, None])
    return np.einsum("rgk,gkj->rkj", weight, table)


def _common_doubt(table: Array) -> Array:
    """Return the share of unsure cells by name, for right and for wrong names, to lean on."""
    total = table.sum(0)
    n_rows, n_names, _ = total.shape
    # the row that a name is right for is the one that it is given most
    right = np.zeros((n_rows, n_names), dtype=bool)
    right[total.sum(2).argmax(0), np.arange(n_names)] = True
    found = np.empty((n_rows, n_names))
    for side in (right, ~right):
        unsure, n = total[side, 0].sum(), total[side].sum()
        found[side] = (unsure + 0.5) / (n + 1)
    return found


def _correlation_weights(table: Array, n_draws: int = 200, *, alone: bool = True) -> Array:
    """Return how likely each correlation is in each row, by bootstrap over patients.

    The estimate is the one of an analysis of variance (Weir and Cockerham 1984), which does not
    suffer from few cells a patient as maximum likelihood does. Rows with little data lean on all;
    all are one if not `alone`.
    """
    n_groups, n_rows, _ = table.shape
    sizes = table.sum(2)
    squares = (table**2).sum(2) / np.maximum(sizes, 1)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws).astype(float)
    there = drawn @ (sizes > 0)
    n = np.maximum(drawn @ sizes, 1)
    mean_square = np.empty((n_draws, n_rows))
    for k in range(n_rows):
        mean_square[:, k] = ((drawn @ table[:, k]) ** 2).sum(1) / n[:, k]
    between = (drawn @ squares - mean_square) / np.maximum(there - 1, 1)
    within = (n - drawn @ squares) / np.maximum(n - there, 1)
    typical = (n - (drawn @ sizes**2) / n) / np.maximum(there - 1, 1)
    usable = (there > 1) & (n > there)
    top = np.where(usable, between - within, 0.0) * n
    bottom = np.where(usable, between + (typical - 1) * within, 0.0) * n
    common = top.sum(1, keepdims=True) / np.maximum(bottom.sum(1, keepdims=True), 1e-12)
    lean = bottom.mean(1, keepdims=True)
    rho = (top + lean * common) / np.maximum(bottom + lean, 1e-12) if alone else common
    logs = np.log(rho.clip(*CORRELATIONS[[0, -1]]))
    at = np.abs(logs[..., None] - np.log(CORRELATIONS)).argmin(2)
    grid = len(CORRELATIONS)
    return np.array([np.bincount(row, minlength=grid) / n_draws for row in at.T])


@kernel
def _sweeps(columns, allowed, alpha, split, share, types, uniforms, kept):  # type: ignore[no-untyped-def]
    """Run a collapsed Gibbs sampler over the cells' types; `kept` gets the counts of each sweep."""
    n_sweeps, n = uniforms.shape
    n_rows, n_names = alpha.shape
    by_column = np.zeros((n_rows, n_names, 2))
    by_name = np.zeros((n_rows, n_names))
    by_row = np.zeros(n_rows)
    precision = np.zeros(n_rows)
    both = np.zeros((n_rows, n_names))
    chance = np.zeros(n_rows)
    for k in range(n_rows):
        for j in range(n_names):
            precision[k] += alpha[k, j]
            both[k, j] = split[k, j, 0] + split[k, j, 1]
    for i in range(n):
        by_column[types[i], columns[i] // 2, columns[i] % 2] += 1.0
        by_name[types[i], columns[i] // 2] += 1.0
        by_row[types[i]] += 1.0
    burn = n_sweeps - kept.shape[0]
    for s in range(n_sweeps):
        for i in range(n):
            j = columns[i] // 2
            u = columns[i] % 2
            old = types[i]
            by_column[old, j, u] -= 1.0
            by_name[old, j] -= 1.0
            by_row[old] -= 1.0
            total = 0.0
            for k in range(n_rows):
                if allowed[i, k]:
                    total += (
                        (share + by_row[k])
                        * (alpha[k, j] + by_name[k, j])
                        / (precision[k] + by_row[k])
                        * (split[k, j, u] + by_column[k, j, u])
                        / (both[k, j] + by_name[k, j])
                    )
                chance[k] = total
            at = uniforms[s, i] * total
            new = 0
            while new < n_rows - 1 and chance[new] <= at:
                new += 1
            types[i] = new
            by_column[new, j, u] += 1.0
            by_name[new, j] += 1.0
            by_row[new] += 1.0
        if s >= burn:
            for k in range(n_rows):
                for j in range(n_names):
                    kept[s - burn, k, 2 * j] = by_column[k, j, 0]
                    kept[s - burn, k, 2 * j + 1] = by_column[k, j, 1]


def sample_types(
    columns: Codes,
    allowed: NDArray[np.bool_],
    confusion: Confusion,
    rng: np.random.Generator,
    *,
    n_chains: int = 24,
    n_kept: int = 100,
    n_burn: int = 40,
) -> NDArray[np.float32]:
    """Draw from the posterior of the true types of a smear's cells.

    Parameters
    ----------
    columns : int array of shape (n_cells,)
        Twice the number of each cell's name, plus 1 where it is sure.
    allowed : bool array of shape (n_cells, n_rows)
        Types that each cell may be: one for a reviewed cell, all for others.
    confusion : Confusion
        Of the calibration set.
    rng : Generator
        Source of chance.
    n_chains, n_kept, n_burn : int
        Chains (each with its own draw of how much patients differ), sweeps kept and thrown away.

    Returns
    -------
    counts : float array of shape (n_chains * n_kept, n_rows, n_columns)
        Cells by true type and column.
    """
    n_rows, n_columns = confusion.n_rows, confusion.n_columns
    fits = allowed.shape == (len(columns), n_rows) and allowed.any(axis=1).all()
    if not fits or not ((columns >= 0) & (columns < n_columns)).all():
        raise ValueError(f"the cells do not fit a confusion of {n_rows} types.")
    counts = np.zeros((n_chains, n_kept, n_rows, n_columns), np.float32)
    for chain in range(n_chains):
        alpha, split = confusion.draw(rng)
        first = alpha[:, columns // 2].T / alpha.sum(1) * allowed + 1e-12 * allowed
        edges = first.cumsum(1)
        types = (edges < rng.random(len(columns))[:, None] * edges[:, -1:]).sum(1)
        types = np.minimum(types, n_rows - 1).astype(np.int64)
        uniforms = rng.random((n_burn + n_kept, len(columns)))
        _sweeps(columns, allowed, alpha, split, PRIOR_SHARE, types, uniforms, counts[chain])
    return counts.reshape(-1, n_rows, n_columns)


def sample_nameless(
    allowed: NDArray[np.bool_], n_draws: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw the types of cells without a name: they may be of any mixture, whatever the others are.

    Parameters
    ----------
    allowed : bool array of shape (n_cells, n_rows)
        Types that each cell may be.
    n_draws : int
        Number of draws.
    rng : Generator
        Source of chance.

    Returns
    -------
    counts : float array of shape (n_draws, n_rows)
    """
    n_rows = allowed.shape[1]
    sure = allowed.sum(1) == 1
    fixed = allowed[sure].sum(0)
    mixture = rng.dirichlet(fixed + 0.5, size=n_draws)
    counts = np.tile(fixed.astype(np.float32), (n_draws, 1))
    for may_be in allowed[~sure]:
        edges = (mixture * may_be + 1e-12 * may_be).cumsum(1)
        at = (edges < rng.random(n_draws)[:, None] * edges[:, -1:]).sum(1)
        counts[np.arange(n_draws), np.minimum(at, n_rows - 1)] += 1
    return counts
