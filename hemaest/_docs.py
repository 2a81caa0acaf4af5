"""Docstrings that share paragraphs: each is written once, and classes name it.

The normalizers, the loaders of public sets and the displays use it.
"""

import re
from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any] | type)

_PLACE = re.compile(r"^( *)%\((\w+)\)s$", re.MULTILINE)


def fill_doc(**paragraphs: str) -> Callable[[T], T]:
    r"""Return a decorator that replaces lines ``%(name)s`` of a docstring by paragraphs.

    Parameters
    ----------
    **paragraphs : str
        By name; each takes the indentation of the line that it replaces.

    Examples
    --------
    >>> @fill_doc(seed="random_state : int or None\n    Seed.")
    ... def draw(random_state=None):
    ...     '''Draw.
    ...
    ...     Parameters
    ...     ----------
    ...     %(seed)s
    ...     '''
    >>> draw.__doc__.splitlines()[-2].strip()
    'Seed.'
    """
    ready = {name: cleandoc(text).splitlines() for name, text in paragraphs.items()}

    def lines(match: re.Match[str]) -> str:
        indent, name = match.groups()
        return "\n".join(indent + line if line else "" for line in ready[name])

    def fill(documented: T) -> T:
        if documented.__doc__ is not None:  # None under python -OO
            documented.__doc__ = _PLACE.sub(lines, documented.__doc__)
        return documented

    return fill
