from ._attention import AttentionMap as AttentionMap
from ._errors import ErrorGalleryDisplay as ErrorGalleryDisplay
from ._gallery import CellGalleryDisplay as CellGalleryDisplay
from ._gradcam import GradCAM as GradCAM
from ._smear import SmearDisplay as SmearDisplay
from ._stain_grid import StainGridDisplay as StainGridDisplay

__all__ = [
    "AttentionMap",
    "CellGalleryDisplay",
    "ErrorGalleryDisplay",
    "GradCAM",
    "SmearDisplay",
    "StainGridDisplay",
]
