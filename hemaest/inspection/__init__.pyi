from ._errors import ErrorGalleryDisplay as ErrorGalleryDisplay
from ._gallery import (
    CellGalleryDisplay as CellGalleryDisplay,
    StainGridDisplay as StainGridDisplay,
)
from ._heat import occlusion as occlusion
from ._maps import AttentionMap as AttentionMap, GradCAM as GradCAM
from ._smear import SmearDisplay as SmearDisplay
from .drawing import class_color as class_color, class_colors as class_colors

__all__ = [
    "AttentionMap",
    "CellGalleryDisplay",
    "ErrorGalleryDisplay",
    "GradCAM",
    "SmearDisplay",
    "StainGridDisplay",
    "class_color",
    "class_colors",
    "occlusion",
]
