"""
Save a model with its claim, and load it safely
===============================================

One file holds the model, its versions, its classes, a hash of its data and its score; weights
of networks are safetensors. Damaged files and files with unknown classes are refused.
"""

# %%
# Train, measure, save
# --------------------

from pathlib import Path
from tempfile import mkdtemp

from sklearn import set_config

from hemaest.datasets import make_cells
from hemaest.evaluation import compare
from hemaest.persistence import info, load, save
from hemaest.recipes import make_recipe
from hemaest.segmentation import CellSegmenter

cells = make_cells(48, classes=["lymphocyte", "neutrophil"], n_patients=8, random_state=0)
segmenter = CellSegmenter(method="voters")
recipe = make_recipe("handcrafted-forest", segmenter=segmenter, random_state=0)
measured = compare({"forest": recipe}, cells.images, cells.target, groups=cells.groups, cv=2)
model = recipe.fit(cells.images, cells.target, groups=cells.groups)
path = save(
    model,
    Path(mkdtemp()) / "forest.hemaest",
    claim=measured.claim(),
    trained_on={"input": "cell", "images": len(cells.images)},
)

# %%
# Look before loading
# -------------------

card = info(path)
print(card["claim"]["facts"]["Claim"])
print(card["classes"], [step["class"] for step in card["steps"]])

# %%
# Load: the same predictions
# --------------------------

again = load(path)
print((again.predict_proba(cells.images) == model.predict_proba(cells.images)).all())

# %%
# A changed file is refused
# -------------------------

content = bytearray(path.read_bytes())
content[100] ^= 1
path.write_bytes(content)
try:
    load(path)
except ValueError as error:
    print(str(error).replace(str(path.parent) + "/", ""))

# %%
# What the model is, in a notebook
# --------------------------------

set_config(display="diagram")
again
