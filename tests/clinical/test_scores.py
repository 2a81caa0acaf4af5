"""Lenient scores are never below strict ones, costs are those of the matrix, shares are real."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from hemaest.clinical import (
    METRICS,
    CellTaxonomy,
    lineage_accuracy,
    mean_cost,
    per_type,
    usual_accuracy,
)
from hemaest.evaluation import compare

TREE = CellTaxonomy.blood()
NAMES = ["segmented neutrophil", "band neutrophil", "myelocyte", "blast", "lymphocyte", "basophil"]


def pairs(seed=0, n=400):
    rng = np.random.default_rng(seed)
    true = rng.choice(NAMES, n)
    return true, np.where(rng.random(n) < 0.7, true, rng.choice(NAMES, n))


def test_what_is_allowed_grows():
    true, named = pairs()
    scores = [lineage_accuracy(true, named, allow=a) for a in ("strict", "stage", "lineage")]
    assert scores[0] == np.mean(true == named) < scores[1] < scores[2] < 1
    same = [TREE.lineage(a) == TREE.lineage(b) for a, b in zip(true, named, strict=True)]
    assert scores[2] == pytest.approx(np.mean(same))
    assert lineage_accuracy(true, true) == 1
    assert lineage_accuracy(["myelocyte"], ["immature granulocyte"], allow="strict") == 1
    assert lineage_accuracy(["myelocyte"], ["unidentified"]) == 0
    with pytest.raises(ValueError, match="allow='loose'"):
        lineage_accuracy(true, named, allow="loose")
    with pytest.raises(ValueError, match="'dragon' is no cell type"):
        lineage_accuracy(["dragon"], ["blast"])


def test_the_cost_is_the_mean_of_the_matrix():
    true, named = pairs()
    matrix = TREE.cost_matrix(NAMES)
    expected = np.mean([matrix.loc[a, b] for a, b in zip(true, named, strict=True)])
    assert mean_cost(true, named) == pytest.approx(expected)
    own = pd.DataFrame(1 - np.eye(6), NAMES, NAMES)
    assert mean_cost(true, named, costs=own) == pytest.approx(np.mean(true != named))
    assert mean_cost(["blast"], ["unidentified"], rejection=0.7) == 0.7
    with pytest.raises(ValueError, match="no entry for 'blast' called 'monocyte'"):
        mean_cost(["blast"], ["monocyte"], costs=own)


def test_real_prevalence_is_what_a_real_smear_shows():
    """The precision at given shares is that of a set that is drawn with these shares."""
    rng = np.random.default_rng(0)
    true, named = pairs(n=3000)
    shares = dict(zip(NAMES, [60, 5, 1, 2, 30, 2], strict=True))
    table = per_type(true, named, percent=shares).set_index("type")
    weight = np.array([shares[t] / np.sum(true == t) for t in true])
    drawn = rng.choice(len(true), 200_000, p=weight / weight.sum())
    for name in NAMES:
        called = drawn[named[drawn] == name]
        assert table.loc[name, "usual_precision"] == pytest.approx(
            np.mean(true[called] == name), abs=0.02
        )
        assert table.loc[name, "sensitivity"] == np.mean(named[true == name] == name)
    assert (table["sensitivity_low"] <= table["sensitivity"]).all()
    with pytest.raises(ValueError, match="no number for"):
        per_type(true, named, percent={"blast": 1})


def test_the_usual_accuracy_does_not_depend_on_the_balance_of_the_set():
    true, named = pairs(n=2000)
    more = np.concatenate([np.arange(2000), np.flatnonzero(true == "basophil").repeat(5)])
    assert usual_accuracy(true[more], named[more]) == pytest.approx(usual_accuracy(true, named))
    assert np.isnan(usual_accuracy(["artefact", "artefact"], ["artefact", "blast"]))


def test_compare_takes_them():
    y = np.repeat(["blast", "lymphocyte"], 6)
    X = np.zeros((12, 8, 8, 3), np.uint8)
    dummy = {"chance": DummyClassifier(strategy="constant", constant="lymphocyte")}
    result = compare(dummy, X, y, groups=np.arange(12) // 2, cv=3, control=False, metrics=METRICS)
    row = result.table.iloc[0]
    assert row["mean_cost"] == 5.0  # half the cells are missed blasts
    assert row["usual_accuracy"] == 1.0  # in which there are no blasts
