from . import cells as cells
from .loading import (
    ModelCard as ModelCard,
    list_pretrained as list_pretrained,
    load_pretrained as load_pretrained,
)

__all__ = ["ModelCard", "list_pretrained", "load_pretrained"]
