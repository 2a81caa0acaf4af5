"""Differential counts whose intervals hold: adjusted for the errors of the classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from hemaest._seeds import seed_of
from hemaest._words import some
from hemaest.base import HasMethods, Interval, StrOptions, TakesGroups, checked_fit
from hemaest.clinical._cell_names import Columns, named_classes, read_probabilities
from hemaest.clinical._crossfit import aligned, check_labels, check_samples, out_of_fold
from hemaest.clinical._posterior import (
    Confusion,
    learn_confusion,
    sample_nameless,
    sample_types,
)
from hemaest.clinical._review import allocate, covered, members, reviewed_labels
from hemaest.clinical._shares import Shares, add_absolute, wilson
from hemaest.clinical._taxonomy import CellTaxonomy
from hemaest.groups import check_groups

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Smear:
    """What was seen of one smear, and draws of its true counts."""

    columns: NDArray[np.intp]
    names: NDArray[np.intp]  # named type of each cell, the reviewer's where there is one; -1: none
    reviewed: NDArray[np.bool_]
    types: tuple[Any, ...]
    counts: NDArray[np.float32]  # (draws, types, columns)


class DifferentialCounter(TakesGroups, BaseEstimator):
    """Count the cells of a smear by type, with intervals that hold.

    A plain count of what a classifier names is off by its errors, and the less usual the smear the
    more: of 300 cells of which none is a basophil, 1% wrong names make 3. ``fit`` learns from
    labeled cells of other patients how cells of each type are named, and how much that differs
    from patient to patient. ``count`` turns the names of a new smear's cells into percentages with
    intervals that hold counting error, errors of the classifier under any mixture of types, and
    differences between patients. Cells that a person has reviewed are taken as what they are, and
    narrow the interval.

    Parameters
    ----------
    classifier : classifier, FrozenEstimator or None, default=None
        With ``predict_proba``. It is fitted, and its errors are learned by cross-fitting over
        groups. A ``FrozenEstimator`` is not fitted again; the cells given to ``fit`` must be new
        to it. With None, ``fit`` and ``count`` take probabilities or names instead of images.
    taxonomy : {"blood", "marrow"}, CellTaxonomy or None, default="blood"
        Says which types are counted: percentages are per 100 counted cells, for types that are not
        counted too (in blood that of erythroblasts is NRBC per 100 WBC). None counts all types
        and takes labels of any kind.
    confidence_level : float, default=0.95
        Level of the intervals.
    cv : int, default=5
        Folds of the cross-fitting.
    random_state : int, RandomState instance or None, default=0
        Seed of the folds and of the intervals: the same images give the same report.

    Attributes
    ----------
    classes_ : ndarray
        What the classifier tells apart.
    types_ : tuple
        What is counted: the types of the calibration cells and the classes.
    classifier_ : classifier or None
        The fitted classifier.
    confusion_ : DataFrame
        Share of each true type that is named as each class, of all calibration cells.
    between_patients_ : Series
        How much naming differs between patients, by type: the correlation of cells of one patient.

    Notes
    -----
    Intervals are posterior: the names of each true type's cells are Dirichlet-distributed with the
    spread between groups, and each type's share has Jeffreys' prior. They
    hold for patients like those of ``fit`` (the same stain and scanner, see
    :class:`NoveltyDetector`). Reviewed cells must be those that :meth:`suggest` names, or any
    chosen by chance: a person who picks cells by their looks makes the rest look different.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["lymphocyte", "monocyte"], 200)
    >>> wrong = rng.random(400) < 0.1
    >>> named = np.where(wrong, y[::-1], y)
    >>> counter = DifferentialCounter().fit(named, y, groups=np.arange(400) % 20)
    >>> table = counter.count(np.repeat(["lymphocyte", "monocyte"], [180, 20]))
    >>> table[["n", "naive_percent"]].values.tolist()
    [[180.0, 90.0], [20.0, 10.0]]
    >>> bool(table.loc["monocyte", "low"] == 0)  # a tenth of the lymphocytes could make them all
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "taxonomy": [StrOptions({"blood", "marrow"}), CellTaxonomy, None],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        classifier: Any = None,
        *,
        taxonomy: Any = "blood",
        confidence_level: float = 0.95,
        cv: int = 5,
        random_state: Any = 0,
    ) -> None:
        self.classifier = classifier
        self.taxonomy = taxonomy
        self.confidence_level = confidence_level
        self.cv = cv
        self.random_state = random_state

    @checked_fit
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn how the classifier names cells of each type.

        Parameters
        ----------
        X : images, or probabilities or names where ``classifier`` is None
            Probabilities of shape (n_samples, n_classes) in the sorted order of the labels (a
            DataFrame names its columns), or one name for each cell; from models that had not seen
            these cells.
        y : array-like of shape (n_samples,)
            True types.
        groups : array-like of shape (n_samples,), optional
            Patients. Without them, differences between patients are not in the intervals, and a
            warning says so.

        Returns
        -------
        self : object
        """
        self._seed = seed_of(self.random_state)
        if self.classifier is None:
            y = check_labels(y, len(X))
            self.classes_ = named_classes(X, y)
            self.classifier_ = None
            probability = read_probabilities(X, self.classes_)
            assert probability is not None
        else:
            X = check_samples(X, self)
            y = check_labels(y, len(X))
            self.classifier_, probability, self.classes_ = out_of_fold(
                self.classifier, X, y, groups, self.cv, self._seed
            )
        self.types_ = tuple(np.unique(np.concatenate([self.classes_, np.unique(y)])).tolist())
        self._counted = self._which_count(self.types_)
        codes = check_groups(groups, len(y))
        self._columns = Columns.of(probability)
        rows = np.searchsorted(np.array(self.types_), y)
        column = self._columns(probability)
        named = column // 2 < len(self.classes_)
        if not named.any():
            raise ValueError("no cell has a name: all rows of X are NaN or 'unidentified'.")
        patients = None if codes is None else codes[named]
        self._confusion = learn_confusion(
            rows[named], column[named], patients, len(self.types_), len(self.classes_)
        )
        self._describe(rows, column)
        self._warn(codes)
        return self

    def _describe(self, rows: NDArray[np.intp], column: NDArray[np.intp]) -> None:
        table = np.zeros((len(self.types_), self._columns.n_names))
        np.add.at(table, (rows, column // 2), 1)
        table = table / np.maximum(table.sum(1, keepdims=True), 1)
        names = [*self.classes_.tolist(), "unidentified"]
        self.confusion_ = pd.DataFrame(table, index=list(self.types_), columns=names)
        self.between_patients_ = pd.Series(
            self._confusion.correlation(), index=list(self.types_), name="correlation"
        )

    def _warn(self, codes: NDArray[np.intp] | None) -> None:
        if codes is None:
            warnings.warn(
                "Without groups intervals do not hold what differs between patients: they are too "
                "narrow for a new one. Give the patient or smear of each cell.",
                stacklevel=4,
            )
        lost = [t for t, known in zip(self.types_, self._confusion.known, strict=True) if not known]
        if lost:
            warnings.warn(
                f"No calibration cell is of type {some(lost)}: how these are named is unknown, and "
                "their intervals are wide and begin at 0. Add labeled cells of these types.",
                stacklevel=4,
            )

    def _check_loaded(self) -> None:
        """Refuse a file whose parts do not fit each other."""
        found = getattr(self, "_confusion", None)
        if found is not None and (found.n_rows, found.n_columns) != (
            len(self.types_),
            2 * len(self.classes_),
        ):
            raise ValueError("the confusion of a counter does not fit its types.")

    def _vocabulary(self) -> CellTaxonomy | None:
        if self.taxonomy == "blood":
            return CellTaxonomy.blood()
        return CellTaxonomy.marrow() if self.taxonomy == "marrow" else self.taxonomy

    def _which_count(self, types: Sequence[Any]) -> NDArray[np.bool_]:
        vocabulary = self._vocabulary()
        if vocabulary is None:
            return np.ones(len(types), dtype=bool)
        unknown = [t for t in types if t not in vocabulary]
        if unknown:
            raise ValueError(
                f"{some([repr(t) for t in unknown])} is in no taxonomy of {vocabulary.tissue}. "
                "Translate labels with hemaest.clinical.harmonize, or give taxonomy=None to count "
                "labels of any kind, all alike."
            )
        return np.array([vocabulary.counted(t) for t in types], dtype=bool)

    # ------------------------------------------------------------------ one smear

    def count(
        self,
        X: Any,
        reviewed: Any = None,
        *,
        wbc: float | None = None,
        wbc_corrected: bool = False,
        wider: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the differential count of one smear.

        Parameters
        ----------
        X : images, probabilities or names
            The cells of the smear. Probabilities have a column for each of ``classes_``; a row of
            NaN is a cell without a name, as are "unidentified" and "" among names.
        reviewed : mapping of int to label, or array-like of shape (n_samples,), optional
            What a person called cells, by position; in an array None (or NaN, "") is not reviewed.
            A wider type ("neutrophil") restricts the cell to the types within.
        wbc : float, optional
            Leukocytes in 10^9/L: adds absolute counts.
        wbc_corrected : bool, default=False
            Whether `wbc` is free of nucleated red cells already. Otherwise it is corrected.
        wider : sequence of str, optional
            Wider types of the taxonomy ("immature granulocyte") to add as rows of their own.

        Returns
        -------
        table : DataFrame
            Index: type. Columns: `n` (cells so named), `percent` with `low` and `high`, and what a
            plain count would say: `naive_percent`, `naive_low`, `naive_high` (Wilson). With `wbc`
            also `absolute`, `absolute_low`, `absolute_high`. What nothing is known of is NaN, its
            interval 0 to 100. ``table.attrs`` holds `cells`, `reviewed`, and in blood
            `nrbc_per_100_wbc` and `corrected_wbc` as (value, low, high).
        """
        smear = self._sample(X, reviewed)
        types, counted = smear.types, self._which_count(smear.types)
        rows = [[i] for i in range(len(types))] + [self._within(w, types) for w in wider]
        names = [*types, *wider]
        draws = smear.counts.sum(2, dtype=float)
        leukocytes = draws[:, counted].sum(1)
        rng = np.random.default_rng([self._seed, 2])
        table = pd.DataFrame(index=pd.Index(names, name="type"))
        table["n"] = [int(np.isin(smear.names, row).sum()) for row in rows]
        shares = [
            Shares.of(draws[:, row].sum(1), leukocytes, bool(counted[row].all()), rng)
            for row in rows
        ]
        found = [share.interval(self.confidence_level) for share in shares]
        table[["percent", "low", "high"]] = 100 * np.array(found)
        self._say_unknown(table, smear, rows)
        n_counted = int(np.isin(smear.names, np.flatnonzero(counted)).sum())
        naive = [
            wilson(n, n_counted, bool(counted[row].all()), self.confidence_level)
            for n, row in zip(table["n"], rows, strict=True)
        ]
        table[["naive_percent", "naive_low", "naive_high"]] = 100 * np.array(naive)
        table.attrs = {"cells": len(smear.columns), "reviewed": int(smear.reviewed.sum())}
        nrbc = self._nucleated_red(draws, leukocytes, types, rng)
        if nrbc is not None:
            per_100 = tuple(100 * value for value in nrbc.interval(self.confidence_level))
            table.attrs["nrbc_per_100_wbc"] = per_100
        if wbc is not None:
            add_absolute(table, shares, None if wbc_corrected else nrbc, wbc, self.confidence_level)
        return table

    def _say_unknown(self, table: pd.DataFrame, smear: Smear, rows: list[list[int]]) -> None:
        """Begin at 0 where no calibration shows how a type is named and no reviewer saw one."""
        known = set(np.flatnonzero(self._confusion.known))
        seen = set(smear.names[smear.reviewed].tolist())
        for at, row in enumerate(rows):
            if not (known | seen) & set(row):
                table.iloc[at, table.columns.get_loc("low")] = 0.0
        if len(smear.columns) and not smear.reviewed.any() and (smear.names < 0).all():
            table["percent"], table["low"], table["high"] = np.nan, 0.0, 100.0

    def _nucleated_red(
        self, draws: Array, leukocytes: Array, types: tuple[Any, ...], rng: Any
    ) -> Shares | None:
        vocabulary = self._vocabulary()
        if vocabulary is None or "NRBC" not in vocabulary or vocabulary.counted("NRBC"):
            return None
        red = [i for i, t in enumerate(types) if vocabulary.is_a(t, "NRBC")]
        if not red or leukocytes.mean() < 0.5:
            return None
        return Shares.of(draws[:, red].sum(1), leukocytes, False, rng)

    # ------------------------------------------------------------------ review and stop rule

    def suggest(self, X: Any, k: int, target: Any = None, reviewed: Any = None) -> NDArray[np.intp]:
        """Return the cells whose review narrows an interval most.

        Cells are chosen by chance among those that look alike to the counter, so that the interval
        holds although the choice follows the predictions.

        Parameters
        ----------
        X : images, probabilities or names
            The cells of the smear, as in :meth:`count`.
        k : int
            How many; fewer where the smear has fewer that are not reviewed.
        target : label, optional
            Type, or a wider type of the taxonomy, whose percentage matters. None minds all.
        reviewed : mapping or array-like, optional
            What was reviewed before.

        Returns
        -------
        positions : int array
            The most useful first.
        """
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"k={k!r} must be a whole number of at least 1.")
        smear = self._sample(X, reviewed)
        targets = (
            [[i] for i in range(len(smear.types))]
            if target is None
            else [self._within(target, smear.types)]
        )
        free = [
            np.flatnonzero((smear.columns == j) & ~smear.reviewed)
            for j in range(2 * self._columns.n_names)
        ]
        rest = self._unreviewed(smear)
        taken = allocate(rest, [len(f) for f in free], targets, int(k))
        rng = np.random.default_rng([self._seed, 3])
        mixed = [rng.permutation(f).tolist() for f in free]
        return np.array([mixed[j].pop() for j in taken], dtype=np.intp)

    def _unreviewed(self, smear: Smear) -> NDArray[np.float32]:
        """Return the draws of the counts without the cells that were reviewed."""
        rest = smear.counts.copy()
        sure = smear.reviewed & (smear.names >= 0)
        for name, column in zip(smear.names[sure], smear.columns[sure], strict=True):
            rest[:, name, column] -= 1
        return rest.clip(0)

    def cells_needed(
        self, X: Any, target: Any, width: float = 2.0, reviewed: Any = None, most: int = 8
    ) -> float:
        """Return how many cells to count until an interval is narrow: the stop rule.

        Stop when the answer is not above the number of cells counted so far.

        Parameters
        ----------
        X : images, probabilities or names
            The cells counted so far.
        target : label
            Type, or a wider type of the taxonomy, whose percentage matters.
        width : float, default=2.0
            Wanted width of its interval, in percentage points.
        reviewed : mapping or array-like, optional
            What was reviewed.
        most : int, default=8
            How many times the cells so far to think of.

        Returns
        -------
        cells : float
            ``inf`` where even `most` times as many would not do: then the errors of the classifier
            are the limit, and reviewing cells helps, not counting more.
        """
        if not isinstance(width, Real) or not 0 < float(width) <= 100:
            raise ValueError(f"width={width!r} must be percentage points, above 0 and up to 100.")
        smear = self._sample(X, reviewed)
        self._within(target, smear.types)
        n = len(smear.columns)
        if n == 0:
            return float("inf")
        known = None if reviewed is None else reviewed_labels(reviewed, n)
        probability = self._probability(X)
        last = (0.0, np.inf)
        for times in [t for t in (1, 1.5, 2, 3, 4, 6, 8, 12, 16) if t <= most]:
            index = np.arange(round(times * n)) % n
            wider = () if target in smear.types else (target,)
            table = self.count(probability[index], known, wider=wider)
            found = float(table.loc[target, "high"] - table.loc[target, "low"])
            if found <= width:
                if times == 1:
                    return float(n)
                # width falls about as one over the root of the count
                slope = (last[1] - width) / max(last[1] - found, 1e-9)
                return float(np.ceil(n * (last[0] + slope * (times - last[0]))))
            last = (times, found)
        return float("inf")

    # ------------------------------------------------------------------ inner parts

    def _within(self, wanted: Any, types: Sequence[Any]) -> list[int]:
        return covered(wanted, types, self._vocabulary())

    def _probability(self, X: Any) -> Array:
        check_is_fitted(self, "classes_")
        found = read_probabilities(X, self.classes_, needed=self.classifier_ is None)
        if found is None:
            found = aligned(self.classifier_, check_samples(X, self), self.classes_)
        return found

    def _sample(self, X: Any, reviewed: Any) -> Smear:
        probability = self._probability(X)
        n = len(probability)
        known = {} if reviewed is None else reviewed_labels(reviewed, n)
        types = self._with_reviewed_types(known)
        columns = self._columns(probability)
        names = np.full(n, -1, dtype=np.intp)
        named = columns // 2 < len(self.classes_)
        of_class = np.searchsorted(np.array(self.types_), self.classes_)
        names[named] = of_class[columns[named] // 2]
        allowed = np.ones((n, len(types)), dtype=bool)
        for i, label in known.items():
            inside = members(label, types, self._vocabulary())
            allowed[i] = False
            allowed[i, inside] = True
            if len(inside) == 1:
                names[i] = inside[0]
            elif names[i] not in inside:
                names[i] = inside[0]
        confusion: Confusion = self._confusion.with_unknown_rows(len(types) - len(self.types_))
        rng = np.random.default_rng([self._seed, 1])
        counts = sample_types(columns[named], allowed[named], confusion, rng)
        counts = np.pad(counts, [(0, 0), (0, 0), (0, 2)])
        counts[:, :, -2] = sample_nameless(allowed[~named], len(counts), rng)
        single = (allowed.sum(1) == 1) & np.isin(np.arange(n), list(known))
        return Smear(columns, names, single, types, counts)

    def _with_reviewed_types(self, known: Mapping[int, Any]) -> tuple[Any, ...]:
        """Return the types with those that only a reviewer knows."""
        more: dict[Any, None] = {}
        for label in known.values():
            vocabulary = self._vocabulary()
            if not members(label, self.types_, vocabulary):
                more[label if vocabulary is None else vocabulary.resolve(label)] = None
        return (*self.types_, *more)
