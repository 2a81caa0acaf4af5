"""Beyond memory and beyond one machine: streams of files, whole slides, clusters.

Extras: ``scale`` (pyarrow, dask, distributed) and ``slides`` (openslide).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
