"""What is taken away can be read again, and says what the page says."""

import csv
import io
import json
import zipfile

import pytest

from hemaest.web import _export
from hemaest.web._store import NOT_COUNTED, UNIDENTIFIED

FIELDS = [
    {"id": 1, "name": "a b.png", "state": "done", "reason": "", "width": 200, "height": 100,
     "warnings": []},
    {"id": 2, "name": "=1+1.png", "state": "done", "reason": "", "width": 200, "height": 100,
     "warnings": []},
    {"id": 3, "name": "broken.png", "state": "failed", "reason": "no", "width": None,
     "height": None, "warnings": []},
]  # fmt: skip


def cell(number, label, field=1, x0=10.0, **values):
    return {
        "id": number, "field": field, "x0": x0, "y0": 20.0, "x1": x0 + 30, "y1": 60.0,
        "outline": [[x0, 20.0], [x0 + 30, 20.0], [x0 + 15, 60.0]], "nucleus": [], "label": label,
        "type": "lymphocyte", "confidence": 0.9, "probabilities": {"lymphocyte": 0.9},
        "nc_ratio": 0.8, "reviewed": 1, "seen": 1, "author": "", "novel": 0,
        "reference_cells": [], **values,
    }  # fmt: skip


CELLS = [
    cell(1, "lymphocyte"), cell(2, "monocyte", x0=80.0), cell(3, NOT_COUNTED, x0=150.0),
    cell(4, UNIDENTIFIED, field=2),
]  # fmt: skip
SUMMARY = {
    "name": "ward 3", "created": "2026-01-01", "colors": {"lymphocyte": "#009e73"},
}  # fmt: skip


def test_the_table_has_one_row_a_cell_and_no_formula():
    rows = list(
        csv.DictReader(
            io.StringIO(_export.write("csv", SUMMARY, FIELDS, CELLS).decode("utf-8-sig"))
        )
    )
    assert [r["label"] for r in rows] == [c["label"] for c in CELLS]
    assert rows[3]["field"] == "'=1+1.png"


def test_coco_holds_the_boxes_of_what_counts():
    coco = json.loads(_export.write("coco", SUMMARY, FIELDS, CELLS))
    names = {c["id"]: c["name"] for c in coco["categories"]}
    assert [i["file_name"] for i in coco["images"]] == ["a b.png", "=1+1.png"]
    assert [names[a["category_id"]] for a in coco["annotations"]] == [
        "lymphocyte", "monocyte", UNIDENTIFIED,
    ]  # fmt: skip
    assert coco["annotations"][0]["bbox"] == [10.0, 20.0, 30.0, 40.0]


def test_yolo_boxes_are_shares_of_the_field():
    archive = zipfile.ZipFile(io.BytesIO(_export.write("yolo", SUMMARY, FIELDS, CELLS)))
    classes = archive.read("classes.txt").decode().split("\n")[:-1]
    name = next(n for n in archive.namelist() if n.startswith("labels/00001"))
    number, *box = archive.read(name).decode().splitlines()[0].split()
    assert classes[int(number)] == "lymphocyte"
    assert [float(v) for v in box] == [25 / 200, 40 / 100, 30 / 200, 40 / 100]


@pytest.mark.parametrize("keep_numbers", [True, False])
def test_corrected_geojson_comes_back(keep_numbers):
    archive = zipfile.ZipFile(io.BytesIO(_export.write("geojson", SUMMARY, FIELDS, CELLS)))
    content = json.loads(archive.read(archive.namelist()[0]))
    ring = content["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    content["features"][1]["properties"]["classification"]["name"] = "blast"
    if not keep_numbers:  # as a program that gives numbers of its own
        for feature in content["features"]:
            feature["id"] = "2f1c-uuid"
            del feature["properties"]["hemaest_cell"]
    found = _export.read_corrections(json.dumps(content).encode(), FIELDS, CELLS)
    assert found == {1: "lymphocyte", 2: "blast"}


def test_corrected_coco_comes_back():
    coco = json.loads(_export.write("coco", SUMMARY, FIELDS, CELLS))
    coco["categories"][0]["name"] = "blast"
    found = _export.read_corrections(json.dumps(coco).encode(), FIELDS, CELLS)
    assert found == {1: "blast", 2: "monocyte", 4: UNIDENTIFIED}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"features": [1]}',
        b'{"annotations": [{}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_correction_is_refused_in_words(content):
    with pytest.raises(ValueError, match="file is|file has|entry is not"):
        _export.read_corrections(content, FIELDS, CELLS)


def test_the_labeled_folder_holds_what_was_identified_under_names_of_its_own():
    cells = [*CELLS, cell(5, "Ph+"), cell(6, "Ph?")]
    data = _export.labeled_folder(FIELDS, cells, lambda c: str(c["id"]).encode())
    archive = zipfile.ZipFile(io.BytesIO(data))
    content = {archive.read(n) for n in archive.namelist()}
    assert content == {b"1", b"2", b"5", b"6"}
    folders = {n.split("/")[0] for n in archive.namelist()}
    assert len(folders) == 4
