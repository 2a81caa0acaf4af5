"""What the commands share: messages, ways to stop, the images of a folder."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import typer

from hemaest import datasets
from hemaest._tables import format_table

FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning)
DONE, NOTHING_DONE, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

Cells = Any  # the Bunch that every loader returns


def say(text: str = "") -> None:
    """Write a message beside the result: results go to standard output, messages to the other."""
    typer.echo(printable(text), err=True)


def printable(text: str) -> str:
    r"""Return a text that a terminal shows as it is: nothing in a file or name steers it.

    Examples
    --------
    >>> printable("cell\udcff\x1b[31m.png\nnext")
    'cell?[31m.png\nnext'
    """
    shown = text.encode(errors="replace").decode()
    return "".join(c for c in shown if c.isprintable() or c in "\n\t")


def stop(text: str, code: int) -> NoReturn:
    """End with a message and an exit code."""
    say(text)
    raise typer.Exit(code)


@contextmanager
def noted() -> Iterator[None]:
    """Print warnings as notes of one line each, once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            shown = [w for w in caught if not issubclass(w.category, FOR_DEVELOPERS)]
            for text in dict.fromkeys(str(warning.message) for warning in shown):
                say(f"Note: {text}")


@contextmanager
def resumable(cache: Path | None) -> Iterator[None]:
    """Say how to continue when a person stops long work."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"Finished folds are in {cache}: run the same command to continue from there."
        said = kept if cache else "--cache DIR would keep finished folds."
        stop(f"\nInterrupted. {said}", INTERRUPTED)


def load_folder(folder: Path, groups: str) -> Cells:
    """Return a folder's readable images; the broken ones are listed once, in a table."""
    from hemaest.groups import infer_groups

    try:
        with noted():
            found = datasets.load_image_folder(folder, groups=None, verify=True)
    except FileNotFoundError as error:
        stop(str(error), WRONG_USAGE)
    except (ValueError, OSError) as error:
        stop(str(error), NOTHING_DONE)
    if groups != "image":
        rule = "auto" if groups == "infer" else groups
        try:
            found.groups, source = infer_groups(found.filenames, rule, return_source=True)
        except ValueError as error:
            stop(f"--groups: {error}", WRONG_USAGE)
        # what the user's own rule takes from a name is what the user says it is
        found.group_source = source if groups == "infer" else f"group (--groups '{groups}')"
    if len(found.failures):
        say(f"{len(found.failures)} of the files cannot be read and are left out:")
        say(format_table(found.failures))
    if found.others:
        say(f"Note: {found.others}.")
    return found


def load_cells(folder: Path | None, groups: str, cells: int, seed: int) -> Cells:
    """Return a folder's images, or synthetic cells; refuse classes that cannot be measured."""
    if folder is None:
        say(f"Drawing {cells} synthetic cells of 20 patients ...")
        data = synthetic(cells, seed)
    else:
        data = load_folder(folder, groups)
    counts = pd.Series(data.target).value_counts()
    if len(counts) < 2:
        label = str(counts.index[0])
        stop(f"all images have the label {label!r}: a classifier needs two or more.", WRONG_USAGE)
    single = sorted(str(label) for label in counts.index[counts < 2])
    if single:
        stop(
            f"{', '.join(map(repr, single))} has one image only; a class needs at least 2, to "
            "train on one and to test on another. Add images, or move its folder away.",
            WRONG_USAGE,
        )
    return data


def synthetic(cells: int, seed: int) -> Cells:
    """Return synthetic cells of 20 patients in two laboratories."""
    data = datasets.make_cells(cells, n_patients=20, n_labs=2, random_state=seed)
    data.group_source = "patient"
    truth = data.truth
    data.covariates = pd.DataFrame(
        {"stain": truth["lab"].astype(str), "cell_size": truth["cell_area"]}
    )
    data.failures = pd.DataFrame(columns=["file", "reason"])
    data.others = ""
    return data


def split_unit(data: Cells, groups: str) -> str:
    """Return in words what a split keeps together."""
    if groups == "image":
        return "image"
    if data.group_source == "none":
        return "image (near-duplicates are kept together)"
    return str(data.group_source)


def command_line() -> str:
    """Return the command as it was typed, for reports."""
    import shlex
    import sys

    return printable(shlex.join(["hemaest", *sys.argv[1:]]))
