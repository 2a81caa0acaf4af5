"""The predictions of all recipes on all folds, joined, and what is counted from them.

:class:`~hemaest.evaluation._comparison.Comparison` makes its tables and tests from these: joined
predictions, confusion matrices, scores of a fold, and bootstrap draws that all recipes share.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest.evaluation import scores
from hemaest.evaluation._design import Design
from hemaest.evaluation._folds import FoldResult
from hemaest.evaluation.scores import GroupedBootstrap


class OutOfFold(NamedTuple):
    """Predictions of one recipe, all folds joined."""

    index: NDArray[np.intp]  # type: ignore[assignment]
    predicted: NDArray[np.intp]
    probability: NDArray[np.float64] | None


class OutOfFoldResults:
    """What recipes did on the folds of a design; see :class:`Comparison` for the parameters."""

    def __init__(
        self,
        results: dict[str, list[FoldResult]],
        true: NDArray[np.intp],
        classes: NDArray[Any],
        design: Design,
        images: Any = None,
        smaller: dict[float, dict[str, list[FoldResult]]] | None = None,
    ):
        self.results = results
        self.true = true
        self.classes = classes
        self.design = design
        self.images = images
        self.smaller = smaller or {}

    @property
    def recipes(self) -> list[str]:
        """Names of the recipes."""
        return list(self.results)

    @cached_property
    def tested(self) -> NDArray[np.intp]:
        """Positions of the images that were tested, in order."""
        return self.design.tested

    @cached_property
    def draws(self) -> GroupedBootstrap:
        """Bootstrap draws of the tested groups, the same for all recipes."""
        return GroupedBootstrap(
            self.group_codes[self.tested],
            confidence_level=self.design.confidence_level,
            random_state=self.design.seed,
        )

    @cached_property
    def group_codes(self) -> NDArray[np.intp]:
        """Group of each image, counted over the groups that are tested."""
        groups = self.design.groups
        groups = np.arange(len(self.true)) if groups is None else groups
        codes = np.zeros(len(self.true), dtype=int)
        codes[self.tested] = np.unique(groups[self.tested], return_inverse=True)[1]
        return codes

    def failed(self, recipe: str) -> list[str]:
        """Return the errors of a recipe, one for each fold that failed."""
        return [r.error for r in self.results[recipe] if r.error]

    @cached_property
    def _times_tested(self) -> int:
        """How often each image was tested: the number of repeats."""
        counts = np.bincount(np.concatenate([t for _, t in self.design.folds]))
        return int(counts.max())

    @cached_property
    def out_of_fold(self) -> dict[str, OutOfFold]:
        """Predictions of each recipe that did not fail, folds joined."""
        joined = {}
        index = np.concatenate([test for _, test in self.design.folds])
        for name, results in self.results.items():
            if self.failed(name):
                continue
            predicted = np.concatenate([r.predicted for r in results])
            known = all(r.probability is not None for r in results)
            probability = np.vstack([r.probability for r in results]) if known else None
            joined[name] = OutOfFold(index, predicted, probability)
        return joined

    @cached_property
    def confusion(self) -> dict[str, pd.DataFrame]:
        """Confusion matrix of each recipe, rows being the true classes; repeats are averaged."""
        labels = [str(c) for c in self.classes]
        return {
            name: pd.DataFrame(self._confusion(name) / self._times_tested, labels, labels)
            for name in self.out_of_fold
        }

    def _confusion(self, name: str) -> NDArray[np.float64]:
        own = self.out_of_fold[name]
        return scores.confusions(self.true[own.index], own.predicted, len(self.classes))

    @cached_property
    def _drawn(self) -> dict[str, NDArray[np.float64]]:
        """Bootstrap confusion matrices of each recipe."""
        return {
            name: self.draws.confusions(
                self.true[own.index],
                own.predicted,
                len(self.classes),
                self.group_codes[own.index],
            )
            for name, own in self.out_of_fold.items()
        }

    @cached_property
    def fold_scores(self) -> pd.DataFrame:
        """Balanced accuracy of each fold (rows) and recipe (columns)."""
        return pd.DataFrame(
            {
                name: [
                    self._score(test, result.predicted)
                    for (_, test), result in zip(self.design.folds, self.results[name], strict=True)
                ]
                for name in self.out_of_fold
            }
        )

    def _score(self, test: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
        matrix = scores.confusions(self.true[test], predicted, len(self.classes))
        return float(scores.balanced_accuracy(matrix))

    def _mean_auc(self, name: str, side: NDArray[np.intp]) -> float:
        """Mean over the folds that hold every side: folds differ in calibration.

        `side` maps each class to a side; the identity keeps the classes apart.
        """
        to_side = np.eye(int(side.max()) + 1)[side]
        each = [
            scores.auc(side[self.true[test]], result.probability @ to_side)
            for (_, test), result in zip(self.design.folds, self.results[name], strict=True)
        ]
        known = [v for v in each if v == v]
        return float(np.mean(known)) if known else float("nan")

    def _right(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp] | None]:
        """Return how often each tested image was right, and the folds in which it was tested."""
        own = self.out_of_fold[name]
        tests = [test for _, test in self.design.folds]
        number = np.repeat(np.arange(len(tests)), [len(test) for test in tests])
        place = np.searchsorted(self.tested, own.index)
        times = np.bincount(place)
        right = np.bincount(place, own.predicted == self.true[own.index]) / times
        if len(tests) == 1 or (times != times[0]).any():
            return right, None
        # repeats of an image side by side
        order = np.argsort(place, kind="stable")
        return right, number[order].reshape(-1, times[0])
