"""Handcrafted features of cells: shape, chromatin texture and color, as named float tables."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
