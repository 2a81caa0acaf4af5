"""The commands that write partitioned Parquet."""

import cv2
import pandas as pd
import pytest
from typer.testing import CliRunner

from hemaest.cli import app
from hemaest.datasets import make_cells
from hemaest.persistence import save
from hemaest.recipes import make_recipe


@pytest.fixture(scope="module")
def cells():
    kinds = ["lymphocyte", "neutrophil"]
    return make_cells(12, classes=kinds, image_size=64, random_state=0)


@pytest.fixture(scope="module")
def folder(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    for i, image in enumerate(cells.images):
        cv2.imwrite(str(folder / f"{i:02d}.png"), image[..., ::-1])
    (folder / "broken.png").write_text("no image")
    return folder


def test_predictions_of_a_model_and_the_failures(cells, folder, tmp_path):
    model = make_recipe("color-logistic").fit(cells.images, cells.target)
    save(model, tmp_path / "model.hemaest")
    arguments = ["predict", str(tmp_path / "model.hemaest"), str(folder), "--parquet"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(tmp_path / "out" / "part-000000.parquet")
    assert table["label"].tolist() == model.predict(cells.images).tolist()
    assert "1 of the 13 files failed" in result.output and "broken.png" in result.output


def test_features_of_a_folder(folder, tmp_path):
    result = CliRunner().invoke(app, ["features", str(folder), str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    table = pd.read_parquet(tmp_path / "out" / "part-000000.parquet")
    assert len(table) == 12 and table["nc_ratio"].between(0, 1).all()


def test_nothing_to_read_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    arguments = ["features", str(tmp_path / "empty"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "no image file" in result.output
