"""The commands and their options; what they do is in a module each."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import hemaest
from hemaest.cli._checks import new_file, new_folder, rule
from hemaest.cli._complete import complete_recipes

app = typer.Typer(
    name="hemaest",
    help="scikit-learn for blood cells: compare recipes fairly, on your folder or synthetic cells.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class Trained(StrEnum):
    """What a training picture is."""

    cell = "cell"
    field = "field"


class Shown(StrEnum):
    """What a picture to predict is."""

    auto = "auto"
    cell = "cell"
    field = "field"


class Normalizer(StrEnum):
    """What brings stains together."""

    reinhard = "reinhard"
    macenko = "macenko"
    vahadane = "vahadane"


Groups = Annotated[
    str,
    typer.Option(callback=rule, help="'infer' from file names, 'image', or a regular expression."),
]


Cache = Annotated[
    Path | None,
    typer.Option(
        callback=new_folder, help="Keep finished folds here; a second run goes on from them."
    ),
]


Stain = Annotated[
    Normalizer | None, typer.Option(help="Normalize the stain first, where the recipe can.")
]


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
        str,
        typer.Option(
            "--recipes",
            "-r",
            help="Names with commas between, or 'all'.",
            autocompletion=complete_recipes,
        ),
    ] = "",
    groups: Groups = "infer",
    cells: Annotated[int, typer.Option(min=24, help="How many synthetic cells.")] = 400,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds (5, or 3 on synthetic cells).")
    ] = None,
    stain: Stain = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Also fit on a quarter and a half.")
    ] = False,
    look: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Look for copies and shortcuts as well.")
    ] = True,
    report: Annotated[
        Path, typer.Option(callback=new_file, help="Where the HTML report goes.")
    ] = Path("hemaest-report.html"),
    cache: Cache = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Threads; -1: all cores.")] = -1,
    seed: Annotated[int, typer.Option(help="Seed of cells, folds and models.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compare recipes under group-aware cross-validation; write a report."""
    from hemaest.cli._compare import run

    run(
        folder,
        recipes,
        groups,
        cells,
        folds,
        stain and stain.value,
        learning_curve,
        look,
        report,
        cache,
        jobs,
        seed,
        as_json,
    )


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="One subfolder of images for each class.")],
    test: Annotated[
        Path | None, typer.Option(help="A folder of test images laid out the same way.")
    ] = None,
    groups: Groups = "infer",
    report: Annotated[
        Path, typer.Option(callback=new_file, help="Where the HTML report goes.")
    ] = Path("hemaest-audit.html"),
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Threads; -1: all cores.")] = -1,
    seed: Annotated[int, typer.Option(help="Seed of samples and folds.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for copies, conflicting labels and shortcuts before a model is trained."""
    from hemaest.cli._audit import run

    run(folder, test, groups, report, jobs, seed, as_json)


@app.command()
def train(
    folder: Annotated[
        Path | None,
        typer.Argument(help="One subfolder of images for each class. Without it: synthetic cells."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            help="A name of `hemaest recipes`.",
            autocompletion=complete_recipes,
        ),
    ] = "handcrafted-xgboost",
    model: Annotated[
        Path, typer.Option("--output", "-o", callback=new_file, help="The model file to write.")
    ] = Path("model.hemaest"),
    kind: Annotated[
        Trained, typer.Option("--input", help="Pictures of one cell each, or whole fields.")
    ] = Trained.cell,
    stain: Stain = None,
    balance: Annotated[
        str | None, typer.Option(help="How classes are balanced, where the recipe can.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side that a deep net sees.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a deep net.")] = None,
    groups: Groups = "infer",
    cells: Annotated[int, typer.Option(min=24, help="How many synthetic cells.")] = 200,
    folds: Annotated[
        int, typer.Option(min=0, help="Folds that measure the recipe first; 0: do not measure.")
    ] = 3,
    cache: Cache = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Threads; -1: all cores.")] = -1,
    seed: Annotated[int, typer.Option(help="Seed of cells, folds and model.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Train a recipe, measure it honestly, and save it with its claim in one file."""
    from hemaest.cli._train import run

    asked = {
        "stain": stain and stain.value,
        "balance": balance,
        "image_size": image_size,
        "max_epochs": epochs,
    }
    options = {name: value for name, value in asked.items() if value is not None}
    run(
        folder, recipe, model, kind.value, options, groups, cells, folds, cache, jobs, seed, as_json
    )


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A file that `hemaest train` wrote.")],
    paths: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    kind: Annotated[
        Shown, typer.Option("--input", help="What the pictures show; auto: as in training.")
    ] = Shown.auto,
    csv: Annotated[
        Path | None,
        typer.Option(
            callback=new_file, help="Write all predictions here; a second run goes on from it."
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            callback=new_folder, help="Draw the pictures with what was found into this folder."
        ),
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Print the differential count.")] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Threads; -1: all cores.")] = -1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the predictions as JSON.")] = False,
) -> None:
    """Name cells; on whole fields find, outline, name and count every leukocyte."""
    from hemaest.cli._predict import run

    run(model, paths, kind.value, csv, annotate, count, jobs, as_json)


@app.command(name="info")
def info_(
    model: Annotated[Path, typer.Argument(help="A file that `hemaest train` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a model file is, how good, and how that was measured; runs nothing in it."""
    from hemaest.cli._info import run

    run(model, as_json)


@app.command(name="recipes")
def recipes_(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the recipes by name, with what each is."""
    from hemaest.cli._recipes import run

    run(as_json)
