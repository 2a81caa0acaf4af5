"""The one progress helper: a bar when a person is watching, nothing when not."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def watching() -> bool:
    """Return whether a person sees standard error (a terminal)."""
    return sys.stderr.isatty()


def track(
    items: Iterable[T], description: str, total: int | None = None, *, show: bool | None = None
) -> Iterator[T]:
    """Yield the items and show how far the work is.

    Parameters
    ----------
    items : iterable
        What is worked through.
    description : str
        A few words at the left of the bar.
    total : int, optional
        How many there are, where ``len`` does not know.
    show : bool, optional
        By default only when standard error is a terminal.
    """
    if not (watching() if show is None else show):
        yield from items
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(items, total=total, description=description)
