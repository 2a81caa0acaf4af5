"""Prediction sets with a stated chance of holding the true class, for each class and by group.

Written by hand: MAPIE's classifiers check X as a 2-D table and know no groups.
"""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from hemaest.base import (
    HasMethods,
    ImageEstimator,
    Interval,
    NamesTheLikeliest,
    TakesGroups,
    checked_fit,
    fit_with_groups,
)
from hemaest.evaluation._folds import probabilities
from hemaest.groups import check_groups, check_labels, group_quantile, grouped_holdout


class ConformalClassifier(  # type: ignore[misc]
    TakesGroups, NamesTheLikeliest, ClassifierMixin, MetaEstimatorMixin, ImageEstimator
):
    """Give sets of classes that hold the true one with a stated probability, class by class.

    Part of the training images is held out, whole groups together, and shows how unusual right
    predictions look. A cell whose set has one class is identified; one with more, or none, is
    better shown to a person. The guarantee holds for each class separately, so a rare one is not
    sacrificed, and for a new patient when groups are patients. It does not hold for another stain
    or scanner.

    Parameters
    ----------
    estimator : classifier
        With ``predict_proba``. A ``FrozenEstimator`` is not fitted again, and all images given to
        ``fit`` calibrate it; it must not have seen them.
    confidence_level : float, default=0.9
        Probability with which a set must hold the true class.
    calibration_fraction : float, default=0.25
        Share of the images to hold out.
    random_state : int, RandomState instance or None
        Seed of the hold-out.

    Attributes
    ----------
    classes_ : ndarray
        Labels.
    estimator_ : classifier
        The fitted part.
    thresholds_ : ndarray of shape (n_classes,)
        How unlike its class an image may look and still be in the set; infinite where a class has
        too few groups to promise anything, so that it is in every set.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from hemaest.features import ColorFeatures
    >>> from hemaest.recipes import ImagePipeline
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["dark", "light"], 60)
    >>> X = rng.integers(0, 100, (120, 8, 8, 3)).astype(np.uint8)
    >>> X[y == "light"] += 90
    >>> steps = [("features", ColorFeatures()), ("classify", LogisticRegression(max_iter=9999))]
    >>> recipe = ImagePipeline(steps)
    >>> model = ConformalClassifier(recipe, random_state=0).fit(X, y)
    >>> model.predict_set(X[:1])
    array([[ True, False]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict_proba"])],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "calibration_fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        confidence_level: float = 0.9,
        calibration_fraction: float = 0.25,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.confidence_level = confidence_level
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Take the tags of the classifier inside."""
        tags = super().__sklearn_tags__()
        tags.input_tags = self.estimator.__sklearn_tags__().input_tags
        return tags

    @checked_fit
    def fit(self, X: Any, y: Any, groups: Any = None, sample_indices: Any = None) -> Self:
        """Fit on one part, calibrate on the other.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n_samples,)
            Labels.
        groups : array-like of shape (n_samples,), optional
            Patients or smears, kept whole.
        sample_indices : array-like of shape (n_samples,), optional
            Given by a pipeline whose sampler ran before; copies cannot calibrate.

        Returns
        -------
        self : object
        """
        X = self._check_images(X)
        y = check_labels(y, len(X), self)
        if sample_indices is not None and len(np.unique(sample_indices)) < len(y):
            raise ValueError(
                "ConformalClassifier stands behind a sampler: copies would lie both in training "
                "and in calibration. Put it outermost, around the pipeline that holds the sampler."
            )
        codes = check_groups(groups, len(y))
        self.classes_ = np.unique(y)
        if isinstance(self.estimator, FrozenEstimator):
            self.estimator_ = self.estimator
            calibrate = np.arange(len(y))
        else:
            train, calibrate = grouped_holdout(
                y, codes, self.calibration_fraction, self.random_state
            )
            own = None if groups is None else np.asarray(groups)[train]
            self.estimator_ = fit_with_groups(clone(self.estimator), X[train], y[train], own)
        nonconformity = 1 - self.predict_proba(X[calibrate])
        linked = np.arange(len(y)) if codes is None else codes
        self.thresholds_ = np.full(len(self.classes_), np.inf)
        for k, label in enumerate(self.classes_):
            mine = y[calibrate] == label
            if mine.any():
                self.thresholds_[k] = group_quantile(
                    nonconformity[mine, k], linked[calibrate][mine], self.confidence_level
                )
        empty = self.classes_[np.isinf(self.thresholds_)].tolist()
        if empty:
            needed = int(np.ceil(self.confidence_level / (1 - self.confidence_level) - 1e-9))
            warnings.warn(
                f"Too few groups to calibrate {empty}: confidence_level={self.confidence_level} "
                f"needs at least {needed} held-out groups (or images) of each class, so these "
                "are in every set.",
                stacklevel=3,
            )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the class probabilities of the classifier inside.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        probability : float array of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "estimator_")
        found = probabilities(self.estimator_, self._check_images(X), self.classes_)
        assert found is not None
        return found

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Return which classes each image may be.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        sets : bool array of shape (n_samples, n_classes)
            In the order of ``classes_``. A row with one True is identified.
        """
        return 1 - self.predict_proba(X) <= self.thresholds_ + 1e-12
