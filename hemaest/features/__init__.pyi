from ._color import ColorFeatures as ColorFeatures

__all__ = ["ColorFeatures"]
