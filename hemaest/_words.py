"""Names in messages."""

from collections.abc import Sequence


def some(names: Sequence[object], limit: int = 5) -> str:
    """Return the first few names for a message.

    Examples
    --------
    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = ", ".join(map(str, names[:limit]))
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
