"""Fields with boxes, in the layouts of GitHub, of Kaggle and of one table, with their dirt."""

from functools import partial

import numpy as np
import pytest
from images_on_disk import write_image

from hemaest.datasets import load_bccd
from hemaest.images import check_images

OBJECT = (
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
    "<ymax>{}</ymax></bndbox></object>"
)
TABLE = "filename,cell_type,xmin,xmax,ymin,ymax\n"
LABELS = ",Image,Category\n"
BOXES = [("WBC", 1, 5, 20, 30), ("RBC", 30, 10, 40, 20)]
# inclusive pixels counted from 1 become half-open ones counted from 0
HALF_OPEN = [[0, 4, 20, 30], [29, 9, 40, 20]]


# whatever its name says
put = partial(write_image, size=(64, 48), format="JPEG")


def annotate(path, boxes=BOXES):
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(OBJECT.format(*box) for box in boxes)
    path.write_text(f"<annotation><filename>another</filename>{objects}</annotation>")
    return path


def voc(root, numbers):
    for i in numbers:
        put(root / "JPEGImages" / f"BloodImage_{i:05}.jpg")
        annotate(root / "Annotations" / f"BloodImage_{i:05}.xml")


@pytest.fixture
def fields(tmp_path):
    """Four fields with their boxes in one table."""
    rows = []
    for i in range(4):
        name = put(tmp_path / "images" / f"BloodImage_0000{i}.jpg").name
        rows += [
            f"{name},{kind},{x0},{x1},{y0},{y1}\n" for kind, x0, y0, x1, y1 in BOXES[: 2 - i % 2]
        ]
    (tmp_path / "boxes.csv").write_text(TABLE + "".join(rows))
    (tmp_path / "field_labels.csv").write_text(
        LABELS + ',0,NEUTROPHIL\n,1,"NEUTROPHIL, EOSINOPHIL"\n,2,\n,3,MONOCYTE\n,9,BASOPHIL\n'
    )
    return tmp_path


def test_boxes_in_one_table(fields):
    bunch = load_bccd(fields)
    check_images(bunch.images)
    assert bunch.target.tolist() == ["NEUTROPHIL", "NEUTROPHIL, EOSINOPHIL", "", "MONOCYTE"]
    assert bunch.filenames == [f"images/BloodImage_0000{i}.jpg" for i in range(4)]
    np.testing.assert_array_equal(bunch.boxes[0], HALF_OPEN)
    assert bunch.box_labels[0].tolist() == ["WBC", "RBC"]
    assert [len(boxes) for boxes in bunch.boxes] == [2, 1, 2, 1]
    single = load_bccd(fields, subset="single")
    assert single.target.tolist() == ["NEUTROPHIL", "MONOCYTE"]
    assert [len(boxes) for boxes in single.boxes] == [2, 1]


def test_annotations_as_they_come_from_github(tmp_path):
    voc(tmp_path / "BCCD", (0, 2))
    put(tmp_path / "example.jpg")
    for path in (tmp_path, tmp_path / "BCCD"):
        bunch = load_bccd(path)
        assert [name.split("/")[-1] for name in bunch.filenames] == [
            "BloodImage_00000.jpg",
            "BloodImage_00002.jpg",
        ]
        np.testing.assert_array_equal(bunch.boxes[1], HALF_OPEN)
        assert bunch.box_labels[1].tolist() == ["WBC", "RBC"]
        assert bunch.target.tolist() == ["", ""]


def test_the_kaggle_edition_has_labels_in_two_tables(tmp_path):
    voc(tmp_path / "dataset-master" / "dataset-master", (0, 1))
    copies = tmp_path / "dataset2-master" / "dataset2-master" / "images" / "TEST"
    put(copies / "MONOCYTE" / "_0_5.jpeg")
    for part in ("dataset-master", "dataset2-master"):
        (tmp_path / part / part / "labels.csv").write_text(LABELS + ",0,NEUTROPHIL\n,1,MONOCYTE\n")
    bunch = load_bccd(tmp_path, subset="single")
    assert bunch.target.tolist() == ["NEUTROPHIL", "MONOCYTE"]
    (tmp_path / part / part / "labels.csv").write_text(LABELS + ",1,BASOPHIL\n")
    with pytest.warns(UserWarning, match=r"1 label\(s\) that contradict.*BASOPHIL of 1, MONOCYTE"):
        assert load_bccd(tmp_path).target.tolist() == ["NEUTROPHIL", "MONOCYTE"]


def test_names_are_compared_without_case_and_extension(fields):
    images = fields / "images"
    (images / "BloodImage_00001.jpg").rename(images / "BloodImage_00001.JPG")
    (images / "BloodImage_00002.jpg").rename(images / "bloodimage_00002.jpeg")
    (fields / "boxes.csv").rename(fields / "Boxes.CSV")
    (fields / "field_labels.csv").write_text(
        LABELS + ",BloodImage_00000.jpg, neutrophil \n, 1 ,Monocyte\n"
    )
    bunch = load_bccd(fields)
    assert [len(boxes) for boxes in bunch.boxes] == [2, 1, 2, 1]
    assert bunch.target.tolist() == ["NEUTROPHIL", "MONOCYTE", "", ""]
    assert len(load_bccd(fields, subset="single").images) == 2


def test_copies_and_debris_are_no_fields(fields):
    put(fields / "images" / "BloodImage_00000 (1).jpg")
    put(fields / "other" / "BloodImage_00001.jpg")
    put(fields / "images" / "._BloodImage_00003.jpg")
    with pytest.warns(UserWarning, match=r"2 file\(s\) are copies .*00000 \(1\).*00001"):
        bunch = load_bccd(fields)
    assert bunch.filenames == [f"images/BloodImage_0000{i}.jpg" for i in range(4)]


def test_boxes_that_enclose_nothing_are_counted_and_left_out(fields):
    with (fields / "boxes.csv").open("a") as table:
        for corners in ("x,5,1,5", ",5,1,5", "9,5,1,5", "1,5,inf,5"):
            table.write(f"BloodImage_00000.jpg,WBC,{corners}\n")
        table.write("photo.jpg,RBC,1,5,1,5\nBloodImage_00000.jpg,WBC,7,7,8,8\n")
    with pytest.warns(
        UserWarning, match=r"5 box\(es\) are left out.*WBC of BloodImage_00000\.jpg \(x"
    ):
        bunch = load_bccd(fields)
    np.testing.assert_array_equal(bunch.boxes[0], [*HALF_OPEN, [6, 7, 7, 8]])


def test_fields_without_boxes_and_boxes_without_fields_are_named(fields):
    (fields / "boxes.csv").write_text(
        TABLE + "".join(f"BloodImage_0000{i}.jpg,WBC,1,5,1,5\n" for i in (0, 1, 2, 8))
    )
    with (
        pytest.warns(UserWarning, match=r"1 field\(s\) have no boxes: BloodImage_00003\.jpg"),
        pytest.warns(UserWarning, match=r"boxes of 1 field\(s\) .* no images of number 8"),
    ):
        bunch = load_bccd(fields)
    assert bunch.boxes[3].shape == (0, 4)


def test_a_broken_annotation_leaves_its_field_without_boxes(tmp_path):
    voc(tmp_path, (0, 1))
    (tmp_path / "Annotations" / "BloodImage_00001.xml").write_text("<annotation><object>")
    with (
        pytest.warns(UserWarning, match=r"1 annotation\(s\) are broken.*00001\.xml"),
        pytest.warns(UserWarning, match=r"1 field\(s\) have no boxes"),
    ):
        bunch = load_bccd(tmp_path)
    assert [len(boxes) for boxes in bunch.boxes] == [2, 0]


def test_labels_of_no_field_and_of_no_known_type_are_named(fields):
    (fields / "field_labels.csv").write_text(
        LABELS + ',,EOSINOPHIL\n,3,MONOCYTE\n,1,neutrophl\n,2,"NEUTROPHIL, EOSINOPHIL"\n'
    )
    with pytest.warns(UserWarning, match=r"1 label\(s\) .* are left out.*EOSINOPHIL of ''"):
        assert load_bccd(fields).target.tolist() == [
            "",
            "NEUTROPHL",
            "NEUTROPHIL, EOSINOPHIL",
            "MONOCYTE",
        ]
    with (
        pytest.warns(UserWarning, match=r"1 label\(s\)"),
        pytest.warns(UserWarning, match=r"1 field\(s\) .*NEUTROPHL \(BloodImage_00001\.jpg\)"),
    ):
        assert load_bccd(fields, subset="single").target.tolist() == ["MONOCYTE"]


def test_fields_of_one_type_need_labels(fields):
    (fields / "field_labels.csv").write_text(LABELS + ',0,\n,1,"MONOCYTE, BASOPHIL"\n')
    with pytest.raises(ValueError, match="none of the 4 fields .* 1 have a label at all"):
        load_bccd(fields, subset="single")
    (fields / "field_labels.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no table of the types.*labels\.csv"):
        load_bccd(fields, subset="single")
    assert load_bccd(fields).target.tolist() == [""] * 4


def test_broken_images_are_left_out_with_their_boxes(fields):
    (fields / "images" / "BloodImage_00000.jpg").write_bytes(b"")
    bunch = load_bccd(fields, verify=True)
    assert bunch.failures["file"].tolist() == ["images/BloodImage_00000.jpg"]
    assert [len(boxes) for boxes in bunch.boxes] == [1, 2, 1]
    assert bunch.target[0] == "NEUTROPHIL, EOSINOPHIL"


def test_another_layout_is_described(fields):
    with pytest.raises(ValueError, match="'all' or 'single'"):
        load_bccd(fields, subset="one")
    with pytest.raises(FileNotFoundError, match=r"is no folder.*Annotations/BloodImage_NNNNN\.xml"):
        load_bccd(fields / "nowhere")
    (fields / "boxes.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"(?s)boxes\.csv.*Found: field_labels\.csv, images/"
    ):
        load_bccd(fields)
