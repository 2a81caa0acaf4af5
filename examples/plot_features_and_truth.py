"""
Measure nucleus and cytoplasm, and compare with the truth
=========================================================

The segmenter writes a cell map into the fourth channel; later steps measure on the map.
On synthetic cells the true N:C ratio is known, so the error of the whole pipeline is visible.
"""

# %%
# From images to named columns
# ----------------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from hemaest.datasets import make_cells
from hemaest.features import HandcraftedFeatures, MorphologyFeatures
from hemaest.inspection import CellGalleryDisplay
from hemaest.segmentation import CellSegmenter

cells = make_cells(60, n_patients=6, random_state=1)
measure = make_pipeline(CellSegmenter(), MorphologyFeatures()).set_output(transform="pandas")
table = measure.fit_transform(cells.images)
print(table.iloc[:4, :6].round(2))
print(f"{len(HandcraftedFeatures().get_feature_names_out())} handcrafted features in all")

# %%
# What the segmenter found
# ------------------------
# ``quality`` shows which maps are not reliable.

segmenter = measure[0]
CellGalleryDisplay(segmenter.transform(cells.images[:10]), cells.target[:10]).plot(
    plt.subplots(figsize=(9, 4), layout="constrained")[1], n_columns=5
)
print(segmenter.quality(cells.images[:3]).round(2))

# %%
# The N:C ratio, measured and true
# --------------------------------

true = cells.truth["nc_ratio"].to_numpy()
found = table["nc_ratio"].to_numpy()
fig, ax = plt.subplots(figsize=(5, 4.6), layout="constrained")
colors = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
for color, name in zip(colors, np.unique(cells.target), strict=True):
    own = cells.target == name
    ax.plot(true[own], found[own], "o", ms=4, color=color, label=name)
ax.axline((0, 0), slope=1, color="#888888", lw=1)
ax.set(xlabel="true N:C ratio", ylabel="measured N:C ratio", xlim=(0, 1), ylim=(0, 1))
ax.legend(fontsize="small")
print(f"median error {np.nanmedian(np.abs(found - true)):.3f}")
plt.show()
