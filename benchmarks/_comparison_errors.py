"""Simulated comparisons of two classifiers: how often a test calls a difference, true or not.

Two kinds of simulation. "Drawn" predictions have stated accuracies, with random effects of patients
and of trainings on the probit scale. "Fitted" predictions come from two nearest-centroid
classifiers that see two equally informative views of the same images: patients differ, training
sets overlap, and training varies as it does in real cross-validation.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from hemaest.evaluation import corrected_ttest, paired_group_test


@dataclass(frozen=True)
class Scenario:
    """One simulated study."""

    name: str
    kind: str = "drawn"
    accuracies: tuple[float, float] = (0.85, 0.85)
    patients: int = 20
    images: int = 400
    classes: int = 5
    folds: int = 3
    unbalanced: bool = False
    patient_effect: float = 0.3
    training_effect: float = 0.0
    # share of what makes an image hard or a patient odd that both classifiers have in common
    shared: float = 0.5
    features: int = 6
    separation: float = 1.2
    gain: float = 0.0

    @property
    def is_null(self):
        """Whether the two classifiers are equally good."""
        return self.accuracies[0] == self.accuracies[1] and self.gain == 0


SCENARIOS = [
    Scenario("0.975 against 0.76", accuracies=(0.975, 0.76)),
    Scenario("0.975 against 0.76, patients differ twice as much", accuracies=(0.975, 0.76),
             patient_effect=0.6),
    Scenario("0.975 against 0.76, training varies", accuracies=(0.975, 0.76), training_effect=0.15),
    Scenario("0.975 against 0.76, unbalanced patients", accuracies=(0.975, 0.76), unbalanced=True),
    Scenario("0.975 against 0.76, 10 patients of 20", accuracies=(0.975, 0.76), patients=10,
             images=200),
    Scenario("0.975 against 0.76, 5 patients of 20", accuracies=(0.975, 0.76), patients=5,
             images=100),
    Scenario("0.95 against 0.90", accuracies=(0.95, 0.90)),
    Scenario("0.95 against 0.90, 5 folds", accuracies=(0.95, 0.90), folds=5),
    Scenario("equal"),
    Scenario("equal, patients differ twice as much", patient_effect=0.6),
    Scenario("equal, 400 images without patients", patients=400, patient_effect=0.0),
    Scenario("equal, unbalanced patients", unbalanced=True),
    Scenario("equal, training varies by 1 to 2 points", training_effect=0.1),
    Scenario("equal, training varies by 2 to 3 points", training_effect=0.15),
    Scenario("equal, training varies, 5 folds", training_effect=0.15, folds=5),
    Scenario("equal, nearly the same predictions", accuracies=(0.95, 0.95), shared=0.99),
    Scenario("equal, 5 patients of 20", patients=5, images=100),
    Scenario("equal, 8 patients of 20", patients=8, images=160),
    Scenario("equal, 10 patients, unbalanced", patients=10, images=200, unbalanced=True),
    Scenario("fitted, equal", kind="fitted", patient_effect=0.7),
    Scenario("fitted, equal, patients differ more", kind="fitted", patient_effect=1.2),
    Scenario("fitted, equal, training is noisy", kind="fitted", patient_effect=0.7,
             training_effect=0.6),
    Scenario("fitted, equal, unbalanced patients", kind="fitted", patient_effect=0.7,
             unbalanced=True),
    Scenario("fitted, equal, 4 of 6 features in common", kind="fitted", patient_effect=0.7,
             shared=0.67),
    Scenario("fitted, equal, 6 patients of 20", kind="fitted", patient_effect=0.7, patients=6,
             images=120),
    Scenario("fitted, equal, 10 patients, unbalanced", kind="fitted", patient_effect=0.7,
             patients=10, images=200, unbalanced=True),
    Scenario("fitted, equal, 5 folds", kind="fitted", patient_effect=0.7, folds=5),
    Scenario("fitted, equal, 20 features, 100 images", kind="fitted", patient_effect=0.3,
             features=20, images=100, separation=0.6),
]  # fmt: skip


def design(rng, s):
    """Draw labels and patients; unbalanced patients differ in size and in what they have."""
    size = rng.pareto(1.2, s.patients) + 0.2 if s.unbalanced else np.ones(s.patients)
    more = rng.choice(s.patients, s.images - s.patients, p=size / size.sum())
    groups = np.r_[np.arange(s.patients), more]
    mix = rng.dirichlet(np.full(s.classes, 2.0), s.patients)
    y = (rng.random(s.images)[:, None] > mix[groups].cumsum(1)).sum(1).clip(max=s.classes - 1)
    y[: s.classes] = np.arange(s.classes)
    return y, groups


def deal(rng, groups, n_folds):
    """Deal whole patients to folds, the largest first, each to a fold with the fewest images."""
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-np.floor(np.log2(sizes[order])), kind="stable")]
    load, fold = np.zeros(n_folds), np.zeros(len(sizes), int)
    for group in order:
        fold[group] = rng.choice(np.flatnonzero(load == load.min()))
        load[fold[group]] += sizes[group]
    return fold[groups]


def drawn(rng, s, y, groups, fold):
    """Draw which images each classifier gets right, around its stated accuracy."""
    image, patient = rng.normal(size=len(y)), rng.normal(size=s.patients)
    own, common = np.sqrt(1 - s.shared), np.sqrt(s.shared)

    def one(accuracy):
        noise = common * image + own * rng.normal(size=len(y))
        odd = s.patient_effect * (common * patient + own * rng.normal(size=s.patients))[groups]
        # training sets of different folds overlap, so their models have something in common
        kept, new = np.sqrt(1 / s.folds), np.sqrt(1 - 1 / s.folds)
        whole = kept * rng.normal() + new * rng.normal(size=s.folds)[fold]
        by_class = kept * rng.normal(size=s.classes)[y]
        by_class = by_class + new * rng.normal(size=(s.folds, s.classes))[fold, y]
        trained = s.training_effect * (whole + by_class) / np.sqrt(2)
        spread = np.sqrt(1 + s.patient_effect**2 + s.training_effect**2)
        return norm.ppf(accuracy) * spread + odd + trained + noise > 0

    return [one(accuracy) for accuracy in s.accuracies]


def fitted(rng, s, y, groups, fold):
    """Fit a nearest-centroid classifier to each of two equally informative views."""
    means = rng.normal(size=(s.classes, s.features)) * s.separation

    def view(gain):
        patients = rng.normal(size=(s.patients, s.features))[groups] * s.patient_effect
        return means[y] * (1 + gain) + patients + rng.normal(size=(len(y), s.features))

    common = round(s.features * s.shared) if s.shared != 0.5 else 0
    base = view(0.0)
    views = [view(s.gain), view(0.0)]
    for own in views:
        own[:, :common] = base[:, :common]

    def out_of_fold(X):
        right = np.zeros(len(y), bool)
        for k in range(s.folds):
            train, test = fold != k, fold == k
            centers = np.full((s.classes, s.features), 1e6)
            for c in np.unique(y[train]):
                noise = s.training_effect * rng.normal(size=s.features)
                centers[c] = X[train & (y == c)].mean(0) + noise
            distance = ((X[test][:, None] - centers) ** 2).sum(2)
            right[test] = distance.argmin(1) == y[test]
        return right

    return [out_of_fold(X) for X in views]


def fold_scores(y, right, fold, n_folds):
    """Return the balanced accuracy of each fold."""
    each = []
    for k in range(n_folds):
        own = fold == k
        each.append(np.mean([right[own & (y == c)].mean() for c in np.unique(y[own])]))
    return each


def simulate(s, repeats, seed=0):
    """Return how often each test calls a difference at 5%, and the mean difference."""
    rng = np.random.default_rng(seed)
    called = np.zeros(3)
    differences, covered = [], 0
    draw = {"drawn": drawn, "fitted": fitted}[s.kind]
    for _ in range(repeats):
        y, groups = design(rng, s)
        fold = deal(rng, groups, s.folds)
        a, b = draw(rng, s, y, groups, fold)
        d = a.astype(float) - b
        test = paired_group_test(d, y, groups, fold)
        by_fold = [fold_scores(y, right, fold, s.folds) for right in (a, b)]
        corrected = corrected_ttest(*by_fold, n_train=s.folds - 1, n_test=1)
        images = paired_group_test(d, y, np.arange(len(y)))
        called += [p < 0.05 for p in (test.pvalue, corrected.pvalue, images.pvalue)]
        covered += test.low <= 0 <= test.high
        differences.append(test.difference)
    return {
        "simulated study": s.name,
        "difference": float(np.mean(differences)),
        "its SD": float(np.std(differences)),
        "called by hemaest": called[0] / repeats,
        "corrected t-test": called[1] / repeats,
        "image by image": called[2] / repeats,
        "bar": "<= 0.06" if s.is_null else (">= 0.95" if s is SCENARIOS[0] else "(shown)"),
    }


def error_rates(repeats):
    """Return one row for each scenario."""
    return pd.DataFrame([simulate(s, repeats) for s in SCENARIOS])
