from ._chromatin import ChromatinTexture as ChromatinTexture
from ._color import ColorFeatures as ColorFeatures
from ._handcrafted import HandcraftedFeatures as HandcraftedFeatures
from ._lbp import PatternHistogram as PatternHistogram
from ._shape import MorphologyFeatures as MorphologyFeatures

__all__ = [
    "ChromatinTexture",
    "ColorFeatures",
    "HandcraftedFeatures",
    "MorphologyFeatures",
    "PatternHistogram",
]
