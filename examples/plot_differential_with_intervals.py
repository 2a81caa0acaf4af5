"""
From a folder of fields to a differential with intervals
========================================================

A classifier names the cells of a smear. What share of them is of each type? The plain count of the
names is off by the classifier's errors. The counter learns these errors from labeled cells of other
patients, and says how far the percentages may be off: counting error, wrong names, and patients
that differ. A few cells, reviewed by a person, narrow the interval that matters.
"""

# %%
# A folder of fields
# ------------------
# Rendered here, so that the truth is known: four fields of one smear, and labeled fields of twelve
# other patients.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.ensemble import RandomForestClassifier

from hemaest.clinical import DifferentialCounter, DifferentialDisplay, harmonize
from hemaest.datasets import make_smear
from hemaest.features import ColorFeatures
from hemaest.images import read_image
from hemaest.inspection import CellGalleryDisplay
from hemaest.recipes import ImagePipeline
from hemaest.segmentation import SmearDetector

SIZE = (460, 620)
known = [
    make_smear(
        SIZE,
        n_cells=14,
        differential={"neutrophil": 1, "lymphocyte": 1, "monocyte": 1, "myeloblast": 1},
        random_state=seed,
    )
    for seed in range(12)
]
sick = {"neutrophil": 5, "lymphocyte": 4, "monocyte": 2, "myeloblast": 2}
new = [make_smear(SIZE, n_cells=14, differential=sick, random_state=100 + i) for i in range(4)]
folder = Path(tempfile.mkdtemp()) / "smear 17"
folder.mkdir()
for number, field in enumerate(new):
    Image.fromarray(field.image).save(folder / f"field-{number}.png")

# %%
# Find the cells
# --------------
# The label of a found cell is that of the rendered cell at its place.

detector = SmearDetector().fit([known[0].image])


def found_cells(images, smears):
    """Return crops, labels and the number of the image of each cell that was found."""
    found = detector.detect_cells(images)
    labels = []
    for _, row in found.table.iterrows():
        smear = smears[int(row["field"])]
        middle = np.array([row["x0"] + row["x1"], row["y0"] + row["y1"]]) / 2
        centers = (smear.boxes[:, :2] + smear.boxes[:, 2:]) / 2
        labels.append(smear.target[np.linalg.norm(centers - middle, axis=1).argmin()])
    return found.images, harmonize(labels, source="synthetic"), found.table["field"].to_numpy()


crops, labels, patients = found_cells([smear.image for smear in known], known)
print(len(crops), "labeled cells of", len(set(patients)), "patients")

# %%
# Learn the classifier and its errors
# -----------------------------------
# Cross-fitted over patients: how a cell is named is learned from models that never saw its patient.

classifier = ImagePipeline(
    [("see", ColorFeatures()), ("name", RandomForestClassifier(200, random_state=0))]
)
counter = DifferentialCounter(classifier).fit(crops, labels, groups=patients)
print((100 * counter.confusion_).round(0).to_string())

# %%
# Count the smear
# ---------------

fields = [read_image(path) for path in sorted(folder.glob("*.png"))]
cells, truth, _ = found_cells(fields, new)
table = counter.count(cells, wbc=6.2)
print(table.round(1).to_string())
DifferentialDisplay(table).plot(title="smear 17: " + f"{len(cells)} cells")

# %%
# Review the cells that matter
# ----------------------------
# ``suggest`` names the cells whose review narrows the interval of the blasts most. Here the
# rendered truth stands in for the person.

picked = counter.suggest(cells, 15, target="myeloblast")
CellGalleryDisplay(cells[picked], truth[picked]).plot(n_columns=5)
reviewed = counter.count(cells, {int(i): truth[i] for i in picked})
DifferentialDisplay(reviewed).plot()

for name, result in (("before", table), ("after", reviewed)):
    low, high = result.loc["myeloblast", ["low", "high"]]
    print(f"blasts {name} review: {low:.1f} to {high:.1f} per 100")
print(f"in the fields: {100 * np.mean(truth == 'myeloblast'):.1f}")

# %%
# How many cells are enough?
# --------------------------

for width in (30, 20, 10):
    cells_needed = counter.cells_needed(cells, "myeloblast", width)
    print(f"an interval of {width} points needs about {cells_needed:.0f} cells")
plt.show()
