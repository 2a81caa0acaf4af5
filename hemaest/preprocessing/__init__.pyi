from ._alhe import AdaptiveLocalHistogramEnhancer as AdaptiveLocalHistogramEnhancer
from ._cell import CropToCell as CropToCell, MaskBackground as MaskBackground
from ._resize import Resize as Resize

__all__ = ["AdaptiveLocalHistogramEnhancer", "CropToCell", "MaskBackground", "Resize"]
