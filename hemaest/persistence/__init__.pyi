from ._data import load_data as load_data, save_data as save_data
from ._models import info as info, load as load, save as save
from ._values import UnsafeFileError as UnsafeFileError

__all__ = ["UnsafeFileError", "info", "load", "load_data", "save", "save_data"]
