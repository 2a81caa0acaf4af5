"""What the loaders do with broken files, odd names, links, repeats and folders of no class."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from images_on_disk import write_image
from permissions import UNTESTABLE, limited
from PIL import Image

from hemaest.datasets import (
    image_files,
    list_files,
    load_aml_matek,
    load_bone_marrow,
    load_image_folder,
    load_kaggle_wbc,
    load_leukemia_folders,
    load_pbc,
    load_raabin,
    load_taleqani,
)
from hemaest.images import ImageRef


def put(root, *names):
    for number, name in enumerate(names):
        write_image(root / name, 20 * number)
    return root


def spoil(root, broken, gone):
    """Add a cut file and a link to nowhere."""
    whole = next(p for p in root.rglob("*") if p.suffix in {".jpg", ".png", ".jpeg"})
    (root / broken).write_bytes(whole.read_bytes()[:40])
    (root / gone).symlink_to(root / "nowhere.jpg")
    return root


# broken files


@pytest.mark.parametrize(
    ("load", "good", "broken", "gone"),
    [
        (load_image_folder, "a/1.png", "a/2.png", "a/3.png"),
        (load_aml_matek, "MYO/MYO_1.jpg", "MYO/MYO_2.jpg", "MYO/MYO_3.jpg"),
        (load_bone_marrow, "BLA/BLA_1.jpg", "BLA/BLA_2.jpg", "BLA/BLA_3.jpg"),
        (load_kaggle_wbc, "TRAIN/MONOCYTE/_1_1.jpeg", "TRAIN/MONOCYTE/_1_2.jpeg",
         "TRAIN/MONOCYTE/_2_1.jpeg"),
        (load_leukemia_folders, "ALL/1.jpg", "ALL/2.jpg", "ALL/3.jpg"),
        (load_pbc, "ig/MMY_1.jpg", "ig/MMY_2.jpg", "ig/MMY_3.jpg"),
        (load_raabin, "Train/Basophil/95-9-15-1_14_1.jpg", "Train/Basophil/95-9-15-1_14_2.jpg",
         "Train/Basophil/95-9-16-1_14_3.jpg"),
        (load_taleqani, "Pre/1.jpg", "Pre/2.jpg", "Pre/3.jpg"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:rule='(kaggle|raabin|auto)' puts all")
def test_every_loader_lists_broken_files_and_continues(tmp_path, load, good, broken, gone):
    spoil(put(tmp_path, good), broken, gone)
    with pytest.raises(FileNotFoundError, match=rf"{gone} cannot be read.*verify=True"):
        load(tmp_path)
    bunch = load(tmp_path, verify=True)
    assert bunch.filenames == [good]
    assert bunch.failures["file"].tolist() == [broken, gone]
    per_image = set(bunch) & {"images", "target", "groups", "subset"}
    assert {len(bunch[name]) for name in per_image} == {1}
    assert bunch.images[0].read().shape == (10, 12, 3)


def test_without_verify_no_failures_are_known(tmp_path):
    bunch = load_bone_marrow(put(tmp_path, "BLA/1.jpg"))
    assert len(bunch.failures) == 0 and list(bunch.failures) == ["file", "reason"]


def test_nothing_readable_is_an_error_that_says_why(tmp_path):
    (tmp_path / "BLA").mkdir()
    (tmp_path / "BLA" / "1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"(?s)none of the images.*0 bytes"):
        load_bone_marrow(tmp_path, verify=True)


@pytest.mark.parametrize("load", [load_image_folder, load_leukemia_folders])
def test_groups_are_given_for_all_files_and_stay_with_theirs(tmp_path, load):
    put(tmp_path, "ALL/b.png", "ALL/c.png", "CML/d.png")
    (tmp_path / "ALL" / "a.png").write_bytes(b"")
    bunch = load(tmp_path, groups=["ann", "bob", "cleo", "dan"], verify=True)
    assert dict(zip(bunch.filenames, bunch.groups.tolist(), strict=True)) == {
        "ALL/b.png": "bob", "ALL/c.png": "cleo", "CML/d.png": "dan",
    }  # fmt: skip
    with pytest.raises(ValueError, match="3 entries, but there are 4 images.*cannot be read"):
        load(tmp_path, groups=[1, 2, 3], verify=True)


# groups


def test_the_kaggle_photographs_are_known_from_inside_train(tmp_path):
    put(tmp_path, *(f"TRAIN/{t}/_{n}_{c}.jpeg" for t in ("A", "B") for n in (1, 2) for c in (7, 9)))
    bunch = load_image_folder(tmp_path / "TRAIN")
    assert bunch.group_source == "photograph" and len(set(bunch.groups)) == 4


def test_the_photographs_of_test_are_not_taken_twice(tmp_path):
    put(tmp_path, "TRAIN/MONOCYTE/_0_5.jpeg", "TEST/MONOCYTE/_0_6.jpeg", "TEST/MONOCYTE/_1_6.jpeg",
        "TEST_SIMPLE/MONOCYTE/_0_900.jpeg", "TEST_SIMPLE/MONOCYTE/_1_901.jpeg")  # fmt: skip
    assert load_kaggle_wbc(tmp_path).subset.tolist() == ["test", "test", "train"][::-1]
    simple = load_kaggle_wbc(tmp_path, subset="test_simple")
    assert simple.subset.tolist() == ["test_simple"] * 2
    assert "TEST_SIMPLE" in simple.DESCR


def test_one_odd_name_does_not_cost_the_smears(tmp_path):
    good = [f"Train/Basophil/2019053{d}_121315_{i}.jpg" for d in (0, 1) for i in (0, 1)]
    put(tmp_path, *good, "Train/Basophil/20190530_121315_0 (2).jpg")
    with pytest.warns(UserWarning, match=r"does not fit 1 of 5 file names \(.*0 \(2\)\)"):
        bunch = load_raabin(tmp_path)
    assert bunch.group_source == "smear" and len(set(bunch.groups)) == 3
    with pytest.warns(UserWarning, match=r"'raabin' \(smear\) fits all but 1 of 5"):
        assert load_image_folder(tmp_path).group_source == "none"


def test_raabin_without_telling_names_knows_no_smears(tmp_path):
    put(tmp_path, "Train/Basophil/a.jpg", "Train/Basophil/b.jpg")
    with pytest.warns(UserWarning, match="does not fit 2"):
        bunch = load_raabin(tmp_path)
    assert bunch.group_source == "none" and len(set(bunch.groups)) == 2


# folders


def test_folders_of_no_class_are_named_with_their_number(tmp_path):
    root = put(tmp_path / "set", "ALL/a.png", "Normals/b.png", "CML ( chronic)/c.png",
               "CML ( chronic)/d.png", "cover.png")  # fmt: skip
    with pytest.warns(UserWarning, match=r"3 image.*set/CML \( chronic\)/ \(2\), set/ \(1\)"):
        bunch = load_leukemia_folders(root)
    assert bunch.target.tolist() == ["ALL", "Healthy"]


def test_a_misspelt_class_is_named_and_full_words_are_understood(tmp_path):
    train = tmp_path / "r" / "Train"
    put(train, "Neutrophil/95-9-15-1_14_1.jpg", "Lymphocytes/95-9-16-1_1_2.jpg")
    put(train, "Monocites/95-9-17-1_14_3.jpg")
    with pytest.warns(UserWarning, match=r"1 image.*Train/Monocites/ \(1\)"):
        assert load_raabin(tmp_path / "r").target.tolist() == ["Lymphocyte", "Neutrophil"]
    put(tmp_path / "p", "Immature granulocytes/IG_1.jpg")
    assert load_pbc(tmp_path / "p").target.tolist() == ["ig"]


def test_classes_that_were_not_requested_are_no_strangers(tmp_path):
    put(tmp_path, "BLA/1.jpg", "HAC/1.jpg")
    assert load_bone_marrow(tmp_path, classes="14").target.tolist() == ["BLA"]


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path):
    put(tmp_path / "far", "1.png", "2.png")
    root = put(tmp_path / "set", "A/1.png", "B/deep/1.png")
    (root / "C").symlink_to(tmp_path / "far")
    (root / "A" / "again").symlink_to(root)
    (root / "A" / "other").symlink_to(root / "B")
    (root / "B" / "deep" / "other").symlink_to(root / "A")
    bunch = load_image_folder(root)
    assert bunch.target.tolist().count("C") == 2
    assert bunch.filenames == [
        "A/1.png", "A/other/deep/1.png",
        "B/deep/1.png", "B/deep/other/1.png",
        "C/1.png", "C/2.png",
    ]  # fmt: skip


def test_parts_are_not_looked_for_in_debris(tmp_path):
    for debris in (".Trash", "__MACOSX"):
        put(tmp_path / debris, "TRAIN/MONOCYTE/_9_9.jpeg")
    put(tmp_path / "real", "TRAIN/MONOCYTE/_1_2.jpeg")
    assert load_kaggle_wbc(tmp_path).filenames == ["real/TRAIN/MONOCYTE/_1_2.jpeg"]
    put(tmp_path / "copy", "TRAIN/MONOCYTE/_1_2.jpeg")
    with pytest.raises(ValueError, match="2 folders that could be TRAIN: copy/TRAIN/, real/TRAIN/"):
        load_kaggle_wbc(tmp_path)


def test_segmented_fields_are_not_loaded_beside_the_originals(tmp_path):
    put(tmp_path, *(f"{k}/{c}/1.jpg" for k in ("Original", "Segmented") for c in ("Benign", "Pre")))
    assert load_taleqani(tmp_path).filenames == ["Original/Benign/1.jpg", "Original/Pre/1.jpg"]
    assert load_taleqani(tmp_path / "Segmented").filenames == ["Benign/1.jpg", "Pre/1.jpg"]


# tables


def test_blank_clusters_are_no_cluster(tmp_path):
    put(tmp_path, "Pre/a.jpg", "Pre/b.jpg", "Pro/c.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("file,label,dup_group\nPre/a.jpg,Pre, \nPre/b.jpg,Pre, \nPro/c.jpg,Pro,\n")
    bunch = load_taleqani(tmp_path)
    assert len(set(bunch.groups)) == 3 and bunch.group_source == "none"


def test_a_row_written_twice_gives_one_image(tmp_path):
    put(tmp_path, "ig/MMY_1.jpg", "ig/MMY_2.jpg")
    table = tmp_path / "labels.csv"
    head, row = "file,label,subtype,dup_group\nig/MMY_2.jpg,ig,MMY,\n", "ig/MMY_1.jpg,ig,MMY,\n"
    table.write_text(head + row + "./" + row)
    with pytest.warns(UserWarning, match=r"lists 1 file\(s\) more than once.*ig/MMY_1\.jpg"):
        assert load_pbc(tmp_path).filenames == ["ig/MMY_2.jpg", "ig/MMY_1.jpg"]
    table.write_text(head + row + row.replace("MMY,", "PMY,"))
    with pytest.raises(ValueError, match=r"different things of 1 file.*'MMY'.*'PMY'"):
        load_pbc(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Pre/a.jpg,Pre,\n,Pre,\n", "names no file in 1 of 2 rows, the first being row 2"),
        ("Pre/../../b.jpg,Pre,\n", r"1 file\(s\) outside its folder, the first being \.\./b\.jpg"),
        ("Pre/a.jpg,Prae,\n", r"Pre/a\.jpg has the label 'Prae'; known in this set are Benign"),
    ],
)
def test_a_table_with_gaps_says_where(tmp_path, rows, message):
    put(tmp_path, "Pre/a.jpg")
    (tmp_path / "labels.csv").write_text("file,label,dup_group\n" + rows)
    with pytest.raises(ValueError, match=message):
        load_taleqani(tmp_path)


@pytest.mark.parametrize("load", [load_raabin, load_taleqani, load_leukemia_folders])
def test_every_description_tells_license_and_citation(tmp_path, load):
    put(tmp_path, "Train/Basophil/95-9-15-1_14_1.jpg", "Pre/a.jpg", "ALL/a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the folders of the other sets
        words = load(tmp_path).DESCR.lower()
    assert "license" in words and "publishers' page" not in words
    assert np.any([word in words for word in ("et al.", "citation")])


def test_images_that_no_row_names_are_reported(tmp_path):
    put(tmp_path, "Pre/a.jpg", "Pre/b.jpg")
    (tmp_path / "labels.csv").write_text("file,label,dup_group\nPre/a.jpg,Pre,\n")
    with pytest.warns(UserWarning, match=r"1 image\(s\) .* in no row of labels\.csv.*Pre/b\.jpg"):
        assert load_taleqani(tmp_path).filenames == ["Pre/a.jpg"]


def test_what_is_left_out_is_counted_and_named(tmp_path):
    save = Image.new("RGB", (8, 8), "white").save
    for name in ("a.png", "b.jfif", "c.gif", "d.GIF", "sub/e.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, format="PNG")
    with pytest.warns(UserWarning, match=r"2 left out \(c\.gif: \.gif is not read.* d\.GIF"):
        files = image_files(tmp_path)
    assert [f.name for f in files] == ["a.png", "b.jfif", "e.jpg"]
    assert ImageRef(tmp_path / "b.jfif").read().shape == (8, 8, 3)


@pytest.mark.skipif(bool(UNTESTABLE), reason=UNTESTABLE)
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    write_image(tmp_path / "a.png", 20)
    write_image(closed / "b.png", 20)
    closed.chmod(0)
    code = (
        "from pathlib import Path; from hemaest.datasets import image_files\n"
        f"print([f.name for f in image_files(Path({str(tmp_path)!r}))])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, **limited()
        )
    finally:
        closed.chmod(0o755)
    assert done.stdout.strip() == "['a.png']", done.stderr
    assert "1 left out (closed: this folder cannot be read (Permission denied)" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_every_file_is_taken_or_left_out_with_a_reason_or_counted(tmp_path):
    names = ("a/1.png", "a/2.gif", "a/3.svs", "a/notes.txt", "a/README", "a/.hidden.png", "4.png")
    (tmp_path / "a").mkdir()
    for name in names:
        Image.new("RGB", (8, 8), "white").save(tmp_path / name, format="PNG")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    found = list_files(tmp_path)
    assert [f.name for f in found.files] == ["4.png", "1.png", "gone.png"]
    assert [f.name for f in found.left_out] == ["2.gif", "3.svs", "pipe.png"]
    assert found.others == {"hidden": 1, ".txt": 1, "without extension": 1}
    bunch = load_image_folder(tmp_path, verify=True)
    assert bunch.filenames == ["a/1.png"]
    left = set(bunch.failures["file"])
    assert left == {"a/2.gif", "a/3.svs", "a/pipe.png", "a/gone.png", "4.png"}
    assert bunch.others.startswith("3 other files are no images")
