"""The protocols by which published figures came out too high, reproduced on purpose.

Each takes an unfitted pipeline, images and labels, and returns the accuracy that its authors would
have reported. None of these is a result: they show what the protocol adds.
"""

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import accuracy_score

from hemaest.images import as_array, pack


def random_parts(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows drawn one by one, whatever they are copies of, and the rest."""
    order = np.random.default_rng(seed).permutation(n)
    cut = round(share * n)
    return order[cut:], order[:cut]


def best_validation_epoch(model: Any, X: Any, y: Any, seed: int) -> float:
    """Report the epoch that was best on the images by which it was chosen."""
    net = clone(model).set_params(
        classify__early_stopping=True,
        classify__validation_fraction=0.2,
        classify__patience=1000,
        classify__random_state=seed,
    )
    history = net.fit(X, y)[-1].history_
    return float(history["valid_balanced_accuracy"].max())


def scored_on_training(model: Any, X: Any, y: Any, seed: int) -> float:
    """Hold images out for validation, and train on them as well."""
    _, held = random_parts(len(X), 0.2, seed)
    return float(accuracy_score(y[held], clone(model).fit(X, y).predict(X[held])))


def copies_dealt_one_by_one(model: Any, X: Any, y: Any, seed: int) -> float:
    """Turn each photograph four ways and deal the copies to training and test at random."""
    copies = [np.rot90(as_array(image), k) for image in X for k in range(4)]
    images, labels = pack([np.ascontiguousarray(c) for c in copies], dense=False), np.repeat(y, 4)
    train, test = random_parts(len(images), 0.2, seed)
    fitted = clone(model).fit(images[train], labels[train])
    return float(accuracy_score(labels[test], fitted.predict(images[test])))


def split_anew(model: Any, X: Any, y: Any, seed: int) -> float:
    """Train on one random split and test on another, most of which was trained on."""
    train, _ = random_parts(len(X), 0.3, seed)
    _, test = random_parts(len(X), 0.2, seed + 1)
    return float(accuracy_score(y[test], clone(model).fit(X[train], y[train]).predict(X[test])))
