"""Simulated smears: patients that differ, shifted prevalence, and what a classifier says of cells.

Cells are points of a plane of eight dimensions around the mean of their type; each patient moves
all means by a shift of its own (stain) and each mean by another (disease). The classifier knows the
means of the population and no more, as one that was trained on many patients.
"""

from dataclasses import dataclass

import numpy as np

TYPES = np.array(
    [
        "segmented neutrophil",
        "band neutrophil",
        "eosinophil",
        "basophil",
        "lymphocyte",
        "reactive lymphocyte",
        "monocyte",
        "immature granulocyte",
        "blast",
        "erythroblast",
    ]
)
USUAL = np.array([50, 5, 4, 1.5, 28, 3, 7, 1, 0.3, 0.2]) / 100
SIZE = 8


@dataclass
class Patients:
    """A population of patients and the classifier that is used on them."""

    # distance of the types' means from the middle; 4.2 makes 90% accuracy
    distance: float = 4.2
    # how far a patient's cells lie off, in standard deviations of a type
    stain: float = 0.25
    disease: float = 0.32

    def __post_init__(self):
        rng = np.random.default_rng(1234)
        means = rng.normal(0, 1, (len(TYPES), SIZE))
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        # what is hard in blood too: bands and segments, and blasts among lymphocytes and monocytes
        means[1] = means[0] + 0.8 * means[1]
        means[8] = means[5] + means[6] + 0.8 * means[8]
        self.means = self.distance * means / np.linalg.norm(means, axis=1, keepdims=True)

    def patient(self, rng):
        """Return the means of one patient's types."""
        own = self.disease * rng.normal(0, 1, self.means.shape)
        return self.means + self.stain * rng.normal(0, 1, SIZE) + own

    def smear(self, rng, n, composition, patient=None):
        """Return true types (codes) and probabilities of n cells."""
        means = self.patient(rng) if patient is None else patient
        y = rng.choice(len(TYPES), n, p=composition)
        return y, self.probabilities(means[y] + rng.normal(0, 1, (n, SIZE)))

    def probabilities(self, x):
        """Return what the classifier says, all types being equally likely beforehand."""
        logit = x @ self.means.T - 0.5 * (self.means**2).sum(1)
        odds = np.exp(logit - logit.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def calibration(self, rng, n_patients=30, n_cells=100):
        """Return probabilities, labels and patients of a labeled set, rare types enriched."""
        p, y = [], []
        for _ in range(n_patients):
            mixture = 0.5 * rng.dirichlet(20 * USUAL + 0.02) + 0.5 / len(TYPES)
            labels, shares = self.smear(rng, n_cells, mixture)
            y.append(labels)
            p.append(shares)
        order = np.argsort(TYPES)
        patients = np.repeat(np.arange(n_patients), n_cells)
        return np.concatenate(p)[:, order], TYPES[np.concatenate(y)], patients


def composition(rng):
    """Return the mixture of a smear: usual, blasts, lymphocytosis, left shift, eosinophilia."""
    mixture = rng.dirichlet(20 * USUAL + 0.02)
    kind = rng.integers(5)
    extra = np.zeros(len(TYPES))
    if kind == 1:
        extra[8] = 0.4 * rng.beta(1, 2)
    elif kind == 2:
        extra[4] = rng.uniform(0.05, 0.4)
    elif kind == 3:
        extra[[7, 1]] = rng.uniform(0.02, 0.2) / 2
    elif kind == 4:
        extra[[2, 6]] = rng.uniform(0.02, 0.3) * np.array([0.6, 0.4])
    return (1 - extra.sum()) * mixture + extra
