"""Reach the net inside a fitted pipeline, and the images that enter it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from hemaest.deep._owner import OwnsNet
from hemaest.images import check_images


def reach_net(estimator: Any, X: Any, name: str) -> tuple[Any, NDArray[Any]]:
    """Return the deep classifier of a fitted estimator, and X as it reaches it.

    Parameters
    ----------
    estimator : fitted classifier or Pipeline
        What ends in a deep classifier.
    X : images
        As the estimator takes them.
    name : str
        Who asks, for errors.
    """
    images = check_images(X, estimator=name)
    before: list[Any] = []
    while isinstance(estimator, (FrozenEstimator, Pipeline)):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            check_is_fitted(estimator)
            before.extend([estimator[:-1]] if len(estimator.steps) > 1 else [])
            estimator = estimator.steps[-1][1]
    if not (isinstance(estimator, OwnsNet) and hasattr(estimator, "predict_proba")):
        raise TypeError(
            f"{name} looks into a net, but this ends in {type(estimator).__name__}; give a fitted "
            "deep classifier (hemaest.deep) or a Pipeline that ends in one."
        )
    check_is_fitted(estimator, "net_")
    for steps in before:
        images = check_images(steps.transform(images), estimator=name)
    return estimator, images


def targets_of(classifier: Any, images: NDArray[Any], target: Any) -> NDArray[np.intp]:
    """Return for each image the place of the class to explain; by default the predicted one."""
    if target is None:
        return classifier.predict_proba(images).argmax(axis=1)
    given = np.asarray(target)
    if given.ndim and given.shape != (len(images),):
        raise ValueError(
            f"target has shape {given.shape}, but there are {len(images)} images; give one label "
            "for all, or one for each."
        )
    wanted = np.broadcast_to(given, (len(images),))
    known = {label: i for i, label in enumerate(classifier.classes_.tolist())}
    missing = [label for label in dict.fromkeys(wanted.tolist()) if label not in known]
    if missing:
        raise ValueError(f"target {missing[0]!r} is no class of the model: {list(known)}.")
    return np.array([known[label] for label in wanted.tolist()])
