"""Judges of synthetic images: small classifiers of inner folds, who know unseen real cells.

Each judge learns from one side of an inner fold and looks at the other. From the other sides
together follow the recall of each class, how far an unseen real cell of a class lies from the
training cells, and how near it comes. A synthetic cell that lies further is not
realistic; one that comes nearer than real cells do is a copy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.base import clone

from hemaest.deep.letterbox import letterbox
from hemaest.groups import encode, inner_folds, join_copies
from hemaest.images import as_array

# of the distances of unseen real cells
FAR, NEAR = 0.95, 0.01


@dataclass
class Judge:
    """An encoder and the embeddings of its training images."""

    encoder: Any
    points: NDArray[np.float32]
    target: NDArray[np.intp]

    def distances(self, images: NDArray[Any], code: int) -> NDArray[np.float64]:
        """Return how far each image is from the nearest cell of a class."""
        return nearest(embed(self.encoder, images), self.points[self.target == code])


@dataclass
class Judges:
    """All judges, what they found out about real cells, and the verdict on synthetic ones.

    Parameters
    ----------
    members : list of Judge
    recall : float array
        Of each class, over the inner folds; NaN where no judge was fitted on it, as when all its
        images are of one patient.
    far : float array
        Of each class: what 95 of 100 unseen real cells stay within.
    near : float
        What 1 of 100 unseen real cells comes within.
    """

    members: list[Judge]
    recall: NDArray[np.float64]
    far: NDArray[np.float64]
    near: float

    def verdict(self, images: NDArray[Any], code: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return which images are too far for most judges, and which are copies for any."""
        members = [m for m in self.members if (m.target == code).any()]
        if not members:
            return np.zeros(len(images), bool), np.zeros(len(images), bool)
        each = np.stack([member.distances(images, code) for member in members])
        too_far = (each > self.far[code]).mean(axis=0) > 0.5
        return np.asarray(too_far), np.any(each < self.near, axis=0)


def embed(encoder: Any, images: NDArray[Any]) -> NDArray[np.float32]:
    """Return unit vectors that do not depend on how a cell is turned or mirrored."""
    images = np.stack([letterbox(as_array(image), encoder.image_size) for image in images])
    total = np.zeros((1, 1))
    for view in range(8):
        seen = np.rot90(images, view % 4, axes=(1, 2))
        total = total + encoder.transform(np.ascontiguousarray(seen[:, :, :: 1 - 2 * (view // 4)]))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.maximum(length, 1e-12)).astype(np.float32)


def nearest(points: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of each point to the nearest of others.

    Examples
    --------
    >>> nearest(np.array([[0.0], [5.0]]), np.array([[1.0], [4.5]])).tolist()
    [1.0, 0.5]
    """
    if not len(points):
        return np.empty(0)
    blocks = [cdist(points[i : i + 1024], others).min(axis=1) for i in range(0, len(points), 1024)]
    return np.concatenate(blocks)


def _folds(X: NDArray[Any], y: NDArray[Any], groups: Any, n_folds: int, seed: int) -> Any:
    """Return folds that divide neither a group nor exact copies."""
    try:
        return inner_folds(y, join_copies(X, groups), n_folds, seed)
    except ValueError as error:
        raise ValueError(
            f"{error} Exact copies of an image are one group too. Give finer groups, or set "
            "adaptive=False and realism_filter=False."
        ) from error


def seeded_clone(encoder: Any, seed: int) -> Any:
    """Return an unfitted copy, seeded where it takes a seed and has none.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> seeded_clone(DummyClassifier(), 5), seeded_clone(DummyClassifier(random_state=3), 5)
    (DummyClassifier(random_state=5), DummyClassifier(random_state=3))
    """
    copy = clone(encoder)
    params = copy.get_params(deep=False)
    return copy.set_params(random_state=seed) if params.get("random_state", 0) is None else copy


def fit_judges(
    encoder: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    classes: NDArray[Any],
    *,
    groups: Any,
    n_folds: int,
    seed: int,
) -> Judges:
    """Fit one judge on each inner fold.

    Parameters
    ----------
    encoder : classifier with ``transform`` and ``image_size``
        Cloned; one in a ``FrozenEstimator`` stays as it is.
    X, y, classes : arrays
        Checked images, their labels, and the sorted labels.
    groups : array-like or None
        What every fold keeps together.
    n_folds : int
        Fewer where there are fewer groups.
    seed : int
        Decides the folds.
    """
    target = encode(y, classes)
    members: list[Judge] = []
    hits = np.zeros(len(classes))
    seen = np.zeros(len(classes))
    found: list[list[NDArray[np.float64]]] = [[] for _ in classes]
    for train, held in _folds(X, y, groups, n_folds, seed):
        if len(np.unique(target[train])) < 2:
            continue  # a judge of one class has nothing to distinguish
        fitted = seeded_clone(encoder, seed).fit(X[train], y[train])
        judge = Judge(fitted, embed(fitted, X[train]), target[train])
        members.append(judge)
        # a judge cannot recognize a class that it was not fitted on
        known = held[np.isin(target[held], judge.target)]
        if len(known):
            np.add.at(hits, target[known], fitted.predict(X[known]) == y[known])
            np.add.at(seen, target[known], 1)
        for code in np.unique(target[known]):
            found[code].append(judge.distances(X[known][target[known] == code], code))
    joined = [np.concatenate(f) if f else np.empty(0) for f in found]
    everything = np.concatenate(joined)
    general = np.quantile(everything, FAR) if len(everything) else np.inf
    far = np.array([np.quantile(d, FAR) if len(d) >= 5 else general for d in joined])
    near = float(np.quantile(everything, NEAR)) if len(everything) else 0.0
    recall = np.where(seen > 0, hits / np.maximum(seen, 1), np.nan)
    return Judges(members, recall, far, near)
