"""A pipeline that carries groups to the steps that need them, through samplers too.

Its results are kept under ``memory=`` by how they came about, not by their data.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Self

import joblib
import numpy as np
from imblearn.pipeline import Pipeline
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.utils import Bunch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_memory

from hemaest._library_threads import one_blas_thread
from hemaest.base import TakesGroups
from hemaest.groups import check_groups, check_labels

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
    >>> rows_kept(None, np.array([[1.0], [np.nan]]), np.array([[np.nan], [2.0], [1.0], [1.0]]))
    array([ 1, -1,  0,  0])
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
    >>> regroup(["b", "a", "b"], np.array([1, -1, 0, 0])).tolist()
    [0, 2, 1, 1]
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    return np.where(kept == SYNTHETIC, len(names), codes[kept])


def _last_has(method: str) -> Callable[[Any], bool]:
    """Return a check whether the last step has a method, for ``available_if``."""

    def check(pipeline: Any) -> bool:
        getattr(pipeline._final_estimator, method)
        return True

    return check


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
    take go to the splitter only: outer folds keep groups together, those inside the steps (early
    stopping, a stack, the quotas of :class:`~hemaest.balance.ACDBGAN`) know of none, and a step
    cannot know that from data without groups. Give ``cross_validate`` ``params={"groups": g}`` as
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
            What a split inside a step must keep together: patients, smears.
        **params
            For single steps, as ``step__name``.

        Returns
        -------
        self : object
        """
        if is_classifier(self.steps[-1][1]):
            check_labels(y, len(X), self, min_classes=2)
        if groups is not None:
            check_groups(groups, len(X))  # steps of others may want the names themselves
            params["groups"] = groups
        with one_blas_thread():
            return super().fit(X, y, **params)

    @available_if(_last_has("predict"))
    def predict(self, X: Any, **params: Any) -> Any:
        """Run the transformers, and predict with the last step.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        **params
            For the last step.

        Returns
        -------
        labels : array of shape (n,)
        """
        with one_blas_thread():
            return super().predict(X, **params)

    @available_if(_last_has("predict_proba"))
    def predict_proba(self, X: Any, **params: Any) -> Any:
        """Run the transformers, and return the probabilities of the last step.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        **params
            For the last step.

        Returns
        -------
        probabilities : array of shape (n, n_classes)
        """
        with one_blas_thread():
            return super().predict_proba(X, **params)

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


def _compute(key: str, run: Callable[[], Any]) -> Any:
    """Return what ``run`` gives; a cache knows it by the key alone."""
    return run()


class Recollection:
    """Results of a chain of steps, each known by what it is made of rather than by its data.

    The images are hashed once. The key of each step's result is the hash of the key before it and
    of the step's own settings, so the last result that is stored is found without loading, or
    hashing, any before it.

    Parameters
    ----------
    memory : joblib.Memory or None
        Where results are kept; None keeps none.
    """

    def __init__(self, memory: Any) -> None:
        self.on = getattr(memory, "location", None) is not None
        self._cached = memory.cache(_compute, ignore=["run"]) if self.on else _compute

    def key(self, *parts: Any) -> str:
        """Return the name of a result that follows from these parts."""
        return str(joblib.hash(parts)) if self.on else ""

    def __call__(self, key: str, run: Callable[[], Any]) -> Any:
        """Return the result of that name, from the store or made now."""
        return self._cached(key, run)


class FittedFront:
    """The fitted steps before the last as one transformer, whose results are kept.

    Parameters
    ----------
    steps : list of transformers
        Fitted.
    recollection : Recollection
        The store.
    fitted_from : list of str
        For each step, what it was fitted from.
    """

    def __init__(
        self, steps: list[Any], recollection: Recollection, fitted_from: list[str]
    ) -> None:
        self.steps, self.recollection, self.fitted_from = steps, recollection, fitted_from

    def transform(self, X: Any) -> Any:
        """Return X after all steps."""
        keys = [self.recollection.key(X)]
        for step, source in zip(self.steps, self.fitted_from, strict=True):
            keys.append(self.recollection.key(keys[-1], source, step.get_params()))

        def after(i: int) -> Any:
            if i == 0:
                return X
            return self.recollection(keys[i], lambda: self.steps[i - 1].transform(after(i - 1)))

        return after(len(self.steps))
