"""Letters that fit: no line of a figure runs over its neighbour or off the page."""

import re
from collections.abc import Iterable
from textwrap import fill

import numpy as np

# mean width of a letter, as a share of the size of its type
WIDE = 0.6
SMALLEST = 5.0


def size_for(texts: Iterable[str], points: float, most: float) -> float:
    """Return the size, ``most`` at most, at which the longest line is ``points`` wide.

    Examples
    --------
    >>> size_for(["blast"], 100, 8.5), round(size_for(["a line of twenty-four ch"], 100, 8.5), 2)
    (8.5, 6.94)
    """
    longest = max((len(line) for text in texts for line in text.split("\n")), default=0)
    return float(np.clip(points / (WIDE * max(longest, 1)), SMALLEST, most))


def shortened(text: str, points: float, size: float) -> str:
    """Return a text whose lines are no wider than ``points``; what is too long loses its middle.

    Examples
    --------
    >>> shortened("basophil 0.97", 100, 8), shortened("a very long name of a class 0.97", 60, 8)
    ('basophil 0.97', 'a very… 0.97')
    """
    # a size that was chosen for this line fits it exactly, but for rounding
    room = max(int(points / (WIDE * size) + 1e-6), 3)

    def cut(line: str) -> str:
        tail = (room - 1) // 2
        return line if len(line) <= room else f"{line[: room - 1 - tail]}…{line[-tail:]}"

    return "\n".join(map(cut, text.split("\n")))


def wrapped(text: str, points: float, size: float) -> str:
    r"""Return a text in lines no wider than ``points``, broken after commas and colons.

    Examples
    --------
    >>> wrapped("9 leukocytes: 3 lymphocyte, 6 neutrophil", 150, 8)
    '9 leukocytes: 3 lymphocyte,\n6 neutrophil'
    """
    held = re.sub("(?<![,:]) ", "\xa0", text)
    return fill(held, max(int(points / (WIDE * size)), 12)).replace("\xa0", " ")
