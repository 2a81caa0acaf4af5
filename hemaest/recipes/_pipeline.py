"""A pipeline that carries groups to the steps that need them, through samplers too."""

import inspect
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.validation import check_memory

from hemaest.base import TakesGroups
from hemaest.groups import check_groups
from hemaest.recipes._recollection import FittedFront, Recollection

try:
    from imblearn.pipeline import Pipeline
except ImportError:
    from hemaest.recipes._without_samplers import Pipeline

SYNTHETIC = -1
STEP_METHODS = ("fit", "fit_transform", "fit_resample", "fit_predict", "transform", "predict")


def takes(step: Any, name: str) -> bool:
    """Return whether ``step.fit`` has a parameter of this name.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> takes(LogisticRegression(), "sample_weight"), takes(LogisticRegression(), "groups")
    (True, False)
    """
    return name in inspect.signature(step.fit).parameters


def takes_groups(sampler: Any) -> bool:
    """Return whether a sampler splits inside, and so wants to know what belongs together."""
    return "groups" in inspect.signature(sampler.fit_resample).parameters


def rows_kept(sampler: Any, before: Any, after: Any) -> NDArray[np.intp]:
    """Return for each row after resampling the row before that it is, -1 where it is new.

    A sampler that keeps ``sample_indices_`` says so itself; for the others (the SMOTE family) the
    rows are recognized by their bytes.

    Examples
    --------
    >>> rows_kept(None, np.array([[1.0], [2.0]]), np.array([[2.0], [1.5], [1.0]]))
    array([ 1, -1,  0])
    """
    indices = getattr(sampler, "sample_indices_", None)
    if indices is not None:
        return np.asarray(indices, dtype=np.intp)
    known = {row: i for i, row in reversed(list(enumerate(_row_bytes(before))))}
    return np.array([known.get(row, SYNTHETIC) for row in _row_bytes(after)], dtype=np.intp)


def _row_bytes(X: Any) -> list[bytes]:
    values = np.ascontiguousarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    return [row.tobytes() for row in values]


def regroup(groups: Any, kept: NDArray[np.intp]) -> NDArray[Any]:
    """Return the groups of resampled rows; all synthetic rows share one group of their own.

    Examples
    --------
    >>> regroup(["ann", "bob"], np.array([0, 1, 1, -1])).tolist()
    [0, 1, 1, 2]
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    return np.where(kept == SYNTHETIC, len(names), codes[kept])


class ImagePipeline(TakesGroups, Pipeline):
    """imbalanced-learn's Pipeline, with groups.

    ``fit(X, y, groups=...)`` hands the groups to each step whose ``fit`` takes them. Behind a
    sampler they are those of the resampled rows, and a step that takes ``sample_indices`` learns
    which rows are copies and which are synthetic.

    Parameters
    ----------
    steps : list of (str, estimator)
        Transformers, samplers (they run in ``fit`` only), and a final estimator.
    transform_input : list of str, optional
        See scikit-learn's Pipeline.
    memory : str or joblib.Memory, optional
        Keeps what the fitted steps give, in training and in prediction, so that a grid over the
        last step segments each image once.
    verbose : bool, default=False
        Whether to print the time of each step.

    Notes
    -----
    The groups that ``GridSearchCV(...).fit(X, y, groups=g)`` and ``cross_validate(..., groups=g)``
    take go to the splitter only: the folds outside tear no group, those inside the steps (early
    stopping, a stack, the quotas of :class:`~hemaest.balance.ACDBGAN`) know of none, and a step
    cannot tell that from data without groups. Give ``cross_validate`` ``params={"groups": g}`` as
    well, and fit a search under scikit-learn's metadata routing, as below.
    :func:`~hemaest.evaluation.compare` hands groups on by itself, with ``search=`` too.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> from hemaest.features import ColorFeatures
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["dark", "light"], 12)
    >>> X = rng.integers(0, 100, (24, 8, 8, 3)).astype(np.uint8)
    >>> X[y == "light"] += 90
    >>> patients = np.arange(24) % 6
    >>> pipeline = ImagePipeline(
    ...     [("features", ColorFeatures()), ("classify", LogisticRegression(max_iter=5000))]
    ... )
    >>> scores = cross_val_score(
    ...     pipeline, X, y, groups=patients, cv=GroupKFold(3), params={"groups": patients}
    ... )
    >>> scores.mean()
    np.float64(1.0)

    A search whose folds inside the steps know the groups as well:

    >>> import sklearn
    >>> from sklearn.model_selection import GridSearchCV
    >>> search = GridSearchCV(pipeline, {"classify__C": [0.1, 1.0]}, cv=GroupKFold(3))
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     search = search.fit(X, y, groups=patients)
    >>> search.best_score_
    np.float64(1.0)
    """

    def fit(self, X: Any, y: Any = None, groups: Any = None, **params: Any) -> Self:
        """Fit the steps one after the other.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels.
        groups : array-like of shape (n,), optional
            What must not be torn apart by a split inside a step: patients, smears.
        **params
            For single steps, as ``step__name``.

        Returns
        -------
        self : object
        """
        if groups is not None:
            check_groups(groups, len(X))  # steps of others may want the names themselves
            params["groups"] = groups
        return super().fit(X, y, **params)

    def _check_method_params(self, method: str, props: Any, **kwargs: Any) -> Any:
        # groups go to steps by what _fit knows of them, under either setting of metadata routing
        others = {name: value for name, value in props.items() if name != "groups"}
        routed = super()._check_method_params(method, others, **kwargs)
        # a copy of our own: with nothing routed, what comes back forgets what is written into it
        return {
            name: Bunch(**{m: dict(routed[name].get(m, {})) for m in STEP_METHODS})
            for name, step in self.steps
            if step is not None
        }

    def _fit(
        self, X: Any, y: Any = None, routed_params: Any = None, raw_params: Any = None
    ) -> tuple[Any, Any]:
        """Run all steps but the last, and leave the last one's groups among its parameters."""
        self.steps: list[tuple[str, Any]] = list(self.steps)
        self._validate_steps()
        recall = Recollection(check_memory(self.memory))
        front = list(super()._iter(with_final=False, filter_resample=False))
        keys = [recall.key(X, y, raw_params)]
        for _, name, step in front:
            keys.append(recall.key(keys[-1], name, clone(step) if recall.on else None))

        def after(n: int) -> Any:
            """Return what the first n steps make of the data, and these steps, fitted."""
            if n == 0:
                return X, y, (raw_params or {}).get("groups"), None, []
            return recall(keys[n], lambda: run(n, *after(n - 1)))

        def run(n: int, *before: Any) -> tuple[Any, ...]:
            put_back(before[-1])
            i, name, step = front[n - 1]
            params = self._get_metadata_for_step(
                step_idx=i, step_params=routed_params[name], all_params=raw_params
            )
            return self._run_step(clone(step) if recall.on else step, params, *before)

        def put_back(fitted: list[Any]) -> None:
            for (i, name, _), step in zip(front, fitted, strict=False):
                self.steps[i] = (name, step)

        X, y, groups, kept, fitted = after(len(front))
        put_back(fitted)
        # without a memory there are no keys, and one that is set later must not find any
        known = zip(front, keys[1:], strict=True) if recall.on else ()
        self._fitted_from = {i: key for (i, _, _), key in known}
        last_name, last = self.steps[-1]
        if last not in (None, "passthrough"):
            self._add_inner_split(last, routed_params[last_name], groups, kept)
        return X, y

    def _run_step(
        self, step: Any, params: Any, X: Any, y: Any, groups: Any, kept: Any, fitted: list[Any]
    ) -> tuple[Any, ...]:
        """Fit one step; return the data behind it, whose rows they are, and the steps so far."""
        if hasattr(step, "fit_resample"):
            if groups is not None and takes_groups(step):
                params["fit_resample"]["groups"] = groups
            X_new, y = step.fit_resample(X, y, **params["fit_resample"])
            rows = rows_kept(step, X, X_new)
            kept = rows if kept is None else np.where(rows == SYNTHETIC, rows, kept[rows])
            groups = None if groups is None else regroup(groups, rows)
            return X_new, y, groups, kept, [*fitted, step]
        self._add_inner_split(step, params, groups, kept)
        if hasattr(step, "fit_transform"):
            X_new = step.fit_transform(X, y, **params["fit_transform"])
        else:
            X_new = step.fit(X, y, **params["fit"]).transform(X, **params["transform"])
        return X_new, y, groups, kept, [*fitted, step]

    def _iter(
        self, with_final: bool = True, filter_passthrough: bool = True, filter_resample: bool = True
    ) -> Iterator[tuple[int, str, Any]]:
        """Give the steps; to predict, those before the last as one whose results are kept."""
        steps = super()._iter(with_final, filter_passthrough, filter_resample)
        if with_final or not filter_resample or get_config()["enable_metadata_routing"]:
            return steps
        recall = Recollection(check_memory(self.memory))
        fitted = list(steps)
        if not recall.on or not fitted or not getattr(self, "_fitted_from", None):
            return iter(fitted)
        i, name, _ = fitted[-1]
        sources = [self._fitted_from[i] for i, _, _ in fitted]
        return iter([(i, name, FittedFront([step for _, _, step in fitted], recall, sources))])

    @staticmethod
    def _add_inner_split(step: Any, params: Any, groups: Any, kept: Any) -> None:
        for name, value in (("groups", groups), ("sample_indices", kept)):
            if value is not None and hasattr(step, "fit") and takes(step, name):
                for method in ("fit", "fit_transform", "fit_predict"):
                    params[method][name] = value
