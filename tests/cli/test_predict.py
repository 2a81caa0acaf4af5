"""Train, predict, info and audit from the shell, on cells and on whole fields."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from hemaest.cli import app
from hemaest.clinical import RejectingClassifier, name_cells
from hemaest.datasets import make_cells, make_smear
from hemaest.datasets.unrelated import draw_unrelated
from hemaest.persistence import load, save
from hemaest.recipes import make_recipe


def hemaest(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def folder(cells, place):
    X, y, groups = cells
    for i, (image, label, group) in enumerate(zip(X, y, groups, strict=True)):
        path = place / "images" / label / f"patient{group}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return place / "images"


@pytest.fixture(scope="module")
def model(folder, place):
    done = hemaest("train", folder, "-r", "color-logistic", "--folds", 3, "-j", 1,
                   "-o", place / "model.hemaest")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "balanced_accuracy" in done.stdout and "split by patient" in done.stderr
    return place / "model.hemaest"


@pytest.fixture(scope="module")
def fields(place):
    smears = place / "fields"
    smears.mkdir()
    for seed in range(2):
        smear = make_smear(420, n_cells=3, random_state=seed)
        Image.fromarray(smear.image).save(smears / f"field{seed}.png")
    return smears


def test_a_model_carries_its_claim(model):
    card = json.loads(hemaest("info", model, "--json").stdout)
    assert card["classes"] == ["blast", "lymphocyte"]
    assert card["trained_on"]["input"] == "cell"
    assert card["trained_on"]["classes"] == {"blast": 12, "lymphocyte": 12}
    assert card["claim"]["facts"]["Split unit"] == "patient"
    assert card["names_beyond_the_list"] == []
    words = hemaest("info", model).stdout
    assert "Checksum" in words and "color-logistic" in words


def test_predictions_are_those_of_the_model(model, folder, place):
    csv = place / "cells.csv"
    done = hemaest("predict", model, folder, "--csv", csv)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(csv)
    X = [np.asarray(Image.open(file)) for file in table["file"]]
    assert len(table) == 24
    assert table["label"].tolist() == load(model).predict(X).tolist()
    np.testing.assert_allclose(table["confidence"], load(model).predict_proba(X).max(axis=1))
    assert not csv.with_name("cells.csv.part").exists()


def test_broken_files_are_listed_once_and_the_rest_is_done(model, folder, tmp_path):
    good = next(folder.rglob("*.png"))
    for i in range(30):
        (tmp_path / f"broken{i}.png").write_bytes(b"junk")
    done = hemaest("predict", model, tmp_path, good, "--csv", tmp_path / "out" / "p.csv")
    assert done.exit_code == 0
    assert "30 of the 31 files failed" in done.stderr
    table = pd.read_csv(tmp_path / "out" / "p.csv")
    assert (table["error"].notna()).sum() == 30 and table["label"].notna().sum() == 1


class Choosy:
    """Fails on images whose first pixel is dark, as a step of a pipeline may."""

    classes_ = np.array(["blast", "lymphocyte"])

    def predict_proba(self, X):
        if any(image[0, 0, 0] < 100 for image in X):
            raise RuntimeError("too dark")
        return np.tile([0.25, 0.75], (len(X), 1))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_an_image_on_which_a_step_fails_spoils_no_other():
    images = [np.full((8, 8, 3), level, np.uint8) for level in (200, 50, 200)]
    cells = [(c.label, c.confidence, c.error) for c in name_cells(Choosy(), images)]
    assert cells == [
        ("lymphocyte", 0.75, ""),
        ("", None, "RuntimeError: too dark"),
        ("lymphocyte", 0.75, ""),
    ]


def test_the_labels_are_what_predict_answers_and_not_the_likeliest_classes():
    rng = np.random.default_rng(0)
    y = np.repeat(["blast", "lymphocyte"], 200)
    gray = np.where(y == "blast", 110, 140) + rng.normal(0, 10, 400)
    X = np.tile(gray.clip(0, 255).astype(np.uint8)[:, None, None, None], (1, 8, 8, 3))
    model = RejectingClassifier(make_recipe("color-logistic", random_state=0), cv=2)
    model.fit(X, y, groups=np.arange(400) % 20)
    cells = name_cells(model, list(X[::5]))
    labels = [cell.label for cell in cells]
    assert labels == model.predict(X[::5]).tolist()
    assert {"unidentified", "blast", "lymphocyte"} <= set(labels)
    np.testing.assert_array_equal(
        [cell.confidence for cell in cells], model.predict_proba(X[::5]).max(axis=1)
    )


def test_nothing_readable_ends_with_1(model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"junk")
    done = hemaest("predict", model, tmp_path)
    assert done.exit_code == 1 and "broken.png" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "MODEL", "nowhere"], "neither a file nor a folder"),
        (["predict", "nowhere", "nowhere"], "cannot be read"),
        (["predict", "MODEL", ".", "--input", "slide"], "slide"),
        (["train", "FOLDER", "-r", "colr-knn"], "Did you mean 'color-knn'"),
        (["train", "FOLDER", "-r", "color-knn", "--balance", "smote"], "balance"),
        (["info", "nowhere"], "cannot be read"),
        (["audit", "nowhere"], "is no folder"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, message, model, folder):
    named = {"MODEL": model, "FOLDER": folder}
    done = hemaest(*(named.get(a, a) for a in arguments))
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def test_on_fields_every_leukocyte_is_named_counted_and_drawn(model, fields, place):
    csv, drawn = place / "fields.csv", place / "drawn"
    done = hemaest("predict", model, fields, "--input", "field", "--csv", csv, "--annotate", drawn,
                   "--count")  # fmt: skip
    assert done.exit_code == 0, done.output
    table = pd.read_csv(csv)
    assert table["file"].nunique() == 2 and len(table) >= 4
    assert set(table["label"]) <= {"blast", "lymphocyte"}
    assert (table["nucleus_area"] <= table["cell_area"]).all()
    assert sorted(p.name for p in drawn.iterdir()) == ["field0.png", "field1.png"]
    assert f"all        | {len(table)}" in done.stdout or f"{len(table)} | 100" in done.stdout


def test_cells_are_drawn_by_type(model, folder, place):
    done = hemaest("predict", model, folder, "--annotate", place / "sheets", "--count")
    assert done.exit_code == 0, done.output
    assert {p.name for p in (place / "sheets").iterdir()} == {"blast-01.png", "lymphocyte-01.png"}


def test_a_model_of_fields_says_so(fields, place):
    labeled = place / "labeled"
    for i, label in enumerate(["few", "many", "few", "many"]):
        (labeled / label).mkdir(parents=True, exist_ok=True)
        content = (fields / f"field{i % 2}.png").read_bytes()
        (labeled / label / f"{i}.png").write_bytes(content)
    model = place / "fields.hemaest"
    done = hemaest("train", labeled, "-r", "color-logistic", "--input", "field", "--folds", 0,
                   "-o", model)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(hemaest("info", model, "--json").stdout)["trained_on"]["input"] == "field"
    refused = hemaest("predict", model, fields, "--input", "cell")
    assert refused.exit_code == 2 and "whole fields" in refused.stderr
    done = hemaest("predict", model, fields, "--json")
    assert {row["label"] for row in json.loads(done.stdout)} <= {"few", "many"}


def test_a_model_of_unknown_images_asks(model, folder, tmp_path):
    path = save(load(model), tmp_path / "bare.hemaest")
    done = hemaest("predict", path, folder)
    assert done.exit_code == 2 and "--input cell or --input field" in done.stderr
    assert hemaest("predict", path, folder, "--input", "cell").exit_code == 0


def test_an_audit_finds_the_copy_across_two_folders(folder, place):
    test = place / "test"
    for label in ("blast", "lymphocyte"):
        (test / label).mkdir(parents=True)
        first = min((folder / label).iterdir())
        (test / label / "copy.png").write_bytes(first.read_bytes())
    done = hemaest("audit", folder, "--test", test, "--report", place / "audit.html", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    rows = found["findings"]
    assert any(row["severity"] == "fault" for row in rows), rows
    assert {row["seen"] for row in found["shortcuts"]} >= {"color alone", "border alone"}
    page = (place / "audit.html").read_text()
    assert page.startswith("<!doctype html>") and "hemaest 0." in page
    assert "Report" in hemaest("audit", folder, "--report", place / "audit.html").stderr


def test_a_field_is_read_by_itself_unless_one_microscope_is_declared(model, fields, place):
    alone, together = place / "alone.csv", place / "together.csv"
    (file, *_) = sorted(fields.iterdir())
    for csv, given in ((alone, file), (together, fields)):
        done = hemaest("predict", model, given, "--input", "field", "--csv", csv)
        assert done.exit_code == 0, done.output
    first, second = pd.read_csv(alone), pd.read_csv(together)
    same = second[second["file"] == str(file)].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, same)
    done = hemaest("predict", model, fields, "--input", "field", "--same-microscope", "--json")
    assert done.exit_code == 0, done.output


def test_whole_fields_are_refused_by_a_model_of_cells(model, fields):
    done = hemaest("predict", model, fields)
    assert done.exit_code == 2 and "look like whole fields" in done.stderr


def test_the_shipped_models_need_no_model_file(fields, tmp_path):
    done = hemaest("predict", fields, "--csv", tmp_path / "p.csv")
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "p.csv")["file"].nunique() == 2


def test_a_field_that_is_no_film_carries_a_note(tmp_path):
    for seed in range(2):
        image = make_smear(420, n_cells=3, random_state=seed).image
        Image.fromarray(image).save(tmp_path / f"film{seed}.png")
    Image.fromarray(255 - image).save(tmp_path / "negative.png")
    done = hemaest("predict", tmp_path, "--input", "field", "--csv", tmp_path / "p.csv")
    assert done.exit_code == 0, done.output
    notes = pd.read_csv(tmp_path / "p.csv", keep_default_na=False).groupby("file")["note"].first()
    unlike = notes[notes.str.contains("unlike the films")]
    assert [Path(file).name for file in unlike.index] == ["negative.png"]


def test_a_crop_that_is_no_cell_carries_a_note(tmp_path):
    cells = make_cells(3, random_state=0)
    for k, image in enumerate(cells.images):
        Image.fromarray(image).save(tmp_path / f"cell{k}.png")
    scene = draw_unrelated(120, np.random.default_rng(4))
    Image.fromarray(scene).save(tmp_path / "scene.png")
    done = hemaest("predict", tmp_path, "--input", "cell", "--csv", tmp_path / "p.csv")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    unlike = table.loc[table["note"].str.contains("unlike the cells"), "file"]
    assert [Path(file).name for file in unlike] == ["scene.png"]


def test_cells_and_fields_of_one_call_are_each_read_as_what_they_show(tmp_path):
    cells = make_cells(3, classes=["monocyte", "neutrophil"], random_state=0)
    for k, image in enumerate(cells.images):
        Image.fromarray(image).save(tmp_path / f"cell{k}.png")
    smear = make_smear(420, n_cells=3, random_state=0)
    Image.fromarray(smear.image).save(tmp_path / "field.png")
    (tmp_path / "broken.png").write_bytes(b"junk")
    csv, drawn = tmp_path / "p.csv", tmp_path / "drawn"
    done = hemaest("predict", tmp_path, "--csv", csv, "--annotate", drawn)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(csv, keep_default_na=False).set_index(
        pd.Index([Path(file).name for file in pd.read_csv(csv)["file"]])
    )
    assert table["input"].groupby(level=0).unique().map(list).to_dict() == {
        "broken.png": [""],
        "cell0.png": ["cell"],
        "cell1.png": ["cell"],
        "cell2.png": ["cell"],
        "field.png": ["field"],
    }
    assert len(table.loc[["field.png"]]) == 3
    assert "field.png" in {path.name for path in drawn.iterdir()}
    # each file alone is answered as it was among the others
    for name in ("cell1.png", "field.png"):
        alone = tmp_path / "alone.csv"
        done = hemaest("predict", tmp_path / name, "--csv", alone)
        assert done.exit_code == 0, done.output
        one, among = pd.read_csv(alone), table.loc[[name]]
        assert one["label"].tolist() == among["label"].tolist()
        np.testing.assert_allclose(one["confidence"], among["confidence"].astype(float))


def test_drawings_of_one_name_do_not_meet_and_odd_names_stop_nothing(model, folder, tmp_path):
    content = next(folder.rglob("*.png")).read_bytes()
    names = ("a/x/1.jpg", "a/x/1.png", "b/x/1.jpg", "a$\\frac$b.png")
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with open(bytes(tmp_path / "in") + b"/\xff.png", "wb") as file:
        file.write(content)
    arguments = ["--input", "field", "--annotate", tmp_path / "out", "--csv", tmp_path / "p.csv"]
    for _ in range(2):
        done = hemaest("predict", model, tmp_path / "in", *arguments)
        assert done.exit_code == 0, done.output
    drawn = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")
    )
    assert drawn == [
        "%FF.png",
        "a%24%5Cfrac%24b.png",
        "a/x/1.jpg.png",
        "a/x/1.png.png",
        "b/x/1.png",
    ]


def test_what_has_no_shape_to_be_drawn_is_listed_and_its_result_kept(model, tmp_path):
    Image.fromarray(np.full((40, 4000, 3), 200, np.uint8)).save(tmp_path / "long.png")
    Image.fromarray(np.full((60, 60, 3), 200, np.uint8)).save(tmp_path / "cell.png")
    done = hemaest("predict", model, tmp_path, "--input", "cell", "--annotate", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "drawings failed" in done.stderr and "long.png" in done.stderr


def test_two_tables_of_counts_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    counts = pd.DataFrame({"lymphocyte": rng.integers(20, 60, 12), "monocyte": 8, "neutrophil": 40})
    for name in ("a.csv", "b.csv"):
        (counts + rng.integers(0, 3, counts.shape)).rename_axis("smear").to_csv(tmp_path / name)
    report = tmp_path / "r.html"
    done = hemaest("agree", tmp_path / "a.csv", tmp_path / "b.csv", "--report", report, "--json")
    assert done.exit_code == 0, done.output
    assert {row["type"] for row in json.loads(done.stdout)} >= {"lymphocyte", "monocyte"}
    assert report.read_text().startswith("<!doctype html>")
    done = hemaest("agree", tmp_path / "a.csv", "nowhere")
    assert done.exit_code == 2 and "nowhere" in done.stderr


def test_a_few_images_adapt_the_shipped_network(folder, place):
    path = place / "adapted.hemaest"
    done = hemaest("adapt", folder, "-o", path)
    assert done.exit_code == 0, done.output
    assert json.loads(hemaest("info", path, "--json").stdout)["classes"] == ["blast", "lymphocyte"]
    done = hemaest("predict", path, folder, "--json")
    rows = json.loads(done.stdout)
    right = [row["label"] in row["file"].split("/")[-2] for row in rows]
    assert np.mean(right) > 0.9


def test_cells_of_one_microscope_are_named_together(place):
    cells = make_cells(24, image_size=96, random_state=5)
    folders = [place / "scope a", place / "scope b"]
    for folder, images in zip(folders, (cells.images[:20], cells.images[20:]), strict=True):
        folder.mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image).save(folder / f"{k:02d}.png")
    alone, done = (
        hemaest("predict", *folders, "--input", "cell", *more, "--json")
        for more in ([], ["--same-microscope"])
    )
    assert "scope b" in done.stderr and "4 cells are too few" in done.stderr
    one, other = (pd.DataFrame(json.loads(run.stdout)).set_index("file") for run in (alone, done))
    assert list(one.index) == list(other.index) and len(other) == 24
    change = (one.confidence - other.confidence).abs()
    in_b = one.index.str.contains("scope b")
    # a batch of another size is rounded in another order
    assert change[in_b].max() < 1e-5 < change[~in_b].median()


def test_fields_of_one_microscope_are_named_together(fields):
    alone, done = (
        hemaest("predict", fields, "--input", "field", *more, "--json")
        for more in ([], ["--same-microscope"])
    )
    assert done.exit_code == 0, done.output
    one, other = (pd.DataFrame(json.loads(run.stdout)) for run in (alone, done))
    assert one.x0.tolist() == other.x0.tolist()
    assert "too few" in done.stderr  # two fields with three cells each


def test_a_model_without_a_network_cannot_be_fitted_to_a_microscope(model, folder):
    done = hemaest("predict", model, folder, "--same-microscope", "--json")
    assert done.exit_code == 0 and "cannot fit this model" in done.stderr
