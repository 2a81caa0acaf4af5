"""What the renderer reads: the ranges of each cell type, and the stains, as they are written."""

import tomllib
from importlib.resources import files


def read_toml(name):
    return tomllib.loads(files("hemaest.datasets").joinpath(name).read_text(encoding="utf-8"))


CELL_TYPES = read_toml("recipes.toml")
STAINS = read_toml("stains.toml")
