"""Save and load fitted estimators, and data of a run, in files that cannot run code."""

from hemaest.persistence._data import load_data, save_data
from hemaest.persistence._models import info, load, save
from hemaest.persistence._values import UnsafeFileError

__all__ = ["UnsafeFileError", "info", "load", "load_data", "save", "save_data"]
