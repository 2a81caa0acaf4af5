"""
What separates the types of leukocytes
======================================

Two numbers that a hematologist reads at the microscope, the N:C ratio and the number of lobes of
the nucleus, already separate most types. Here they are measured on synthetic cells with known
masks; with your own images a :class:`~hemaest.segmentation.CellSegmenter` draws the masks.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from hemaest.datasets import make_cells
from hemaest.features import HandcraftedFeatures
from hemaest.recipes import make_recipe

TYPES = ["neutrophil", "eosinophil", "lymphocyte", "monocyte"]
COLORS = dict(zip(TYPES, ["#4477aa", "#ee6677", "#228833", "#aa3377"], strict=True))

# %%
# Cells, and every handcrafted feature of each: a named column, one row for every image.
cells = make_cells(160, classes=TYPES, image_size=96, random_state=0)
X = np.concatenate([cells.images, cells.masks[..., None]], axis=3)
features = HandcraftedFeatures().set_output(transform="pandas").fit_transform(X)
types = np.asarray(cells.target)
print(f"{features.shape[1]} features of {len(features)} cells")

# %%
# N:C ratio against lobes. The points are moved a little sideways, so that none hides another.
rng = np.random.default_rng(0)
fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for name in TYPES:
    rows = features[types == name]
    lobes = rows["nucleus_lobe_count"] + rng.uniform(-0.22, 0.22, len(rows))
    ax.scatter(lobes, rows["nc_ratio"], s=22, alpha=0.75, color=COLORS[name], label=name, lw=0)
ax.set(xlabel="lobes of the nucleus", ylabel="N:C ratio (nucleus area / cell area)")
ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# What a boosted model uses: the share of its gain due to each feature.
# The recipe segments, measures and classifies, from images to labels.
recipe = make_recipe("handcrafted-xgboost", random_state=0)
recipe.set_params(classify__n_estimators=60, classify__early_stopping=False)
recipe.fit(cells.images, types)
trees = recipe["classify"]
importance = pd.Series(trees.feature_importances_, trees.feature_names_in_)
top = importance.nlargest(12)[::-1]
fig, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
ax.barh(top.index, 100 * top, color="#4477aa")
ax.set_xlabel("share of the gain (%)")
ax.spines[["top", "right"]].set_visible(False)

# %%
# The cells at both ends of a few features: what a number means is best seen.
SHOWN = {
    "nc_ratio": "N:C ratio",
    "nucleus_lobe_count": "lobes",
    "cytoplasm_eosinophilic_fraction": "eosinophilic share",
    "nucleus_indentation_depth": "indentation",
}
fig, axes = plt.subplots(len(SHOWN), 6, figsize=(7.6, 5.6), layout="constrained")
for row, (name, title) in zip(axes, SHOWN.items(), strict=True):
    order = np.argsort(features[name].to_numpy(), kind="stable")
    for ax, k in zip(row, [*order[:3], *order[-3:]], strict=True):
        ax.imshow(cells.images[k])
        ax.set_title(f"{features[name].iloc[k]:.2f}", fontsize=8)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    row[0].set_ylabel(title, fontsize=8)
fig.suptitle("the three least and the three largest of each feature", fontsize=9)

plt.show()
