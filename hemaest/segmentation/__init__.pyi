from ._cells import CellSegmenter as CellSegmenter

__all__ = ["CellSegmenter"]
