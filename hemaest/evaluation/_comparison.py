"""The result of ``compare``: tables, tests, figures, claim card, all from the predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._tables import format_table
from hemaest.evaluation import _metrics as metrics
from hemaest.evaluation._comparison_shown import Shown
from hemaest.evaluation._folds import FoldResult
from hemaest.evaluation._statistics import GroupedBootstrap, corrected_ttest, holm

SCORE = "balanced accuracy"
# groups that keep copies together and say nothing of patients
NO_PATIENT = ("near-duplicate cluster", "photograph")


@dataclass
class Design:
    """How the comparison was made."""

    folds: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    validation: NDArray[np.intp] | None
    protocol: str
    unit: str
    groups: NDArray[np.intp] | None
    seed: int
    level: float
    data_hash: str
    searched: list[str] = field(default_factory=list)
    control: str | None = None
    positive: list[int] = field(default_factory=list)
    estimators: dict[str, Any] = field(default_factory=dict)
    covariates: pd.DataFrame | None = None
    group_names: NDArray[Any] | None = None


class Comparison(Shown):
    """Result of :func:`compare`.

    Attributes
    ----------
    table : DataFrame
        One row for each recipe, the best first: scores with intervals, calibration and times.
    tests : DataFrame
        One row for each pair of recipes: difference, interval, corrected p-value after Holm.
    per_class : DataFrame
        Precision, sensitivity, specificity and F1 of each class.
    binary : DataFrame
        The two-sided view, when `positive` was given.
    predictions : DataFrame
        Every prediction: recipe, fold, image, true and predicted label, confidence.
    fold_scores : DataFrame
        Balanced accuracy, one row a fold and one column a recipe.
    """

    def __init__(
        self,
        results: dict[str, list[FoldResult]],
        true: NDArray[np.intp],
        classes: NDArray[Any],
        design: Design,
        images: Any = None,
        smaller: dict[float, dict[str, list[FoldResult]]] | None = None,
    ):
        self.results_ = results
        self.true_ = true
        self.classes_ = classes
        self.design = design
        self.images_ = images
        self.smaller_ = smaller or {}

    def __repr__(self) -> str:
        return f"{self.summary()}\n\n{format_table(self.table)}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format="{:.3f}".format)
        return f"<p>{self.summary()}</p>{table}"

    @property
    def recipes(self) -> list[str]:
        """Names of the recipes."""
        return list(self.results_)

    def summary(self) -> str:
        """Say in one line how the data were split."""
        d = self.design
        n_tested = len(self._tested)
        units = n_tested if d.groups is None else len(np.unique(d.groups[self._tested]))
        split = f"Split by {d.unit}: {units} {_plural(d.unit, units)}, {n_tested} images tested"
        if d.unit in NO_PATIENT:
            split += " (no patient is known, so images of one patient may lie on both sides)"
        elif d.unit == "image":
            split += " (nothing keeps images of one patient together: scores may be inflated)"
        return f"{split}; {d.protocol}; seed {d.seed}."

    @cached_property
    def _tested(self) -> NDArray[np.intp]:
        return np.unique(np.concatenate([test for _, test in self.design.folds]))

    @cached_property
    def _draws(self) -> GroupedBootstrap:
        return GroupedBootstrap(
            self._codes[self._tested], level=self.design.level, random_state=self.design.seed
        )

    @cached_property
    def _codes(self) -> NDArray[np.intp]:
        """Group of each image, counted over the groups that are tested."""
        groups = self.design.groups
        groups = np.arange(len(self.true_)) if groups is None else groups
        codes = np.zeros(len(self.true_), dtype=int)
        codes[self._tested] = np.unique(groups[self._tested], return_inverse=True)[1]
        return codes

    def _ok(self, name: str) -> bool:
        return not any(r.error for r in self.results_[name])

    @cached_property
    def _times_tested(self) -> int:
        """How often each image was tested: the number of repeats."""
        counts = np.bincount(np.concatenate([t for _, t in self.design.folds]))
        return int(counts.max())

    @cached_property
    def _pooled(self) -> dict[str, tuple[Any, Any, Any]]:
        """Tested positions, predicted codes and probabilities of each recipe, folds joined."""
        joined = {}
        for name, results in self.results_.items():
            if not self._ok(name):
                continue
            index = np.concatenate([test for _, test in self.design.folds])
            predicted = np.concatenate([r.predicted for r in results])
            probability = None
            if all(r.probability is not None for r in results):
                probability = np.vstack([r.probability for r in results])  # type: ignore[misc]
            joined[name] = (index, predicted, probability)
        return joined

    @cached_property
    def confusion(self) -> dict[str, pd.DataFrame]:
        """Confusion matrix of each recipe, rows being the true classes; repeats are averaged."""
        labels = [str(c) for c in self.classes_]
        return {
            name: pd.DataFrame(self._confusion(name) / self._times_tested, labels, labels)
            for name in self._pooled
        }

    def _confusion(self, name: str) -> NDArray[np.float64]:
        index, predicted, _ = self._pooled[name]
        return metrics.confusions(self.true_[index], predicted, len(self.classes_))

    @cached_property
    def _bootstrap(self) -> dict[str, NDArray[np.float64]]:
        draws = self._draws
        out = {}
        for name, (index, predicted, _) in self._pooled.items():
            out[name] = draws.confusions(
                self.true_[index], predicted, len(self.classes_), self._codes[index]
            )
        return out

    @cached_property
    def fold_scores(self) -> pd.DataFrame:
        """Balanced accuracy of each fold (rows) and recipe (columns)."""
        n = len(self.classes_)
        return pd.DataFrame(
            {
                name: [
                    float(
                        metrics.balanced_accuracy(
                            metrics.confusions(self.true_[test], result.predicted, n)
                        )
                    )
                    for (_, test), result in zip(self.design.folds, results, strict=True)
                ]
                for name, results in self.results_.items()
                if self._ok(name)
            }
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each recipe, the best first."""
        rows = [self._row(name) for name in self.recipes]
        table = pd.DataFrame(rows).sort_values(
            SCORE, ascending=False, na_position="last", kind="stable"
        )
        return table.reset_index(drop=True)

    def _row(self, name: str) -> dict[str, Any]:
        results = self.results_[name]
        columns = [
            SCORE,
            "low",
            "high",
            "accuracy",
            "acc low",
            "acc high",
            "macro precision",
            "macro F1",
            "F1 low",
            "F1 high",
            "MCC",
            "AUC",
            "ECE",
            "fit s",
            "predict ms",
        ]
        row: dict[str, Any] = {"recipe": name, **dict.fromkeys(columns, float("nan"))}
        row["note"] = ""
        if not self._ok(name):
            errors = [r.error for r in results if r.error]
            why = errors[0] if len(errors[0]) < 100 else errors[0][:99] + "…"
            row["note"] = f"failed in {len(errors)} of {len(results)} folds: {why}"
            return row
        matrix, draws = self._confusion(name), self._bootstrap[name]
        for label, function in metrics.SCORES.items():
            row[label] = float(function(matrix))
        row["low"], row["high"] = self._draws.interval(metrics.balanced_accuracy(draws))
        row["acc low"], row["acc high"] = self._draws.interval(
            metrics.accuracy(draws), row["accuracy"], len(self._tested)
        )
        row["F1 low"], row["F1 high"] = self._draws.interval(metrics.macro_f1(draws))
        index, _, probability = self._pooled[name]
        if probability is not None:
            row["AUC"] = self._auc(name)
            row["ECE"] = metrics.calibration_error(self.true_[index], probability)
        tested = sum(len(test) for _, test in self.design.folds)
        row["fit s"] = float(np.mean([r.fit_seconds for r in results]))
        row["predict ms"] = 1000 * sum(r.predict_seconds for r in results) / tested
        if name == self.design.control:
            row["note"] = "control: colour alone"
        return row

    def _auc(self, name: str) -> float:
        """Mean over the folds that hold every class: folds differ in calibration."""
        each = [
            metrics.auc(self.true_[test], r.probability)
            for (_, test), r in zip(self.design.folds, self.results_[name], strict=True)
            if r.probability is not None
        ]
        known = [v for v in each if v == v]
        return float(np.mean(known)) if known else float("nan")

    @cached_property
    def tests(self) -> pd.DataFrame:
        """All pairs of recipes on the same folds, corrected for overlap and for their number."""
        scores = self.fold_scores
        order = [name for name in self.table["recipe"] if name in scores]
        n_train = float(np.mean([len(train) for train, _ in self.design.folds]))
        n_test = float(np.mean([len(test) for _, test in self.design.folds]))
        rows = []
        for a, b in combinations(order, 2):
            row: dict[str, Any] = {"recipe": a, "against": b}
            if len(scores) > 1:
                test = corrected_ttest(
                    scores[a], scores[b], n_train=n_train, n_test=n_test, level=self.design.level
                )
                row |= {
                    "difference": test.difference,
                    "low": test.low,
                    "high": test.high,
                    "p": test.pvalue,
                }
            else:
                paired = metrics.balanced_accuracy(self._bootstrap[a])
                paired = paired - metrics.balanced_accuracy(self._bootstrap[b])
                low, high = self._draws.interval(paired)
                row |= {
                    "difference": float(scores[a].iloc[0] - scores[b].iloc[0]),
                    "low": low,
                    "high": high,
                    "p": float("nan"),
                }
            rows.append(row)
        names = ["recipe", "against", "difference", "low", "high", "p"]
        table = pd.DataFrame(rows, columns=names)
        table["p Holm"] = holm(table["p"].to_numpy(dtype=float))
        table["verdict"] = [self._verdict(row) for row in table.itertuples(index=False)]
        return table

    def _verdict(self, row: Any) -> str:
        p_holm = row[6]
        if p_holm == p_holm:
            clear = p_holm < 1 - self.design.level
        else:
            clear = row.low > 0 or row.high < 0
        if not clear:
            return "no clear difference"
        return f"{row.recipe if row.difference > 0 else row.against} is better"

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """Precision, sensitivity (with interval), specificity and F1 of each class."""
        rows = []
        for name in self._pooled:
            matrix, draws = self._confusion(name), self._bootstrap[name]
            drawn = metrics.sensitivity(draws)
            for k, label in enumerate(self.classes_):
                images = int(np.sum(self.true_[self._tested] == k))
                own = float(metrics.sensitivity(matrix)[k])
                low, high = self._draws.interval(drawn[:, k], own, images)
                rows.append(
                    {
                        "recipe": name,
                        "class": str(label),
                        "images": images,
                        "sensitivity": own,
                        "low": low,
                        "high": high,
                        "specificity": metrics.specificity(matrix)[k],
                        "precision": metrics.precision(matrix)[k],
                        "F1": metrics.f1(matrix)[k],
                    }
                )
        return pd.DataFrame(rows)

    @cached_property
    def binary(self) -> pd.DataFrame:
        """Sensitivity, specificity, predictive values and AUC of the positive side."""
        if not self.design.positive:
            raise ValueError(
                "There is no two-sided view: call compare(..., positive=[...]) with the labels "
                f"that count as positive, out of {self.classes_.tolist()}."
            )
        positive = np.isin(np.arange(len(self.classes_)), self.design.positive).astype(int)
        rows = []
        for name in [n for n in self.table["recipe"] if n in self._pooled]:
            probability = self._pooled[name][2]
            two = _merge(self._confusion(name), positive)
            drawn = _merge(self._bootstrap[name], positive)
            row: dict[str, Any] = {"recipe": name}
            sides = two.sum(1) / self._times_tested  # images of the negative and positive side
            for label, function, n in (
                ("sensitivity", metrics.sensitivity, sides[1]),
                ("specificity", metrics.specificity, sides[0]),
            ):
                row[label] = float(function(two)[1])
                row[f"{label} low"], row[f"{label} high"] = self._draws.interval(
                    function(drawn)[:, 1], row[label], n
                )
            row["precision"] = float(metrics.precision(two)[1])
            row["balanced accuracy"] = float(metrics.balanced_accuracy(two))
            row["AUC"] = float("nan") if probability is None else self._binary_auc(name, positive)
            rows.append(row)
        return pd.DataFrame(rows)

    def _binary_auc(self, name: str, positive: NDArray[np.intp]) -> float:
        each = []
        for (_, test), result in zip(self.design.folds, self.results_[name], strict=True):
            assert result.probability is not None
            side = result.probability @ positive
            each.append(metrics.auc(positive[self.true_[test]], np.column_stack([1 - side, side])))
        known = [v for v in each if v == v]
        return float(np.mean(known)) if known else float("nan")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Every prediction that was made, one row each."""
        parts = []
        for name in self._pooled:
            for number, ((_, test), result) in enumerate(
                zip(self.design.folds, self.results_[name], strict=True)
            ):
                confidence = (
                    np.full(len(test), np.nan)
                    if result.probability is None
                    else result.probability.max(1)
                )
                parts.append(
                    pd.DataFrame(
                        {
                            "recipe": name,
                            "fold": number,
                            "image": test,
                            "true": self.classes_[self.true_[test]],
                            "predicted": self.classes_[result.predicted],
                            "confidence": confidence,
                        }
                    )
                )
        return pd.concat(parts, ignore_index=True)

    def mistakes(self, recipe: str | None = None) -> pd.DataFrame:
        """List the wrong predictions of a recipe, the surest first, each image once.

        Parameters
        ----------
        recipe : str, optional
            The best by default.

        Returns
        -------
        mistakes : DataFrame
            Rows of ``predictions``.
        """
        recipe = self.table["recipe"].iloc[0] if recipe is None else recipe
        rows = self.predictions
        rows = rows[(rows["recipe"] == recipe) & (rows["true"] != rows["predicted"])]
        rows = rows.sort_values("confidence", ascending=False, kind="stable")
        return rows.drop_duplicates("image").reset_index(drop=True)

    def claim(self) -> Any:
        """Return the claim card: how these figures were got, and what speaks against them.

        Returns
        -------
        ClaimCard
            With ``.to_markdown()``, ``.to_json()`` and ``.flags``.
        """
        from hemaest.evaluation._claim import claim_card

        return claim_card(self)


def _merge(matrix: NDArray[np.float64], side: NDArray[np.intp]) -> NDArray[np.float64]:
    """Merge the classes of a confusion matrix into two sides."""
    to_side = np.eye(2)[side]
    return np.swapaxes(np.swapaxes(matrix, -1, -2) @ to_side, -1, -2) @ to_side


def _plural(unit: str, count: int) -> str:
    return unit if count == 1 else f"{unit}s"
