"""What all estimators share: the gate, declared parameters, templates for the two transformers.

Leaves stay small: an image-to-image step writes ``_transform_image``, a feature extractor writes
``_feature_names`` and ``_features``, and either may write ``_fit``.
"""

import difflib
import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags
from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
)
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from hemaest._library_threads import one_blas_thread
from hemaest._parallel import map_images
from hemaest.images import Channels, check_images, pack

__all__ = [
    "FeatureExtractor",
    "HasMethods",
    "Hidden",
    "ImageEstimator",
    "ImageTransformer",
    "Interval",
    "NamesTheLikeliest",
    "Options",
    "StrOptions",
    "SuggestsParameters",
    "TakesGroups",
    "checked_fit",
    "did_you_mean",
    "fit_with_groups",
    "labels_and_probabilities",
    "refuse_bare_fitted",
]

Method = TypeVar("Method", bound=Callable[..., Any])


def checked_fit(fit: Method) -> Method:
    """Check the declared parameters before a ``fit`` runs.

    This and the constraint classes are private in scikit-learn; here is the one place that
    knows their names.
    """
    return _fit_context(prefer_skip_nested_validation=True)(fit)


def fit_with_groups(estimator: Any, X: Any, y: Any, groups: Any) -> Any:
    """Fit, handing groups to estimators whose ``fit`` takes them.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> fit_with_groups(DummyClassifier(), [[0], [1]], [0, 1], ["ann", "bob"])
    DummyClassifier()
    """
    if groups is not None and has_fit_parameter(estimator, "groups"):
        return estimator.fit(X, y, groups=groups)
    return estimator.fit(X, y)


def labels_and_probabilities(
    classifier: Any, X: Any, *, um_per_pixel: float | None = None
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Return what ``predict`` answers and what ``predict_proba`` gives, None where it has none.

    The steps before the classifier of a pipeline run once, and so does a network: classifiers with
    a method ``labels_of(probabilities)`` answer from the probabilities alone. One with a
    parameter ``um_per_pixel`` gets the scale of the images where it is known.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> model = DummyClassifier(strategy="most_frequent").fit([[0], [1], [2]], ["a", "b", "b"])
    >>> labels_and_probabilities(model, [[3]])
    (array(['b'], dtype='<U1'), array([[0., 1.]]))
    """
    if not hasattr(classifier, "predict_proba"):
        return np.asarray(classifier.predict(X)), None
    if isinstance(classifier, Pipeline) and len(classifier) > 1:
        with one_blas_thread():
            return labels_and_probabilities(classifier[-1], classifier[:-1].transform(X))
    scale = {}
    if um_per_pixel is not None and hasattr(classifier, "um_per_pixel"):
        scale["um_per_pixel"] = um_per_pixel
    probabilities = np.asarray(classifier.predict_proba(X, **scale), float)
    if hasattr(classifier, "labels_of"):
        return classifier.labels_of(probabilities), probabilities
    if getattr(classifier, "voting", None) == "soft":  # scikit-learn's answers with the likeliest
        return np.asarray(classifier.classes_)[probabilities.argmax(axis=1)], probabilities
    return np.asarray(classifier.predict(X)), probabilities


def did_you_mean(got: object, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for a likely typo, or an empty string.

    Examples
    --------
    >>> did_you_mean("reinhart", ["reinhard", "macenko"])
    " Did you mean 'reinhard'?"
    """
    close = difflib.get_close_matches(str(got), list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def refuse_bare_fitted(
    value: Any, name: str, instead: str = "or an unfitted one to fit it on each training fold"
) -> None:
    """Refuse a fitted estimator as a parameter, which ``clone`` would silently empty.

    Parameters
    ----------
    value : object
        The value of the parameter; what is no estimator passes.
    name : str
        Name of the parameter.
    instead : str
        What may be given besides ``FrozenEstimator(name)``.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> refuse_bare_fitted(LogisticRegression(), "encoder")
    >>> refuse_bare_fitted(LogisticRegression().fit([[0], [1]], [0, 1]), "encoder")
    Traceback (most recent call last):
    ...
    ValueError: encoder is a fitted LogisticRegression; clone, and so every split, would lose ...
    """
    if not hasattr(value, "fit") or isinstance(value, type | FrozenEstimator):
        return
    if isinstance(value, BaseEstimator) and not value.__sklearn_tags__().requires_fit:
        return
    try:
        check_is_fitted(value)
    except NotFittedError:
        return
    raise ValueError(
        f"{name} is a fitted {type(value).__name__}; clone, and so every split, would lose what it "
        f"learned. Give FrozenEstimator({name}) to keep it as it is{', ' * bool(instead)}{instead}."
    )


class SignatureOfInit:
    """What ``help`` shows of a class: the parameters of ``__init__``, inherited or not.

    Python 3.11.2 and others would show those of an inherited ``__new__``.
    """

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        found = inspect.signature(owner.__init__)  # type: ignore[misc]
        return found.replace(parameters=list(found.parameters.values())[1:])


class SuggestsParameters(BaseEstimator):
    """Base that answers a misspelt parameter, or a misspelt option of one, with the likely one."""

    __signature__ = SignatureOfInit()
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Refuse unknown parameters before ``__init__`` does, with a suggestion."""
        known = _parameters_of(cls)  # type: ignore[arg-type]
        for name in params:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__} has no parameter {name!r}.{did_you_mean(name, known)} Its "
                    f"parameters are {', '.join(known)}."
                )
        return super().__new__(cls)

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            raise InvalidParameterError(f"{error}{self._typo()}") from None

    def _check_loaded(self) -> None:
        """Refuse parameters and fitted state of a file that compiled code could not take.

        Called when a saved model is read. Kernels do not check the bounds of arrays: whoever hands
        fitted state to one extends this.
        """
        self._validate_params()

    def _typo(self) -> str:
        for name, value in self.get_params(deep=False).items():
            constraints = self._parameter_constraints.get(name, [])
            options = [o for c in constraints if isinstance(c, Options) for o in c.options]
            if isinstance(value, str) and value not in options:
                found = did_you_mean(value, [o for o in options if isinstance(o, str)])
                if found:
                    return found
        return ""

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; a misspelt name is answered with the likely one."""
        try:
            return super().set_params(**params)
        except ValueError as error:
            known = self.get_params(deep=True)
            unknown = [name for name in params if name not in known]
            hint = did_you_mean(unknown[0], known) if unknown else ""
            raise ValueError(f"{error}{hint}") from None


@cache
def _parameters_of(cls: type) -> tuple[str, ...]:
    return tuple(cls._get_param_names())  # type: ignore[attr-defined]


class ImageEstimator(SuggestsParameters):
    """Base of every estimator that takes images."""

    _channels: ClassVar[Channels] = "any"
    _min_pixels: ClassVar[int] = 2
    # whether there is nothing to learn, so that transform works without fit
    _stateless: ClassVar[bool] = False

    def _check_images(self, X: Any) -> NDArray[Any]:
        return check_images(X, channels=self._channels, min_pixels=self._min_pixels, estimator=self)

    def __sklearn_tags__(self) -> Tags:
        """Say that the input is images, not a table."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.requires_fit = not self._stateless
        return tags


class TakesGroups:
    """Mixin for estimators whose ``fit`` has ``groups``: requests them under metadata routing.

    An estimator that holds out data in ``fit(X, y, groups=None, sample_indices=None)`` splits by
    these groups. ``sample_indices`` comes from an ImagePipeline whose sampler ran before: the row
    of the training data that each sample is, -1 where it is synthetic. Copies would then stand on
    both sides of an inner split, so the estimator holds out nothing and says so.
    """

    __metadata_request__fit = {"groups": True}


class NamesTheLikeliest:
    """Mixin for classifiers of images: the label is the class with the largest probability."""

    classes_: NDArray[Any]
    predict_proba: Callable[[Any], NDArray[np.float64]]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label for each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        labels : array of shape (n,)
        """
        return self.labels_of(self.predict_proba(X))

    def labels_of(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """Return the labels that ``predict`` gives where these are the probabilities.

        Parameters
        ----------
        probabilities : float array of shape (n, n_classes)
            As ``predict_proba`` returns them.

        Returns
        -------
        labels : array of shape (n,)
        """
        return self.classes_[probabilities.argmax(axis=1)]


class ImageTransformer(TransformerMixin, ImageEstimator, metaclass=ABCMeta):
    """Template of an image-to-image step.

    A leaf writes ``_transform_image(image)``, which returns a new uint8 image of the same number
    of channels (a segmenter adds the fourth), and ``_fit(X, y)`` when there is something to learn.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        # what has get_feature_names_out is wrapped in DataFrames otherwise
        super().__init_subclass__(auto_wrap_output_keys=None, **options)

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from training images.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : ignored
            For pipelines.

        Returns
        -------
        self : object
        """
        self._fit(self._check_images(X), y)
        return self

    def _fit(self, X: NDArray[Any], y: Any) -> None:
        """Learn from checked images; stateless steps have nothing to do."""

    @abstractmethod
    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a new image; the given one stays as it is."""

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the images after this step.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        images : uint8 array (n, H, W, C) or 1-D object array
            Dense for dense input where the sizes allow, else an object array.
        """
        check_is_fitted(self)
        X = self._check_images(X)
        if self._stateless:
            self._validate_params()
        images = map_images(self._transform_image, X, n_jobs=getattr(self, "n_jobs", None))
        return pack(images, dense=X.dtype != object)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Accept and ignore a container: images stay images, only tables become DataFrames."""
        return self

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Pass names on: images have no columns, but a pipeline calls this on every step.

        Parameters
        ----------
        input_features : array of str or None
            For pipelines.

        Returns
        -------
        input_features : array of str or None
        """
        return input_features


class FeatureExtractor(TransformerMixin, ImageEstimator, metaclass=ABCMeta):
    """Template of an image-to-row step: one named float row for every image, in order.

    A leaf writes ``_feature_names()``, which depends on the parameters only, and
    ``_features(image)``, which returns as many floats.
    """

    _stateless = True

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the images; there is nothing to learn.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : ignored
            For pipelines.

        Returns
        -------
        self : object
        """
        self._check_images(X)
        return self

    @abstractmethod
    def _feature_names(self) -> list[str]:
        """Return the column names, which depend on the parameters only."""

    @abstractmethod
    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Return the row of one image."""

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return one row of features for each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        features : float array of shape (n, n_features)
        """
        self._validate_params()
        X = self._check_images(X)
        rows = map_images(self._features, X, n_jobs=getattr(self, "n_jobs", None))
        return np.asarray(rows, dtype=np.float64).reshape(len(X), len(self._feature_names()))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : ignored
            For pipelines.

        Returns
        -------
        names : object array of str
        """
        return np.asarray(self._feature_names(), dtype=object)
