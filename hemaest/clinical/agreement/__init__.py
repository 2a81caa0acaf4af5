"""Agreement of two ways to count, as laboratories report it: lines, limits, kappa, flags."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
