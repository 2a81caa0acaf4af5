"""Honest evaluation: the audit, groups, the fair comparison, its statistics and its claim card."""

from typing import Any

import lazy_loader as _lazy

import hemaest as _hemaest

_own, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
# a stub of lazy_loader names modules of its own package only
_OF_GROUPS = ["infer_groups", "near_duplicate_groups", "split"]
__all__ += _OF_GROUPS


def __getattr__(name: str) -> Any:
    return getattr(_hemaest.groups, name) if name in _OF_GROUPS else _own(name)
