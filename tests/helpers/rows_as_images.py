"""An adapter that lets scikit-learn's checks, which feed tables, reach image estimators."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data


def rows_to_images(rows, channels):
    """Return each row of a table as an image (1, width, channels), a fixed map of its values."""
    gray = np.clip(np.rint(128 + 24 * np.asarray(rows, float)), 0, 255).astype(np.uint8)
    images = np.repeat(gray[:, None, :, None], channels, axis=3)
    if channels == 4:
        width = gray.shape[1]
        images[..., 3] = 1 + (np.arange(width) >= width // 2)
    return images


def _has(method):
    return lambda self: hasattr(self.estimator, method)


class RowsAsImages(BaseEstimator):
    """Feed a table to an image estimator.

    Parameters
    ----------
    estimator : estimator
        Takes images.
    channels : {3, 4}
        What it needs.
    """

    def __init__(self, estimator=None, channels=3):
        self.estimator = estimator
        self.channels = channels

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = self.estimator.__sklearn_tags__()
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.transformer_tags = inner.transformer_tags
        tags.target_tags = inner.target_tags
        tags.non_deterministic = inner.non_deterministic
        return tags

    def fit(self, X, y=None):
        if self.__sklearn_tags__().target_tags.required:
            X, y = validate_data(self, X, y, ensure_min_features=2)
        else:
            X = validate_data(self, X, ensure_min_features=2)
        self.estimator_ = clone(self.estimator).fit(rows_to_images(X, self.channels), y)
        if hasattr(self.estimator_, "classes_"):
            self.classes_ = self.estimator_.classes_
        return self

    def _images(self, X):
        check_is_fitted(self)
        return rows_to_images(validate_data(self, X, reset=False), self.channels)

    @available_if(_has("predict"))
    def predict(self, X):
        images = self._images(X)
        return self.estimator_.predict(images)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X):
        images = self._images(X)
        return self.estimator_.predict_proba(images)


class ClassifierRows(ClassifierMixin, RowsAsImages):
    """The adapter of a classifier."""


class TransformerRows(TransformerMixin, RowsAsImages):
    """The adapter of a transformer: images that come out are laid flat as rows again."""

    def transform(self, X):
        images = self._images(X)
        result = self.estimator_.transform(images)
        if result.dtype == object or result.ndim == 4:
            return np.array([image[..., :3].ravel() for image in result], dtype=float)
        return np.nan_to_num(result)


def adapt(estimator, channels):
    """Return the adapter that fits an estimator, or None where tables make no sense."""
    if hasattr(estimator, "fit_resample"):
        return None
    if estimator.__sklearn_tags__().estimator_type == "classifier":
        return ClassifierRows(estimator, channels)
    return TransformerRows(estimator, channels) if hasattr(estimator, "transform") else None
