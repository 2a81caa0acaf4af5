"""
A score that can be believed
============================

Twenty patients of twenty labs, and some cells photographed twice. First the audit lists what
is wrong with the images. Then three splits of the same data show how much of a score is memory.
Then two recipes are compared with a control that sees color alone.
"""

# %%
# What is in the data
# -------------------

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from hemaest.datasets import make_cells
from hemaest.evaluation import audit, compare, leak_inflation, split, stain_shift_curve
from hemaest.recipes import make_recipe

cells = make_cells(
    200, image_size=64, n_labs=20, n_patients=20, near_duplicates=0.2, random_state=0
)
X, y, patients = cells.images, cells.target, cells.groups
found = audit(X, y, patients)
print(found)

# %%
# The same recipes under three splits
# -----------------------------------
# Split image by image, cells of a patient and copies of a cell lie on both sides. What that adds to
# the score is gone when a new patient comes.

print(leak_inflation(["color-logistic", "color-knn"], X, y, found.groups_).round(3))

# %%
# A fair comparison
# -----------------
# All recipes see the same folds, which keep patients together. The page (``to_html``) has
# intervals, tests, each class, calibration and the claim card.

result = compare(
    ["handcrafted-logistic", "color-knn"], X, y, found.groups_, cv=5, group_source="patient"
)
print(result)
print(result.tests.round(3).to_string(index=False))
print(result.claim().to_markdown())
result.plot()

if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    result.to_html(folder / "compare.html")
    found.to_html(folder / "audit.html")
    plt.savefig(folder / "compare.png", dpi=150, bbox_inches="tight")

# %%
# How far from the training stain
# -------------------------------
# A recipe that reads morphology should fall slowly as the stain moves away.

parts = split(X, y, found.groups_, sizes=(0.7, 0.3), random_state=0)
fitted = {
    name: make_recipe(name, random_state=0).fit(X[parts.train], y[parts.train])
    for name in ("handcrafted-logistic", "color-logistic")
}
curves = stain_shift_curve(fitted, X[parts.test], y[parts.test])
print(curves)
curves.plot()
if len(sys.argv) > 1:
    plt.savefig(Path(sys.argv[1]) / "shift.png", dpi=150, bbox_inches="tight")
if os.environ.get("DISPLAY"):
    plt.show()
