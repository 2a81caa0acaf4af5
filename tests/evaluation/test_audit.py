"""Faults that are planted are found, and clean data stay clean."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemaest.datasets import make_cells
from hemaest.evaluation import LeakError, audit, split
from hemaest.images import ImageRef

CLASSES = ["neutrophil", "lymphocyte"]


@pytest.fixture(scope="module")
def cells():
    return make_cells(80, classes=CLASSES, image_size=72, n_patients=20, random_state=0)


def severity(result, finding):
    return dict(zip(result.table["finding"], result.table["severity"], strict=True)).get(finding)


def test_clean_data_have_no_fault(cells):
    result = audit(cells.images, cells.target, cells.groups)
    assert set(result.table["severity"]) <= {"note", "caution"}
    for finding in ("conflicting labels", "near-duplicates", "marks burned into the images"):
        assert severity(result, finding) is None
    result.raise_if_leaky()
    codes = np.unique(cells.groups, return_inverse=True)[1]
    assert all(len(set(result.groups_[codes == g])) == 1 for g in range(20))


def pictures(html):
    """Return the pixels of each image on a page by its caption."""
    shown = {}
    for data, caption in re.findall(
        r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]*)"', html
    ):
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            shown[caption] = np.asarray(image.convert("RGB")).astype(int)
    return shown


@pytest.fixture(scope="module")
def planted(cells):
    """A mirrored copy in the test part, and a turned copy that has another label."""
    X, y, groups = cells.images.copy(), cells.target.copy(), np.array(cells.groups)
    parts = split(X, y, groups, sizes=(0.7, 0.3), random_state=0)
    a, b = parts.train[0], parts.test[0]
    X[b], y[b] = X[a][:, ::-1], y[a]
    c = next(i for i in parts.train[1:] if y[i] == CLASSES[0])
    d = next(i for i in parts.train[1:] if y[i] == CLASSES[1])
    X[d] = np.rot90(X[c])
    return X, y, groups, parts, {(min(a, b), max(a, b)), (min(c, d), max(c, d))}


def test_copies_across_the_split_and_conflicting_labels(planted, tmp_path):
    X, y, groups, parts, pairs = planted
    result = audit(X, y, groups, test=parts)
    across, conflict = (result.items[k] for k in ("copies across the split", "conflicting labels"))
    assert {*zip(across["image"], across["copy"], strict=True)} < pairs
    assert {*zip(conflict["image"], conflict["copy"], strict=True)} < pairs
    assert len(across) == len(conflict) == 1
    assert severity(result, "copies across the split") == "fault"
    with pytest.raises(LeakError, match="conflicting labels"):
        result.raise_if_leaky()
    for a, b in pairs:
        assert result.groups_[a] == result.groups_[b]
    html = result.to_html(tmp_path / "audit.html")
    assert html.count("data:image/jpeg") >= 4 and "Conflicting labels" in html
    assert repr(result).startswith("80 images of 2 classes")


def test_test_part_in_all_its_forms(planted):
    X, y, groups, parts, _ = planted
    mask = np.isin(np.arange(80), parts.test)
    tables = [audit(X, y, groups, test=t).table for t in (parts, mask)]
    assert tables[0].equals(tables[1])
    crossing = audit(X, y, groups, test=np.arange(80) % 3 == 0)
    assert severity(crossing, "groups across the split") == "fault"
    for bad in (np.ones(80, bool), [99], np.ones(3, bool)):
        with pytest.raises(ValueError, match="test"):
            audit(X, y, groups, test=bad)


def test_scale_bar_of_one_class_is_seen(cells):
    X = cells.images.copy()
    marked = cells.target == CLASSES[0]
    X[marked, 60:64, 50:68] = 10
    result = audit(X, cells.target, cells.groups)
    found = result.items["marks burned into the images"]
    assert CLASSES[0] in set(found["class"]) and CLASSES[1] not in set(found["class"])
    assert set(found["place"]) == {"bottom right"}
    shown = pictures(result.to_html())
    drawn, example = (shown[f"{text}{CLASSES[0]}"] for text in ("where the mark lies: ", "one of "))
    red = drawn[..., 0] - drawn[..., 1] > 60
    rows, columns = (places / len(red) for places in np.nonzero(red))
    assert rows.min() > 0.8 and rows.max() < 0.92 and columns.min() > 0.65 and columns.max() < 0.97
    side = len(example) / 72
    assert (
        example[round(61 * side) : round(63 * side), round(52 * side) : round(66 * side)].max() < 80
    )


def test_size_that_gives_the_class_away(cells):
    X = [x[:64] if y == CLASSES[0] else x for x, y in zip(cells.images, cells.target, strict=True)]
    result = audit(X, cells.target, cells.groups)
    assert severity(result, "size or format gives the class away") == "fault"
    assert severity(result, "file facts alone scores 1.00") == "fault"


def test_color_shortcut_is_scored_and_its_absence_too(cells):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(CLASSES, 40))
    none = audit(cells.images, y, cells.groups).shortcuts.set_index("seen")
    assert (none["low"] < 0.6).all() and (none["chance"] == 0.5).all()
    X = cells.images.copy()
    X[y == CLASSES[0], ..., 2] //= 2
    tinted = audit(X, y, cells.groups).shortcuts.set_index("seen")
    assert tinted.loc["color alone", "balanced_accuracy"] > 0.95
    assert tinted.loc["border alone", "balanced_accuracy"] > 0.95


def test_broken_files_are_listed_and_the_rest_is_done(cells, tmp_path):
    for i, image in enumerate(cells.images[:20]):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "05.png").write_bytes(b"no image")
    Image.new("L", (40, 40)).save(tmp_path / "07.png")
    files = [ImageRef(path) for path in sorted(tmp_path.iterdir())]
    result = audit(files, cells.target[:20], n_jobs=2)
    assert result.items["unreadable files"]["image"].tolist() == [5, 7]
    assert "05.png" in result.items["unreadable files"]["name"][0]
    assert len(result.groups_) == 20 and "unreadable" in result.to_html().lower()


def test_label_errors_on_request(cells):
    y = cells.target.copy()
    flipped = [3, 30, 60]
    for i in flipped:
        y[i] = CLASSES[1] if y[i] == CLASSES[0] else CLASSES[0]
    assert severity(audit(cells.images, y), "label-error candidates") is None
    found = audit(cells.images, y, label_errors=True).items["label-error candidates"]
    assert len(set(flipped) & set(found["image"].head(8))) >= 2


def test_the_page_lists_unreadable_files_and_suggests_labels(cells):
    y = cells.target.copy()
    y[3] = CLASSES[1] if y[3] == CLASSES[0] else CLASSES[0]
    result = audit(cells.images, y, label_errors=True)
    files = pd.DataFrame({"file": [f"{i:03d}.png" for i in range(205)], "error": "is empty"})
    html = result.to_html(unreadable=files)
    assert "199.png" in html and "200.png" not in html and "5 more are not listed" in html
    suggested = result.items["label-error candidates"].set_index("image")["suggested"]
    assert suggested[3] == cells.target[3]
    assert f"image 3 ({y[3]}); suggested: {suggested[3]}" in pictures(html)


def test_same_seed_same_audit_and_one_class(cells):
    first, again = (audit(cells.images[:30], cells.target[:30]) for _ in range(2))
    assert first.table.equals(again.table) and first.shortcuts.equals(again.shortcuts)
    alone = audit(cells.images[:5], np.zeros(5))
    assert not len(alone.shortcuts)
    with pytest.raises(ValueError, match="one label each"):
        audit(cells.images, cells.target[:-1])
