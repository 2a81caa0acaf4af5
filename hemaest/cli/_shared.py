"""What the commands share: messages, ways to stop, the images of a folder."""

from pathlib import Path
from typing import Any, NoReturn

import typer

from hemaest._tables import format_table

NOTHING_DONE, WRONG_USAGE = 1, 2


def say(text: str = "") -> None:
    """Write a message beside the result: results go to standard output, messages to the other."""
    typer.echo(text, err=True)


def stop(text: str, code: int) -> NoReturn:
    """End with a message and an exit code."""
    say(text)
    raise typer.Exit(code)


def load_folder(folder: Path, groups: str) -> Any:
    """Return a folder's readable images; the broken ones are listed once, in a table."""
    from hemaest.datasets import load_image_folder

    try:
        found = load_image_folder(folder, groups=None if groups == "image" else groups, verify=True)
    except FileNotFoundError as error:
        stop(str(error), WRONG_USAGE)
    except ValueError as error:
        stop(str(error), NOTHING_DONE)
    if len(found.failures):
        say(f"{len(found.failures)} of the files cannot be read and are left out:")
        say(format_table(found.failures))
    return found
