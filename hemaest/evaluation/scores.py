"""Scores from confusion matrices and probabilities, and bootstrap intervals over groups.

Everything that can be read off a confusion matrix is computed on arrays of shape ``(..., k, k)``
(true class first), so that a bootstrap of 2,000 draws is one call. Used by the comparison, the
audit and the residuals.

Examples
--------
The balanced accuracy of 10 patients, with its interval:

>>> import numpy as np
>>> from hemaest.evaluation import scores
>>> rng = np.random.default_rng(0)
>>> true, patients = rng.integers(0, 3, 200), rng.integers(0, 10, 200)
>>> predicted = np.where(rng.random(200) < 0.9, true, 0)
>>> draws = scores.GroupedBootstrap(patients, random_state=0)
>>> low, high = draws.interval(scores.balanced_accuracy(draws.confusions(true, predicted, 3)))
>>> low < scores.balanced_accuracy(scores.confusions(true, predicted, 3)) < high
np.True_
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from hemaest._seeds import seed_of

Array = NDArray[np.float64]


def _ratio(a: Array, b: Array, empty: float = np.nan) -> Array:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, empty), where=b > 0)


def confusions(true: NDArray[np.intp], predicted: NDArray[np.intp], n_classes: int) -> Array:
    """Return the confusion matrix, rows being the true classes."""
    flat = np.bincount(true * n_classes + predicted, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes).astype(float)


def merged(c: Array, side: NDArray[np.intp]) -> Array:
    """Merge the classes of a confusion matrix into two sides.

    Examples
    --------
    >>> merged(np.array([[5.0, 1, 0], [0, 4, 2], [0, 1, 3]]), np.array([0, 1, 1])).tolist()
    [[5.0, 1.0], [0.0, 10.0]]
    """
    to_side = np.eye(2)[side]
    return np.swapaxes(np.swapaxes(c, -1, -2) @ to_side, -1, -2) @ to_side


def accuracy(c: Array) -> Array:
    """Share of right answers."""
    return _ratio(np.trace(c, axis1=-2, axis2=-1), c.sum((-2, -1)))


def sensitivity(c: Array) -> Array:
    """Recall of each class; NaN where the class is absent."""
    return _ratio(np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1))


def precision(c: Array) -> Array:
    """Precision of each class; 0 where the class is never predicted."""
    return _ratio(np.diagonal(c, axis1=-2, axis2=-1), c.sum(-2), empty=0.0)


def specificity(c: Array) -> Array:
    """Share of the other classes' images that are not called this class."""
    right = np.diagonal(c, axis1=-2, axis2=-1)
    others = c.sum((-2, -1))[..., None] - c.sum(-1)
    return _ratio(others - (c.sum(-2) - right), others)


def f1(c: Array) -> Array:
    """F1 of each class; NaN where the class is neither present nor predicted."""
    return _ratio(2 * np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1) + c.sum(-2))


def _mean(values: Array) -> Array:
    """Mean over the classes that are there."""
    return _ratio(np.nansum(values, -1), np.sum(~np.isnan(values), -1).astype(float))


def balanced_accuracy(c: Array) -> Array:
    """Mean sensitivity over the classes."""
    return _mean(sensitivity(c))


def mean_recall(true: NDArray[np.generic], predicted: NDArray[np.generic]) -> float:
    """Balanced accuracy of labels; scikit-learn's warns where a class that is absent is named."""
    return float(np.mean([np.mean(predicted[true == label] == label) for label in np.unique(true)]))


def macro_f1(c: Array) -> Array:
    """Mean F1 over the classes."""
    return _mean(f1(c))


def macro_precision(c: Array) -> Array:
    """Mean precision over the classes that occur."""
    return _mean(np.where(c.sum(-1) > 0, precision(c), np.nan))


def mcc(c: Array) -> Array:
    """Matthews correlation, for any number of classes; 0 where one side is constant."""
    n, right = c.sum((-2, -1)), np.trace(c, axis1=-2, axis2=-1)
    t, p = c.sum(-1), c.sum(-2)
    top = right * n - (t * p).sum(-1)
    return _ratio(top, np.sqrt((n**2 - (t**2).sum(-1)) * (n**2 - (p**2).sum(-1))), empty=0.0)


SCORES = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_precision": macro_precision,
    "macro_f1": macro_f1,
    "mcc": mcc,
}


def auc(true: NDArray[np.intp], probability: Array) -> float:
    """Macro one-against-rest area under the ROC curve; NaN where a class is missing."""
    present = np.unique(true)
    n_classes = probability.shape[1]
    if len(present) < n_classes or n_classes < 2 or np.isnan(probability).any():
        return float("nan")
    each = [roc_auc_score(true == c, probability[:, c]) for c in range(n_classes)]
    return float(np.mean(each))


def calibration_bins(
    right: NDArray[np.bool_], confidence: Array, n_bins: int = 10
) -> tuple[Array, Array, Array]:
    """Return mean confidence, accuracy and share of the images in bins of equal count."""
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    # images that are equally sure stay in one bin: a forest or neighbors have few steps
    cuts = np.searchsorted(ranked, ranked[len(order) * np.arange(1, n_bins) // n_bins])
    bins = [b for b in np.split(order, np.unique(cuts)) if len(b)]
    mean = np.array([confidence[b].mean() for b in bins])
    share_right = np.array([right[b].mean() for b in bins])
    weight = np.array([len(b) / len(order) for b in bins])
    return mean, share_right, weight


def calibration_error(true: NDArray[np.intp], probability: Array, n_bins: int = 10) -> float:
    """Return the expected calibration error of the top class, in bins of equal count."""
    if np.isnan(probability).any() or not len(true):
        return float("nan")
    right = probability.argmax(1) == true
    mean, share_right, weight = calibration_bins(right, probability.max(1), n_bins)
    return float((weight * np.abs(mean - share_right)).sum())


class GroupedBootstrap:
    """Draws of groups with replacement, and intervals of what is computed from them.

    The same draws serve every recipe, so differences are paired. Percentiles are widened for few
    groups (Hesterberg's expanded percentile interval), since plain ones are too narrow then.

    Parameters
    ----------
    codes : int array of shape (n_samples,)
        The group of each image, 0 to n_groups - 1.
    n_draws : int
        Number of bootstrap samples.
    confidence_level : float
        Of the intervals.
    random_state : int or None
        Seed.
    """

    def __init__(
        self,
        codes: NDArray[np.intp],
        n_draws: int = 2000,
        confidence_level: float = 0.95,
        random_state: Any = None,
    ):
        self.codes, self.confidence_level = codes, confidence_level
        self.n_groups = int(codes.max()) + 1
        rng = np.random.default_rng(seed_of(random_state))
        # many groups need fewer draws for the same interval, and their weights would fill memory
        n_draws = int(np.clip(2e7 // self.n_groups, min(n_draws, 400), n_draws))
        self.weights = rng.multinomial(
            self.n_groups, np.full(self.n_groups, 1 / self.n_groups), size=n_draws
        ).astype(float)
        tail = (1 - confidence_level) / 2
        if self.n_groups > 1:
            wide = np.sqrt(self.n_groups / (self.n_groups - 1)) * stats.t.ppf(
                tail, self.n_groups - 1
            )
            tail = float(stats.norm.cdf(wide))
        self.tail = tail

    def confusions(
        self,
        true: NDArray[np.intp],
        predicted: NDArray[np.intp],
        n_classes: int,
        codes: NDArray[np.intp] | None = None,
    ) -> Array:
        """Return the bootstrap confusion matrices, shape (n_draws, k, k)."""
        codes = self.codes if codes is None else codes
        cells = codes * n_classes**2 + true * n_classes + predicted
        table = np.bincount(cells, minlength=self.n_groups * n_classes**2)
        drawn = self.weights @ table.reshape(self.n_groups, -1).astype(float)
        return drawn.reshape(-1, n_classes, n_classes)

    def interval(
        self, draws: Array, share: float = float("nan"), n: float = 0
    ) -> tuple[float, float]:
        """Return the interval of one quantity from its bootstrap draws; NaN with one group.

        With a `share` of `n` images it is never narrower than Wilson's interval, since a bootstrap
        of no errors at all has no width.
        """
        known = draws[~np.isnan(draws)]
        if self.n_groups < 2 or not len(known):
            return float("nan"), float("nan")
        low, high = np.quantile(known, [self.tail, 1 - self.tail])
        if n > 0 and share == share:
            wilson = stats.binomtest(round(share * n), round(n)).proportion_ci(
                self.confidence_level, method="wilson"
            )
            low, high = min(low, wilson.low), max(high, wilson.high)
        return float(low), float(high)
