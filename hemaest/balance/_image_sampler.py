"""imbalanced-learn's samplers on images: they choose rows, and the images follow."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from hemaest._seeds import seed_of
from hemaest.base import HasMethods, ImageEstimator
from hemaest.groups import check_labels


class ImageSampler(ImageEstimator):
    """Apply a sampler of imbalanced-learn to images, by their row numbers.

    imbalanced-learn refuses images. Samplers that only choose rows (``RandomOverSampler``,
    ``RandomUnderSampler``) need not see them: they choose among row numbers, and the images follow,
    files unread. Those that choose by neighbours (``EditedNearestNeighbours``, ``TomekLinks``,
    ``NearMiss``) get rows of features from ``features``. Samplers that make new rows (SMOTE) have
    no images for them and are refused.

    Parameters
    ----------
    sampler : sampler or None, default=None
        By default imbalanced-learn's ``RandomOverSampler``. Cloned.
    features : transformer or None, default=None
        From images to rows, for samplers that look at neighbours. Cloned and fitted.
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
        if self.sampler is None:
            sampler = oversampler()
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
                f"{type(self.sampler_).__name__} chooses by neighbours, and row numbers have none; "
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


def oversampler() -> Any:
    """Return imbalanced-learn's random oversampler, or say how to get it."""
    try:
        from imblearn.over_sampling import RandomOverSampler
    except ImportError as error:
        raise ImportError(
            "ImageSampler needs imbalanced-learn: pip install imbalanced-learn."
        ) from error
    return RandomOverSampler()
