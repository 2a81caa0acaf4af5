"""The commands and their options; what they do is in a module each."""

from pathlib import Path
from typing import Annotated

import typer

import hemaest

app = typer.Typer(
    name="hemaest",
    help="scikit-learn for blood cells: compare recipes fairly, on your folder or synthetic cells.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hemaest {hemaest.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what stands before the command."""


@app.command()
def compare(
    folder: Annotated[
        Path | None,
        typer.Argument(help="One subfolder of images for each class. Without it: synthetic cells."),
    ] = None,
    recipes: Annotated[
        str, typer.Option("--recipes", "-r", help="Names with commas between, or 'all'.")
    ] = "",
    groups: Annotated[
        str,
        typer.Option(help="'infer' from file names, 'image', or a regular expression."),
    ] = "infer",
    cells: Annotated[int, typer.Option(min=24, help="How many synthetic cells.")] = 400,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    report: Annotated[Path, typer.Option(help="Where the HTML report goes.")] = Path(
        "hemaest-report.html"
    ),
    cache: Annotated[
        Path | None, typer.Option(help="Keep finished folds here; a second run goes on from them.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes; -1: all cores.")] = -1,
    seed: Annotated[int, typer.Option(help="Seed of cells, folds and models.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compare recipes under group-aware cross-validation; write a report."""
    from hemaest.cli._compare import run

    run(folder, recipes, groups, cells, folds, report, cache, jobs, seed, as_json)


@app.command(name="recipes")
def recipes_(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the recipes by name, with what each is."""
    from hemaest.cli._recipes import run

    run(as_json)
