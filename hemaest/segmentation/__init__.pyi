from ._cells import CellSegmenter as CellSegmenter
from ._smear import SmearDetector as SmearDetector

__all__ = ["CellSegmenter", "SmearDetector"]
