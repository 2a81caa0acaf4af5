"""
Find, name and count the leukocytes of a smear
==============================================

A model that learnt on pictures of single cells names the cells of whole fields: the detector finds
them, the segmenter outlines them, the count comes with its interval. At a shell the same is
``hemaest predict MODEL FIELDS --input field --annotate DIR --count``.
"""

# %%
# A field of which everything is known
# ------------------------------------

import matplotlib.pyplot as plt
import pandas as pd

from hemaest.cli._predict import counted
from hemaest.datasets import make_cells, make_smear
from hemaest.inspection import SmearDisplay
from hemaest.recipes import make_recipe
from hemaest.segmentation import CellSegmenter, SmearDetector

mix = {"neutrophil": 6, "lymphocyte": 3, "monocyte": 1}
smear = make_smear((700, 1000), n_cells=10, differential=mix, random_state=3)
print(pd.Series(smear.target).value_counts().to_dict())

# %%
# Teach the model, find the cells, name them
# ------------------------------------------

kinds = list(mix)
cells = make_cells(120, classes=kinds, n_patients=12, random_state=0)
segmenter = CellSegmenter(method="voters")  # the quick half of the segmenter
model = make_recipe("handcrafted-xgboost", segmenter=segmenter, random_state=0)
model.fit(cells.images, cells.target, groups=cells.groups)

detector = SmearDetector().fit([smear.image])
found = detector.detect_cells([smear.image])
print(found.table[["x0", "y0", "x1", "y1", "score"]].round(1).to_string(index=False))

# %%
# The field with what was found
# -----------------------------

display = SmearDisplay.from_detector(detector, smear.image, classifier=model)
display.plot(plt.subplots(figsize=(8, 6), layout="constrained")[1])

# %%
# The differential count
# ----------------------
# Ten cells say little: the intervals are wide, and the table shows it.

print(counted(pd.DataFrame({"label": display.names})).round(2).to_string(index=False))
print(detector.count([smear.image]).round(1).to_string(index=False))
plt.show()
