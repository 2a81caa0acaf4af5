"""Simulated smears with a known confusion that differs from patient to patient."""

import numpy as np

TYPES = np.array(["blast", "lymphocyte", "monocyte", "segmented neutrophil"])
CONFUSION = np.array(
    [
        [0.80, 0.10, 0.08, 0.02],
        [0.04, 0.92, 0.03, 0.01],
        [0.08, 0.04, 0.84, 0.04],
        [0.01, 0.01, 0.02, 0.96],
    ]
)


def patient(rng, precision=30):
    """Return one patient's own confusion."""
    return np.array([rng.dirichlet(precision * row) for row in CONFUSION])


def cells(rng, types, confusion):
    """Return what a classifier names each of some cells."""
    return np.array([rng.choice(TYPES, p=confusion[k]) for k in types])


def calibration(rng, n_patients=25, n_cells=80):
    """Return names, true types and patients."""
    true, named = [], []
    for _ in range(n_patients):
        types = rng.integers(0, 4, n_cells)
        named.append(cells(rng, types, patient(rng)))
        true.append(TYPES[types])
    return np.concatenate(named), np.concatenate(true), np.repeat(np.arange(n_patients), n_cells)
