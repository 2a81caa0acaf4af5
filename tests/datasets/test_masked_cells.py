"""Cells with masks, in the layout of GitHub and in one of plain names, with their dirt."""

import numpy as np
import pytest
from PIL import Image

from hemaest.datasets import load_segmentation_wbc
from hemaest.images import check_images

MASK = np.zeros((10, 12), np.uint8)
MASK[2:8, 2:8], MASK[3:6, 3:6] = 128, 255
# stray values as the real masks hold them
MASK[0, 0], MASK[1, 1], MASK[3, 3] = 3, 61, 204
LABELS = "image ID,class label\n1,1\n2,4\n"


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (12, 10), (200, 150, 180)) if content is None else content
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path)
    return path


@pytest.fixture
def plain(tmp_path):
    for number in (1, 2):
        for i in (1, 2):
            put(tmp_path / f"dataset{number}" / f"00{i}_image.png")
            put(tmp_path / f"dataset{number}" / f"00{i}_mask.png", MASK)
        (tmp_path / f"class_labels_of_dataset_{number}.csv").write_text(LABELS)
    return tmp_path


@pytest.fixture
def public(tmp_path):
    root = tmp_path / "segmentation_WBC-master"
    for number, column in ((1, "class label"), (2, "class")):
        for i in (1, 2):
            put(root / f"Dataset {number}" / f"00{i}.bmp")
            put(root / f"Dataset {number}" / f"00{i}.png", MASK)
        put(root / f"Dataset {number}.png")
        table = root / f"Class Labels of Dataset {number}.csv"
        table.write_text(f"image ID,{column}\n1,1\n2,4\n")
    return tmp_path


@pytest.mark.parametrize("layout", ["plain", "public"])
def test_both_layouts(layout, request):
    folder = request.getfixturevalue(layout)
    bunch = load_segmentation_wbc(folder)
    check_images(bunch.images)
    assert bunch.target.tolist() == [1, 4, 1, 4]
    assert bunch.class_names == {1: "neutrophil", 4: "eosinophil"}
    assert bunch.lab.tolist() == [1, 1, 2, 2]
    assert bunch.group_source == "none" and len(set(bunch.groups)) == 4
    assert not len(bunch.failures)
    mask = bunch.masks[0]
    assert mask.shape == (10, 12) and set(np.unique(mask)) == {0, 1, 2}
    assert (mask == 2).sum() == 9 and (mask > 0).sum() == 37
    assert len(load_segmentation_wbc(folder, subset="dataset2").images) == 2


def test_the_order_is_that_of_the_numbers(public):
    names = load_segmentation_wbc(public, subset="dataset1").filenames
    assert names == [f"segmentation_WBC-master/Dataset 1/00{i}.bmp" for i in (1, 2)]


def test_names_are_compared_without_case_and_extension(plain):
    root = plain / "dataset1"
    (root / "001_image.png").rename(root / "001_IMAGE.PNG")
    (root / "001_mask.png").rename(root / "001_Mask.PNG")
    (root / "002_image.png").unlink()
    put(root / "002_image.BMP")
    (plain / "class_labels_of_dataset_1.csv").rename(plain / "Class_Labels_of_Dataset_1.CSV")
    bunch = load_segmentation_wbc(plain, subset="dataset1")
    assert bunch.filenames == ["dataset1/001_IMAGE.PNG", "dataset1/002_image.BMP"]
    assert all((mask > 0).sum() == 37 for mask in bunch.masks)


def test_files_that_belong_to_no_cell_are_named(plain):
    root = plain / "dataset1"
    put(root / "001_image (1).png")
    put(root / "001_image.jpg")
    put(root / "._002_image.png")
    put(root / "007_mask.png", MASK)
    with (plain / "class_labels_of_dataset_1.csv").open("a") as table:
        table.write("9,5\n")
    with (
        pytest.warns(UserWarning, match=r"2 file\(s\) .*: 001_image \(1\)\.png, 001_image\.png"),
        pytest.warns(UserWarning, match=r"1 mask\(s\) .* no image .*: 007_mask\.png"),
        pytest.warns(UserWarning, match=r"1 row\(s\) of class_labels_of_dataset_1\.csv .*: 9\."),
    ):
        assert len(load_segmentation_wbc(plain, subset="dataset1").images) == 2


def test_columns_are_read_by_name(plain):
    table = plain / "class_labels_of_dataset_1.csv"
    table.write_text("class, image ID ,note\n2,1,\n5.0,2,seen twice\n")
    assert load_segmentation_wbc(plain, subset="dataset1").target.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image ID,class\n1,\n2,4\n", r"1 row\(s\).*1 \(neutrophil\).*'1': ''.* Correct"),
        ("image ID,class\nx,1\n2,7\n1,1\n", r"2 row\(s\).*'x': '1', '2': '7'"),
        ("image ID,class\n1,1\n2,4\n2,3\n", r"1 row\(s\).*once.*'2': '3'"),
        ("image ID\n1\n", r"lacks the column 'class' \(or 'class label'\); it has image ID"),
        ("number,class\n1,1\n", r"lacks the column\(s\) image ID"),
        ("image ID,class\n1,1\n", r"1 image\(s\) .* no row in .*: 002_image\.png"),
        ("", "is empty"),
    ],
)
def test_wrong_tables_are_named(plain, content, message):
    (plain / "class_labels_of_dataset_1.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"class_labels_of_dataset_1\.csv.*{message}|{message}"):
        load_segmentation_wbc(plain)


def cut(path):
    path.write_bytes(path.read_bytes()[:45])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (cut, ValueError, r"001_mask\.png is broken and cannot be read as a mask"),
        (lambda p: p.write_bytes(b""), ValueError, r"001_mask\.png is broken"),
        (lambda p: put(p, MASK // 100), ValueError, "shows no cell: its values go from 0 to 2"),
        (lambda p: put(p, MASK[:5]), ValueError, r"\(5, 12\) rows .*001_image\.png \(10, 12\)"),
        (lambda p: p.unlink(), FileNotFoundError, r"001_image\.png has no mask beside it"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named_or_left_out(plain, spoil, error, message):
    spoil(plain / "dataset1" / "001_mask.png")
    with pytest.raises(error, match=message + r".*load with verify=True"):
        load_segmentation_wbc(plain)
    bunch = load_segmentation_wbc(plain, verify=True)
    assert bunch.target.tolist() == [4, 1, 4] and bunch.lab.tolist() == [1, 2, 2]
    assert len(bunch.masks) == len(bunch.groups) == len(bunch.filenames) == 3
    assert bunch.failures["file"].tolist() == ["dataset1/001_image.png"]


def test_broken_images_are_left_out_with_their_masks(plain):
    cut(plain / "dataset1" / "002_image.png")
    (plain / "dataset2" / "001_mask.png").write_bytes(b"")
    with pytest.raises(ValueError, match="001_mask"):
        load_segmentation_wbc(plain)
    bunch = load_segmentation_wbc(plain, verify=True)
    assert bunch.filenames == ["dataset1/001_image.png", "dataset2/002_image.png"]
    assert sorted(bunch.failures["file"]) == ["dataset1/002_image.png", "dataset2/001_image.png"]
    assert len(bunch.masks) == 2
    for path in plain.rglob("*_mask.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the masks .* can be used"):
        load_segmentation_wbc(plain, verify=True)


def test_what_is_missing_is_described(plain):
    with pytest.raises(ValueError, match="'all', 'dataset1' or 'dataset2'"):
        load_segmentation_wbc(plain, subset="dataset3")
    (plain / "class_labels_of_dataset_1.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"(?s)expected layout.*Class Labels.*Found: class_"
    ):
        load_segmentation_wbc(plain)
    for path in (plain / "dataset2").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"dataset2 does not have the expected layout"):
        load_segmentation_wbc(plain, subset="dataset2")


def test_the_license_is_stated_as_far_as_it_is_known(plain):
    descr = load_segmentation_wbc(plain).DESCR
    assert "License: not known" in descr and "Jiangxi Tecom Science Corporation" in descr
