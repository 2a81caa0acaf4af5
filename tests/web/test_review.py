"""The differential, flags and the signature follow from the labels."""

import numpy as np
import pytest

from hemaest.clinical import DifferentialCounter

from .conftest import field_file


def rows(smear):
    return {r["type"]: r for r in smear.differential()["rows"]}


def set_wbc(smear, wbc):
    assert smear.client.patch(smear.at, json={"observer": "A", "wbc": wbc}).status_code == 200


def test_percentages_are_of_leukocytes(new_smear):
    smear = new_smear("lymphocyte", "lymphocyte", "monocyte", "platelet", "erythroblast",
                      "unidentified", "not counted", "neutrophil")  # fmt: skip
    set_wbc(smear, 11.0)
    result = smear.differential()
    percent = {r["type"]: r["percent"] for r in result["rows"]}
    assert percent == {"lymphocyte": 50.0, "monocyte": 25.0, "neutrophil": 25.0}
    assert (result["n"], result["unidentified"], result["not_counted"]) == (4, 1, 3)
    assert result["nrbc_per_100"] == 25.0
    assert result["corrected_wbc"] == pytest.approx(11.0 * 100 / 125)
    absolute = {r["type"]: r["absolute"] for r in result["rows"]}
    assert sum(absolute.values()) == pytest.approx(result["corrected_wbc"])


def test_limits_hold_the_percentage_and_review_changes_the_count_after_only(new_smear):
    smear = new_smear(*["lymphocyte"] * 12, *["monocyte"] * 8)
    smear.label(smear.numbers()[:1], "blast")
    counted = rows(smear)
    assert (counted["lymphocyte"]["n_before"], counted["lymphocyte"]["n"]) == (12, 11)
    assert (counted["blast"]["n_before"], counted["blast"]["n"]) == (0, 1)
    for row in counted.values():
        assert row["low"] <= row["percent"] <= row["high"]


def test_a_share_of_few_cells_is_only_perhaps_outside_its_range(new_smear):
    assert rows(new_smear("lymphocyte"))["lymphocyte"]["outside"] == "perhaps"
    assert rows(new_smear(*["lymphocyte"] * 100))["lymphocyte"]["outside"] == "yes"
    usual = rows(new_smear(*["lymphocyte"] * 30, *["segmented neutrophil"] * 70))
    assert {row["outside"] for row in usual.values()} == {None}


def test_no_leukocyte_gives_no_percentages(new_smear):
    smear = new_smear("platelet", "artefact")
    set_wbc(smear, 5.0)
    result = smear.differential()
    assert result["rows"] == [] and result["n"] == 0
    assert result["nrbc_per_100"] is None and result["corrected_wbc"] is None


def test_the_signature_waits_for_what_must_be_seen(app, new_smear, client, tmp_path):
    smear = new_smear("blast", "lymphocyte", "unidentified")
    assert len(smear.differential()["to_do"]) == 2
    refused = smear.post("signature", accept_unidentified=True, status=409)
    assert len(refused["detail"]["to_do"]) == 1
    smear.post("seen", cells=smear.numbers()[:1], status=204)
    app.state.review.store.add_field(smear.at[14:], "b.png", field_file(tmp_path / "b.png"))
    refused = smear.post("signature", accept_unidentified=True, status=409)
    assert ["being analyzed" in words for words in refused["detail"]["to_do"]] == [True]
    app.state.review.store.fail(smear.client.get(smear.at).json()["fields"][1]["id"], "no image")
    smear.post("signature", accept_unidentified=True, status=201)
    assert "Unlike" in new_smear("lymphocyte", novel=1).differential()["to_do"][0]
    assert "no cell" in new_smear().differential()["to_do"][0]


def test_the_least_certain_cells_are_suggested_first(app, new_smear, tmp_path):
    smear = new_smear("lymphocyte", probabilities={"lymphocyte": 0.9})
    store = app.state.review.store
    for kind, sure in (("blast", 0.5), ("monocyte", 0.6)):
        cell = dict(store.cell(smear.at[14:], smear.numbers()[0]), type="lymphocyte")
        cell["probabilities"] = {kind: sure, "lymphocyte": 1 - sure}
        field = store.add_field(smear.at[14:], "b.png", field_file(tmp_path / f"{kind}.png"))
        store.next_job()
        store.finish(field, {"width": 128, "height": 96, "warnings": [], "cells": [
            {k: v for k, v in cell.items() if k not in {"id", "session", "field"}}]})  # fmt: skip
    _, second, third = smear.numbers()
    assert smear.get("suggest", k=2).json()["cells"] == [second, third]
    assert smear.get("suggest", k=1, target="blast").json()["cells"] == [second]
    smear.label([second], "lymphocyte")
    assert smear.get("suggest", k=1).json()["cells"] == [third]


def test_a_counter_gives_intervals_that_hold_the_errors_of_the_classifier(app, new_smear):
    rng = np.random.default_rng(0)
    y = np.repeat(["lymphocyte", "monocyte"], 200)
    named = np.where(rng.random(400) < 0.15, y[::-1], y)
    counter = DifferentialCounter().fit(named, y, groups=np.arange(400) % 20)
    kinds = [*["lymphocyte"] * 80, *["monocyte"] * 20]
    review = app.state.review
    smear = new_smear(*kinds, probabilities=lambda kind: {kind: 0.9})
    plain = rows(smear)
    review.counter = counter
    assert smear.differential()["intervals"] == "counting and classifier"
    wide, narrow = (t["monocyte"]["high"] - t["monocyte"]["low"] for t in (rows(smear), plain))
    assert wide > 1.2 * narrow
    assert len(set(smear.get("suggest", k=5).json()["cells"])) == 5
    # when every cell was seen, the counter has nothing left to doubt
    numbers = smear.numbers()
    for kind, own in (("lymphocyte", numbers[:80]), ("monocyte", numbers[80:])):
        smear.label(own, kind)
    sure = rows(smear)["monocyte"]
    assert sure["percent"] == pytest.approx(20.0, abs=1.5)
    assert sure["high"] - sure["low"] < wide
    assert smear.get("suggest", k=5).json()["cells"] == []


def test_kappa_is_that_of_the_textbook(new_smear):
    smear = new_smear(*["lymphocyte"] * 25, *["monocyte"] * 25)
    numbers = smear.numbers()
    smear.label(numbers[20:25], "monocyte", "B")
    smear.label(numbers[25:35], "lymphocyte", "B")
    one = new_smear("lymphocyte")
    for observer in "AB":
        smear.post("signature", observer, status=201)
        one.post("signature", observer, status=201)
    result = smear.get("agreement", first="A", second="B").json()
    assert result["agreement"] == pytest.approx(0.7)
    assert result["kappa"] == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert len(result["differences"]) == 15
    assert one.get("agreement", first="A", second="B").json()["kappa"] is None


def test_types_have_keys_and_colors_of_their_own(app, client):
    app.state.review.classes.append("a type of ours")
    types = client.get("/api/config").json()["types"]
    keys = [t["key"] for t in types if t["key"]]
    colors = [t["color"] for t in types if t["key"]]
    assert len(set(keys)) == len(keys) and len(set(colors)) == len(colors)
    assert [t["name"] for t in types[-2:]] == ["unidentified", "not counted"]
    assert any(t["name"] == "a type of ours" for t in types)


def test_the_report_is_a_pdf_with_a_page_for_the_count_and_pages_for_the_cells(new_smear):
    kinds = [*["lymphocyte"] * 90, *["monocyte"] * 30, "a very long $name$ " * 8]
    smear = new_smear(*kinds, name="ward $3$ " * 20)
    set_wbc(smear, 7.0)
    smear.post("signature", status=201)
    data = smear.get("export/pdf").content
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") >= 2
