"""Counts: intervals cover, are adjusted for the classifier, narrow with review, never crash."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from hemaest.clinical import CellTaxonomy, DifferentialCounter
from hemaest.features import ColorFeatures
from hemaest.recipes import ImagePipeline

from .smears import CONFUSION, TYPES, calibration, cells, patient


@pytest.fixture(scope="module")
def counter():
    return DifferentialCounter().fit(*calibration(np.random.default_rng(0)))


def smear_of(shares, n, seed, confusion=None):
    rng = np.random.default_rng(seed)
    types = rng.choice(4, n, p=shares)
    return TYPES[types], cells(rng, types, patient(rng) if confusion is None else confusion)


@pytest.mark.slow
def test_intervals_cover_where_plain_counts_do_not(counter):
    rng = np.random.default_rng(3)
    hit, naive = [], []
    for seed in range(70):
        shares = rng.dirichlet([0.6, 2, 1, 3])
        _, named = smear_of(shares, int(rng.integers(100, 400)), 1000 + seed)
        table = counter.count(named)
        for name, share in zip(TYPES, 100 * shares, strict=True):
            if share > 1:
                row = table.loc[name]
                hit.append(row["low"] <= share <= row["high"])
                naive.append(row["naive_low"] <= share <= row["naive_high"])
    assert 0.91 <= np.mean(hit) <= 0.99
    assert np.mean(naive) < 0.85


def test_the_estimate_is_right_under_any_mixture_where_the_plain_one_is_not(counter):
    # many cells of a patient whose confusion is the mean one
    _, named = smear_of([0.0, 0.9, 0.0, 0.1], 3000, 5, CONFUSION)
    table = counter.count(named)
    assert table["naive_percent"]["blast"] > 3
    assert table["low"]["blast"] < 0.5 and table["percent"]["blast"] < 3
    assert table["percent"].sum() == pytest.approx(100)
    assert (table["low"] <= table["percent"]).all() and (table["percent"] <= table["high"]).all()
    assert table["n"].sum() == 3000


def test_without_errors_it_is_the_binomial_interval():
    y = np.repeat(TYPES, 2500)
    counter = DifferentialCounter().fit(y, y, groups=np.arange(len(y)) % 100)
    table = counter.count(np.repeat(TYPES, [20, 60, 30, 90]))
    # Jeffreys' interval of 20 in 200: 6.4 to 14.7
    assert table.loc["blast", ["low", "high"]].to_numpy(float) == pytest.approx(
        [6.4, 14.7], abs=0.7
    )
    np.testing.assert_allclose(table["percent"], table["naive_percent"], atol=0.7)


def test_review_narrows_and_a_full_review_is_a_count(counter):
    true, named = smear_of([0.1, 0.5, 0.1, 0.3], 300, 7)
    before = counter.count(named)
    picked = counter.suggest(named, 60, target="blast")
    assert len(set(picked.tolist())) == 60
    some = counter.count(named, {int(i): true[i] for i in picked})
    every = counter.count(named, true)
    width = [float(t["high"]["blast"] - t["low"]["blast"]) for t in (before, some, every)]
    assert width[0] > width[1] > width[2]
    # nearly all that review can give, with a fifth of the cells
    assert width[0] - width[1] > 0.6 * (width[0] - width[2])
    counts = pd.Series(true).value_counts()
    np.testing.assert_allclose(every["percent"], counts[every.index] / 3)
    assert every.attrs["reviewed"] == 300
    again = counter.suggest(named, 60, "blast", reviewed={int(i): true[i] for i in picked})
    assert not set(again.tolist()) & set(picked.tolist())


@pytest.mark.slow
def test_review_of_suggested_cells_does_not_mislead(counter):
    hit = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shares = rng.dirichlet([1.5, 3, 1, 3])
        true, named = smear_of(shares, 200, 500 + seed)
        picked = counter.suggest(named, 30, target="blast")
        row = counter.count(named, {int(i): true[i] for i in picked}).loc["blast"]
        hit.append(row["low"] <= 100 * shares[0] <= row["high"])
    assert np.mean(hit) >= 0.85  # 0.95, less three standard errors


def test_a_wider_word_of_a_reviewer_restricts(counter):
    _, named = smear_of([0.1, 0.5, 0.1, 0.3], 60, 7)
    table = counter.count(named, dict.fromkeys(range(60), "neutrophil"))
    assert table["percent"]["segmented neutrophil"] == 100
    table = counter.count(named, dict.fromkeys(range(60), "myeloblast"))  # narrower than the type
    assert table["percent"]["blast"] == 100


def test_a_type_that_only_a_reviewer_knows_has_a_row_that_says_unknown(counter):
    _, named = smear_of([0.1, 0.5, 0.1, 0.3], 100, 7)
    table = counter.count(named, {3: "plasma cell"})
    row = table.loc["plasma cell"]
    assert row["n"] == 1 and row["high"] - row["low"] > 20
    with pytest.raises(ValueError, match="'dragon' is no cell type"):
        counter.count(named, {3: "dragon"})
    with pytest.raises(ValueError, match="positions 100"):
        counter.count(named, {100: "blast"})
    with pytest.raises(ValueError, match="label or None for each"):
        counter.count(named, ["blast"])


def test_smears_that_say_nothing_are_unknown(counter):
    for named in (np.array([], dtype=str), np.full(20, "unidentified")):
        table = counter.count(named, wbc=5)
        assert table["percent"].isna().all() and table["naive_percent"].isna().all()
        assert (table["low"] == 0).all() and (table["high"] == 100).all()
        assert table["absolute"].isna().all() and (table["absolute_high"] == 5).all()
    assert len(counter.suggest(np.array([], dtype=str), 5)) == 0
    assert counter.cells_needed(np.array([], dtype=str), "blast") == np.inf


def test_cells_without_a_name_widen(counter):
    _, named = smear_of([0.1, 0.5, 0.1, 0.3], 200, 7)
    before = counter.count(named)
    after = counter.count(np.concatenate([named, np.full(100, "")]))
    assert (after["high"] - after["low"] > before["high"] - before["low"]).all()
    assert after["n"].tolist() == before["n"].tolist()


def test_one_type_only(counter):
    table = counter.count(np.full(100, "lymphocyte"))
    assert table["percent"]["lymphocyte"] > 90 and table["high"]["lymphocyte"] == 100
    assert (table["low"].drop("lymphocyte") == 0).all()
    with pytest.raises(ValueError, match="one type only, 'a'"):
        DifferentialCounter().fit(["a", "a"], ["a", "a"])


def test_a_type_without_calibration_cells_is_said_and_begins_at_0():
    named, y, groups = calibration(np.random.default_rng(0))
    keep = y != "blast"
    with pytest.warns(UserWarning, match="No calibration cell is of type blast"):
        counter = DifferentialCounter().fit(named[keep], y[keep], groups[keep])
    row = counter.count(np.repeat(["blast", "lymphocyte"], [20, 80])).loc["blast"]
    assert row["low"] == 0 and row["high"] > 20
    with pytest.warns(UserWarning, match="Without groups"):
        DifferentialCounter().fit(named, y)


def test_blood_counts_leukocytes_and_corrects_wbc():
    names = np.array(["erythroblast", "lymphocyte", "platelet"])
    y = np.repeat(names, 1000)
    counter = DifferentialCounter().fit(y, y, groups=np.arange(3000) % 50)
    table = counter.count(np.repeat(names, [50, 100, 30]), wbc=15.0)
    assert table["percent"]["lymphocyte"] > 97
    assert table["naive_percent"].tolist() == pytest.approx([50, 100, 30])
    assert table.attrs["nrbc_per_100_wbc"][0] == pytest.approx(50, abs=2)
    assert table.attrs["corrected_wbc"][0] == pytest.approx(15 / 1.5, abs=0.3)
    assert table["absolute"]["lymphocyte"] == pytest.approx(10, abs=0.5)
    kept = counter.count(np.repeat(names, [50, 100, 30]), wbc=15.0, wbc_corrected=True)
    assert kept["absolute"]["lymphocyte"] == pytest.approx(15, abs=0.5)
    assert (counter.count(np.repeat(names, [50, 100, 30]), wbc=0)["absolute"] == 0).all()
    with pytest.raises(ValueError, match="wbc=-1"):
        counter.count(y[:9], wbc=-1)
    marrow = clone(counter).set_params(taxonomy="marrow").fit(y, y, groups=np.arange(3000) % 50)
    assert marrow.count(np.repeat(names, [50, 100, 30]))["naive_percent"]["lymphocyte"] == (
        pytest.approx(100 * 100 / 150)
    )


def test_wider_types_are_rows_of_their_own(counter):
    _, named = smear_of([0.1, 0.5, 0.1, 0.3], 200, 7)
    table = counter.count(named, wider=["granulocyte", "leukocyte"])
    assert table["percent"]["leukocyte"] == 100
    assert table["percent"]["granulocyte"] == table["percent"]["segmented neutrophil"]
    with pytest.raises(ValueError, match="holds none"):
        counter.count(named, wider=["erythroid cell"])


def test_the_stop_rule(counter):
    _, named = smear_of([0.1, 0.5, 0.1, 0.3], 100, 7)
    width = counter.count(named).eval("high - low")["segmented neutrophil"]
    assert counter.cells_needed(named, "segmented neutrophil", width + 0.01) == 100
    more = counter.cells_needed(named, "segmented neutrophil", 0.85 * width)
    assert 100 < more < 800
    # the errors of the classifier do not go away with more cells
    assert counter.cells_needed(named, "blast", 0.1) == np.inf
    with pytest.raises(ValueError, match="width=0"):
        counter.cells_needed(named, "blast", 0)


def test_it_counts_images_and_tables_and_travels():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 60)
    X = rng.integers(0, 100, (120, 8, 8, 3)).astype(np.uint8)
    X[y == "b"] += 60
    groups = np.arange(120) % 12
    recipe = ImagePipeline([("see", ColorFeatures()), ("call", LogisticRegression(max_iter=999))])
    counter = DifferentialCounter(recipe, taxonomy=None, cv=3).fit(X, y, groups)
    table = counter.count(X[:80])
    assert table.loc["a", "low"] <= 75 <= table.loc["a", "high"]
    pd.testing.assert_frame_equal(table, pickle.loads(pickle.dumps(counter)).count(X[:80]))
    pd.testing.assert_frame_equal(table, clone(counter).fit(X, y, groups).count(X[:80]))
    given = counter.classifier_.predict_proba(X[:80])
    pd.testing.assert_frame_equal(table, counter.count(given))
    frame = pd.DataFrame(given, columns=counter.classes_)[["b", "a"]]
    pd.testing.assert_frame_equal(table, counter.count(frame))
    frozen = DifferentialCounter(FrozenEstimator(counter.classifier_), taxonomy=None)
    assert frozen.fit(X, y, groups).classifier_ is not None
    features = X.reshape(120, -1).astype(float)
    flat = DifferentialCounter(LogisticRegression(max_iter=999), taxonomy=None, cv=2)
    assert flat.fit(features, y, groups).count(features[:20])["n"].sum() == 20


def test_bad_input_is_named(counter):
    with pytest.raises(NotFittedError):
        DifferentialCounter().count(["a"])
    with pytest.raises(ValueError, match="row 1 is no set of probabilities"):
        counter.count(np.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5]]))
    with pytest.raises(ValueError, match="'basophil' of cell 0"):
        counter.count(np.array(["basophil"]))
    with pytest.raises(ValueError, match="harmonize"):
        DifferentialCounter().fit(["x", "y"] * 10, ["x", "y"] * 10, groups=np.arange(20))
    with pytest.raises(ValueError, match="no label for 1 of 2"):
        DifferentialCounter().fit(["blast", "x"], ["blast", None])
    with pytest.raises(ValueError, match="'eosinophil' is none of the types"):
        counter.suggest(np.array(["blast"]), 1, "eosinophil")
    with pytest.raises(ValueError, match="k=0"):
        counter.suggest(np.array(["blast"]), 0)
    own = DifferentialCounter(taxonomy=CellTaxonomy.marrow())
    assert own.fit(*calibration(np.random.default_rng(1))).types_ == tuple(TYPES)
