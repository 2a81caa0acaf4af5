"""Classifiers of features that split inside: by group, and before anything is resampled.

:class:`BoostedTrees` finds its number of trees on held-out groups, :class:`InnerFolds` gives
scikit-learn's stacking, search and calibration a ready list of group-aware folds. XGBoost alone
refuses string labels, and its early stopping takes whatever validation set it is given.
"""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from hemaest.base import (
    HasMethods,
    Interval,
    StrOptions,
    SuggestsParameters,
    TakesGroups,
    checked_fit,
)
from hemaest.groups import check_groups, check_labels, grouped_holdout, inner_folds

# the least a class must have on the training side for a hold-out to mean anything
MIN_PER_CLASS = 5
# on fewer rows threads wait for each other, many times as long as one alone takes on a busy machine
WORTH_THREADS = 4000

# what trees may start from: that of the recipe handcrafted-logistic
_LINEAR = make_pipeline(
    SimpleImputer(strategy="median", keep_empty_features=True),
    StandardScaler(),
    LogisticRegression(C=0.03, max_iter=5000),
)


class BoostedTrees(TakesGroups, ClassifierMixin, SuggestsParameters):
    """XGBoost with labels of any kind and early stopping that does not leak.

    Parameters
    ----------
    n_estimators : int, default=400
        Trees at most (for each class); early stopping finds how many are used.
    max_depth : int, default=4
        Depth of a tree.
    learning_rate : float, default=0.1
        Weight of each tree.
    subsample : float, default=0.8
        Share of the rows that a tree sees.
    colsample : float, default=0.1
        Share of the features that a tree sees.
    min_child_weight : float, default=1.0
        Least weight of a leaf.
    reg_lambda : float, default=1.0
        Ridge on the leaves.
    linear_start : bool, default=False
        Whether the trees start from the margins of a logistic regression instead of from nothing,
        and so learn only what a linear model cannot say. On a thousand smooth features and few
        rows this needs fewer trees and errs less. The margins of training rows come from inner
        folds, by group. It is left out where a resampler is given, or a class has one row.
    class_weight : "balanced", dict or None, default=None
        As in scikit-learn.
    resampler : sampler or None, default=None
        Applied to the training side of the inner split only, and to everything at the last fit.
    early_stopping : bool, default=True
        Whether to hold out a part to find the number of trees.
    validation_fraction : float, default=0.15
        The part to hold out, by group.
    patience : int, default=25
        Trees without gain on the held-out part before the search ends.
    n_jobs : int, optional
        Threads, of which one alone is used on fewer than 4000 rows; None means 1.
    random_state : int or RandomState, optional
        Seed.

    Attributes
    ----------
    classes_ : array
        The labels as they came in.
    n_trees_ : int
        Trees used for each class.
    early_stopping_ : str
        "on", or why it was off.
    held_out_ : int array
        Positions of the rows that were held out to find ``n_trees_`` (empty when off).
    model_ : xgboost.XGBClassifier
        Fitted on labels 0, 1, ...
    linear_ : estimator or None
        The logistic regression that the trees start from.
    feature_importances_ : float array of shape (n_features,)
        Share of the trees' total gain of each feature; ``feature_names_in_`` names them.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.recipes import BoostedTrees
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(120, 3))
    >>> y = np.where(X[:, 1] > 0, "blast", "lymphocyte")
    >>> trees = BoostedTrees(n_estimators=40, random_state=0).fit(X, y)
    >>> trees.score(X, y) > 0.95, trees.feature_importances_.argmax()
    (True, np.int64(1))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_depth": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, 1, closed="right")],
        "subsample": [Interval(Real, 0, 1, closed="right")],
        "colsample": [Interval(Real, 0, 1, closed="right")],
        "min_child_weight": [Interval(Real, 0, None, closed="left")],
        "reg_lambda": [Interval(Real, 0, None, closed="left")],
        "linear_start": ["boolean"],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "resampler": [HasMethods("fit_resample"), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        n_estimators: int = 400,
        max_depth: int = 4,
        learning_rate: float = 0.1,
        subsample: float = 0.8,
        colsample: float = 0.1,
        min_child_weight: float = 1.0,
        reg_lambda: float = 1.0,
        linear_start: bool = False,
        class_weight: str | Mapping[Any, float] | None = None,
        resampler: Any = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.15,
        patience: int = 25,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample = colsample
        self.min_child_weight = min_child_weight
        self.reg_lambda = reg_lambda
        self.linear_start = linear_start
        self.class_weight = class_weight
        self.resampler = resampler
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.n_jobs = n_jobs
        self.random_state = random_state

    @checked_fit
    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_indices: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Find the number of trees on held-out groups, then learn from everything.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features; NaN is allowed.
        y : array-like of shape (n,)
            Labels of any kind.
        groups : array-like of shape (n,), optional
            What the inner split keeps together.
        sample_indices : int array of shape (n,), optional
            Given by a pipeline behind a sampler: early stopping is then off, since copies of a
            row would stand on both sides. Put the sampler in ``resampler`` instead.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        self : object
        """
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan", dtype=np.float64)
        y = check_labels(y, len(X), self)
        weight = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        groups = check_groups(groups, len(y))
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has 1 class ({self.classes_[0]!r}); a classifier needs at least 2."
            )
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=2)
        self.early_stopping_ = self._may_hold_out(codes, groups, sample_indices)
        together = sample_indices if groups is None else groups
        self.held_out_ = np.empty(0, dtype=np.intp)
        self.n_trees_ = self.n_estimators
        if self.early_stopping_ == "on":
            self.n_trees_ = self._search(X, codes, groups, weight, int(seeds[0]))
        self.linear_, margin = self._start(X, codes, together, weight, int(seeds[0]))
        rows, labels, weight = self._resample(X, codes, weight, int(seeds[1]))
        self.model_ = self._model(int(seeds[1]), self.n_trees_, len(rows))
        weights = self._weights(labels, weight)
        self.model_.fit(rows, labels, sample_weight=weights, base_margin=margin)
        return self

    def _start(
        self, X: NDArray[Any], codes: NDArray[Any], groups: Any, weight: Any, seed: int
    ) -> tuple[Any, NDArray[Any] | None]:
        """Return a linear model, and the margins that its inner folds give the training rows."""
        if not self.linear_start or self.resampler is not None or np.bincount(codes).min() < 2:
            return None, None
        weights = self._weights(codes, weight)

        def fitted(rows: Any) -> Any:
            part = None if weights is None else weights[rows]
            return clone(_LINEAR).fit(X[rows], codes[rows], logisticregression__sample_weight=part)

        margin = np.zeros((len(X), len(self.classes_)) if len(self.classes_) > 2 else len(X))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class of one group is no loss here
            folds = inner_folds(codes, groups, 3, seed, every_class=True)
        for train, test in folds:
            margin[test] = fitted(train).decision_function(X[test])
        return fitted(slice(None)), margin

    def _may_hold_out(self, codes: NDArray[Any], groups: Any, sample_indices: Any) -> str:
        """Return "on", or why nothing is held out."""
        if not self.early_stopping:
            return "off: early_stopping=False"
        if sample_indices is not None:
            warnings.warn(
                "BoostedTrees stands behind a sampler, so its early stopping is off: copies of one "
                "row could stand on both sides of its inner split. Use BoostedTrees(resampler=...) "
                "to split first and resample after, or early_stopping=False to say that you know.",
                UserWarning,
                stacklevel=3,
            )
            return "off: behind a sampler"
        if groups is None:
            least = np.bincount(codes).min()
        else:
            least = min(len(np.unique(groups[codes == c])) for c in range(len(self.classes_)))
        if least < MIN_PER_CLASS:
            return f"off: a class has {least} groups, fewer than {MIN_PER_CLASS}"
        return "on"

    def _search(
        self, X: NDArray[Any], codes: NDArray[Any], groups: Any, weight: Any, seed: int
    ) -> int:
        """Return the number of trees that does best on held-out groups."""
        train, self.held_out_ = grouped_holdout(codes, groups, self.validation_fraction, seed)
        part = None if weight is None else weight[train]
        rows, labels, part = self._resample(X[train], codes[train], part, seed)
        model = self._model(seed, self.n_estimators, len(rows), early_stopping_rounds=self.patience)
        held = (X[self.held_out_], codes[self.held_out_])
        linear, margin = self._start(
            X[train], codes[train], None if groups is None else groups[train], part, seed
        )
        held_margin = None if linear is None else [linear.decision_function(held[0])]
        model.fit(
            rows,
            labels,
            sample_weight=self._weights(labels, part),
            base_margin=margin,
            eval_set=[held],
            base_margin_eval_set=held_margin,
            verbose=False,
        )
        return int(model.best_iteration) + 1

    def _resample(
        self, X: NDArray[Any], codes: NDArray[Any], weight: Any, seed: int
    ) -> tuple[NDArray[Any], NDArray[Any], Any]:
        if self.resampler is None:
            return X, codes, weight
        if weight is not None:
            raise ValueError("sample_weight and resampler exclude each other; give one of them.")
        if np.isnan(X).any():
            raise ValueError(
                "X holds NaN, which samplers cannot mix; put a SimpleImputer before BoostedTrees."
            )
        sampler = clone(self.resampler)
        if sampler.get_params().get("random_state", 0) is None:
            sampler.set_params(random_state=seed)
        rows, labels = sampler.fit_resample(X, codes)
        return rows, labels, None

    def _weights(self, labels: NDArray[Any], weight: Any) -> Any:
        if self.class_weight is None:
            return weight
        balanced = compute_sample_weight(self.class_weight, self.classes_[labels])
        return balanced if weight is None else balanced * weight

    def _model(self, seed: int, n_trees: int, rows: int, **more: Any) -> Any:
        from xgboost import XGBClassifier

        threads = self.n_jobs if self.n_jobs is not None and rows >= WORTH_THREADS else 1

        return XGBClassifier(
            n_estimators=n_trees,
            max_depth=self.max_depth,
            learning_rate=self.learning_rate,
            subsample=self.subsample,
            colsample_bytree=self.colsample,
            min_child_weight=self.min_child_weight,
            reg_lambda=self.reg_lambda,
            tree_method="hist",
            importance_type="total_gain",
            n_jobs=threads,
            random_state=seed,
            **more,
        )

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.

        Returns
        -------
        probabilities : array of shape (n, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=np.float64)
        margin = None if self.linear_ is None else self.linear_.decision_function(X)
        return self.model_.predict_proba(X, base_margin=margin)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest label.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.

        Returns
        -------
        labels : array of shape (n,)
        """
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    @property
    def feature_importances_(self) -> NDArray[np.float32]:
        """Share of the total gain of each feature, in their order."""
        check_is_fitted(self)
        return self.model_.feature_importances_

    def __sklearn_tags__(self) -> Tags:
        """Say that NaN is allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _has(method: str) -> Any:
    return lambda self: hasattr(getattr(self, "model_", self.estimator), method)


class InnerFolds(TakesGroups, MetaEstimatorMixin, ClassifierMixin, SuggestsParameters):
    """Gives an estimator that splits inside (it has ``cv``) a list of group-aware folds.

    StackingClassifier, GridSearchCV and CalibratedClassifierCV pass no groups on; they all take a
    ready list of folds. Every fold learns from every class: the rows of one that is in too few
    groups are assigned one by one, with a warning. Around it, a search of scikit-learn passes the
    groups to this ``fit`` only under metadata routing.

    Parameters
    ----------
    estimator : estimator with a parameter ``cv``
        Cloned and fitted with the folds.
    n_folds : int, default=5
        Number of folds; fewer where a class has fewer groups.
    random_state : int or RandomState, optional
        Decides the folds.

    Attributes
    ----------
    model_ : estimator
        The fitted clone.
    folds_ : list of (train, test)
        The folds that it was given.
    classes_ : array
        The labels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
    >>> from hemaest.recipes import InnerFolds
    >>> search = InnerFolds(GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}), n_folds=2)
    >>> X = np.arange(24.0).reshape(-1, 1)
    >>> y = np.repeat(["a", "b"], 12)
    >>> patients = np.arange(24) // 2
    >>> search = search.fit(X, y, groups=patients)
    >>> train, test = search.folds_[0]
    >>> set(patients[train]) & set(patients[test])
    set()
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "set_params"])],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator: Any, *, n_folds: int = 5, random_state: Any = None) -> None:
        self.estimator = estimator
        self.n_folds = n_folds
        self.random_state = random_state

    @checked_fit
    def fit(self, X: Any, y: Any, groups: Any = None, sample_indices: Any = None) -> Self:
        """Make the folds and fit.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        y : array-like of shape (n,)
            Labels.
        groups : array-like of shape (n,), optional
            What the folds keep together.
        sample_indices : int array of shape (n,), optional
            Given by a pipeline behind a sampler: copies of one row are then kept together.

        Returns
        -------
        self : object
        """
        groups = check_groups(groups, len(y))
        if sample_indices is not None:
            groups = _keep_copies_together(groups, np.asarray(sample_indices))
        labels = np.asarray(y)
        self.classes_ = np.unique(labels)
        self.folds_ = inner_folds(labels, groups, self.n_folds, self.random_state, every_class=True)
        self.model_ = clone(self.estimator).set_params(cv=self.folds_).fit(X, y)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the labels that the fitted estimator gives.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.

        Returns
        -------
        labels : array of shape (n,)
        """
        check_is_fitted(self)
        return self.model_.predict(X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probabilities that the fitted estimator gives.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.

        Returns
        -------
        probabilities : array of shape (n, n_classes)
        """
        check_is_fitted(self)
        return self.model_.predict_proba(X)

    def __sklearn_tags__(self) -> Tags:
        """Take the tags of the estimator inside."""
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags


def _keep_copies_together(groups: Any, sample_indices: NDArray[Any]) -> NDArray[Any]:
    """Return groups in which all copies of a row, and all synthetic rows, share one."""
    return sample_indices if groups is None else groups
