"""The result of ``compare``: tables, tests, drawings, page and claim card, all from predictions.

``compare`` makes a :class:`Comparison`; everything in it is computed when it is first read. What
it is computed from, the predictions of all folds, is in :mod:`hemaest.evaluation._out_of_fold`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hemaest._tables import format_table
from hemaest.evaluation import _figures as figures, _residuals, scores
from hemaest.evaluation._claim import ClaimCard, claim_card
from hemaest.evaluation._comparison_report import comparison_report, verdict
from hemaest.evaluation._out_of_fold import OutOfFoldResults
from hemaest.evaluation._significance import pairwise_tests
from hemaest.inspection.drawing import offscreen

SCORE = "balanced_accuracy"


class Comparison(OutOfFoldResults):
    """Result of :func:`compare`.

    Attributes
    ----------
    results : dict of str to list of FoldResult
        What each recipe did on each fold.
    smaller : dict of float to such a dict
        The same for shares of the training images, with ``learning_curve=True``.
    true : int array of shape (n_samples,)
        Codes of the labels, positions in `classes`.
    classes : array
        The labels.
    design : Design
        How the comparison was made.
    images : images or None
        What was compared on.
    """

    def __repr__(self) -> str:
        return f"{self.summary()}\n\n{format_table(self.table)}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(index=False, float_format="{:.3f}".format)
        return f"<p>{self.summary()}</p>{table}"

    def summary(self) -> str:
        """Say in one line how the data were split."""
        return self.design.summary()

    def verdict(self) -> str:
        """Say which recipe is best, and how sure that is against the others."""
        return verdict(self)[0]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each recipe, the best first: scores with intervals, calibration, times."""
        rows = [self._row(name) for name in self.recipes]
        table = pd.DataFrame(rows).sort_values(
            SCORE, ascending=False, na_position="last", kind="stable"
        )
        return table.reset_index(drop=True)

    def _row(self, name: str) -> dict[str, Any]:
        results = self.results[name]
        columns = [SCORE, "low", "high", "accuracy", "accuracy_low", "accuracy_high"]
        columns += ["macro_precision", "macro_f1", "macro_f1_low", "macro_f1_high", "mcc", "auc"]
        columns += ["ece", *self.design.metrics, "fit_s", "predict_ms"]
        row: dict[str, Any] = {"recipe": name, **dict.fromkeys(columns, float("nan"))}
        row["note"] = ""
        if errors := self.failed(name):
            why = errors[0] if len(errors[0]) < 100 else errors[0][:99] + "…"
            row["note"] = f"failed in {len(errors)} of {len(results)} folds: {why}"
            return row
        matrix, drawn, own = self._confusion(name), self._drawn[name], self.out_of_fold[name]
        for label, function in scores.SCORES.items():
            row[label] = float(function(matrix))
        row["low"], row["high"] = self.draws.interval(scores.balanced_accuracy(drawn))
        row["accuracy_low"], row["accuracy_high"] = self.draws.interval(
            scores.accuracy(drawn), row["accuracy"], len(self.tested)
        )
        row["macro_f1_low"], row["macro_f1_high"] = self.draws.interval(scores.macro_f1(drawn))
        if own.probability is not None:
            row["auc"] = self._mean_auc(name, np.arange(len(self.classes)))
            row["ece"] = scores.calibration_error(self.true[own.index], own.probability)
        true, predicted = self.classes[self.true[own.index]], self.classes[own.predicted]
        for label, function in self.design.metrics.items():
            row[label] = float(function(true, predicted))
        tested = sum(len(test) for _, test in self.design.folds)
        row["fit_s"] = float(np.mean([r.fit_seconds for r in results]))
        row["predict_ms"] = 1000 * sum(r.predict_seconds for r in results) / tested
        if name == self.design.control:
            row["note"] = "control: color alone"
        return row

    @cached_property
    def tests(self) -> pd.DataFrame:
        """All pairs of recipes, the better first: difference, interval, p-value, verdict.

        The test is :func:`paired_group_test`; ``p_holm`` corrects for the number of pairs, and
        ``explanation`` is the verdict in one sentence.
        """
        true = self.true[self.tested]
        order = [name for name in self.table["recipe"] if name in self.out_of_fold]
        right, folds = {}, None
        for name in order:
            right[name], folds = self._right(name)
        return pairwise_tests(
            right,
            true,
            self.group_codes[self.tested],
            folds,
            confidence_level=self.design.confidence_level,
        )

    def clearly_better(self, recipe: str, against: str) -> bool:
        """Return whether the first recipe is clearly better than the second."""
        t = self.tests
        pairs = zip(t["recipe"], t["against"], t["verdict"], strict=True)
        return any({recipe, against} == {a, b} and v == f"{recipe} is better" for a, b, v in pairs)

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """Precision, sensitivity (with interval), specificity and F1 of each class."""
        rows = []
        for name in self.out_of_fold:
            matrix, drawn = self._confusion(name), scores.sensitivity(self._drawn[name])
            for k, label in enumerate(self.classes):
                images = int(np.sum(self.true[self.tested] == k))
                own = float(scores.sensitivity(matrix)[k])
                low, high = self.draws.interval(drawn[:, k], own, images)
                rows.append(
                    {
                        "recipe": name,
                        "class": str(label),
                        "images": images,
                        "sensitivity": own,
                        "low": low,
                        "high": high,
                        "specificity": scores.specificity(matrix)[k],
                        "precision": scores.precision(matrix)[k],
                        "f1": scores.f1(matrix)[k],
                    }
                )
        return pd.DataFrame(rows)

    @cached_property
    def binary(self) -> pd.DataFrame:
        """Sensitivity, specificity, precision and AUC of the positive side."""
        if not self.design.positive:
            raise ValueError(
                "There is no two-sided view: call compare(..., positive=[...]) with the labels "
                f"that count as positive, out of {self.classes.tolist()}."
            )
        positive = np.isin(np.arange(len(self.classes)), self.design.positive).astype(int)
        rows = []
        for name in [n for n in self.table["recipe"] if n in self.out_of_fold]:
            two, drawn = (
                scores.merged(self._confusion(name), positive),
                scores.merged(self._drawn[name], positive),
            )
            row: dict[str, Any] = {"recipe": name}
            sides = two.sum(1) / self._times_tested  # images of the negative and positive side
            for label, function, n in (
                ("sensitivity", scores.sensitivity, sides[1]),
                ("specificity", scores.specificity, sides[0]),
            ):
                row[label] = float(function(two)[1])
                row[f"{label}_low"], row[f"{label}_high"] = self.draws.interval(
                    function(drawn)[:, 1], row[label], n
                )
            row["precision"] = float(scores.precision(two)[1])
            row[SCORE] = float(scores.balanced_accuracy(two))
            known = self.out_of_fold[name].probability is not None
            row["auc"] = self._mean_auc(name, positive) if known else float("nan")
            rows.append(row)
        return pd.DataFrame(rows)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Every prediction: recipe, fold, image, true and predicted label, confidence."""
        fold = [np.full(len(test), k) for k, (_, test) in enumerate(self.design.folds)]
        parts = [
            pd.DataFrame(
                {
                    "recipe": name,
                    "fold": np.concatenate(fold),
                    "image": own.index,
                    "true": self.classes[self.true[own.index]],
                    "predicted": self.classes[own.predicted],
                    "confidence": np.nan if own.probability is None else own.probability.max(1),
                }
            )
            for name, own in self.out_of_fold.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def mistakes(self, recipe: str | None = None) -> pd.DataFrame:
        """List the wrong predictions of a recipe, the most confident first, each image once.

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

    def claim(self) -> ClaimCard:
        """Return the claim card: how the scores were obtained, and what speaks against them.

        Returns
        -------
        ClaimCard
            With ``.to_markdown()``, ``.to_json()`` and ``.flags``.
        """
        return claim_card(self)

    @cached_property
    def factors(self) -> pd.DataFrame:
        """What is known or measured of each tested image: stain, cell size."""
        return _residuals.factors(self)

    def residuals(self, recipe: str | None = None) -> dict[str, pd.DataFrame]:
        """Average 1 - probability of the true type by type, stain, cell size and group.

        Parameters
        ----------
        recipe : str, optional
            The best by default.

        Returns
        -------
        tables : dict of str to DataFrame
            Factor -> its levels, with images, mean residual and interval. Stain and cell size are
            measured on up to 240 images where `compare` was not given them as `covariates`.
        """
        return _residuals.summary(self, self.table["recipe"].iloc[0] if recipe is None else recipe)

    @cached_property
    def training_curves(self) -> pd.DataFrame:
        """Losses and scores of the networks, one row for each recipe, fold and epoch."""
        parts = [
            result.insight.curves.assign(recipe=name, fold=number)
            for name, results in self.results.items()
            for number, result in enumerate(results)
            if result.insight is not None and result.insight.curves is not None
        ]
        if not parts:
            return pd.DataFrame(columns=["recipe", "fold", "epoch", "train_loss"])
        joined = pd.concat(parts, ignore_index=True)
        return joined[["recipe", "fold", *joined.columns.drop(["recipe", "fold"])]]

    @cached_property
    def learning_curve(self) -> pd.DataFrame:
        """Balanced accuracy by the number of training images, one row for each fit.

        Whole only after ``compare(..., learning_curve=True)``; otherwise it holds the full sizes.
        """
        rows = []
        for share, results in [*self.smaller.items(), (1.0, self.results)]:
            for name, folds in results.items():
                for number, (fold, result) in enumerate(zip(self.design.folds, folds, strict=True)):
                    if result.error:
                        continue
                    images = len(fold[0]) if result.trained_on is None else result.trained_on
                    score = self._score(fold[1], result.predicted)
                    rows.append((name, number, share, images, score))
        return pd.DataFrame(rows, columns=["recipe", "fold", "share", "images", "score"])

    def plot(self, ax: Any = None) -> Any:
        """Draw each recipe's score and interval, bars joining those that do not clearly differ.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        return figures.plot_scores(self, ax)

    def plot_calibration(self, ax: Any = None) -> Any:
        """Draw the share of right predictions of each recipe against its stated probability.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        return figures.plot_calibration(self, ax)

    def plot_training(self, recipe: str | None = None, ax: Any = None) -> Any:
        """Draw the loss of a recipe's network, epoch by epoch, one line a fold.

        Parameters
        ----------
        recipe : str, optional
            The first that holds a network by default.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        return figures.plot_training(self, recipe, ax)

    def plot_learning_curve(self, ax: Any = None) -> Any:
        """Draw the score of each recipe by the number of training images.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        return figures.plot_learning_curve(self, ax)

    def to_html(
        self, path: Any = None, *, audit: Any = None, unreadable: Any = None, command: str = ""
    ) -> str:
        """Render everything as one self-contained HTML file.

        Parameters
        ----------
        path : path, optional
            Where to write it; parents are made.
        audit : Audit, optional
            What :func:`audit` found in the same images, for a section of its own.
        unreadable : DataFrame, optional
            Files that could not be read, one row each, to list on the page.
        command : str, default=""
            Command or folder to write on the page.

        Returns
        -------
        html : str
        """
        with offscreen():
            page = comparison_report(self, audit, unreadable, command)
        return page.save(path)
