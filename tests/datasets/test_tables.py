"""Tables of labels as they are handed around: spaces, other encodings, cut off and damaged."""

import pytest

from hemaest.datasets._loading import read_table

COLUMNS = ["file", "label"]


@pytest.fixture
def table(tmp_path):
    def write(content):
        path = tmp_path / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_spaces_around_cells_and_names_mean_nothing(table):
    read = read_table(table(' file ,label\t\r\n 1.png, "blast, large" \r\n2.png ,\r\n'), COLUMNS)
    assert read.to_numpy().tolist() == [["1.png", "blast, large"], ["2.png", ""]]


def test_what_looks_like_a_number_or_a_gap_stays_as_it_is_written(table):
    read = read_table(table("file,label\n001,NA\n2.0,nan\n3\n"), COLUMNS)
    assert read.to_numpy().tolist() == [["001", "NA"], ["2.0", "nan"], ["3", ""]]


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(table):
    assert (
        read_table(table("file,label\n1,ä\n".encode("utf-8-sig")), COLUMNS)["label"].item() == "ä"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; copy it again"),
        ("\n \n", "is empty; copy it again"),
        ("file,label\n", "holds no row below its header"),
        ("file,label\nä,x\n".encode("latin-1"), "not written in UTF-8.*save it as UTF-8"),
        ("file,label\n1,x\n".encode("utf-16"), "not written in UTF-8"),
        ("file,label\n1,x\n2,y,z\n", "cannot be read as a table with commas.*line 3"),
        ("file,label\n1,x,z\n2,y,z\n", "more cells in its rows than names in its header"),
        ("file;label\n1;x\n", r"lacks the column\(s\) file, label; it has file;label.*commas"),
    ],
)
def test_what_is_no_such_table_is_named(table, content, message):
    with pytest.raises(ValueError, match=rf"labels\.csv .*{message}"):
        read_table(table(content), COLUMNS)
