from ._smear import SmearDisplay as SmearDisplay

__all__ = ["SmearDisplay"]
