"""imbalanced-learn's samplers, on images and on rows of features.

:class:`ImageSampler` lets them choose rows, and the images follow. :class:`FeatureSampler` is the
SMOTE family: NaN survives, and errors name the class. Recipes and users put both into pipelines.
"""

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from hemaest._seeds import seed_of
from hemaest.base import HasMethods, ImageEstimator, Interval, StrOptions, SuggestsParameters
from hemaest.groups import check_labels

SYNTHETIC = -1
METHODS = ("oversample", "smote", "borderline-smote", "adasyn", "smote-tomek")


class ImageSampler(ImageEstimator):
    """Apply a sampler of imbalanced-learn to images, by their row numbers.

    imbalanced-learn refuses images. Samplers that only choose rows (``RandomOverSampler``,
    ``RandomUnderSampler``) need not see them: they choose among row numbers, and the images follow,
    files unread. Those that choose by neighbors (``EditedNearestNeighbours``, ``TomekLinks``,
    ``NearMiss``) get rows of features from ``features``. Samplers that make new rows (SMOTE) have
    no images for them and are refused.

    Parameters
    ----------
    sampler : sampler or None, default=None
        By default imbalanced-learn's ``RandomOverSampler``. Cloned.
    features : transformer or None, default=None
        From images to rows, for samplers that look at neighbors. Cloned and fitted.
    random_state : int, RandomState or None
        Given to the sampler where it has none of its own.

    Attributes
    ----------
    sample_indices_ : int array
        The row that each image of the result is.
    sampler_ : sampler
        The fitted one.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.balance import ImageSampler
    >>> cells = np.full((4, 8, 8, 3), 200, np.uint8)
    >>> sampler = ImageSampler(random_state=0)
    >>> X, y = sampler.fit_resample(cells, ["blast", "blast", "blast", "basophil"])
    >>> y.tolist(), sampler.sample_indices_.tolist()
    (['blast', 'blast', 'blast', 'basophil', 'basophil', 'basophil'], [0, 1, 2, 3, 3, 3])
    """

    _min_pixels = 1
    _stateless = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sampler": [HasMethods(["fit_resample", "get_params"]), None],
        "features": [HasMethods(["fit", "transform"]), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self, sampler: Any = None, *, features: Any = None, random_state: Any = None
    ) -> None:
        self.sampler = sampler
        self.features = features
        self.random_state = random_state

    def fit_resample(self, X: Any, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the chosen images and their labels.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels.

        Returns
        -------
        images : uint8 array or 1-D object array
            In the form in which X came.
        y : array
        """
        self._validate_params()
        X = self._check_images(X)
        y = check_labels(y, len(X), self)
        self.sampler_ = self._make_sampler()
        rows = self._rows_for(X)
        self.sampler_.fit_resample(rows, y)
        self.sample_indices_ = self._chosen(len(X))
        return X[self.sample_indices_], y[self.sample_indices_]

    def _make_sampler(self) -> Any:
        from imblearn.over_sampling import RandomOverSampler

        if self.sampler is None:
            sampler = RandomOverSampler()
        else:
            sampler = clone(self.sampler)
        params = sampler.get_params(deep=False)
        if params.get("shrinkage") is not None:
            raise ValueError(
                f"shrinkage={params['shrinkage']!r} makes new rows between the old ones, and there "
                "are no images for them; set shrinkage=None."
            )
        if self.random_state is not None and params.get("random_state", 0) is None:
            sampler.set_params(random_state=seed_of(self.random_state))
        return sampler

    def _rows_for(self, X: NDArray[Any]) -> Any:
        tags = getattr(self.sampler_, "__sklearn_tags__", None)
        # what takes words as features measures no distance
        chooses_blindly = tags is None or tags().input_tags.string
        if not chooses_blindly and getattr(self.sampler_, "_sampling_type", "") == "over-sampling":
            raise self._makes_rows()
        if self.features is not None:
            return clone(self.features).fit(X).transform(X)
        if not chooses_blindly:
            raise ValueError(
                f"{type(self.sampler_).__name__} chooses by neighbors, and row numbers have none; "
                "give features=, for instance hemaest.features.ColorFeatures() or "
                "hemaest.deep.DeepEmbedding()."
            )
        return np.arange(len(X))[:, None]

    def _chosen(self, n: int) -> NDArray[np.intp]:
        chosen = getattr(self.sampler_, "sample_indices_", None)
        if chosen is None or len(chosen) and not (0 <= np.min(chosen) <= np.max(chosen) < n):
            raise self._makes_rows()
        return np.asarray(chosen, dtype=np.intp)

    def _makes_rows(self) -> ValueError:
        return ValueError(
            f"{type(self.sampler_).__name__} makes new rows instead of choosing old ones, and "
            "there are no images for them. On images take RandomOverSampler, or "
            "hemaest.balance.ACDBGAN for new ones; SMOTE works on features, behind an extractor."
        )


class FeatureSampler(SuggestsParameters):
    """Fill up rare classes with copies of rows, or with new rows between neighbors.

    A row with NaN (an empty mask, say) stays and counts as one of its class, but nothing is made
    from it.

    Parameters
    ----------
    method : {"oversample", "smote", "borderline-smote", "adasyn", "smote-tomek"}, default="smote"
        Copies; new rows between neighbors; those near other classes only; more of them where a
        class is hard; SMOTE, and then without pairs of rows of two classes that are each other's
        nearest.
    n_neighbors : int, default=5
        Neighbors within a class between which new rows lie.
    random_state : int, RandomState or None
        Seed.

    Attributes
    ----------
    sample_indices_ : int array
        The row that each row of the result is, -1 where it is new.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.balance import FeatureSampler
    >>> X = np.arange(12.0)[:, None]
    >>> sampler = FeatureSampler(n_neighbors=2, random_state=0)
    >>> X_new, y_new = sampler.fit_resample(X, ["a"] * 8 + ["b"] * 4)
    >>> len(X_new), sampler.sample_indices_[-4:]
    (16, array([-1, -1, -1, -1]))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions(set(METHODS))],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self, method: str = "smote", *, n_neighbors: int = 5, random_state: Any = None
    ) -> None:
        self.method = method
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def fit_resample(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[Any]]:
        """Return the rows followed by what fills up the rare classes.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n, n_features)
            Features; NaN is allowed.
        y : array-like of shape (n,)
            Labels.

        Returns
        -------
        X_new : DataFrame or array
            As X came.
        y_new : array
        """
        self._validate_params()
        table = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
        y = check_labels(y, len(table), self)
        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError(
                f"all {len(y)} labels are {classes.tolist()[0]!r}; a sampler fills up one class to "
                "the size of another, so give two classes or more."
            )
        if self.method == "oversample":
            made, labels, rows = self._copies(table, y)
        else:
            made, labels, rows = self._between(table, y)
        self.sample_indices_ = rows
        return (made if isinstance(X, pd.DataFrame) else made.to_numpy()), labels

    def _copies(self, table: pd.DataFrame, y: NDArray[Any]) -> tuple[Any, ...]:
        from imblearn.over_sampling import RandomOverSampler

        sampler = RandomOverSampler(random_state=seed_of(self.random_state))
        sampler.fit_resample(np.arange(len(y))[:, None], y)
        rows = sampler.sample_indices_
        return table.iloc[rows].reset_index(drop=True), y[rows], rows

    def _between(self, table: pd.DataFrame, y: NDArray[Any]) -> tuple[Any, ...]:
        whole = table.notna().to_numpy().all(axis=1)
        wanted = self._wanted(y, whole)
        new_rows, new_y = table.iloc[:0], y[:0]
        if wanted:
            found, labels = self._resampled(table[whole], y[whole], wanted)
            n = int(whole.sum())
            new_rows, new_y = found.iloc[n:], labels[n:]
        joined = pd.concat([table, new_rows], ignore_index=True)
        labels = np.concatenate([y, new_y])
        rows = np.r_[np.arange(len(y)), np.full(len(new_y), SYNTHETIC)]
        if self.method != "smote-tomek":
            return joined, labels, rows
        keep = self._untied(joined, labels)
        return joined.iloc[keep].reset_index(drop=True), labels[keep], rows[keep]

    def _wanted(self, y: NDArray[Any], whole: NDArray[np.bool_]) -> dict[Any, int]:
        """Return how many rows without NaN each rare class shall have."""
        classes, counts = np.unique(y, return_counts=True)
        wanted = {}
        for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
            usable = int((whole & (y == label)).sum())
            if not usable:
                raise ValueError(self._none_whole(label, count))
            if count == counts.max():
                continue
            if usable <= self.n_neighbors:
                raise ValueError(self._too_few(label, count, usable))
            wanted[label] = usable + int(counts.max()) - count
        return wanted

    def _none_whole(self, label: Any, count: int) -> str:
        return (
            f"all {count} rows of class {label!r} have NaN, and {self.method} measures distances: "
            "fill them in (SimpleImputer), leave out the columns that are missing, or take "
            "balance='oversample' or 'weights'."
        )

    def _too_few(self, label: Any, count: int, usable: int) -> str:
        here = f"{count} rows" if usable == count else f"{count} rows, {usable} of them without NaN"
        smaller = f"set n_neighbors={usable - 1} or less" if usable > 1 else "there is no neighbor"
        return (
            f"class {label!r} has {here} here, and {self.method} with "
            f"n_neighbors={self.n_neighbors} needs {self.n_neighbors + 1}: {smaller}, take "
            "balance='oversample' or 'weights', or give more images of the class."
        )

    def _resampled(
        self, table: pd.DataFrame, y: NDArray[Any], wanted: dict[Any, int]
    ) -> tuple[pd.DataFrame, NDArray[Any]]:
        from imblearn import over_sampling

        options = {"sampling_strategy": wanted, "random_state": seed_of(self.random_state)}
        k = self.n_neighbors
        sampler: Any
        if self.method == "adasyn":
            sampler = over_sampling.ADASYN(n_neighbors=k, **options)
        elif self.method == "borderline-smote":
            around = min(10, len(y) - 1)
            sampler = over_sampling.BorderlineSMOTE(k_neighbors=k, m_neighbors=around, **options)
        else:
            sampler = over_sampling.SMOTE(k_neighbors=k, **options)
        try:
            return sampler.fit_resample(table, y)
        except (RuntimeError, ValueError) as error:
            if self.method != "adasyn":
                raise
            raise ValueError(
                f"ADASYN makes rows where classes meet, and found no such place ({error}); take "
                "balance='smote'."
            ) from error

    @staticmethod
    def _untied(table: pd.DataFrame, y: NDArray[Any]) -> NDArray[np.intp]:
        """Return the rows that are not in a pair of nearest neighbors of two classes."""
        from imblearn.under_sampling import TomekLinks

        whole = table.notna().to_numpy().all(axis=1)
        links = TomekLinks(sampling_strategy="all")
        links.fit_resample(table[whole], y[whole])
        return np.sort(np.r_[np.flatnonzero(whole)[links.sample_indices_], np.flatnonzero(~whole)])
