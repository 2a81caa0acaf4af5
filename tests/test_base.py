"""The templates of image steps and feature extractors, parameter errors, and light imports."""

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

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


def test_a_class_shows_the_parameters_of_an_inherited_init():
    class Plain(Resize):
        pass

    class Other(Resize):
        def __init__(self, more=1):
            self.more = more

    assert list(inspect.signature(Plain).parameters) == list(inspect.signature(Resize).parameters)
    assert "self" not in inspect.signature(Plain).parameters
    assert list(inspect.signature(Other).parameters) == ["more"]


def test_typos_are_answered_with_the_likely_name(cells):
    with pytest.raises(ValueError, match="Did you mean 'plain'"):
        Invert("plane").fit(cells[0])
    with pytest.raises(ValueError, match="Did you mean 'mode'"):
        Invert().set_params(mod="half")
    with pytest.raises(ValueError, match=r"(?s)'mode' parameter of Invert must be .*Got 3"):
        Invert(3).transform(cells[0])


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


@pytest.mark.slow
def test_importing_names_loads_nothing_heavy():
    from public import public_names

    names = [
        f"from {module} import {name}"
        for module, name, _ in public_names()
        if module.split(".")[1] not in {"nets", "cli", "report"}
    ]
    code = LIGHT.replace("NAMES", "\n".join(names))
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
