"""Honest evaluation: the audit, groups, the fair comparison, its statistics and its claim card."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
