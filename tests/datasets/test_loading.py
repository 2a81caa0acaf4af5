"""Tables of labels as they are handed around: spaces, other encodings, cut off and damaged."""

import pytest
from images_on_disk import write_image

from hemaest.datasets import load_taleqani


@pytest.fixture
def load(tmp_path):
    """Return a function that loads three images with the table that it is given."""
    for number in (1, 2, 3):
        write_image(tmp_path / "Pre" / f"{number}.jpg")

    def with_table(content):
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "labels.csv").write_bytes(content)
        return load_taleqani(tmp_path)

    return with_table


THREE = "Pre/1.jpg,Pre,{}\nPre/2.jpg,Pre,{}\nPre/3.jpg,Pre"


def test_spaces_around_cells_and_names_mean_nothing(load):
    bunch = load(
        ' file ,label\t, dup_group\r\n Pre/1.jpg, Pre , "a, b" \r\nPre/2.jpg ,Pre,\r\n'
        'Pre/3.jpg,"Pre"\t, \r\n'
    )
    assert bunch.filenames == ["Pre/1.jpg", "Pre/2.jpg", "Pre/3.jpg"]
    assert bunch.target.tolist() == ["Pre"] * 3
    assert bunch.groups.tolist() == ["a, b", "Pre/2.jpg", "Pre/3.jpg"]


@pytest.mark.parametrize("clusters", [("001", "NA"), ("2.0", "nan")])
def test_what_looks_like_a_number_or_a_gap_stays_as_it_is_written(load, clusters):
    bunch = load("file,label,dup_group\n" + THREE.format(*clusters))
    assert bunch.groups.tolist() == [*clusters, "Pre/3.jpg"]


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(load):
    bunch = load(("file,label,dup_group\n" + THREE.format("ä", "ä")).encode("utf-8-sig"))
    assert bunch.groups.tolist() == ["ä", "ä", "Pre/3.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; copy it again"),
        ("\n \n", "is empty; copy it again"),
        ("file,label,dup_group\n", "holds no row below its header"),
        ("file,label\nä,x\n".encode("latin-1"), "not written in UTF-8.*save it as UTF-8"),
        ("file,label\n1,x\n".encode("utf-16"), "not written in UTF-8"),
        ("file,label\n1,x\n2,y,z\n", "cannot be read as a table with commas.*line 3"),
        ("file,label\n1,x,z\n2,y,z\n", "more cells in its rows than names in its header"),
        ("file;label\n1;x\n", r"lacks the column\(s\) file, label, .*; it has file;label.*commas"),
    ],
)
def test_what_is_no_such_table_is_named(load, content, message):
    with pytest.raises(ValueError, match=rf"labels\.csv .*{message}"):
        load(content)
