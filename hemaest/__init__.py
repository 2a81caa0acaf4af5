"""hemaest: scikit-learn for blood cells.

Stain normalizers and segmenters are transformers, deep nets are classifiers with skorch inside,
and everything that learns learns inside the training fold. Subpackages load on first use, so
``import hemaest`` stays cheap and imports neither torch nor OpenCV.

Examples
--------
>>> import hemaest
>>> "stain" in dir(hemaest)
True
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

__version__ = "0.1.0.dev0"
