"""
A CNN, a ViT and XGBoost in one grid search, kept with joblib
=============================================================

As a notebook would do it: everything here is an ordinary scikit-learn estimator, so one
``GridSearchCV`` tunes and compares a convolutional network, a vision transformer and boosted trees
on handcrafted morphology, under folds that keep patients together, and ``joblib`` saves the winner.

The networks are small and trained for a few epochs, so that this page is built in a minute on a
CPU. The scores show how it is done, not what is best.
"""

# %%
# Cells of twelve patients
# ------------------------

from pathlib import Path
from tempfile import mkdtemp

import joblib
import matplotlib.pyplot as plt
import pandas as pd
import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit

from hemaest.datasets import make_cells
from hemaest.deep import ImageClassifier, ViTClassifier
from hemaest.inspection import CellGalleryDisplay
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.segmentation import CellSegmenter

cells = make_cells(
    96,
    classes=["eosinophil", "lymphocyte", "monocyte", "neutrophil"],
    n_patients=12,
    n_labs=2,
    random_state=0,
)
X, y, patients = cells.images, cells.target, cells.groups
train, test = next(GroupShuffleSplit(test_size=0.25, random_state=0).split(X, y, patients))

# %%
# Three kinds of model in one grid
# --------------------------------
# The last step of the pipeline is itself a parameter of the grid. A network is cloned and trained
# again in each fold; so are the segmenter and the features in front of the trees.
#
# By itself ``GridSearchCV`` gives ``groups`` to its splitter only. With metadata routing they also
# reach the splits inside a model, such as early stopping, so that patients stay together there
# too.

cnn = ImageClassifier(
    "cellnet", image_size=48, max_epochs=6, batch_size=16, device="cpu", random_state=0
)
vit = ViTClassifier(
    backbone="vit_tiny_patch16_224",
    backbone_options={"depth": 2, "embed_dim": 48, "num_heads": 2},
    pretrained=False,
    image_size=48,
    max_epochs=6,
    batch_size=16,
    device="cpu",
    random_state=0,
)
segmenter = CellSegmenter(method="voters")  # the quick half of the segmenter
morphology = make_recipe("handcrafted-xgboost", segmenter=segmenter, random_state=0)

grid = [
    {"model": [cnn], "model__lr": [1e-3, 3e-3]},
    {"model": [vit], "model__lr": [1e-3]},
    {"model": [morphology]},
]
search = GridSearchCV(
    ImagePipeline([("model", cnn)]), grid, scoring="balanced_accuracy", cv=GroupKFold(3), refit=True
)
with sklearn.config_context(enable_metadata_routing=True):
    search.fit(X[train], y[train], groups=patients[train])

table = pd.DataFrame(search.cv_results_)
table["model"] = [
    type(m.steps[-1][1] if hasattr(m, "steps") else m).__name__ for m in table["param_model"]
]
table = table.sort_values("mean_test_score", ascending=False)
print(
    table[["model", "param_model__lr", "mean_test_score", "std_test_score", "mean_fit_time"]]
    .round(3)
    .to_string(index=False)
)

# %%
# The winner, on patients that no fold has seen
# ---------------------------------------------
# The best score of a grid is too high on the folds that chose it. The test patients did not choose.

print(f"on the folds that chose it: {search.best_score_:.3f}")
print(f"on other patients:          {search.score(X[test], y[test]):.3f}")

_ = CellGalleryDisplay.from_estimator(search, X[test], y[test], n_images=12)

# %%
# Keep it with joblib
# -------------------
# Weights are kept as plain arrays, so a model of a GPU loads on a CPU. A joblib file runs whatever
# it names: load one only if you trust its maker. For a file that others are to load, use
# :func:`hemaest.persistence.save`.

path = Path(mkdtemp()) / "best.joblib"
joblib.dump(search.best_estimator_, path)
again = joblib.load(path)
print((again.predict(X[test]) == search.predict(X[test])).all())
plt.show()
