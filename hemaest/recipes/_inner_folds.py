"""scikit-learn's own stacking and search, with inner folds that tear no group."""

import warnings
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from hemaest._words import some
from hemaest.base import HasMethods, Interval, TakesGroups, checked_fit
from hemaest.groups import GroupedFolds, check_groups

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def _has(method: str) -> Any:
    return lambda self: hasattr(getattr(self, "model_", self.estimator), method)


class InnerFolds(TakesGroups, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Gives an estimator that splits inside (it has ``cv``) a list of group-aware folds.

    StackingClassifier, GridSearchCV and CalibratedClassifierCV pass no groups on; they all take a
    ready list of folds. Every fold learns from every class: the rows of one that is in too few
    groups are dealt one by one, with a warning. Around it, a search of scikit-learn's hands the
    groups to this ``fit`` only under metadata routing.

    Parameters
    ----------
    estimator : estimator with a parameter ``cv``
        Cloned and fitted with the folds.
    n_folds : int, default=5
        Number of folds; fewer where a class has fewer groups.
    random_state : int or RandomState, optional
        Deals the folds.

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
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GridSearchCV
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
        """Deal the folds and fit.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Features.
        y : array-like of shape (n,)
            Labels.
        groups : array-like of shape (n,), optional
            What the folds must not tear apart.
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
        names = np.arange(len(labels)) if groups is None else np.asarray(groups)
        self.folds_ = self._deal(X, labels, names)
        unlearnt = [c for c in self.classes_ if not self._is_learnt(labels == c)]
        if unlearnt:
            self.folds_ = self._deal(X, labels, _torn(labels, names, unlearnt))
        self.model_ = clone(self.estimator).set_params(cv=self.folds_).fit(X, y)
        return self

    def _deal(self, X: Any, y: NDArray[Any], groups: NDArray[Any]) -> list[Fold]:
        """Return the folds, no more than the class that has fewest groups has of them."""
        least = min(len(np.unique(groups[y == c])) for c in self.classes_)
        folds = GroupedFolds(max(min(self.n_folds, least), 2), random_state=self.random_state)
        return list(folds.split(X, y, groups))

    def _is_learnt(self, members: NDArray[np.bool_]) -> bool:
        """Return whether a class is in the training side of every fold."""
        return all(members[train].any() for train, _ in self.folds_)

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


def _torn(y: NDArray[Any], groups: NDArray[Any], classes: list[Any]) -> NDArray[Any]:
    """Return groups in which each row of these classes, which have too few groups, is one."""
    for c in classes:
        if np.sum(y == c) < 2:
            raise ValueError(
                f"class {c!s} has a single row: without it a fold inside knows nothing of the "
                "class. Leave the class out, or take a recipe that splits nothing inside."
            )
    warnings.warn(
        f"a fold inside would learn nothing of {some(classes)}, which is in too few groups: its "
        "rows are dealt one by one. The folds outside are as they were.",
        UserWarning,
        stacklevel=3,
    )
    codes = np.unique(groups, return_inverse=True)[1]
    return np.where(np.isin(y, classes), len(y) + np.arange(len(y)), codes)


def _keep_copies_together(groups: Any, sample_indices: NDArray[Any]) -> NDArray[Any]:
    """Return groups in which all copies of a row, and all synthetic rows, share one."""
    return sample_indices if groups is None else groups
