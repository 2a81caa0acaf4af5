"""The pictures and the page of a comparison."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from hemaest.evaluation import _metrics as metrics


class Shown:
    """What a comparison shows beyond its scores; mixed into ``Comparison``."""

    # of Comparison
    results_: dict[str, list[Any]]
    smaller_: dict[float, dict[str, list[Any]]]
    design: Any
    true_: Any
    classes_: Any

    if TYPE_CHECKING:

        @property
        def table(self) -> pd.DataFrame: ...

    @cached_property
    def factors_(self) -> pd.DataFrame:
        """What is known or measured of each tested image: stain, cell size."""
        from hemaest.evaluation._residuals import factors

        return factors(self)

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
        from hemaest.evaluation._residuals import summary

        return summary(self, self.table["recipe"].iloc[0] if recipe is None else recipe)

    @cached_property
    def training_curves(self) -> pd.DataFrame:
        """Losses and scores of the nets, one row for each recipe, fold and epoch."""
        parts = [
            result.insight.curves.assign(recipe=name, fold=number)
            for name, results in self.results_.items()
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
        for share, results in [*self.smaller_.items(), (1.0, self.results_)]:
            for name, folds in results.items():
                for number, (fold, result) in enumerate(zip(self.design.folds, folds, strict=True)):
                    if result.error:
                        continue
                    matrix = metrics.confusions(
                        self.true_[fold[1]], result.predicted, len(self.classes_)
                    )
                    images = len(fold[0]) if result.trained_on is None else result.trained_on
                    score = float(metrics.balanced_accuracy(matrix))
                    rows.append((name, number, share, images, score))
        return pd.DataFrame(rows, columns=["recipe", "fold", "share", "images", "score"])

    def plot(self, ax: Any = None) -> Any:
        """Draw each recipe's score and interval, bars joining those not clearly apart.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        from hemaest.evaluation._plots import plot_scores

        return plot_scores(self, ax)

    def plot_calibration(self, ax: Any = None) -> Any:
        """Draw how often each recipe is right against how sure it says it is.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        from hemaest.evaluation._plots import plot_calibration

        return plot_calibration(self, ax)

    def plot_training(self, recipe: str | None = None, ax: Any = None) -> Any:
        """Draw the loss of a recipe's net, epoch by epoch, one line a fold.

        Parameters
        ----------
        recipe : str, optional
            The first that holds a net by default.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ax : matplotlib Axes
        """
        from hemaest.evaluation._learning_plots import plot_training

        return plot_training(self, recipe, ax)

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
        from hemaest.evaluation._learning_plots import plot_learning_curve

        return plot_learning_curve(self, ax)

    def to_html(self, path: Any = None, *, audit: Any = None) -> str:
        """Render everything as one self-contained HTML file.

        Parameters
        ----------
        path : path, optional
            Where to write it; parents are made.
        audit : Audit, optional
            What :func:`audit` found in the same images, for a section of its own.

        Returns
        -------
        html : str
        """
        from hemaest.evaluation._comparison_report import comparison_report

        return comparison_report(self, audit).save(path)
