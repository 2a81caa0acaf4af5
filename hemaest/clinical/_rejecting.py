"""A classifier that answers only where the risk allows it, for a new patient too.

Written by hand: the risk control of MAPIE takes single samples for independent and X for a table;
crepes gives sets, not a bound on the risk of the cells that are answered. Neither knows patients.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from hemaest._seeds import seed_of
from hemaest.base import HasMethods, Interval, StrOptions, TakesGroups, checked_fit
from hemaest.clinical._crossfit import aligned, check_labels, check_samples, out_of_fold
from hemaest.clinical._taxonomy import CellTaxonomy
from hemaest.groups import check_groups

Array = NDArray[np.float64]

UNIDENTIFIED = "unidentified"
# shares of the cells that are called by a class at the thresholds tried, from strict to lenient
COVERAGES = np.linspace(0.25, 1.0, 151)


class RejectingClassifier(  # type: ignore[misc]
    TakesGroups, ClassifierMixin, MetaEstimatorMixin, BaseEstimator
):
    """Answer, back off to a wider type, or say "unidentified", so that few answers are wrong.

    The classifier's probabilities are calibrated on cells of patients that it has not seen. A cell
    is called by its likeliest class where that is likely enough; else by the narrowest wider type
    of the taxonomy that is ("immature granulocyte"); else "unidentified". What is likely enough is
    chosen so that, with the stated confidence, at most the stated share of the answers is wrong on
    new patients.

    Parameters
    ----------
    classifier : classifier
        With ``predict_proba``. A ``FrozenEstimator`` is not fitted again, and all cells given to
        ``fit`` calibrate it; it must not have seen them.
    risk : float, default=0.05
        Highest share of wrong answers among the cells that are answered.
    confidence : float, default=0.95
        Probability, over draws of the training patients, with which that holds.
    taxonomy : {"blood", "marrow"}, CellTaxonomy or None, default="blood"
        Where the wider types come from. With None, or where a label is in no taxonomy, there are
        none.
    cv : int, default=5
        Folds of the cross-fitting.
    random_state : int, RandomState instance or None, default=0
        Seed of the folds: the same images give the same report.

    Attributes
    ----------
    classes_ : ndarray
        Labels.
    classifier_ : classifier
        The fitted part.
    wider_ : dict of str to list
        Wider types that may be answered, with the classes that each holds.
    threshold_ : float
        Least probability of an answer; infinite where nothing may be answered.
    temperature_ : float
        Above 1 where the classifier was too sure.
    curve_ : DataFrame
        For each threshold tried: share of cells answered, and with a class; share of wrong ones
        among them; p-values of the hypothesis that the risk is too high.

    Notes
    -----
    Risks are compared with the stated one by a test over patients (Johnson's t-test for skewed
    data), from strict to lenient thresholds until the first that is not clearly below. Cells of one
    patient may depend on each other in any way. Wider types are easy to be right about, so the
    answers that name a class must pass the same test by themselves; for these alone the confidence
    is a little lower (0.93 where 0.95 was stated, in ``benchmarks/clinical.py``). With few patients
    little can be promised: five are not enough for 5%. The promise is for patients like those of
    ``fit``, with types as frequent as there; it does not hold for another stain or scanner, see
    :class:`NoveltyDetector`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["promyelocyte", "myelocyte", "lymphocyte"], 400)
    >>> middle = {"promyelocyte": [0, 0], "myelocyte": [1, 0], "lymphocyte": [3, 5]}
    >>> X = np.array([middle[label] for label in y]) + rng.normal(0, 0.6, (1200, 2))
    >>> model = RejectingClassifier(LogisticRegression()).fit(X, y, groups=np.arange(1200) % 30)
    >>> model.predict([[-1.5, 0], [0.5, 0], [2, 2.5]]).tolist()
    ['promyelocyte', 'immature granulocyte', 'unidentified']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "classifier": [HasMethods(["fit", "predict_proba"])],
        "risk": [Interval(Real, 0, 1, closed="neither")],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "taxonomy": [StrOptions({"blood", "marrow"}), CellTaxonomy, None],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        classifier: Any,
        *,
        risk: float = 0.05,
        confidence: float = 0.95,
        taxonomy: Any = "blood",
        cv: int = 5,
        random_state: Any = 0,
    ) -> None:
        self.classifier = classifier
        self.risk = risk
        self.confidence = confidence
        self.taxonomy = taxonomy
        self.cv = cv
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Take the tags of the classifier inside."""
        tags = super().__sklearn_tags__()
        tags.input_tags = self.classifier.__sklearn_tags__().input_tags
        return tags

    @checked_fit
    def fit(self, X: Any, y: Any, groups: Any = None, sample_indices: Any = None) -> Self:
        """Fit the classifier, calibrate it, and choose the threshold.

        Parameters
        ----------
        X : images, or table of features
            As the classifier takes them.
        y : array-like of shape (n_samples,)
            Labels.
        groups : array-like of shape (n_samples,), optional
            Patients or smears. Without them cells count as independent, and the promise is for
            cells of the same patients.
        sample_indices : array-like of shape (n_samples,), optional
            Given by a pipeline whose sampler ran before; copies cannot calibrate.

        Returns
        -------
        self : object
        """
        X = check_samples(X, self)
        y = check_labels(y, len(X))
        if sample_indices is not None and len(np.unique(sample_indices)) < len(y):
            raise ValueError(
                "RejectingClassifier stands behind a sampler: copies would lie both in training "
                "and in calibration. Put it outermost, around the pipeline that holds the sampler."
            )
        self.classifier_, raw, self.classes_ = out_of_fold(
            self.classifier, X, y, groups, self.cv, seed_of(self.random_state)
        )
        known = np.isin(y, self.classes_)  # of other types every answer is wrong
        codes = np.searchsorted(self.classes_, y).clip(0, len(self.classes_) - 1)
        self.temperature_ = _temperature(raw[known], codes[known]) if known.any() else 1.0
        probability = _tempered(raw, self.temperature_)
        self._members = _wider_members(self.taxonomy, self.classes_)
        self.wider_ = {w: self.classes_[m].tolist() for w, m in self._members.items()}
        patients = check_groups(groups, len(y))
        self._choose(probability, codes, known, np.arange(len(y)) if patients is None else patients)
        if np.isinf(self.threshold_):
            warnings.warn(
                f"No threshold keeps the risk below {self.risk:g} with confidence "
                f"{self.confidence:g} on {len(y) if patients is None else int(patients.max()) + 1} "
                "patients, so that every cell is unidentified. Give more patients, or a higher "
                "risk; curve_ shows what each threshold reached.",
                stacklevel=3,
            )
        return self

    def _choose(
        self, probability: Array, codes: Any, known: NDArray[np.bool_], patients: Any
    ) -> None:
        """Test thresholds from strict to lenient; stop at the first that is not clearly safe."""
        sure = np.quantile(probability.max(1), 1 - COVERAGES, method="lower")
        thresholds = np.unique(sure)[::-1]
        n_groups = int(patients.max()) + 1
        rows = []
        for threshold in thresholds:
            answer = _answers(probability, self._members, threshold)
            right = known & _is_right(answer, codes, self._members, len(self.classes_))
            answered = answer >= 0
            exact = answered & (answer < len(self.classes_))
            row = {"threshold": threshold, "answered": answered.mean(), "exact": exact.mean()}
            for name, chosen in (("", answered), (" exact", exact)):
                wrong = np.bincount(patients, chosen & ~right, n_groups).astype(float)
                given = np.bincount(patients, chosen, n_groups).astype(float)
                row[f"risk{name}"] = wrong.sum() / max(given.sum(), 1)
                row[f"p{name}"] = risk_pvalue(wrong, given, self.risk)
            rows.append(row)
        self.curve_ = pd.DataFrame(rows)
        unsafe = self.curve_[["p", "p exact"]].max(axis=1) > 1 - self.confidence
        last = int(unsafe.argmax()) if unsafe.any() else len(unsafe)
        self.threshold_ = float(thresholds[last - 1]) if last else float("inf")

    def predict_proba(self, X: Any) -> Array:
        """Return the calibrated probabilities of the classes.

        Parameters
        ----------
        X : images, or table of features
            As the classifier takes them.

        Returns
        -------
        probability : float array of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "threshold_")
        X = check_samples(X, self)
        return _tempered(aligned(self.classifier_, X, self.classes_), self.temperature_)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return a class, a wider type or "unidentified" for each cell.

        Parameters
        ----------
        X : images, or table of features
            As the classifier takes them.

        Returns
        -------
        answers : array of shape (n_samples,)
            Of strings where the labels are, else of objects.
        """
        return self.labels_of(self.predict_proba(X))

    def labels_of(self, probabilities: Array) -> NDArray[Any]:
        """Return the answers that ``predict`` gives where these are the probabilities.

        Parameters
        ----------
        probabilities : float array of shape (n, n_classes)
            As ``predict_proba`` returns them.

        Returns
        -------
        answers : array of shape (n,)
            Of strings where the labels are, else of objects.
        """
        check_is_fitted(self, "threshold_")
        answer = _answers(np.asarray(probabilities), self._members, self.threshold_)
        words = np.array([*self.classes_.tolist(), *self._members, UNIDENTIFIED], dtype=object)
        given = words[answer]  # -1 is the last, "unidentified"
        return given.astype(str) if self.classes_.dtype.kind in "US" else given


def risk_pvalue(wrong: Array, given: Array, risk: float) -> float:
    """Return the p-value of "the share of wrong answers is `risk` or more", from patients' counts.

    Johnson's t-test for skewed data, on wrong answers less `risk` times the answers; its variance
    is never below that of independent answers, so that no error at all is no proof.

    Examples
    --------
    >>> round(risk_pvalue(np.zeros(20), np.full(20, 50.0), 0.05), 6) < 0.001
    True
    >>> risk_pvalue(np.full(20, 3.0), np.full(20, 50.0), 0.05) > 0.5
    True
    >>> risk_pvalue(np.zeros(1), np.ones(1), 0.05)
    1.0

    For independent cells at just that risk it is as uniform as the p-value of a binomial test:

    >>> draws = np.random.default_rng(0).binomial(40, 0.05, (2000, 60))
    >>> p = np.array([risk_pvalue(wrong, np.full(60, 40.0), 0.05) for wrong in draws])
    >>> [bool(abs((p <= level).mean() - level) < 0.025) for level in (0.05, 0.1, 0.5)]
    [True, True, True]
    """
    answered = given > 0
    n = int(answered.sum())
    if n < 2:
        return 1.0
    excess = (wrong - risk * given)[answered]
    mean = excess.mean()
    least = given[answered].mean() * risk * (1 - risk)
    variance = max(float(excess.var(ddof=1)), float(least))
    third = float(((excess - mean) ** 3).mean())
    shifted = mean + third / (6 * variance * n) + third / (3 * variance**2) * mean**2
    return float(stats.t.cdf(shifted / np.sqrt(variance / n), n - 1))


def _temperature(probability: Array, codes: NDArray[np.intp]) -> float:
    """Return the temperature that makes the true classes likeliest."""
    logs = np.log(np.maximum(probability, 1e-12))

    def loss(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        top = scaled.max(1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(scaled - top).sum(1))
        return float((total - scaled[np.arange(len(codes)), codes]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded").x))


def _tempered(probability: Array, temperature: float) -> Array:
    logs = np.log(np.maximum(probability, 1e-12)) / temperature
    odds = np.exp(logs - logs.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def _wider_members(taxonomy: Any, classes: NDArray[Any]) -> dict[str, list[int]]:
    if taxonomy == "blood":
        taxonomy = CellTaxonomy.blood()
    elif taxonomy == "marrow":
        taxonomy = CellTaxonomy.marrow()
    if taxonomy is None or not all(label in taxonomy for label in classes.tolist()):
        return {}
    found = taxonomy.answers(classes.tolist())
    return {w: m for w, m in found.items() if w not in classes.tolist()}


def _node_probabilities(probability: Array, members: dict[str, list[int]]) -> Array:
    wide = [probability[:, m].sum(1) for m in members.values()]
    return np.column_stack([probability, *wide]) if wide else probability


def _answers(
    probability: Array, members: dict[str, list[int]], threshold: float
) -> NDArray[np.intp]:
    """Return the number of the class, or of the wider type after them, or -1."""
    nodes = _node_probabilities(probability, members)
    sizes = np.array([1] * probability.shape[1] + [len(m) for m in members.values()])
    likely = nodes >= threshold
    # the narrowest, and of several as narrow the likeliest
    preference = np.where(likely, nodes - 2.0 * sizes, -np.inf)
    return np.where(likely.any(1), preference.argmax(1), -1)


def _is_right(
    answer: NDArray[np.intp], codes: NDArray[np.intp], members: dict[str, list[int]], n: int
) -> NDArray[np.bool_]:
    holds = np.zeros((n + len(members) + 1, n), dtype=bool)
    holds[np.arange(n), np.arange(n)] = True
    for at, inside in enumerate(members.values()):
        holds[n + at, inside] = True
    return holds[answer, codes]
