"""What is asked of an option before any work begins: where results go, and how files are grouped.

Each function is called by typer with what was given, and returns it or ends with wrong usage.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import NoReturn

import typer


def new_file(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return the path of a file to be written, where that can be done."""
    if value is not None and not ctx.resilient_parsing:
        if os.path.isdir(value):
            _refuse(param, f"{value} is a folder; name a file in it.")
        if os.path.exists(value) and not os.access(value, os.W_OK):
            _refuse(param, f"{value} cannot be written: it is there and may not be changed.")
        if os.path.isfile(value) or not os.path.exists(value):  # not /dev/stdout
            _try_to_write(param, value, value.absolute().parent)
    return value


def new_folder(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return the path of a folder to write into, where that can be done."""
    if value is not None and not ctx.resilient_parsing:
        _try_to_write(param, value, value.absolute())
    return value


def rule(param: typer.CallbackParam, value: str) -> str:
    """Return how files are grouped; refuse what is no regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        _refuse(param, f"{value!r} is neither 'infer', 'image' nor a regular expression ({error}).")
    return value


def _try_to_write(param: typer.CallbackParam, path: Path, folder: Path) -> None:
    """Make a folder and remove it again, in the folder or in the nearest one that is there.

    What os.access says is not enough: it knows nothing of a full or a strange file system.
    """
    nearest = next(place for place in (folder, *folder.parents) if os.path.exists(place))
    try:
        with tempfile.TemporaryDirectory(dir=nearest):
            pass
    except OSError as error:
        _refuse(param, f"{path} cannot be written: {nearest}: {error.strerror}.")


def _refuse(param: typer.CallbackParam, why: str) -> NoReturn:
    from hemaest.cli._shared import WRONG_USAGE, stop

    stop(f"{param.opts[0]}: {why}", WRONG_USAGE)
