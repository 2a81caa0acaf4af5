"""The review page and its HTTP API: see, correct and sign a smear in the browser.

Needs the extra ``web``: ``pip install "hemaest[web]"``. ``hemaest serve`` calls :func:`serve`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
