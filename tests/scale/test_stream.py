"""Streams: in order, every failure listed, the same bytes after a kill."""

import hashlib
import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hemaest.datasets import make_cells
from hemaest.features import ColorFeatures
from hemaest.images import read_image, to_object_array
from hemaest.persistence import save
from hemaest.recipes import make_recipe
from hemaest.scale import predict_stream

CLASSES = ["lymphocyte", "neutrophil"]


@pytest.fixture(scope="module")
def cells():
    return make_cells(30, classes=CLASSES, image_size=48, random_state=0)


@pytest.fixture(scope="module")
def model(cells):
    return make_recipe("color-logistic", random_state=0).fit(cells.images, cells.target)


@pytest.fixture(scope="module")
def folder(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    for i, image in enumerate(cells.images):
        cv2.imwrite(str(folder / f"{i:03d}.png"), image[..., ::-1])
    return folder


def digest(folder):
    """Return a hash of all files below a folder, names and content."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def test_the_rows_are_those_of_predict_in_order(model, cells, folder, tmp_path):
    result = predict_stream(model, folder, tmp_path, batch_size=4, part_size=11)
    table = result.table()
    assert table["row"].tolist() == list(range(30))
    assert table["label"].tolist() == model.predict(cells.images).tolist()
    np.testing.assert_allclose(
        table[[f"p_{c}" for c in CLASSES]], model.predict_proba(cells.images), rtol=1e-12
    )
    assert len(list(tmp_path.glob("part-*.parquet"))) == 3


def test_features_stream_as_transform_gives_them(cells, folder, tmp_path):
    extractor = ColorFeatures().fit(cells.images)
    table = predict_stream(extractor, folder, tmp_path, kind="transform", part_size=7).table()
    expected = np.asarray(extractor.transform(to_object_array(list(cells.images))), float)
    np.testing.assert_array_equal(table.iloc[:, 2:].to_numpy(float), expected)
    assert table.columns[2:].tolist() == list(extractor.get_feature_names_out())


def test_the_result_does_not_depend_on_threads_and_says_where_it_is_from(model, folder, tmp_path):
    for name, n_jobs in (("one", 1), ("two", 2)):
        predict_stream(model, folder, tmp_path / name, part_size=8, n_jobs=n_jobs)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    about = json.loads(
        pq.read_schema(tmp_path / "one" / "part-000000.parquet").metadata[b"hemaest"]
    )
    assert about["n_files"] == 30 and about["kind"] == "predict" and len(about["model"]) >= 32


def broken_manifest(folder, tmp_path):
    """Return a manifest with files that cannot be read between those that can."""
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((folder / "001.png").read_bytes()[:80])
    names = [str(folder / f"{i:03d}.png") for i in range(12)]
    for place, name in ((3, "text.png"), (7, "cut.png"), (9, "gone.png")):
        names.insert(place, name)
    pd.DataFrame({"File": names, "ward": 1}).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv", {3: "text.png", 7: "cut.png", 9: "gone.png"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_failure_is_listed_and_the_rest_is_done(model, folder, tmp_path, suffix):
    manifest, bad = broken_manifest(folder, tmp_path)
    if suffix == "parquet":
        table = pd.read_csv(manifest)
        manifest = manifest.with_suffix(".parquet")
        table.to_parquet(manifest)
    result = predict_stream(model, manifest, tmp_path / "out", batch_size=4, part_size=6)
    failures = result.failures()
    assert result.n_failed == 3
    assert {r.row: r.file.rsplit("/", 1)[-1] for r in failures.itertuples()} == bad
    assert (failures["error"].str.len() > 10).all()
    assert sorted([*result.table()["row"], *failures["row"]]) == list(range(15))


class RefusesDark:
    """A model that fails for a whole batch because of one image."""

    classes_ = np.array(["a", "b"])

    def predict(self, X):
        return np.array(["a"] * len(self._checked(X)))

    def predict_proba(self, X):
        return np.tile([0.75, 0.25], (len(self._checked(X)), 1))

    @staticmethod
    def _checked(X):
        if any(image.max() == 0 for image in X):
            raise ValueError("too dark")
        return X


def test_an_image_that_the_model_refuses_fails_alone(tmp_path):
    for i in range(5):
        cv2.imwrite(
            str(tmp_path / f"{i}.png"), np.full((20, 20, 3), 0 if i == 2 else 200, np.uint8)
        )
    result = predict_stream(RefusesDark(), tmp_path, tmp_path / "out")
    assert result.table()["row"].tolist() == [0, 1, 3, 4]
    assert result.failures()["error"].tolist() == ["ValueError: too dark"]


def test_parquet_readers_see_one_table_of_the_folder(model, folder, tmp_path):
    for i in range(4):  # a part of which no file can be read
        (tmp_path / f"{i}.png").write_text("no image")
    files = [*(tmp_path / f"{i}.png" for i in range(4)), *sorted(folder.iterdir())[:8]]
    result = predict_stream(model, files, tmp_path / "out", part_size=4)
    seen = pd.read_parquet(tmp_path / "out")
    pd.testing.assert_frame_equal(seen, result.table())
    assert seen["row"].tolist() == list(range(4, 12))
    np.testing.assert_array_equal(seen["label"], model.predict([read_image(f) for f in files[4:]]))
    failures = pd.read_parquet(tmp_path / "out" / "_failures")
    assert failures["row"].tolist() == [0, 1, 2, 3] and failures["error"].str.len().min() > 10
    columns = ["row", "p_neutrophil"]
    pd.testing.assert_frame_equal(result.table(columns), seen[columns])


class Wary(RefusesDark):
    """Answers less than the likeliest class."""

    def predict(self, X):
        return np.array(["unidentified"] * len(X))


def test_the_label_is_what_predict_answers(folder, tmp_path):
    table = predict_stream(Wary(), folder, tmp_path / "out").table()
    assert set(table["label"]) == {"unidentified"} and set(table["confidence"]) == {0.75}


def test_nothing_readable_gives_an_empty_table(model, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no")
    result = predict_stream(model, tmp_path / "in", tmp_path / "out")
    assert len(result.table()) == 0 and result.n_failed == 1


def test_a_folder_of_another_run_is_refused(model, folder, tmp_path):
    predict_stream(model, folder, tmp_path / "out", part_size=8)
    predict_stream(model, folder, tmp_path / "out", part_size=8)  # nothing left to do
    with pytest.raises(ValueError, match="part_size differ"):
        predict_stream(model, folder, tmp_path / "out", part_size=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "fit"}, "'predict' or 'transform'"), ({"batch_size": 0}, "batch_size is 0"),
     ({"part_size": -1}, "part_size is -1")],
)  # fmt: skip
def test_wrong_options_are_named(model, folder, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        predict_stream(model, folder, tmp_path, **options)


def test_a_wrong_source_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder nor a manifest"):
        predict_stream(model, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image file"):
        predict_stream(model, tmp_path / "empty", tmp_path / "out")
    (tmp_path / "list.csv").write_text("ward,patient\n1,2\n")
    with pytest.raises(ValueError, match="no column named"):
        predict_stream(model, tmp_path / "list.csv", tmp_path / "out")


RUN = """
import sys
from hemaest.scale import predict_stream
predict_stream(*sys.argv[1:4], part_size=2, batch_size=2)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_same_bytes(model, folder, tmp_path):
    save(model, tmp_path / "model.hemaest")
    arguments = [tmp_path / "model.hemaest", folder]
    predict_stream(*arguments, tmp_path / "whole", part_size=2, batch_size=2)
    out = tmp_path / "killed"
    for target in (1, 4, 9, 13):
        command = [sys.executable, "-c", RUN, *map(str, arguments), str(out)]
        with subprocess.Popen(command) as process:
            while len(list(out.glob("part-*.parquet"))) < target and process.poll() is None:
                time.sleep(0.001)
            process.kill()
    predict_stream(*arguments, out, part_size=2, batch_size=2)
    assert digest(out) == digest(tmp_path / "whole")
