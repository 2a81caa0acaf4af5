"""Synthetic cells with known truth, and loaders of folders and public sets."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
