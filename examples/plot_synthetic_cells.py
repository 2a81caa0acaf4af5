"""
Synthetic blood cells of every type
===================================

``hemaest.datasets.make_cells`` draws stained blood cells from written recipes: a table of traits
(cell and nucleus size, lobes, chromatin, granules, cytoplasm) that a hematologist can read and
correct in ``hemaest/datasets/recipes.toml``. Their cell maps, areas, lobes, patients and labs are
known exactly, so they serve as the data of every example and test here, and as training
data with perfect labels.
"""

# %%
# All types
# ---------
# Three cells of each type, from three patients, under one stain. Run by itself,
# ``python examples/plot_synthetic_cells.py out.jpg`` writes this image.

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from hemaest.datasets import load_pbc, make_cells, make_smear

TYPES = """
    myeloblast promyelocyte myelocyte metamyelocyte band_neutrophil
    neutrophil eosinophil immature_eosinophil basophil monocyte
    lymphocyte reactive_lymphocyte cll_lymphocyte smudge_cell plasma_cell
    hematogone lymphoblast early_pre_b_lymphoblast pre_b_lymphoblast pro_b_lymphoblast
    proerythroblast erythroblast platelet artefact unidentifiable
""".split()


def strip(name: str, seed: int) -> np.ndarray:
    """Return three cells of a type side by side."""
    cells = make_cells(
        3, classes=[name], n_patients=3, image_size=140, field=24.0, random_state=seed
    )
    return np.hstack(list(cells.images))


fig, axes = plt.subplots(5, 5, figsize=(15, 6.4), layout="constrained")
for seed, (ax, name) in enumerate(zip(axes.flat, TYPES, strict=True)):
    ax.imshow(strip(name, seed))
    ax.set_title(name.replace("_", " "), fontsize=11, pad=3)
    ax.set_axis_off()
if len(sys.argv) > 1:
    fig.savefig(sys.argv[1], dpi=110, pil_kwargs={"quality": 88})

# %%
# Beside real cells
# -----------------
# Where ``HEMAEST_DATA`` names a folder that holds the public PBC set, real cells (left) and
# synthetic ones (right) are shown at one scale: its images are 38 micrometers across.

if os.environ.get("HEMAEST_DATA"):
    real = load_pbc(Path(os.environ["HEMAEST_DATA"]) / "pbc", level="subtype")
    known = {
        "SNE": "neutrophil", "BNE": "band_neutrophil", "EO": "eosinophil", "BA": "basophil",
        "LY": "lymphocyte", "MO": "monocyte", "ERB": "erythroblast", "PMY": "promyelocyte",
        "MY": "myelocyte", "MMY": "metamyelocyte",
    }  # fmt: skip
    fig, axes = plt.subplots(5, 2, figsize=(15, 7.4), layout="constrained")
    for seed, (ax, (subtype, name)) in enumerate(zip(axes.flat, known.items(), strict=True)):
        files = real.images[real.target == subtype][3:7]
        middle = [image.read()[60:300, 60:300] for image in files]
        cells = make_cells(
            4, classes=[name], n_patients=4, image_size=240, field=25.0, random_state=seed
        )
        ax.imshow(np.hstack([*middle, np.full((240, 20, 3), 255, np.uint8), *cells.images]))
        ax.set_title(f"{name.replace('_', ' ')}: real | synthetic", fontsize=11, pad=3)
        ax.set_axis_off()

# %%
# The same cells under every stain
# --------------------------------
# A stain is a table too (``stains.toml``): the optical density of each dye. Labs and patients
# shift it by as much as ``lab_effect`` and ``patient_effect`` say, and ``truth`` holds the size
# of each shift.

STAINS = "may-gruenwald-giemsa wright leishman quick understained overstained".split()
FIVE = ["basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"]
fig, axes = plt.subplots(2, 3, figsize=(15, 2.9), layout="constrained")
for ax, stain in zip(axes.flat, STAINS, strict=True):
    cells = make_cells(5, classes=FIVE, image_size=140, field=22.0, stain=stain, random_state=2)
    ax.imshow(np.hstack(list(cells.images[np.argsort(cells.target)])))
    ax.set_title(stain, fontsize=11, pad=3)
    ax.set_axis_off()

# %%
# The truth that comes with them
# ------------------------------

cells = make_cells(6, random_state=0)
print(cells.truth[["cell_type", "nc_ratio", "n_lobes", "cell_area", "lab", "patient"]])

# %%
# A smear with every leukocyte known
# ----------------------------------
# ``make_smear`` draws fields of any size by tiles, with a differential count of your choice.

mix = {"neutrophil": 5, "lymphocyte": 3, "monocyte": 1, "eosinophil": 1}
smear = make_smear((600, 1000), n_cells=10, differential=mix, random_state=5)
fig, ax = plt.subplots(figsize=(10, 6), layout="constrained")
ax.imshow(smear.image)
for (x0, y0, x1, y1), name in zip(smear.boxes, smear.target, strict=True):
    ax.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="tab:green", lw=1.5))
    ax.text(x0, y0 - 5, name.replace("_", " "), fontsize=9, color="tab:green")
ax.set_axis_off()
plt.show()
