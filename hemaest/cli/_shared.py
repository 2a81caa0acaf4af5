"""What the commands share: messages, ways to stop, the images of a folder."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import typer

from hemaest._tables import format_table

NOTHING_DONE, WRONG_USAGE = 1, 2

Cells = Any  # the Bunch that every loader returns


def say(text: str = "") -> None:
    """Write a message beside the result: results go to standard output, messages to the other."""
    typer.echo(text, err=True)


def stop(text: str, code: int) -> NoReturn:
    """End with a message and an exit code."""
    say(text)
    raise typer.Exit(code)


@contextmanager
def resumable(cache: Path | None) -> Iterator[None]:
    """Say how to go on when a person stops long work."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"Finished folds are in {cache}: run the same command to go on from there."
        stop(f"\nInterrupted. {kept if cache else '--cache DIR would keep finished folds.'}", 1)


def load_folder(folder: Path, groups: str) -> Cells:
    """Return a folder's readable images; the broken ones are listed once, in a table."""
    from hemaest.datasets import load_image_folder
    from hemaest.datasets._folder import given_groups

    try:
        found = load_image_folder(folder, groups=None, verify=True)
    except FileNotFoundError as error:
        stop(str(error), WRONG_USAGE)
    except ValueError as error:
        stop(str(error), NOTHING_DONE)
    if groups != "image":
        try:
            found.groups, found.group_source = given_groups(groups, found.filenames)
        except ValueError as error:
            stop(f"--groups: {error}", WRONG_USAGE)
    if len(found.failures):
        say(f"{len(found.failures)} of the files cannot be read and are left out:")
        say(format_table(found.failures))
    return found


def load_cells(folder: Path | None, groups: str, cells: int, seed: int) -> Cells:
    """Return a folder's images, or synthetic cells; refuse a single class."""
    if folder is None:
        say(f"Drawing {cells} synthetic cells of 20 patients ...")
        data = synthetic(cells, seed)
    else:
        data = load_folder(folder, groups)
    if len(set(data.target)) < 2:
        label = str(data.target[0])
        stop(f"all images have the label {label!r}: there is nothing to tell apart.", WRONG_USAGE)
    return data


def synthetic(cells: int, seed: int) -> Cells:
    """Return synthetic cells of 20 patients in two laboratories."""
    from hemaest.datasets import make_cells

    data = make_cells(cells, n_patients=20, n_labs=2, random_state=seed)
    data.group_source = "patient"
    truth = data.truth
    data.covariates = pd.DataFrame(
        {"stain": truth["lab"].astype(str), "cell_size": truth["cell_area"]}
    )
    return data


def split_unit(data: Cells, groups: str) -> str:
    """Return in words what a split keeps together."""
    if groups == "image":
        return "image"
    words = {"none": "near-duplicate cluster", "file name": "group read from the file name"}
    return words.get(data.group_source, data.group_source)


def typed() -> str:
    """Return the command as it was typed, for the page of a report."""
    return shlex.join(["hemaest", *sys.argv[1:]])
