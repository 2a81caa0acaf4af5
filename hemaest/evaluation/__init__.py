"""Honest evaluation: the audit, groups, the fair comparison, its statistics and its claim card."""

import lazy_loader as _lazy

# a stub of lazy_loader names modules of its own package only
from hemaest.groups import infer_groups, near_duplicate_groups, split

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["infer_groups", "near_duplicate_groups", "split"]
