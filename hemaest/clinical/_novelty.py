"""Is this image like what a model was trained on? Another stain, another scanner, no cell at all.

Written by hand: pytorch-ood scores logits of torch networks and knows no patients; the question
here concerns any model, before it predicts.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import OutlierMixin, clone
from sklearn.covariance import LedoitWolf
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from hemaest._parallel import map_images
from hemaest._seeds import seed_of
from hemaest.base import HasMethods, ImageEstimator, Interval, TakesGroups, checked_fit
from hemaest.clinical._crossfit import check_samples
from hemaest.features import ColorFeatures
from hemaest.groups import GroupedFolds, check_groups

Array = NDArray[np.float64]

SCALES = (1, 2, 4)


class NoveltyDetector(TakesGroups, OutlierMixin, ImageEstimator):  # type: ignore[misc]
    """Say whether an image, a cell or a smear is like those that a model was trained on.

    Images are described by their colors, by how sharp they are at three scales, and by an embedding
    where one is given. What lies far from the training images (Mahalanobis' distance, with a
    shrunken covariance) is novel. The threshold is chosen on patients that were held out, so that
    an image of a new patient of the same laboratory is called novel with the stated probability.

    Parameters
    ----------
    embedding : transformer, FrozenEstimator or None, default=None
        Images to vectors, for instance :class:`~hemaest.deep.DeepEmbedding`, beside colors and
        sharpness. Where X is a table of embeddings, it must be None.
    false_alarms : float, default=0.05
        Share of the images of new patients of the same laboratory that may be called novel.
    cv : int, default=5
        Folds over patients that choose the threshold.
    random_state : int, RandomState instance or None, default=0
        Seed of the folds: the same images give the same report.
    n_jobs : int, optional
        Threads over images.

    Attributes
    ----------
    offset_ : float
        Scores below it are novel.
    group_scores_ : float array
        Mean score of each training group, when it was held out.

    Notes
    -----
    With fewer groups than ``1 / false_alarms - 1`` the stated rate cannot be promised: a warning
    says so, and the least familiar training images set the threshold.

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(60, image_size=48, n_patients=30, random_state=0)
    >>> detector = NoveltyDetector().fit(cells.images, groups=cells.groups)
    >>> detector.predict(255 - cells.images[:3]).tolist()  # a negative is no smear
    [-1, -1, -1]
    >>> bool((detector.predict(cells.images) == 1).mean() > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "embedding": [HasMethods(["transform"]), None],
        "false_alarms": [Interval(Real, 0, 1, closed="neither")],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        embedding: Any = None,
        *,
        false_alarms: float = 0.05,
        cv: int = 5,
        random_state: Any = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.embedding = embedding
        self.false_alarms = false_alarms
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs

    @checked_fit
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Learn what is familiar, and the threshold.

        Parameters
        ----------
        X : images, or table of embeddings
            What the model was trained on.
        y : ignored
            For pipelines.
        groups : array-like of shape (n_samples,), optional
            Patients or smears. Without them images count as independent, and the rate of false
            alarms is that of new images of the same patients.

        Returns
        -------
        self : object
        """
        X = check_samples(X, self)
        if len(X) < 3:
            raise ValueError(f"X has {len(X)} images; at least 3 are needed.")
        codes = check_groups(groups, len(X))
        codes = np.arange(len(X)) if codes is None else codes
        n_groups = int(codes.max()) + 1
        if n_groups < 2:
            raise ValueError("all images are of one group: a second must be held out.")
        self._embed = self._fitted_embedding(X)
        vectors = self._describe(X)
        strange = np.empty(len(X))
        folds = GroupedFolds(min(self.cv, n_groups), random_state=seed_of(self.random_state))
        for train, test in folds.split(None, np.zeros(len(X)), codes):
            strange[test] = FamiliarVectors.of(vectors[train]).distance(vectors[test])
        self._familiar = FamiliarVectors.of(vectors)
        limit = _upper(strange, codes, self.false_alarms)
        if n_groups < 1 / self.false_alarms - 1:
            warnings.warn(
                f"{n_groups} groups are too few for a rate of false alarms of "
                f"{self.false_alarms:g}: at least {int(np.ceil(1 / self.false_alarms - 1))} are "
                "needed. The least familiar training images set the threshold.",
                stacklevel=3,
            )
        self.offset_ = -limit
        counts = np.bincount(codes)
        self.group_scores_ = -np.bincount(codes, strange) / counts
        return self

    def _fitted_embedding(self, X: Any) -> Any:
        if self.embedding is None:
            return None
        if X.dtype != object and X.ndim == 2:
            raise ValueError("X is a table: embedding= is for images, and must be None.")
        if isinstance(self.embedding, FrozenEstimator):
            return self.embedding
        return clone(self.embedding).fit(X)

    def _describe(self, X: Any) -> Array:
        if X.dtype != object and X.ndim == 2:
            return np.asarray(X, dtype=float)
        colors = ColorFeatures(n_jobs=self.n_jobs).fit_transform(_without_map(X))
        sharp = np.array(map_images(sharpness, X, n_jobs=self.n_jobs))
        parts = [np.asarray(colors, dtype=float), sharp]
        if self._embed is not None:
            parts.append(np.asarray(self._embed.transform(X), dtype=float))
        return np.column_stack(parts)

    def score_samples(self, X: Any) -> Array:
        """Return how familiar each image is; higher is more familiar.

        Parameters
        ----------
        X : images, or table of embeddings
            As in ``fit``.

        Returns
        -------
        scores : float array of shape (n_samples,)
            Minus Mahalanobis' distance; about -1 for training images, whatever the number of
            features.
        """
        check_is_fitted(self, "offset_")
        if len(X) == 0:
            return np.empty(0)
        X = check_samples(X, self)
        return -self._familiar.distance(self._describe(X))

    def decision_function(self, X: Any) -> Array:
        """Return the score less the threshold; below 0 is novel.

        Parameters
        ----------
        X : images, or table of embeddings
            As in ``fit``.

        Returns
        -------
        scores : float array of shape (n_samples,)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.intp]:
        """Return +1 for what is familiar and -1 for what is not.

        Parameters
        ----------
        X : images, or table of embeddings
            As in ``fit``.

        Returns
        -------
        answers : int array of shape (n_samples,)
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def smears(self, X: Any, groups: Any) -> pd.DataFrame:
        """Return how familiar whole smears are.

        Parameters
        ----------
        X : images, or table of embeddings
            Cells or fields of one or several smears.
        groups : array-like of shape (n_samples,)
            The smear of each.

        Returns
        -------
        table : DataFrame
            Index: smear. Columns: images, share of them that is `novel`, mean `score`, and `p`, the
            share of training groups that were as strange when held out: small for a smear unlike
            them all.
        """
        score = self.score_samples(X)
        table = pd.DataFrame({"smear": np.asarray(groups), "score": score})
        table["novel"] = score < self.offset_
        found = table.groupby("smear").agg(
            images=("score", "size"), novel=("novel", "mean"), score=("score", "mean")
        )
        stranger = (self.group_scores_[None] <= found["score"].to_numpy()[:, None]).sum(1)
        found["p"] = (1 + stranger) / (1 + len(self.group_scores_))
        return found


@dataclass(frozen=True)
class FamiliarVectors:
    """Mean and shrunken covariance of vectors, robust to columns that are missing or constant."""

    middle: Array
    spread: Array
    constant: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    model: Any

    @classmethod
    def of(cls, vectors: Array) -> Self:
        """Measure vectors."""
        middle = _median(vectors)
        filled = np.where(np.isfinite(vectors), vectors, middle)
        spread = filled.std(axis=0)
        spread = np.where(spread > 1e-9 * np.maximum(np.abs(middle), 1), spread, np.inf)
        # what never varied must not vary: a change there is as strange as ten deviations
        constant = np.isinf(spread)
        scaled = (filled - middle)[:, ~constant] / spread[~constant]
        model = LedoitWolf().fit(scaled) if scaled.shape[1] else None
        complete = np.asarray(np.isfinite(vectors).all(axis=0))
        return cls(middle, spread, constant, complete, model)

    def _filled(self, vectors: Array) -> Array:
        return np.where(np.isfinite(vectors), vectors, self.middle)

    def distance(self, vectors: Array) -> Array:
        """Return Mahalanobis' distance by the root of the number of columns."""
        if vectors.shape[1] != len(self.middle):
            raise ValueError(f"X has {vectors.shape[1]} columns, not {len(self.middle)} as in fit.")
        gap = self._filled(vectors) - self.middle
        moved = np.abs(gap[:, self.constant]) > 1e-6 * np.maximum(
            np.abs(self.middle[self.constant]), 1
        )
        # so must what was never missing
        lost = ~np.isfinite(vectors) & self.complete
        squared = 100.0 * (moved.sum(axis=1) + lost.sum(axis=1))
        if self.model is not None:
            scaled = gap[:, ~self.constant] / self.spread[~self.constant]
            # no batched product: an answer must not depend on the other images in the call
            centered = scaled - self.model.location_
            precision = self.model.precision_
            squared = squared + np.array([row @ precision @ row for row in centered])
        return np.sqrt(np.maximum(squared, 0) / len(self.middle))


def _upper(strange: Array, groups: NDArray[np.intp], share: float) -> float:
    """Return what a share of a group's images exceeds, every group counting alike."""
    weight = 1 / np.bincount(groups)[groups]
    order = np.argsort(strange, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(strange[order[np.searchsorted(reached, 1 - share - 1e-12)]])


def _median(vectors: Array) -> Array:
    finite = np.where(np.isfinite(vectors), vectors, np.nan)
    empty = np.isnan(finite).all(axis=0)
    finite[:, empty] = 0.0
    return np.nanmedian(finite, axis=0)


def _without_map(X: Any) -> Any:
    """Return RGB images: a cell map says nothing of the stain, and not all have one."""
    if X.dtype != object:
        return X[..., :3]
    return X


def sharpness(image: NDArray[np.uint8]) -> list[float]:
    """Return how much fine detail an image has at three scales, in itself and for its contrast.

    Examples
    --------
    >>> flat = np.full((16, 16, 3), 200, np.uint8)
    >>> [round(value, 2) for value in sharpness(flat)][:2]
    [0.0, 0.0]
    """
    import cv2

    gray = image[..., :3].mean(axis=2).astype(np.float32)
    found = [float(np.log1p(gray.std()))]
    last = None
    for scale in SCALES:
        height, width = max(gray.shape[0] // scale, 3), max(gray.shape[1] // scale, 3)
        small = cv2.resize(gray, (width, height), interpolation=cv2.INTER_AREA)
        detail = float(np.log1p(cv2.Laplacian(small, cv2.CV_32F).std()))
        found.append(detail)
        if last is not None:
            found.append(detail - last)
        last = detail
    return found
