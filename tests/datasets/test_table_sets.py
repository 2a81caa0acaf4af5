"""Sets with a table: C-NMC 2019 in the layouts of TCIA and Kaggle, PBC and Taleqani."""

import pandas as pd
import pytest
from images_on_disk import assert_common, write_image

from hemaest.datasets import load_cnmc, load_pbc, load_taleqani
from hemaest.images import check_images

HEADER = "Patient_ID,new_names,labels\n"


def training(root):
    write_image(root / "fold_0" / "all" / "UID_1_2_1_all.bmp")
    write_image(root / "fold_1" / "all" / "UID_1_7_2_all.BMP")
    write_image(root / "fold_1" / "hem" / "UID_H9_1_1_hem.bmp")


@pytest.fixture
def prelim(tmp_path):
    """The preliminary phase alone."""
    folder = tmp_path / "C-NMC_test_prelim_phase_data"
    write_image(folder / "1.bmp")
    write_image(folder / "2.bmp")
    table = folder / "C-NMC_test_prelim_phase_data_labels.csv"
    table.write_text(HEADER + "UID_57_29_1_all.bmp,1.bmp,1\nUID_H9_3_1_hem.bmp,2.bmp,0\n")
    return table


def test_subjects_from_names_and_from_the_table(prelim, tmp_path):
    training(tmp_path / "C-NMC_training_data")
    bunch = load_cnmc(tmp_path)
    check_images(bunch.images)
    assert bunch.target.tolist() == ["all", "all", "hem", "all", "hem"]
    assert bunch.groups.tolist() == ["1", "1", "H9", "57", "H9"]
    assert bunch.group_source == "patient"
    assert bunch.subset.tolist() == ["train"] * 3 + ["prelim"] * 2
    assert len(load_cnmc(tmp_path, subset="train").images) == 3
    assert len(load_cnmc(tmp_path / "C-NMC_training_data").images) == 3
    with pytest.raises(ValueError, match="'all', 'train' or 'prelim'"):
        load_cnmc(tmp_path, subset="test")


def test_the_kaggle_edition_keeps_its_table_beside_the_images_folder(prelim, tmp_path):
    training(tmp_path / "C-NMC_Leukemia" / "training_data")
    validation = tmp_path / "C-NMC_Leukemia" / "validation_data"
    validation.mkdir()
    prelim.parent.rename(validation / prelim.parent.name)
    (validation / prelim.parent.name / prelim.name).rename(validation / prelim.name)
    write_image(
        tmp_path / "C-NMC_Leukemia" / "testing_data" / "C-NMC_test_final_phase_data" / "1.bmp"
    )
    assert load_cnmc(tmp_path).subset.tolist() == ["train"] * 3 + ["prelim"] * 2


def test_the_preliminary_phase_alone(prelim, tmp_path):
    assert load_cnmc(tmp_path).target.tolist() == ["all", "hem"]


def test_names_and_labels_are_compared_without_case_and_extension(prelim, tmp_path):
    (prelim.parent / "1.bmp").rename(prelim.parent / "1.BMP")
    (prelim.parent / "2.bmp").unlink()
    write_image(prelim.parent / "2.png")
    prelim.write_text(HEADER + "UID_57_29_1_all.bmp, 1.bmp , ALL\nUID_H9_3_1_hem.bmp,2.bmp,0 \n")
    bunch = load_cnmc(tmp_path)
    assert bunch.target.tolist() == ["all", "hem"]
    assert [name.split("/")[-1] for name in bunch.filenames] == ["1.BMP", "2.png"]


def test_images_that_no_row_names_are_counted(prelim, tmp_path):
    write_image(prelim.parent / "1.png")
    write_image(prelim.parent / "7.bmp")
    with pytest.warns(UserWarning, match=r"2 image\(s\) .* no row of the table.*: 1\.png, 7\.bmp"):
        bunch = load_cnmc(tmp_path)
    assert [name.split("/")[-1] for name in bunch.filenames] == ["1.bmp", "2.bmp"]


def test_a_label_of_neither_class_is_named(prelim, tmp_path):
    prelim.write_text(HEADER + "UID_57_29_1_all.bmp,1.bmp,blast\nUID_H9_3_1_hem.bmp,2.bmp,\n")
    with pytest.raises(ValueError, match=r"2 label\(s\) .* none of 1, 0, all, hem: 1\.bmp 'blast'"):
        load_cnmc(tmp_path)
    prelim.write_text("")
    with pytest.raises(ValueError, match=r"labels\.csv is empty"):
        load_cnmc(tmp_path)


def test_absent_and_broken_images_are_errors_or_failures(prelim, tmp_path):
    (prelim.parent / "2.bmp").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images .* first being '2\.bmp'.*verify=True"):
        load_cnmc(tmp_path)
    training(tmp_path / "C-NMC_training_data")
    broken = tmp_path / "C-NMC_training_data" / "fold_0" / "all" / "UID_1_2_1_all.bmp"
    broken.write_bytes(b"")
    bunch = load_cnmc(tmp_path, verify=True)
    assert bunch.groups.tolist() == ["1", "H9", "57"]
    assert bunch.subset.tolist() == ["train", "train", "prelim"]
    assert [name.split("/")[-1] for name in bunch.failures["file"]] == [broken.name, "2.bmp"]


def test_a_file_without_a_subject_is_a_group_of_its_own(tmp_path):
    training(tmp_path)
    write_image(tmp_path / "fold_0" / "all" / "UID_1_2_1_all - Copy.bmp")
    with pytest.warns(UserWarning, match="Copy"):
        assert len(set(load_cnmc(tmp_path).groups)) == 3


def test_pbc_without_a_table(tmp_path):
    write_image(tmp_path / "ig" / "MMY_1.jpg")
    write_image(tmp_path / "ig" / "PMY_7.jpg")
    write_image(tmp_path / "neutrophil" / "SNE_3.jpg")
    write_image(tmp_path / "neutrophil" / ".DS_1169461.jpg")
    types = load_pbc(tmp_path)
    assert_common(types)
    assert types.target.tolist() == ["ig", "ig", "neutrophil"]
    assert types.class_names["ig"] == "immature granulocyte"
    fine = load_pbc(tmp_path, level="subtype")
    assert fine.target.tolist() == ["MMY", "PMY", "SNE"]
    assert fine.class_names["SNE"] == "segmented neutrophil"
    assert fine.group_source == "none" and len(set(fine.groups)) == 3


def test_pbc_with_a_table(tmp_path):
    names = ["basophil/BA_1.jpg", "basophil/BA_2.jpg", "ig/MY_3.jpg"]
    for name in names:
        write_image(tmp_path / name)
    pd.DataFrame(
        {
            "file": names,
            "label": ["basophil", "basophil", "ig"],
            "subtype": ["BA", "BA", "MY"],
            "dup_group": ["5", "5", ""],
        }
    ).to_csv(tmp_path / "labels.csv", index=False)
    bunch = load_pbc(tmp_path)
    assert_common(bunch)
    assert bunch.groups[0] == bunch.groups[1] != bunch.groups[2]
    assert bunch.group_source == "near-duplicate"


def test_pbc_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="'type'.*'subtype'"):
        load_pbc(tmp_path, level="fine")
    with pytest.raises(FileNotFoundError, match="Found: nothing"):
        load_pbc(tmp_path)
    write_image(tmp_path / "ig" / "XYZ_1.jpg")
    with pytest.raises(ValueError, match=r"ig.XYZ_1\.jpg has the label 'XYZ'"):
        load_pbc(tmp_path, level="subtype")
    pd.DataFrame({"file": ["a"]}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(ValueError, match=r"labels\.csv lacks the column\(s\) label"):
        load_pbc(tmp_path)


# Taleqani


@pytest.mark.parametrize("with_table", [True, False])
def test_taleqani(tmp_path, with_table):
    names = ["Benign/WBC-Benign-1.jpg", "Pre/WBC-Malignant-Pre-1.jpg"]
    for name in names:
        write_image(tmp_path / name)
    if with_table:
        table = pd.DataFrame({"file": names, "label": ["Benign", "Pre"], "dup_group": ["", ""]})
        table.to_csv(tmp_path / "labels.csv", index=False)
    bunch = load_taleqani(tmp_path)
    assert_common(bunch)
    assert bunch.target.tolist() == ["Benign", "Pre"]
    assert len(set(bunch.groups)) == 2 and bunch.group_source == "none"


def test_a_table_that_names_an_absent_file_is_an_error(tmp_path):
    write_image(tmp_path / "Pre" / "a.jpg")
    table = pd.DataFrame({"file": ["Pre/a.jpg", "Pre/b.jpg"], "label": "Pre", "dup_group": ""})
    table.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(FileNotFoundError, match=r"b\.jpg"):
        load_taleqani(tmp_path)
