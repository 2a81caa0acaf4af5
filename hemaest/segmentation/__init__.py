"""Find cells: nucleus and cytoplasm of a cell, the leukocytes of a smear field."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
