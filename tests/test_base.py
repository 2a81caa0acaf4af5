"""The templates, parameter errors, threads, seeds, progress and tables."""

import os
import pty
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from hemaest._parallel import map_images
from hemaest._progress import track
from hemaest._seeds import spawn
from hemaest._tables import format_table
from hemaest.base import FeatureExtractor, ImageTransformer, StrOptions
from hemaest.preprocessing import Resize


class Invert(ImageTransformer):
    _stateless = True
    _parameter_constraints = {"mode": [StrOptions({"plain", "half"})]}

    def __init__(self, mode="plain", n_jobs=None):
        self.mode = mode
        self.n_jobs = n_jobs

    def _transform_image(self, image):
        return 255 - image


class MeanColor(FeatureExtractor):
    def _feature_names(self):
        return ["red", "green", "blue"]

    def _features(self, image):
        return image[..., :3].mean(axis=(0, 1))


def test_an_image_step_before_a_classifier_survives_set_output(cells):
    X, y, _ = cells
    pipeline = make_pipeline(Invert(), MeanColor(), LogisticRegression())
    plain = pipeline.fit(X, y).predict(X)
    pipeline.set_output(transform="pandas").fit(X, y)
    table = pipeline[:-1].transform(X)
    assert list(table.columns) == ["red", "green", "blue"]
    np.testing.assert_allclose(table.to_numpy(), (255 - X).mean(axis=(1, 2)))
    np.testing.assert_array_equal(pipeline.predict(X), plain)
    assert pipeline[:-1].get_feature_names_out().tolist() == ["red", "green", "blue"]
    with sklearn.config_context(transform_output="pandas"):
        again = make_pipeline(Invert(), MeanColor()).fit_transform(X)
    pd.testing.assert_frame_equal(again, table)


def test_an_image_step_alone_ends_a_pipeline_under_set_output(cells):
    pipeline = make_pipeline(Invert(), Resize(16)).set_output(transform="pandas")
    assert pipeline.fit_transform(cells[0]).shape == (24, 16, 16, 3)


def test_threads_give_the_same_images_in_the_same_order(cells):
    np.testing.assert_array_equal(
        Invert().transform(cells[0]), Invert(n_jobs=3).transform(cells[0])
    )
    assert map_images(lambda image, k: (image[0, 0, 0], k), cells[0], range(24), n_jobs=2) == [
        (image[0, 0, 0], k) for k, image in enumerate(cells[0])
    ]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_opencv_starts_no_threads_while_images_are_shared_out(cells, n_jobs):
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        inner = map_images(
            lambda _: map_images(lambda _: cv2.getNumThreads(), cells[0][:2], n_jobs=n_jobs),
            cells[0][:4],
            n_jobs=n_jobs,
        )
        assert inner == [[1, 1]] * 4
        with pytest.raises(ZeroDivisionError):
            map_images(lambda _: 1 / 0, cells[0], n_jobs=n_jobs)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_typos_are_answered_with_the_likely_name(cells):
    with pytest.raises(ValueError, match="Did you mean 'plain'"):
        Invert("plane").fit(cells[0])
    with pytest.raises(ValueError, match="Did you mean 'mode'"):
        Invert().set_params(mod="half")
    with pytest.raises(ValueError, match=r"(?s)'mode' parameter of Invert must be .*Got 3"):
        Invert(3).transform(cells[0])


def test_spawned_generators_do_not_depend_on_how_many_there_are():
    few, many = spawn(7, 2), spawn(7, 9)
    assert [g.integers(1 << 60) for g in few] == [g.integers(1 << 60) for g in many[:2]]
    assert len({int(g.integers(1 << 60)) for g in spawn(7, 50)}) == 50
    assert spawn(8, 1)[0].integers(1 << 60) != spawn(7, 1)[0].integers(1 << 60)


def test_progress_is_silent_when_nobody_watches(capsys):
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_progress_shows_on_a_terminal():
    ours, theirs = pty.openpty()
    code = "from hemaest._progress import track; print(list(track('ab', 'reading cells', total=2)))"
    done = subprocess.run(
        [sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, check=True
    )
    screen = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert done.stdout == b"['a', 'b']\n"
    assert "reading cells" in screen and "2/2" in screen


def test_tables_line_up():
    table = pd.DataFrame({"name": ["a", "long name"], "n": [12345.6, 0.12345], "x": [None, 1]})
    lines = format_table(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "12,346" in lines[2] and "0.123" in lines[3] and "-" in lines[2]


LIGHT = """
import sys, time
start = time.perf_counter()
import hemaest
took = time.perf_counter() - start
NAMES
heavy = {"torch", "xgboost", "cv2", "matplotlib", "skorch", "timm"} & set(sys.modules)
assert not heavy, heavy
print(took)
"""


def test_importing_names_loads_nothing_heavy():
    from public import public_names

    names = [
        f"from {module} import {name}"
        for module, name, _ in public_names()
        if module.split(".")[1] not in {"nets", "cli", "report"}
    ]
    code = LIGHT.replace("NAMES", "\n".join(names))
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
