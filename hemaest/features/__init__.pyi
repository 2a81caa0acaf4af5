from ._extractors import (
    ChromatinTexture as ChromatinTexture,
    ColorFeatures as ColorFeatures,
    HandcraftedFeatures as HandcraftedFeatures,
    MorphologyFeatures as MorphologyFeatures,
    PatternHistogram as PatternHistogram,
)

__all__ = [
    "ChromatinTexture",
    "ColorFeatures",
    "HandcraftedFeatures",
    "MorphologyFeatures",
    "PatternHistogram",
]
