"""scikit-learn's own stacking and search, with inner folds that tear no group."""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from hemaest.base import HasMethods, Interval, TakesGroups, checked_fit
from hemaest.groups import check_groups, inner_folds


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
