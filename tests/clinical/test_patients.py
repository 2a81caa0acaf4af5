"""A few strange cells are found in bags of any size; sets hold; the right cells decided."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from hemaest.clinical import PatientClassifier
from hemaest.features import ColorFeatures


def patients(n, seed=0, strange=0.15):
    """Return ragged bags of embeddings: in the sick some cells lie far off, to either side."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n) % 2, "sick", "healthy")
    bags = []
    for label in y:
        bag = rng.normal(0, 1, (rng.integers(15, 50), 4)) + 0.3 * rng.normal(0, 1, 4)
        if label == "sick":
            few = max(2, int(strange * len(bag)))
            bag[:few, 0] += 4 * np.where(np.arange(few) % 2, 1, -1)  # the mean says nothing
        bags.append(bag)
    return bags, y


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["statistics", "attention"])
def test_a_few_strange_cells_are_enough_where_the_mean_is_blind(pooling):
    bags, y = patients(60)
    new, truth = patients(60, seed=1)
    model = PatientClassifier(pooling=pooling, max_epochs=25).fit(bags, y)
    assert model.score(new, truth) > (0.9 if pooling == "statistics" else 0.8)
    assert PatientClassifier(pooling="mean").fit(bags, y).score(new, truth) < 0.75
    found = model.decided(new[1], "sick" if pooling == "statistics" else None, k=2)
    assert set(found.tolist()) <= set(range(max(2, int(0.15 * len(new[1])))))
    np.testing.assert_allclose(model.predict_proba(new).sum(1), 1)
    np.testing.assert_allclose(model.predict_proba(new[3:5]), model.predict_proba(new)[3:5])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(new), model.predict_proba(new))
    np.testing.assert_array_equal(
        clone(model).fit(bags, y).predict_proba(new), model.predict_proba(new)
    )


def test_it_is_scored_over_patients():
    bags, y = patients(40)
    ragged = np.empty(len(bags), dtype=object)
    for i, bag in enumerate(bags):
        ragged[i] = bag
    assert cross_val_score(PatientClassifier(), ragged, y, cv=4).mean() > 0.85


def test_sets_hold_the_true_label():
    held = []
    for seed in range(12):
        bags, y = patients(80, seed=seed, strange=0.06)
        model = PatientClassifier(calibration_fraction=0.4, confidence_level=0.8, random_state=seed)
        new, truth = patients(60, seed=100 + seed, strange=0.06)
        sets = model.fit(bags, y).predict_set(new)
        held.append(sets[np.arange(60), np.searchsorted(model.classes_, truth)].mean())
    assert 0.76 <= np.mean(held) <= 0.95
    with pytest.raises(ValueError, match="no sets"):
        PatientClassifier().fit(bags, y).predict_set(new)


def test_images_go_through_an_encoder_and_a_cell_classifier():
    rng = np.random.default_rng(0)
    dark = rng.integers(0, 90, (200, 8, 8, 3)).astype(np.uint8)
    light = dark + 120
    bags = [
        np.concatenate([dark[i : i + 8], light[i : i + (2 + 6 * (i % 2))]]) for i in range(0, 30)
    ]
    y = np.arange(30) % 2
    model = PatientClassifier(ColorFeatures()).fit(bags, y)
    assert model.score(bags, y) == 1
    flat = np.concatenate([dark, light])
    from hemaest.recipes import ImagePipeline

    cells = ImagePipeline([("see", ColorFeatures()), ("name", LogisticRegression(max_iter=999))])
    cells.fit(flat, np.repeat(["dark", "light"], 200))
    both = PatientClassifier(ColorFeatures(), cell_classifier=FrozenEstimator(cells))
    assert both.fit(bags, y).score(bags, y) == 1
    with pytest.raises(ValueError, match="FrozenEstimator"):
        PatientClassifier(ColorFeatures(), cell_classifier=cells).fit(bags, y)
    with pytest.raises(ValueError, match="encoder"):
        PatientClassifier().fit(bags, y)


def test_bad_bags_are_named():
    bags, y = patients(10)
    with pytest.raises(ValueError, match="bag 3 has no cell"):
        PatientClassifier().fit([*bags[:3], bags[3][:0], *bags[4:]], y)
    with pytest.raises(ValueError, match="one label only"):
        PatientClassifier().fit(bags, ["a"] * 10)
    with pytest.raises(ValueError, match="there are 10 bags"):
        PatientClassifier().fit(bags, y[:9])
    with pytest.raises(ValueError, match="a sequence of bags"):
        PatientClassifier().fit(bags[0], y)
    with pytest.raises(ValueError, match="holds no bag"):
        PatientClassifier().fit([], [])
    model = PatientClassifier().fit(bags, y)
    lost = bags[0].copy()
    lost[2] = np.nan
    with pytest.raises(ValueError, match="1 cells without any value, at positions 2"):
        model.predict([bags[1], lost])
    with pytest.raises(ValueError, match="a bag has 1 columns; the others have"):
        model.predict([bags[1][:, :1]])
    assert len(model.decided(bags[0][:1])) == 1
    with pytest.raises(ValueError, match="'ill' is none"):
        model.decided(bags[0], "ill")
