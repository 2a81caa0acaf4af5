"""The vocabulary: a tree, its synonyms, its costs, and the labels of every set with a loader."""

import importlib
import pickle

import numpy as np
import pytest

from hemaest.clinical import CellTaxonomy, harmonize
from hemaest.datasets import make_cells

BLOOD, MARROW = CellTaxonomy.blood(), CellTaxonomy.marrow()


def test_it_is_a_tree_with_one_root():
    roots = [name for name in BLOOD.types if BLOOD.parent(name) is None]
    assert roots == ["cell"]
    for name in BLOOD.types:
        assert name == "cell" or BLOOD.ancestors(name)[-1] == "cell"
        assert name not in BLOOD.ancestors(name)
        assert name in BLOOD.tree()
    for name in BLOOD.types:
        below = BLOOD.descendants(name)
        assert all(BLOOD.is_a(other, name) for other in below)
        assert len(below) == sum(BLOOD.is_a(o, name) for o in BLOOD.types) - 1


def test_every_synonym_leads_to_its_type_whatever_the_case():
    table = BLOOD.table().set_index("type")
    assert set(table["lineage"]) >= {
        *("granulocytic", "monocytic", "lymphoid", "erythroid"),
        *("megakaryocytic", "blast", "artefact"),
    }
    for name, words in table["also"].items():
        for word in [name, *filter(None, words.split(", "))]:
            if word in BLOOD:  # a synonym with a comma in it is cut here
                assert BLOOD.resolve(word.upper().replace(" ", "_")) == BLOOD.resolve(word)
    assert BLOOD.resolve("Band-Neutrophils") == "band neutrophil"
    with pytest.raises(ValueError, match="Did you mean 'monocyte'"):
        BLOOD.resolve("monocite")


def test_stages_follow_each_other_and_belong_to_their_neighbors():
    row = ["myeloblast", "promyelocyte", "myelocyte", "metamyelocyte", "band neutrophil"]
    row.append("segmented neutrophil")
    for i, a in enumerate(row):
        for j, b in enumerate(row):
            assert BLOOD.one_stage_apart(a, b) == (abs(i - j) == 1), (a, b)
    assert BLOOD.one_stage_apart("faggot cell", "myelocyte")
    assert not BLOOD.one_stage_apart("lymphoblast", "hematogone")


def test_blood_and_marrow_count_what_laboratories_count():
    assert BLOOD.counted("blast") and MARROW.counted("blast")
    assert not BLOOD.counted("erythroblast") and MARROW.counted("erythroblast")
    for name in ("platelet", "smudge cell", "artefact", "red cell"):
        assert not BLOOD.counted(name) and not MARROW.counted(name)


@pytest.mark.parametrize("taxonomy", [BLOOD, MARROW], ids=["blood", "marrow"])
def test_usual_percentages_sum_to_100_and_wide_classes_hold_the_narrow(taxonomy):
    fine = taxonomy.usual(taxonomy.types)
    counted = [taxonomy.counted(name) for name in taxonomy.types]
    assert fine[counted].sum() == pytest.approx(100)
    wide = taxonomy.usual(["neutrophil", "lymphocyte", "platelet"])
    assert wide.iloc[:2].sum() == pytest.approx(100)
    narrow = taxonomy.usual(["segmented neutrophil", "band neutrophil", "lymphocyte"])
    assert narrow.iloc[:2].sum() == pytest.approx(wide.iloc[0])


def test_a_missed_blast_costs_most():
    cost = BLOOD.cost_matrix(["blast", "lymphocyte", "band neutrophil", "segmented neutrophil"])
    assert (np.diag(cost) == 0).all()
    assert cost.loc["blast", "lymphocyte"] > 2 * cost.loc["lymphocyte", "blast"] > 0
    stages = cost.loc["band neutrophil", "segmented neutrophil"]
    assert cost.loc["blast", "lymphocyte"] > 10 * stages > 0
    assert cost.to_numpy().max() == cost.loc["blast", "lymphocyte"]
    # a wider word is not wrong
    assert BLOOD.cost("myelocyte", "immature granulocyte") == 0
    assert BLOOD.cost("immature granulocyte", "myelocyte") > 0


def test_answers_are_the_wider_types_that_say_something():
    kinds = ["promyelocyte", "myelocyte", "lymphocyte", "plasma cell", "monocyte"]
    found = BLOOD.answers(kinds)
    assert found == {"immature granulocyte": [0, 1], "lymphoid cell": [2, 3]}
    assert BLOOD.answers(["lymphocyte", "monocyte"]) == {}


def test_it_travels_and_compares():
    assert pickle.loads(pickle.dumps(BLOOD)) == BLOOD != MARROW
    assert hash(BLOOD) == hash(CellTaxonomy.blood())


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"a": {"parent": "b"}}, "'b', is no type"),
        ({"a": {"parnt": "b"}}, "Did you mean 'parent'"),
        ({"a": {"parent": "b"}, "b": {"parent": "a"}}, "their own ancestors"),
        ({"a": {}, "b": {"parent": "a", "also": ["A"]}}, "stands for 'a' and for 'b'"),
    ],
)
def test_a_broken_vocabulary_is_named(table, says):
    with pytest.raises(ValueError, match=says):
        CellTaxonomy(table)


def test_a_vocabulary_of_your_own(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('["cell"]\n["big"]\nparent = "cell"\nalso = ["B"]\ncount = "blood"\n')
    own = CellTaxonomy.from_toml(file)
    assert own.types == ("cell", "big") and own.resolve("b") == "big" and own.counted("B")
    with pytest.raises(ValueError, match="tissue='bone'"):
        CellTaxonomy.from_toml(file, "bone")


LOADERS = {
    "pbc": ["_table_sets.PBC", "_table_sets.PBC_SUBTYPES"],
    "bloodmnist": ["_bloodmnist.CLASSES"],
    "segmentation_wbc": ["_masked_cells.SEGMENTATION_WBC"],
    "bccd": ["_boxed_fields.BCCD"],
    "kaggle_wbc": ["_class_folder_sets.KAGGLE_WBC"],
    "raabin": ["_class_folder_sets.RAABIN"],
    "bone_marrow": ["_class_folder_sets.BONE_MARROW"],
    "aml_matek": ["_class_folder_sets.AML_MATEK"],
    "cnmc": ["_table_sets.CNMC"],
    "taleqani": ["_table_sets.TALEQANI"],
    "leukemia_folders": ["_class_folder_sets.LEUKEMIA"],
}


@pytest.mark.parametrize("source", LOADERS)
@pytest.mark.filterwarnings("ignore:.*labels have no type")
def test_every_label_of_every_loader_has_a_line(source):
    for place in LOADERS[source]:
        module, name = place.split(".")
        known = getattr(importlib.import_module(f"hemaest.datasets.{module}"), name)
        known = getattr(known, "classes", known)
        found = harmonize(list(known), source=source)
        for label, word in zip(known, found, strict=True):
            if word is None:
                assert (source, label) == ("bone_marrow", "OTH") or source == "leukemia_folders"
            else:
                assert word in BLOOD.types


def test_every_type_of_the_renderer_has_a_line():
    cells = make_cells(60, image_size=32, classes=None, random_state=0)
    assert set(harmonize(cells.target, source="synthetic")) <= set(BLOOD.types)
    known = list(importlib.import_module("hemaest.datasets._recipes").load_recipes())
    assert None not in harmonize(known, source="synthetic").tolist()


def test_what_cannot_be_mapped_is_said_and_none():
    with pytest.warns(UserWarning, match=r"1 of 2 labels .*'OTH' .*collection of types"):
        assert harmonize(["OTH", "BLA"], source="bone_marrow").tolist() == [None, "blast"]
    with pytest.warns(UserWarning, match="'dragon'"):
        assert harmonize(["dragon"]).tolist() == [None]
    with pytest.raises(ValueError, match="'igg' is no label of 'pbc'"):
        harmonize(["igg"], source="pbc")
    with pytest.raises(ValueError, match="Did you mean 'bccd'"):
        harmonize(["a"], source="bcd")
    assert harmonize(np.array([1.0, 5.0]), source="segmentation_wbc").tolist() == [
        "neutrophil",
        "basophil",
    ]
    assert len(harmonize([], source="pbc")) == 0
