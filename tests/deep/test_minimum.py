"""The deep half runs where only torch, timm, skorch, scikit-learn, scikit-image and cv2 are."""

import subprocess
import sys

CODE = """
import sys

from importlib.machinery import PathFinder

ABSENT = {"xgboost", "imblearn", "pandas", "matplotlib", "rich", "numba", "pooch", "jinja2",
          "typer", "captum", "torchmetrics"}

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name in ABSENT else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
import numpy as np
from hemaest.deep import DeepEmbedding, ImageClassifier
from hemaest.inspection import GradCAM

X = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
y = ["a", "b"] * 4
model = ImageClassifier("cellnet", image_size=32, max_epochs=1, early_stopping=True,
                        validation_fraction=0.25, augment="strong", verbose=True)
assert model.fit(X, y, groups=np.arange(8) // 2).predict(X).shape == (8,)
GradCAM.from_estimator(model, X)
DeepEmbedding("cellnet", pretrained=False, image_size=32).fit_transform(X)
from hemaest.balance import ACDBGAN, ImageSampler
from hemaest.recipes import ImagePipeline, make_recipe

gan = ACDBGAN(image_size=16, max_steps=2, batch_size=4, width=4, min_images=2, adaptive=False,
              realism_filter=False)
recipe = make_recipe("deep-small", image_size=32, max_epochs=1)
recipe.set_params(classify__resampler=gan).fit(X, y, groups=np.arange(8) // 2)
assert recipe.predict(X).shape == (8,) and recipe.fit_predict(X, y).shape == (8,)
for sampler in (gan, ImageSampler()):
    try:
        ImagePipeline([("balance", sampler), *recipe.steps]).fit(X, y)
    except ImportError as error:
        assert "pip install imbalanced-learn" in str(error), error
    else:
        raise AssertionError("imbalanced-learn was there")
from hemaest.balance import generative_report

try:
    generative_report(X, X)
except ImportError as error:
    assert "hemaest[generative]" in str(error), error
else:
    raise AssertionError("torchmetrics was there")
try:
    model.history_
except ImportError as error:
    assert "install pandas" in str(error), error
else:
    raise AssertionError("pandas was there")
"""


def test_the_deep_half_runs_on_the_minimum():
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
