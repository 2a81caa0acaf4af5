"""The differential, flags and the signature follow from the labels."""

import pytest

from hemaest.web import _review
from hemaest.web._pdf import write_pdf
from hemaest.web._store import NOT_COUNTED, UNIDENTIFIED


def cells(*kinds, **values):
    return [
        {
            "id": i + 1, "field": 1, "type": kind, "label": kind, "author": "", "reviewed": 0,
            "seen": 0, "novel": 0, "confidence": 0.9, "probabilities": {kind: 0.9}, **values,
        }
        for i, kind in enumerate(kinds)
    ]  # fmt: skip


DONE = [{"id": 1, "name": "a.png", "state": "done", "reason": "", "warnings": []}]


def test_percentages_are_of_leukocytes():
    result = _review.differential(
        cells("lymphocyte", "lymphocyte", "monocyte", "platelet", "erythroblast", UNIDENTIFIED,
              NOT_COUNTED, "neutrophil"), wbc=11.0)  # fmt: skip
    percent = {r["type"]: r["percent"] for r in result["rows"]}
    assert percent == {"lymphocyte": 50.0, "monocyte": 25.0, "neutrophil": 25.0}
    assert (result["n"], result["unidentified"], result["not_counted"]) == (4, 1, 3)
    assert result["nrbc_per_100"] == 25.0
    assert result["corrected_wbc"] == pytest.approx(11.0 * 100 / 125)
    absolute = {r["type"]: r["absolute"] for r in result["rows"]}
    assert sum(absolute.values()) == pytest.approx(result["corrected_wbc"])


def test_limits_hold_the_percentage_and_review_changes_the_count_after_only():
    known = cells(*["lymphocyte"] * 12, *["monocyte"] * 8)
    known[0] |= {"label": "blast", "reviewed": 1}
    rows = {r["type"]: r for r in _review.differential(known)["rows"]}
    assert (rows["lymphocyte"]["n_before"], rows["lymphocyte"]["n"]) == (12, 11)
    assert (rows["blast"]["n_before"], rows["blast"]["n"]) == (0, 1)
    for row in rows.values():
        assert row["low"] <= row["percent"] <= row["high"]


def test_no_leukocyte_gives_no_percentages():
    result = _review.differential(cells("platelet", "artefact"), wbc=5.0)
    assert result["rows"] == [] and result["n"] == 0
    assert result["nrbc_per_100"] is None and result["corrected_wbc"] is None


def test_the_signature_waits_for_what_must_be_seen():
    known = cells("blast", "lymphocyte", UNIDENTIFIED)
    assert len(_review.sign_off(known, DONE)) == 2
    assert len(_review.sign_off(known, DONE, accept_unidentified=True)) == 1
    known[0]["seen"] = 1
    assert _review.sign_off(known, DONE, accept_unidentified=True) == []
    known[1]["novel"] = 1
    assert "Unlike" in _review.sign_off(known, DONE, accept_unidentified=True)[0]
    waiting = [*DONE, {**DONE[0], "state": "queued"}]
    assert "being analyzed" in _review.sign_off(cells("lymphocyte"), waiting)[0]
    assert "no cell" in _review.sign_off([], DONE)[0]


def test_the_least_certain_cells_are_suggested_first():
    known = cells("lymphocyte", "lymphocyte", "monocyte")
    known[1]["probabilities"] = {"lymphocyte": 0.5, "blast": 0.5}
    known[2]["probabilities"] = {"monocyte": 0.6, "lymphocyte": 0.4}
    assert _review.suggest(known, 2) == [2, 3]
    assert _review.suggest(known, 1, target="blast") == [2]
    known[1]["reviewed"] = 1
    assert _review.suggest(known, 1) == [3]


def test_a_counter_gives_intervals_that_hold_the_errors_of_the_classifier():
    import numpy as np

    from hemaest.clinical import DifferentialCounter

    rng = np.random.default_rng(0)
    y = np.repeat(["lymphocyte", "monocyte"], 200)
    named = np.where(rng.random(400) < 0.15, y[::-1], y)
    counter = DifferentialCounter().fit(named, y, groups=np.arange(400) % 20)
    known = cells(*["lymphocyte"] * 80, *["monocyte"] * 20)
    plain = {r["type"]: r for r in _review.differential(known)["rows"]}
    result = _review.differential(known, counter=counter)
    rows = {r["type"]: r for r in result["rows"]}
    assert result["intervals"] == "counting and classifier"
    wide = rows["monocyte"]["high"] - rows["monocyte"]["low"]
    assert wide > 1.2 * (plain["monocyte"]["high"] - plain["monocyte"]["low"])
    picked = _review.suggest(known, 5, counter=counter)
    assert len(set(picked)) == 5
    for cell in known:  # when every cell was seen, the counter has nothing left to doubt
        cell |= {"reviewed": 1, "seen": 1}
    sure = {r["type"]: r for r in _review.differential(known, counter=counter)["rows"]}
    assert sure["monocyte"]["percent"] == pytest.approx(20.0, abs=1.5)
    assert sure["monocyte"]["high"] - sure["monocyte"]["low"] < wide
    assert _review.suggest(known, 5, counter=counter) == []


def test_kappa_is_that_of_the_textbook():
    first = cells(*["lymphocyte"] * 25, *["monocyte"] * 25)
    second = cells(
        *["lymphocyte"] * 20, *["monocyte"] * 5, *["lymphocyte"] * 10, *["monocyte"] * 15
    )
    result = _review.agreement(first, second)
    assert result["agreement"] == pytest.approx(0.7)
    assert result["kappa"] == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert len(result["differences"]) == 15
    assert _review.agreement(first[:1], first[:1])["kappa"] is None


def test_types_have_keys_and_colors_of_their_own():
    types = _review.page_types(["a type of ours"])
    keys = [t["key"] for t in types if t["key"]]
    colors = [t["color"] for t in types if t["key"]]
    assert len(set(keys)) == len(keys) and len(set(colors)) == len(colors)
    assert [t["name"] for t in types[-2:]] == [UNIDENTIFIED, NOT_COUNTED]
    assert any(t["name"] == "a type of ours" for t in types)


def test_the_report_is_a_pdf_with_a_page_for_the_count_and_pages_for_the_cells():
    import io

    import numpy as np
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), 200, np.uint8)).save(file, "JPEG")
    known = cells(*["lymphocyte"] * 90, *["monocyte"] * 30, "a very long $name$ " * 8)
    summary = {
        "name": "ward $3$ " * 20, "observer": "A", "version": "1", "model": "m", "colors": {},
        "differential": _review.differential(known, wbc=7.0), "flags": _review.flags(known),
        "signatures": [{"observer": "A", "time": 0.0}],
    }  # fmt: skip
    data = write_pdf(summary, DONE, known, lambda c: file.getvalue())
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 2
