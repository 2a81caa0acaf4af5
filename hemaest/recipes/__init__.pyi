from ._pipeline import ImagePipeline as ImagePipeline
from ._registry import (
    list_recipes as list_recipes,
    make_recipe as make_recipe,
)

__all__ = ["ImagePipeline", "list_recipes", "make_recipe"]
