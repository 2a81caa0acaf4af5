"""The commands and their options; what they do is in a module each."""

import errno
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import hemaest
from hemaest.cli import _audit, _clinical, _compare, _info, _stream, _train
from hemaest.cli._checks import complete_recipes, new_file, new_folder, rule
from hemaest.cli._shared import INTERRUPTED, NOTHING_DONE, WRONG_USAGE, say

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
# what typer raises for wrong usage; releases differ in whose click they hold
USAGE: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
COMPARED = ("color-logistic", "handcrafted-xgboost", "deep-small")


class Commands(TyperGroup):
    """The group of all commands: whatever ends one, it ends with a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("\nInterrupted.")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, USAGE):
            raise
        except MemoryError as error:
            say(f"There is not enough memory. {error}".strip())
            raise typer.Exit(NOTHING_DONE) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            if os.environ.get("HEMAEST_DEBUG"):
                raise
            said = str(error) if error.errno is None or error.strerror is None else error.strerror
            full = " Make room, or choose another place." if error.errno in NO_ROOM else ""
            name = f"{error.filename}: " if error.filename else ""
            say(f"{name}{said}{'' if said.endswith('.') else '.'}{full}")
            raise typer.Exit(NOTHING_DONE) from None
        except Exception as error:
            if os.environ.get("HEMAEST_DEBUG"):
                raise
            say(
                f"{type(error).__name__}: {error}\nThis is an error of hemaest. Please report it "
                "with what HEMAEST_DEBUG=1 and the same command print."
            )
            raise typer.Exit(NOTHING_DONE) from None


app = typer.Typer(
    name="hemaest",
    cls=Commands,
    help="scikit-learn for blood cells: compare recipes fairly, name and count cells, review them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    # boxes cut long names at 80 columns
    rich_markup_mode=None,
)


class Trained(StrEnum):
    """What a training image shows."""

    cell = "cell"
    field = "field"


class Shown(StrEnum):
    """What an image to predict shows."""

    auto = "auto"
    cell = "cell"
    field = "field"


class Normalizer(StrEnum):
    """What brings stains together."""

    reinhard = "reinhard"
    macenko = "macenko"
    vahadane = "vahadane"


class Balance(StrEnum):
    """How classes are balanced."""

    weights = "weights"
    oversample = "oversample"
    smote = "smote"
    borderline_smote = "borderline-smote"
    adasyn = "adasyn"
    smote_tomek = "smote-tomek"
    logit_adjusted = "logit-adjusted"
    focal = "focal"
    acdbgan = "acdbgan"
    rendered = "rendered"


Groups = Annotated[
    str,
    typer.Option(
        callback=rule,
        help="What stays together in a split: 'infer' from file names, 'image' (nothing does), or "
        r"a regular expression, searched in the path below the folder; its first group names the "
        r"patient: '(p\d+)_'.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        callback=new_folder, help="Keep finished folds here; a second run resumes from them."
    ),
]
Stain = Annotated[
    Normalizer | None, typer.Option(help="Normalize the stain first, where the recipe can.")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", help="Threads; -1: all cores.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Folder = Annotated[
    Path | None,
    typer.Argument(help="One subfolder of images for each class. Without it: synthetic cells."),
]
Source = Annotated[
    Path, typer.Argument(help="A folder, or a manifest (CSV, Parquet) with a column 'file'.")
]
Out = Annotated[Path, typer.Argument(help="The folder of the Parquet files; a run resumes in it.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def _version(given: bool) -> None:
    if given:
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
    folder: Folder = None,
    recipes: Annotated[
        str,
        typer.Option(
            "--recipes",
            "-r",
            help="Names of `hemaest recipes` with commas between, or 'all'. "
            f"Default: {', '.join(COMPARED)}.",
            show_default=False,
            autocompletion=complete_recipes,
        ),
    ] = ",".join(COMPARED),
    groups: Groups = "infer",
    cells: Annotated[int, typer.Option(min=24, help="How many synthetic cells.")] = 400,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds (5, or 3 on synthetic cells).")
    ] = None,
    stain: Stain = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Also fit on a quarter and a half.")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Look for copies and shortcuts as well.")
    ] = True,
    report: Annotated[
        Path, typer.Option(callback=new_file, help="Where the HTML report goes.")
    ] = Path("hemaest-report.html"),
    cache: Cache = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a dask scheduler, as tcp://HOST:8786: fits run there."),
    ] = None,
    jobs: Jobs = -1,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare recipes by cross-validation; write a report."""
    _compare.run(
        _compare.CompareOptions(
            folder=folder,
            recipes=recipes,
            groups=groups,
            cells=cells,
            folds=folds,
            stain=stain and stain.value,
            learning_curve=learning_curve,
            audit=audit,
            report=report,
            cache=cache,
            scheduler=scheduler,
            jobs=jobs,
            seed=seed,
            as_json=as_json,
        )
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
    jobs: Jobs = -1,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Look for copies, conflicting labels and shortcuts in images."""
    _audit.run(_audit.AuditOptions(folder, test, groups, report, jobs, seed, as_json))


@app.command()
def train(
    folder: Folder = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            help="A name of `hemaest recipes`. auto: synthetic-linear where a class has fewer than "
            "100 cells, else handcrafted-xgboost.",
            autocompletion=complete_recipes,
        ),
    ] = "auto",
    model: Annotated[
        Path, typer.Option("--output", "-o", callback=new_file, help="The model file to write.")
    ] = Path("model.hemaest"),
    kind: Annotated[
        Trained, typer.Option("--input", help="Images of one cell each, or whole fields.")
    ] = Trained.cell,
    stain: Stain = None,
    balance: Annotated[
        Balance | None, typer.Option(help="How classes are balanced, where the recipe can.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=8, help="Side of the images that a network sees.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of a network.")] = None,
    groups: Groups = "infer",
    cells: Annotated[int, typer.Option(min=24, help="How many synthetic cells.")] = 200,
    folds: Annotated[
        int, typer.Option(min=0, help="Folds that measure the recipe first; 0: do not measure.")
    ] = 3,
    cache: Cache = None,
    jobs: Jobs = -1,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a recipe; save it with its measured scores in one file."""
    if folds == 1:
        say("--folds 1 measures nothing: give 0, or at least 2.")
        raise typer.Exit(WRONG_USAGE)
    given = {
        "stain": stain and stain.value,
        "balance": balance and balance.value,
        "image_size": image_size,
        "max_epochs": epochs,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    _train.run(
        _train.TrainOptions(
            folder=folder,
            recipe=recipe,
            output=model,
            kind=kind.value,
            settings=settings,
            groups=groups,
            cells=cells,
            folds=folds,
            cache=cache,
            jobs=jobs,
            seed=seed,
            as_json=as_json,
        )
    )


@app.command()
def adapt(
    folder: Annotated[Path, typer.Argument(help="One subfolder of images for each class.")],
    model: Annotated[
        Path | None,
        typer.Option(help="A saved model of a deep recipe. Without it: the shipped network."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=new_file, help="The model file to write.")
    ] = Path("adapted.hemaest"),
    groups: Groups = "infer",
    jobs: Jobs = -1,
    seed: Seed = 0,
) -> None:
    """Train the shipped network on a few images of your types."""
    _train.adapt(
        _train.TrainOptions(
            folder=folder,
            recipe="adapted",
            output=output,
            groups=groups,
            folds=0,
            jobs=jobs,
            seed=seed,
        ),
        model,
    )


@app.command()
def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Image files, or folders of them. A saved model may stand first."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="A file that `hemaest train` wrote. Without one: the shipped models."),
    ] = None,
    kind: Annotated[
        Shown,
        typer.Option(
            "--input",
            help="What the images show; auto: as in training, or what each shows where the shipped "
            "models read it.",
        ),
    ] = Shown.auto,
    same_microscope: Annotated[
        bool,
        typer.Option(
            "--same-microscope",
            help="A folder is of one stain and one microscope: fit the shipped network to its "
            "cells, and measure the magnification of its fields of one size once. Without it, each "
            "file is read by itself.",
        ),
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            callback=new_file, help="Write all predictions here; a second run resumes from it."
        ),
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option(
            help="For many images of single cells: PATHS is one folder or manifest, and the "
            "predictions go to this folder as partitioned Parquet; a second run resumes."
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(
            callback=new_folder, help="Draw the images with what was found into this folder."
        ),
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Print the differential count.")] = False,
    counter: Annotated[
        Path | None,
        typer.Option(help="A saved DifferentialCounter, for --count with intervals that hold."),
    ] = None,
    jobs: Jobs = -1,
    as_json: Json = False,
) -> None:
    """Name single cells, or find, name and count them on fields."""
    if parquet is not None:
        _stream.predict_parquet(tuple(paths), model, parquet, jobs, as_json)
        return
    from hemaest.cli._predict import PredictOptions, run

    run(
        PredictOptions(
            paths=tuple(paths),
            model=model,
            kind=kind.value,
            same_microscope=same_microscope,
            csv=csv,
            annotate=annotate,
            count=count or counter is not None,
            counter=counter,
            jobs=jobs,
            as_json=as_json,
        )
    )


@app.command()
def features(source: Source, out: Out, jobs: Jobs = -1, as_json: Json = False) -> None:
    """Write shape, chromatin and color of many cells to Parquet."""
    _stream.write_features(source, out, jobs, as_json)


@app.command()
def embed(source: Source, out: Out, jobs: Jobs = -1, as_json: Json = False) -> None:
    """Write embeddings of many cells to Parquet."""
    _stream.write_embeddings(source, out, jobs, as_json)


@app.command(name="info")
def info_(
    model: Annotated[Path, typer.Argument(help="A file that `hemaest train` wrote.")],
    as_json: Json = False,
) -> None:
    """Show what a model file is and how it was measured."""
    _info.show_model(model, as_json)


@app.command(name="recipes")
def recipes_(as_json: Json = False) -> None:
    """List the recipes by name, with what each is."""
    _info.show_recipes(as_json)


@app.command()
def agree(
    reference: Annotated[Path, typer.Argument(help="CSV of counts: one row a smear.")],
    test: Annotated[Path, typer.Argument(help="CSV of the same smears by the other method.")],
    report: Annotated[
        Path, typer.Option(callback=new_file, help="Where the HTML report goes.")
    ] = Path("hemaest-agreement.html"),
    n_cells: Annotated[
        float | None, typer.Option(help="Cells of each reference count, for its limits.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two ways to count the same smears."""
    _clinical.agree(reference, test, report, n_cells, as_json)


@app.command()
def serve(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Fields to open in a first session.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A saved classifier. Without one: the shipped models.")
    ] = None,
    counter: Annotated[Path | None, typer.Option(help="A saved DifferentialCounter.")] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of the sessions.")] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Keep nothing.")] = False,
    host: Annotated[str, typer.Option(help="Where the page listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="At which port.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="HEMAEST_TOKEN", help="The password of the page.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read fields.")] = 1,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
) -> None:
    """Open the page to review, correct and sign smears."""
    _clinical.serve(
        _clinical.ServeOptions(
            paths=tuple(paths or ()),
            model=model,
            counter=counter,
            state=state,
            ephemeral=ephemeral,
            host=host,
            port=port,
            token=token,
            workers=workers,
            open_browser=browser,
        )
    )
