"""
How many labels does pretraining save?
======================================

Images of cells are many, labels are few. Here a network is first pretrained on all training images
without their labels, by reconstructing hidden patches. Then it is trained on 5, 10, ... 250 labeled
cells of each type. It is compared with the same network from random weights, and with boosted
trees on handcrafted features.

Network, images and training are small, so that this page is built in minutes on a CPU; on real
cells
and at full size, ``benchmarks/pretraining.py`` does the same.
"""

# %%
# Cells of forty patients
# -----------------------
# Three types of round mononuclear cells, which differ in size and chromatin. Test patients are
# seen neither in pretraining nor in training.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupShuffleSplit

from hemaest.datasets import make_cells
from hemaest.deep import FCMAEPretrainer, WPATClassifier
from hemaest.inspection import AttentionMap
from hemaest.recipes import make_recipe

cells = make_cells(
    1100,
    classes=["lymphoblast", "lymphocyte", "monocyte"],
    image_size=64,
    n_patients=40,
    n_labs=2,
    random_state=0,
)
X, y, patients = cells.images, cells.target, cells.groups
train, test = next(GroupShuffleSplit(test_size=0.25, random_state=0).split(X, y, patients))

# %%
# Pretrain without labels
# -----------------------
# Of each image 60% is hidden. The encoder sees only the rest.

SIZE = 48
ENCODER = {"width": 16}
pretrainer = FCMAEPretrainer(
    "resnet24",
    image_size=SIZE,
    backbone_options=ENCODER,
    decoder_dim=64,
    max_epochs=20,
    batch_size=32,
    lr=2e-3,
    device="cpu",
    random_state=0,
).fit(X[train])
pretrainer.plot_history()

# %%
# Cells of test patients: the original, what the encoder sees, and the reconstruction.

reconstructed = pretrainer.reconstruct(X[test][:8])
figure, axes = plt.subplots(3, 8, figsize=(8, 3.3), layout="constrained")
for column, three in zip(axes.T, reconstructed, strict=True):
    for ax, image in zip(column, three, strict=True):
        ax.imshow(image)
        ax.set(xticks=[], yticks=[])
for ax, title in zip(axes[:, 0], ("original", "seen", "reconstructed"), strict=True):
    ax.set_ylabel(title)

# %%
# Few labels, with and without
# ----------------------------
# Every network gets the same number of steps. The fitted pretrainer is passed as
# ``FrozenEstimator``, because ``clone`` would reset a bare one.

LABELS = (5, 10, 25, 50, 100, 250)
WPAT = {"dim": 48, "depth": 1}
SEEN = 1600  # images in all epochs together, however few there are


def net(n_images, pretrained):
    return WPATClassifier(
        convnet=None if pretrained else "resnet24",
        pretrained=FrozenEstimator(pretrainer) if pretrained else False,
        backbone_options=WPAT if pretrained else {"convnet_options": ENCODER, **WPAT},
        image_size=SIZE,
        max_epochs=max(3, SEEN // n_images),
        batch_size=16,
        lr=3e-3,
        device="cpu",
        random_state=0,
    )


trees = make_recipe("handcrafted-xgboost", random_state=0)
# the values that replace missing ones are computed on training cells
features = np.asarray(trees[:-1].fit(X[train], y[train]).transform(X))

scores = {"pretrained, WPAT": [], "from scratch, WPAT": [], "handcrafted, boosted trees": []}
rng = np.random.default_rng(0)
order = rng.permutation(train)
for count in LABELS:
    # a larger set holds the smaller ones
    rows = np.concatenate([order[y[order] == label][:count] for label in np.unique(y)])
    for name, pretrained in (("pretrained, WPAT", True), ("from scratch, WPAT", False)):
        model = net(len(rows), pretrained).fit(X[rows], y[rows])
        scores[name].append(model.score(X[test], y[test]))
        if pretrained:
            best = model
    boosted = clone(trees[-1]).fit(features[rows], y[rows])
    scores["handcrafted, boosted trees"].append(boosted.score(features[test], y[test]))

_, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for (name, values), style in zip(scores.items(), ("o-", "s--", "^:"), strict=True):
    ax.plot(LABELS, values, style, label=name)
ax.set(
    xscale="log",
    xticks=LABELS,
    xticklabels=LABELS,
    xlabel="labeled cells of each type",
    ylabel="accuracy on other patients",
    ylim=(0.3, 1.02),
)
ax.minorticks_off()
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower right")

# %%
# Eight hundred images and a minute of pretraining gain little or nothing over random weights, and
# where cells have clear outlines, handcrafted features need far fewer labels than either network.
# Pretraining is for thousands of unlabeled images. Measure on your own data, with a curve like this
# one, before you invest in it.
#
# Where it looks
# --------------
# The weights of attention pooling over both scales of the network, for cells of other patients.

display = AttentionMap.compute(best, X[test][:8])
figure, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for column, image, heat in zip(axes.T, display.images, display.maps, strict=True):
    column[0].imshow(image)
    column[1].imshow(heat, cmap="inferno", vmin=0)
    for ax in column:
        ax.set(xticks=[], yticks=[])
plt.show()
