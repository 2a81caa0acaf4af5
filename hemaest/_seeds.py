"""The one seeding helper: independent generators from a ``random_state``."""

from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def spawn(random_state: Any, n: int) -> list[np.random.Generator]:
    """Return n independent generators, the same for the same seed.

    Generator ``i`` does not depend on n, so item i of a set comes out alike whether it is drawn
    alone, in a batch or by another worker.

    Parameters
    ----------
    random_state : None, int or RandomState
        As everywhere in scikit-learn.
    n : int
        How many.

    Returns
    -------
    generators : list of numpy.random.Generator

    Examples
    --------
    >>> first, second = spawn(0, 2)
    >>> first.integers(100) == spawn(0, 3)[0].integers(100)
    np.True_
    """
    root = seed_of(random_state)
    return [np.random.default_rng([root, i]) for i in range(n)]


def seed_of(random_state: Any) -> int:
    """Return one integer seed drawn from a ``random_state``."""
    return _of_integer(random_state) if isinstance(random_state, int) else _drawn(random_state)


def _drawn(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


# to seed a RandomState takes longer than to augment an image
_of_integer = lru_cache(maxsize=256)(_drawn)
