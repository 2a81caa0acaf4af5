"""From the cells of a smear to a label of the patient: bags of any size as one estimator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from hemaest._seeds import seed_of
from hemaest._words import some
from hemaest.base import HasMethods, Interval, StrOptions, TakesGroups, checked_fit
from hemaest.clinical._attention import fit_attention
from hemaest.clinical._crossfit import check_samples
from hemaest.groups import check_groups, group_quantile, grouped_holdout

Array = NDArray[np.float64]


class PatientClassifier(TakesGroups, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Label a patient, or a smear, from all of its cells.

    X is a sequence of bags, one a patient: each a sequence of images, or a 2-D array of embeddings,
    with any number of rows. y is one label a bag. ``cross_val_score(PatientClassifier(), bags, y)``
    therefore splits by patient, and no cell of a test patient is ever seen.

    Parameters
    ----------
    encoder : transformer, FrozenEstimator or None, default=None
        Images to vectors, for instance :class:`~hemaest.deep.DeepEmbedding` or a recipe without its
        last step. Unfitted, it is fitted on the cells of the training patients. With None bags
        hold embeddings.
    cell_classifier : classifier, FrozenEstimator or None, default=None
        Adds the mean probability of each type, the differential, to what is known of a bag. A
        fitted one goes in as ``FrozenEstimator``: bags have no labels of cells to fit it on.
    pooling : {"statistics", "mean", "attention"}, default="statistics"
        ``"statistics"``: mean, standard deviation and the given quantiles of each embedding, and
        logistic regression; ``"mean"`` without the others: a baseline. ``"attention"``: a small
        network learns how much each cell counts (gated attention, Ilse et al. 2018).
    quantiles : sequence of float, default=(0.1, 0.9)
        Quantiles of each embedding: a few strange cells move these, not the mean.
    classifier : classifier or None, default=None
        Last step of the first two; by default logistic regression on scaled columns.
    confidence_level : float, default=0.9
        Probability with which a set of :meth:`predict_set` holds the true label.
    calibration_fraction : float, default=0.0
        Share of the patients to hold out for the sets; 0 gives no sets.
    max_epochs : int, default=60
        Of the attention.
    random_state : int, RandomState instance or None, default=0
        Seed: the same images give the same report.

    Attributes
    ----------
    classes_ : ndarray
        Labels.
    thresholds_ : ndarray or None
        How strange a label may look and still be in the set, for each.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["healthy", "sick"], 20)
    >>> bags = [rng.normal(0, 1, (rng.integers(20, 40), 3)) for _ in y]
    >>> for bag, label in zip(bags, y):
    ...     bag[: 6 if label == "sick" else 0] += 4  # a few strange cells
    >>> model = PatientClassifier().fit(bags[::2], y[::2])
    >>> model.score(bags[1::2], y[1::2])
    1.0
    >>> sorted(model.decided(bags[-1], "sick", k=6).tolist())
    [0, 1, 2, 3, 4, 5]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "encoder": [HasMethods(["transform"]), None],
        "cell_classifier": [HasMethods(["predict_proba"]), None],
        "pooling": [StrOptions({"statistics", "mean", "attention"})],
        "quantiles": ["array-like"],
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "calibration_fraction": [Interval(Real, 0, 1, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        encoder: Any = None,
        *,
        cell_classifier: Any = None,
        pooling: str = "statistics",
        quantiles: Sequence[float] = (0.1, 0.9),
        classifier: Any = None,
        confidence_level: float = 0.9,
        calibration_fraction: float = 0.0,
        max_epochs: int = 60,
        random_state: Any = 0,
    ) -> None:
        self.encoder = encoder
        self.cell_classifier = cell_classifier
        self.pooling = pooling
        self.quantiles = quantiles
        self.classifier = classifier
        self.confidence_level = confidence_level
        self.calibration_fraction = calibration_fraction
        self.max_epochs = max_epochs
        self.random_state = random_state

    @checked_fit
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from labeled patients.

        Parameters
        ----------
        X : sequence of bags
            Each a sequence of images or a 2-D array of embeddings, of one or more cells.
        y : array-like of shape (n_bags,)
            One label a bag.
        groups : array-like of shape (n_bags,), optional
            Patients, where several bags (smears) are of one.

        Returns
        -------
        self : object
        """
        bags, y = self._bags(X), np.asarray(y)
        if y.shape != (len(bags),):
            raise ValueError(f"y has shape {y.shape}, but there are {len(bags)} bags: one each.")
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("y holds one label only: a classifier needs two or more.")
        if self.cell_classifier is not None and not isinstance(
            self.cell_classifier, FrozenEstimator
        ):
            raise ValueError(
                "cell_classifier must be FrozenEstimator(fitted classifier): bags have no labels "
                "of cells to fit it on."
            )
        seed = seed_of(self.random_state)
        codes = check_groups(groups, len(bags))
        train, held = np.arange(len(bags)), np.empty(0, dtype=np.intp)
        if self.calibration_fraction > 0:
            train, held = grouped_holdout(y, codes, self.calibration_fraction, seed)
        self._encoder = self._fitted_encoder([bags[i] for i in train])
        self._width: int | None = None
        vectors = [self._encode(bag) for bag in bags]
        self._fit_pooled([vectors[i] for i in train], y[train], seed)
        self.thresholds_ = None
        if len(held):
            strange = 1 - self._probability([vectors[i] for i in held])
            own = np.arange(len(bags)) if codes is None else codes
            self.thresholds_ = np.full(len(self.classes_), np.inf)
            for k, label in enumerate(self.classes_):
                mine = y[held] == label
                if mine.any():
                    self.thresholds_[k] = group_quantile(
                        strange[mine, k], own[held][mine], self.confidence_level
                    )
        return self

    def _bags(self, X: Any) -> list[NDArray[Any]]:
        if isinstance(X, np.ndarray) and X.dtype != object and X.ndim not in (3, 5):
            raise ValueError(
                f"X has shape {X.shape}: give a sequence of bags, each a sequence of images or a "
                "2-D array of embeddings."
            )
        bags = []
        for number, bag in enumerate(X):
            if len(bag) == 0:
                raise ValueError(f"bag {number} has no cell: a patient without cells has no label.")
            bags.append(check_samples(bag, self))
        if not bags:
            raise ValueError("X holds no bag.")
        return bags

    def _fitted_encoder(self, bags: list[NDArray[Any]]) -> Any:
        if self.encoder is None or isinstance(self.encoder, FrozenEstimator):
            return self.encoder
        cells: list[Any] = [cell for bag in bags for cell in bag]
        return clone(self.encoder).fit(check_samples(_joined(cells), self))

    def _encode(self, bag: NDArray[Any]) -> Array:
        """Return one row a cell: its embedding, and the probabilities of the types."""
        if self._encoder is None and (bag.dtype == object or bag.ndim != 2):
            raise ValueError(
                "bags hold images: give an encoder=, such as DeepEmbedding or HandcraftedFeatures."
            )
        vectors = bag if self._encoder is None else self._encoder.transform(bag)
        rows = np.asarray(vectors, dtype=float)
        if self._width is None:  # the first bag of fit
            self._width = rows.shape[1]
        if rows.shape[1] != self._width:
            raise ValueError(f"a bag has {rows.shape[1]} columns; the others have {self._width}.")
        empty = np.flatnonzero(~np.isfinite(rows).any(axis=1))
        if len(empty):
            raise ValueError(
                f"a bag has {len(empty)} cells without any value, at positions "
                f"{some(empty.tolist())}: leave these out."
            )
        rows = np.nan_to_num(rows)  # a feature that a cell does not have
        if self.cell_classifier is None:
            return rows
        return np.column_stack([rows, self.cell_classifier.predict_proba(bag)])

    def _pooled(self, rows: Array) -> Array:
        parts = [rows.mean(0)]
        if self.pooling == "statistics":
            parts += [rows.std(0), *np.quantile(rows, list(self.quantiles), axis=0)]
        return np.concatenate(parts)

    def _fit_pooled(self, vectors: list[Array], y: NDArray[Any], seed: int) -> None:
        if self.pooling == "attention":
            codes = np.searchsorted(self.classes_, y)
            self._model: Any = fit_attention(
                vectors, codes, len(self.classes_), int(self.max_epochs), seed
            )
            return
        last = self.classifier
        if last is None:
            last = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        self._model = clone(last).fit(np.array([self._pooled(rows) for rows in vectors]), y)

    def _probability(self, vectors: list[Array]) -> Array:
        if self.pooling == "attention":
            return np.array([self._model.probability(rows) for rows in vectors])
        found = self._model.predict_proba(np.array([self._pooled(rows) for rows in vectors]))
        full = np.zeros((len(vectors), len(self.classes_)))
        full[:, np.searchsorted(self.classes_, self._model.classes_)] = found
        return full

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each label.

        Parameters
        ----------
        X : sequence of bags
            As in ``fit``.

        Returns
        -------
        probability : float array of shape (n_bags, n_classes)
        """
        check_is_fitted(self, "classes_")
        return self._probability([self._encode(bag) for bag in self._bags(X)])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest label of each bag.

        Parameters
        ----------
        X : sequence of bags
            As in ``fit``.

        Returns
        -------
        labels : array of shape (n_bags,)
        """
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Return which labels each patient may have.

        Parameters
        ----------
        X : sequence of bags
            As in ``fit``.

        Returns
        -------
        sets : bool array of shape (n_bags, n_classes)
            In the order of ``classes_``; each holds the true label with probability
            ``confidence_level``, for new patients like those of ``fit``. A label of which too few
            patients were held out is in every set.
        """
        probability = self.predict_proba(X)
        if self.thresholds_ is None:
            raise ValueError("there are no sets: fit with calibration_fraction=0.25, say.")
        return 1 - probability <= self.thresholds_ + 1e-12

    def decided(self, bag: Any, label: Any = None, *, k: int = 12) -> NDArray[np.intp]:
        """Return the cells that spoke most for a label, for a gallery.

        Parameters
        ----------
        bag : sequence of images, or 2-D array of embeddings
            One patient.
        label : label, optional
            By default the one that is predicted.
        k : int, default=12
            How many.

        Returns
        -------
        positions : int array
            The cells without which the label would be less likely, most so first. With attention
            those with the largest weights.
        """
        rows = self._encode(self._bags([bag])[0])
        if self.pooling == "attention":
            return np.argsort(-self._model.weights(rows), kind="stable")[:k]
        whole = self._log_odds([rows])[0]
        at = int(whole.argmax())
        if label is not None:
            if label not in self.classes_:
                raise ValueError(f"{label!r} is none of the labels {self.classes_.tolist()}.")
            at = int(np.flatnonzero(self.classes_ == label)[0])
        if len(rows) == 1:
            return np.zeros(1, dtype=np.intp)
        without = [np.delete(rows, i, axis=0) for i in range(len(rows))]
        loss = whole[at] - self._log_odds(without)[:, at]
        return np.argsort(-loss, kind="stable")[:k]

    def _log_odds(self, vectors: list[Array]) -> Array:
        p = self._probability(vectors).clip(1e-12, 1 - 1e-12)
        return np.log(p / (1 - p))


def _joined(cells: list[Any]) -> Any:
    """Return the cells of many bags as one array; tables stay tables."""
    if all(np.ndim(cell) == 1 for cell in cells):
        return np.array(cells)
    return cells
