"""What is checked of an option before any work begins: where results go, and how files are grouped.

Each function is called by typer with what was given, and returns it or ends with wrong usage.
"""

import os
import re
from pathlib import Path
from typing import NoReturn

import typer

from hemaest import recipes
from hemaest._files import check_writable
from hemaest.cli._shared import WRONG_USAGE, stop

# a model, a table or a report needs at most about that much; less is refused before the work
ROOM = 4 << 20


def new_file(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return the path of a file to be written, where that can be done."""
    if value is None or ctx.resilient_parsing:
        return value
    if os.path.exists(value) and not os.access(value, os.W_OK):
        _refuse(param, f"{value} cannot be written: it is there and may not be changed.")
    if os.path.exists(value) and not os.path.isfile(value) and not os.path.isdir(value):
        return value  # /dev/stdout
    _check(param, value)
    return value


def new_folder(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return the path of a folder to write into, where that can be done."""
    if value is not None and not ctx.resilient_parsing:
        if value.exists() and not value.is_dir():
            _refuse(param, f"{value} is a file; name a folder.")
        _check(param, value / "file")
    return value


def rule(param: typer.CallbackParam, value: str) -> str:
    """Return how files are grouped; refuse what is no regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        _refuse(param, f"{value!r} is neither 'infer', 'image' nor a regular expression ({error}).")
    return value


def complete_recipes(incomplete: str) -> list[str]:
    """Return what a shell offers for the last of some names with commas between.

    Examples
    --------
    >>> complete_recipes("color-logistic,color-k")
    ['color-logistic,color-knn']
    """
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in recipes.list_recipes() if name.startswith(last)]


def _check(param: typer.CallbackParam, path: Path) -> None:
    try:
        check_writable(path, n_bytes=ROOM)
    except OSError as error:
        _refuse(param, str(error))


def _refuse(param: typer.CallbackParam, why: str) -> NoReturn:
    stop(f"{param.opts[0]}: {why}", WRONG_USAGE)
