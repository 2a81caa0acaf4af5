from ._models import BoostedTrees as BoostedTrees, InnerFolds as InnerFolds
from ._pipeline import ImagePipeline as ImagePipeline
from ._registry import (
    Recipe as Recipe,
    get_recipe as get_recipe,
    list_recipes as list_recipes,
    make_recipe as make_recipe,
)
from ._synthetic import adapt as adapt, default_recipe as default_recipe

__all__ = [
    "BoostedTrees",
    "ImagePipeline",
    "InnerFolds",
    "Recipe",
    "adapt",
    "default_recipe",
    "get_recipe",
    "list_recipes",
    "make_recipe",
]
