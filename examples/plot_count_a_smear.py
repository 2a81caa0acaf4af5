"""
Find, classify and count the leukocytes of a smear
==================================================

A model trained on images of single cells classifies the cells of whole fields. The detector
finds them, the segmenter outlines them, and the count has an interval that includes the errors
of the classifier. At the command line: ``hemaest predict MODEL FIELDS --annotate DIR --count``.
"""

# %%
# A field with known truth
# ------------------------

import matplotlib.pyplot as plt
import pandas as pd

from hemaest.clinical import DifferentialCounter
from hemaest.datasets import make_cells, make_smear
from hemaest.inspection import SmearDisplay
from hemaest.recipes import make_recipe
from hemaest.segmentation import CellSegmenter, SmearDetector

mix = {"neutrophil": 6, "lymphocyte": 3, "monocyte": 1}
smear = make_smear((700, 1000), n_cells=10, differential=mix, random_state=3)
print(pd.Series(smear.target).value_counts().to_dict())

# %%
# Train the model, find the cells, classify them
# ----------------------------------------------

kinds = list(mix)
cells = make_cells(120, classes=kinds, n_patients=12, random_state=0)
segmenter = CellSegmenter(method="voters")  # the quick method
model = make_recipe("handcrafted-xgboost", segmenter=segmenter, random_state=0)
counter = DifferentialCounter(model, cv=3).fit(cells.images, cells.target, groups=cells.groups)

detector = SmearDetector().fit([smear.image])
found = detector.detect_cells([smear.image])
print(found.table[["x0", "y0", "x1", "y1", "score"]].round(1).to_string(index=False))

# %%
# The field with the detected cells
# ---------------------------------

_ = SmearDisplay.from_detector(detector, smear.image, classifier=counter.classifier_)

# %%
# The differential count
# ----------------------
# Ten cells say little: the intervals are wide, and the table shows it.

count = counter.count(found.images)
print(count[["n", "percent", "low", "high"]].round(1))
print(detector.count([smear.image]).round(1).to_string(index=False))
plt.show()
