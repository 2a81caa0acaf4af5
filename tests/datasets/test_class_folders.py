"""Loaders on small trees laid out as the real sets are, with the real sets' dirt."""

import pytest
from images_on_disk import assert_common, write_image
from PIL import Image

from hemaest.datasets import (
    load_aml_matek,
    load_bone_marrow,
    load_cnmc,
    load_image_folder,
    load_kaggle_wbc,
    load_leukemia_folders,
    load_raabin,
)

# folders


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        write_image(tmp_path / "blast" / f"p{i % 2}-{i}.png", 10 * i)
        write_image(tmp_path / "lymphocyte" / "deeper" / f"p{i}-9.JPG", 10 * i)
    return tmp_path


def test_labels_are_the_first_folders(folder):
    bunch = load_image_folder(folder)
    assert_common(bunch)
    assert bunch.target.tolist() == ["blast"] * 3 + ["lymphocyte"] * 3
    assert bunch.filenames[3] == "lymphocyte/deeper/p0-9.JPG"
    assert bunch.images[1].read()[0, 0, 0] == 20


def test_debris_is_passed_over(folder):
    write_image(folder / "blast" / "._p0-0.png")
    write_image(folder / "__MACOSX" / "blast" / "p0-0.png")
    write_image(folder / ".cache" / "x.png")
    (folder / "blast" / "Thumbs.db").write_bytes(b"\0")
    (folder / "blast" / "notes.txt").write_text("a note")
    assert len(load_image_folder(folder).images) == 6
    write_image(folder / "top.png")
    with pytest.warns(UserWarning, match=r"1 image\(s\) lie in .* itself.*: top\.png"):
        assert len(load_image_folder(folder).images) == 6


def test_broken_files_are_listed_and_the_rest_is_done(folder):
    (folder / "blast" / "cut.jpg").write_bytes(
        write_image(folder / "blast" / "whole.jpg", size=(90, 90)).read_bytes()[:400]
    )
    (folder / "blast" / "empty.png").write_bytes(b"")
    write_image(folder / "blast" / "gray.png", mode="L")
    assert len(load_image_folder(folder).images) == 10
    bunch = load_image_folder(folder, verify=True)
    assert_common(bunch)
    assert len(bunch.images) == 7
    assert bunch.failures["file"].tolist() == ["blast/cut.jpg", "blast/empty.png", "blast/gray.png"]
    for name, word in (("cut", "broken"), ("empty", "0 bytes"), ("gray", "gray")):
        row = bunch.failures[bunch.failures["file"].str.contains(name)]
        assert word in row["reason"].item()


def test_groups_by_rule_given_and_none(folder):
    by_rule = load_image_folder(folder, groups=r"(p\d)-")
    assert by_rule.groups.tolist() == ["p0", "p0", "p1", "p0", "p1", "p2"]
    assert by_rule.group_source == "file name"
    given = load_image_folder(folder, groups=[1, 1, 2, 2, 3, 3])
    assert given.groups.tolist() == [1, 1, 2, 2, 3, 3] and given.group_source == "given"
    alone = load_image_folder(folder, groups=None)
    assert len(set(alone.groups)) == 6 and alone.group_source == "none"
    with pytest.raises(ValueError, match="2 entries, but there are 6 images"):
        load_image_folder(folder, groups=[1, 2])


def test_a_wrong_folder_says_what_was_expected_and_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder.*one subfolder for each class"):
        load_image_folder(tmp_path / "nowhere")
    write_image(tmp_path / "cell.png")
    with pytest.raises(FileNotFoundError, match=r"(?s)Expected: one subfolder.*Found: cell\.png"):
        load_image_folder(tmp_path)


# the Barcelona set


# sets of class folders, with their dirt


def test_raabin_keeps_smears_together(tmp_path):
    for part, label, name in (
        ("Train", "Basophil", "20190531_121315_0.jpg"),
        ("Train", "Neutrophil", "20190531_130101_2.JPG"),
        ("TestA", "Neutrophil", "20190602_090000_0.jpg"),
        ("Test-B", "Lymphocyte", "95-9-15-1_14_1.jpg"),
    ):
        write_image(tmp_path / part / label / name)
    (tmp_path / "Train" / "Basophil" / "Thumbs.db").write_bytes(b"x")
    bunch = load_raabin(tmp_path)
    assert_common(bunch)
    assert bunch.subset.tolist() == ["train", "train", "testA", "testB"]
    assert bunch.groups[0] == bunch.groups[1] and len(set(bunch.groups)) == 3
    assert bunch.group_source == "smear"
    assert load_raabin(tmp_path, subset="testB").target.tolist() == ["Lymphocyte"]
    with pytest.raises(ValueError, match="'all', 'train', 'testA', 'testB'"):
        load_raabin(tmp_path, subset="test")


def test_bone_marrow_in_thousands(tmp_path):
    write_image(tmp_path / "BLA" / "0001-1000" / "BLA_00001.jpg")
    write_image(tmp_path / "BLA" / "1001-2000" / "BLA_01001.jpg")
    write_image(tmp_path / "HAC" / "HAC_00001.jpg")
    write_image(tmp_path / "BLA" / "0001-1000" / "._BLA_00001.jpg")
    bunch = load_bone_marrow(tmp_path)
    assert_common(bunch)
    assert bunch.target.tolist() == ["BLA", "BLA", "HAC"]
    assert bunch.class_names == {"BLA": "blast", "HAC": "hairy cell"}
    fourteen = load_bone_marrow(tmp_path, classes="14")
    assert fourteen.target.tolist() == ["BLA", "BLA"]
    with pytest.raises(ValueError, match="'21' .* or '14'"):
        load_bone_marrow(tmp_path, classes=14)


def test_fourteen_of_the_marrow_classes_are_common(tmp_path):
    every = "ABE ART BAS BLA EBO EOS FGC HAC KSC LYI LYT MMZ MON MYB NGB NGS NIF OTH PEB PLM PMO"
    for name in every.split():
        write_image(tmp_path / name / "1.jpg")
    assert load_bone_marrow(tmp_path).target.tolist() == every.split()
    rare = {"ABE", "BAS", "FGC", "HAC", "KSC", "LYI", "OTH"}
    assert set(load_bone_marrow(tmp_path, classes="14").target) == set(every.split()) - rare


def test_copies_of_one_kaggle_photograph_are_one_group(tmp_path):
    root = tmp_path / "dataset2-master" / "dataset2-master" / "images"
    for part in ("TRAIN", "TEST"):
        for label in ("EOSINOPHIL", "MONOCYTE"):
            for n, copy in ((0, 11), (0, 99), (1, 5)):
                write_image(root / part / label / f"_{n}_{copy}.jpeg")
    train = load_kaggle_wbc(tmp_path, subset="train")
    assert_common(train)
    assert len(train.images) == 6 and len(set(train.groups)) == 4
    assert train.group_source == "photograph"
    both = load_kaggle_wbc(tmp_path)
    # n starts anew in every split and class: the same n elsewhere is another photograph
    assert len(set(both.groups)) == 8
    assert set(train.groups) <= set(both.groups)


def test_aml_matek_reads_rgba_tiffs(tmp_path):
    path = tmp_path / "MYO" / "MYO_0001.tiff"
    path.parent.mkdir()
    Image.new("RGBA", (8, 8), (90, 60, 140, 255)).save(path)
    bunch = load_aml_matek(tmp_path)
    assert_common(bunch)
    assert bunch.images[0].read()[0, 0].tolist() == [90, 60, 140]
    assert bunch.class_names == {"MYO": "myeloblast"}


def test_leukemia_folders_say_when_they_are_at_image_level(tmp_path):
    write_image(tmp_path / "cll" / "p1_1.png")
    write_image(tmp_path / "CML" / "p1_2.png")
    write_image(tmp_path / "notes" / "x.png")
    with pytest.warns(UserWarning, match=r"1 image.*notes/ \(1\)"):
        plain = load_leukemia_folders(tmp_path)
    assert_common(plain)
    assert plain.target.tolist() == ["CML", "CLL"] and plain.group_source == "none"
    (tmp_path / "notes" / "x.png").unlink()
    given = load_leukemia_folders(tmp_path, groups=["ann", "bob"])
    assert given.groups.tolist() == ["ann", "bob"] and given.group_source == "given"


@pytest.mark.parametrize(
    "load", [load_raabin, load_bone_marrow, load_kaggle_wbc, load_cnmc, load_aml_matek]
)
def test_an_empty_folder_says_what_was_expected(load, tmp_path):
    (tmp_path / "something").mkdir()
    with pytest.raises(FileNotFoundError, match=r"(?s)Expected: .*Found: something/"):
        load(tmp_path)


def test_one_broken_file_does_not_keep_a_set_from_loading(tmp_path):
    write_image(tmp_path / "BLA" / "BLA_00001.jpg", size=(40, 30))
    (tmp_path / "BLA" / "BLA_00002.jpg").write_bytes(
        (tmp_path / "BLA" / "BLA_00001.jpg").read_bytes()[:300]
    )
    bunch = load_bone_marrow(tmp_path)
    assert len(bunch.images) == 2
    with pytest.raises(ValueError, match=r"BLA_00002\.jpg is broken"):
        bunch.images[1].read()


def test_a_file_given_as_a_folder_is_called_a_file(tmp_path):
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(FileNotFoundError, match="report.pdf is a file and no folder; give the"):
        load_image_folder(tmp_path / "report.pdf")
