"""What is taken away can be read again, and says what the page says."""

import csv
import io
import json
import zipfile

import pytest

from .conftest import Smear, field_file, some_cell


@pytest.fixture
def smear(app, client, tmp_path):
    """Two analyzed fields and a broken one; a cell is not counted, another unidentified."""
    store = app.state.review.store
    session = store.new_session("ward 3")
    fields = []
    for name in ("a b.png", "=1+1.png", "broken.png"):
        path = field_file(tmp_path / f"{len(fields)}.png", (100, 200))
        fields.append(store.add_field(session, name, path))
        store.next_job()

    def cell(x0, kind="lymphocyte"):
        outline = [[x0, 20.0], [x0 + 30, 20.0], [x0 + 15, 60.0]]
        return some_cell(kind, x0=x0, y0=20.0, x1=x0 + 30, y1=60.0, outline=outline)

    result = {"width": 200, "height": 100, "warnings": []}
    kept = [cell(10.0), cell(80.0), cell(150.0)]
    store.finish(fields[0], {**result, "cells": kept})
    store.finish(fields[1], {**result, "cells": [cell(10.0)]})
    store.fail(fields[2], "no")
    smear = Smear(client, session)
    _, second, third, fourth = smear.numbers()
    smear.label([second], "monocyte")
    smear.label([third], "not counted")
    smear.label([fourth], "unidentified")
    return smear


def archive(answer):
    return zipfile.ZipFile(io.BytesIO(answer.content))


def bring_back(smear, content, status=200):
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    answer = smear.client.post(
        f"{smear.at}/import", params={"observer": "A"}, files={"file": ("c.json", content)}
    )
    assert answer.status_code == status
    return answer.json()


def test_the_table_has_one_row_a_cell_and_no_formula(smear):
    text = smear.get("export/csv").content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [r["label"] for r in rows] == smear.labels()
    assert rows[3]["field"] == "'=1+1.png"


def test_coco_holds_the_boxes_of_what_counts(smear):
    coco = smear.get("export/coco").json()
    names = {c["id"]: c["name"] for c in coco["categories"]}
    assert [i["file_name"] for i in coco["images"]] == ["a b.png", "=1+1.png"]
    assert [names[a["category_id"]] for a in coco["annotations"]] == [
        "lymphocyte", "monocyte", "unidentified",
    ]  # fmt: skip
    assert coco["annotations"][0]["bbox"] == [10.0, 20.0, 30.0, 40.0]


def test_yolo_boxes_are_shares_of_the_field(smear):
    files = archive(smear.get("export/yolo"))
    classes = files.read("classes.txt").decode().split("\n")[:-1]
    name = next(n for n in files.namelist() if n.startswith("labels/00001"))
    number, *box = files.read(name).decode().splitlines()[0].split()
    assert classes[int(number)] == "lymphocyte"
    assert [float(v) for v in box] == [25 / 200, 40 / 100, 30 / 200, 40 / 100]


@pytest.mark.parametrize("keep_numbers", [True, False])
def test_corrected_geojson_comes_back(smear, keep_numbers):
    files = archive(smear.get("export/geojson"))
    content = json.loads(files.read(files.namelist()[0]))
    ring = content["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    content["features"][1]["properties"]["classification"]["name"] = "blast"
    if not keep_numbers:  # as a program that gives numbers of its own
        for feature in content["features"]:
            feature["id"] = "2f1c-uuid"
            del feature["properties"]["hemaest_cell"]
    assert bring_back(smear, content) == {"recognized": 2, "changed": 1}
    assert smear.labels() == ["lymphocyte", "blast", "not counted", "unidentified"]


def test_corrected_coco_comes_back(smear):
    coco = smear.get("export/coco").json()
    coco["categories"][0]["name"] = "blast"
    assert bring_back(smear, coco) == {"recognized": 3, "changed": 1}
    assert smear.labels() == ["blast", "monocyte", "not counted", "unidentified"]


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
def test_what_is_no_correction_is_refused_in_words(smear, content):
    before = smear.labels()
    reason = bring_back(smear, content, status=422)["detail"]
    assert any(words in reason for words in ("file is", "file has", "entry is not"))
    assert smear.labels() == before


def test_the_labeled_folder_holds_what_was_identified_under_names_of_its_own(app, new_smear):
    smear = new_smear("lymphocyte", "monocyte", "not counted", "unidentified", "Ph+", "Ph?")
    names = archive(smear.get("export/folder")).namelist()
    numbers = smear.numbers()
    kept = {n for n, label in zip(numbers, smear.labels(), strict=True)
            if label not in {"not counted", "unidentified"}}  # fmt: skip
    assert {int(n.rpartition("cell")[2].removesuffix(".png")) for n in names} == kept
    assert len({n.split("/")[0] for n in names}) == len(names) == 4
