from ._alhe import AdaptiveLocalHistogramEnhancer as AdaptiveLocalHistogramEnhancer
from ._crop import CropToCell as CropToCell
from ._mask import MaskBackground as MaskBackground
from ._resize import Resize as Resize

__all__ = ["AdaptiveLocalHistogramEnhancer", "CropToCell", "MaskBackground", "Resize"]
