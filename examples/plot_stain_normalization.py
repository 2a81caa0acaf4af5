"""
Normalize the stains of two laboratories
========================================

The same kinds of cells look different from laboratory to laboratory: another stain, another lamp,
another camera. A model that learns color learns the laboratory. Here each normalizer learns its
target from cells of the first laboratory and is applied to both.
"""

# %%
# Cells of two laboratories
# -------------------------
# One stains with May-Gruenwald-Giemsa; the other with a quick stain, under a yellow lamp.

import matplotlib.pyplot as plt
import numpy as np

from hemaest.datasets import make_cells
from hemaest.inspection import StainGridDisplay
from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer
from hemaest.stain import (
    MacenkoNormalizer,
    ReinhardNormalizer,
    StainAugmenter,
    VahadaneNormalizer,
)

cells = make_cells(
    96, n_labs=2, stain=["may-gruenwald-giemsa", "quick"], image_size=96, random_state=0
)
lab = cells.truth["lab"].to_numpy()
first, second = np.flatnonzero(lab == lab.min()), np.flatnonzero(lab == lab.max())
shown = np.r_[first[:4], second[:4]]
names = ["May-Gruenwald-Giemsa"] * 4 + ["quick stain, yellow lamp"] * 4

# %%
# Every normalizer beside the original
# ------------------------------------
# Reinhard changes lightness and color of the whole image. Macenko and Vahadane find the two
# stains. They keep the glass as it is unless ``preserve_background=False``, which also gives the
# images the lamp of the target. One cell may have too little stain to estimate two vectors:
# look at cytoplasm and red cells under Macenko. With a known basis only the strengths are
# matched; ``make_recipe(name, stain="macenko")`` does that.

normalizers = {
    "Reinhard": ReinhardNormalizer(),
    "Reinhard,\nmodified": ReinhardNormalizer(method="modified"),
    "known\nGiemsa basis": MacenkoNormalizer(basis="giemsa", preserve_background=False),
    "Macenko": MacenkoNormalizer(preserve_background=False),
    "Macenko,\nglass kept": MacenkoNormalizer(),
    "Vahadane": VahadaneNormalizer(preserve_background=False),
}
for normalizer in normalizers.values():
    normalizer.fit(cells.images[first])
StainGridDisplay.from_estimators(normalizers, cells.images[shown], column_names=names)
plt.show()

# %%
# How far apart are the laboratories?
# -----------------------------------
# The distance of their mean colors, in levels, before and after.


def distance(images):
    """Return how far the mean colors of the two laboratories lie apart."""
    return np.abs(images[first].mean(axis=(0, 1, 2)) - images[second].mean(axis=(0, 1, 2))).mean()


print(f"{'original':22s} {distance(cells.images):5.1f}")
for name, normalizer in normalizers.items():
    print(f"{name.replace(chr(10), ' '):22s} {distance(normalizer.transform(cells.images)):5.1f}")

# %%
# The alternative: train on many stains
# -------------------------------------
# :class:`~hemaest.stain.StainAugmenter` changes the strength and the color of both stains, and the
# light. ALHE raises local contrast and leaves the colors alone.

four = cells.images[first[:6]]
rows = {
    "original": four,
    "augmented": StainAugmenter(random_state=0).augment(four),
    "augmented,\ntwice as strong": StainAugmenter(strength=2, random_state=1).augment(four),
    "ALHE": AdaptiveLocalHistogramEnhancer().fit_transform(four),
}
StainGridDisplay(rows).plot(plt.figure(figsize=(8, 4.4), layout="constrained").subplots())
plt.show()
