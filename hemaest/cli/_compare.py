"""``hemaest compare``."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from hemaest import evaluation, recipes, scale
from hemaest._parallel import process_count
from hemaest._progress import watching
from hemaest._tables import format_table
from hemaest.cli._shared import (
    NOTHING_DONE,
    WRONG_USAGE,
    command_line,
    load_cells,
    resumable,
    say,
    split_unit,
    stop,
)
from hemaest.cli._warm import compile_ahead


@dataclass(frozen=True)
class CompareOptions:
    """What ``hemaest compare`` was given."""

    folder: Path | None = None
    recipes: str = ""
    groups: str = "infer"
    cells: int = 400
    folds: int | None = None
    stain: str | None = None
    learning_curve: bool = False
    audit: bool = True
    report: Path = Path("hemaest-report.html")
    cache: Path | None = None
    scheduler: str | None = None
    jobs: int = -1
    seed: int = 0
    as_json: bool = False


def run(options: CompareOptions) -> None:
    """Compare the recipes on the folder's images or on synthetic cells."""
    names = chosen_recipes(options.recipes)
    compile_ahead()
    data = load_cells(options.folder, options.groups, options.cells, options.seed)
    n_folds = folds_of(options)
    say(
        f"Comparing {', '.join(names)} on {len(data.images)} images of "
        f"{len(set(data.target))} classes, {n_folds} folds, split by "
        f"{split_unit(data, options.groups)}."
    )
    with resumable(options.cache), warnings.catch_warnings():
        # the notes below the table say which failed, and why
        warnings.filterwarnings("ignore", message="These recipes failed")
        found = audited(data, options) if options.audit else None
        comparison = _compare(names, data, options, found)
        table = comparison.table
        if options.as_json:
            typer.echo(table.to_json(orient="records", indent=2))
        else:
            typer.echo(format_table(ranking(table)))
            for row in table[table["note"].ne("")].itertuples():
                typer.echo(f"{row.recipe}: {row.note}")
            if options.folder is None and (known := _saw_rendered_cells(names)):
                typer.echo(f"{', '.join(known)}: pretrained on rendered cells, as these cells are")
            typer.echo(f"\n{comparison.verdict()}\n\n{comparison.summary()}")
        comparison.to_html(
            options.report, audit=found, unreadable=data.failures, command=command_line()
        )
    say(f"\nReport: {options.report.resolve()}")


def folds_of(options: CompareOptions) -> int:
    """Return the number of folds: as given, or by where the images come from."""
    return options.folds or (3 if options.folder is None else 5)


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that fit a terminal of 80 characters; the report has the others."""
    ends = zip(table["low"], table["high"], strict=True)
    between = [f"{a:.3f} to {b:.3f}" if a == a else "-" for a, b in ends]
    return pd.DataFrame(
        {
            "recipe": table["recipe"],
            "balanced acc.": table["balanced_accuracy"],
            "95% interval": between,
            "fit s": table["fit_s"],
            "predict ms": table["predict_ms"],
        }
    )


def chosen_recipes(text: str) -> list[str]:
    """Return the recipes that a user named; refuse an unknown name."""
    if text.strip() == "all":
        return recipes.list_recipes()
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [recipes.get_recipe(name).name for name in names]
    except ValueError as error:
        stop(str(error), WRONG_USAGE)


def audited(data: Any, options: CompareOptions) -> Any:
    """Return what speaks against the images; print what is grave before the work begins."""
    known = options.groups != "image" and data.group_source != "none"
    say("Looking for copies and shortcuts first ...")
    try:
        found = evaluation.audit(
            data.images,
            data.target,
            groups=data.groups if known else None,
            n_jobs=options.jobs,
            random_state=options.seed,
            verbose=watching(),
        )
    except ValueError as error:
        stop(str(error), NOTHING_DONE)
    for row in found.table[found.table["severity"] == "fault"].itertuples(index=False):
        say(f"Fault in the images: {row.finding} ({row.items}). {row.advice}")
    return found


def safe_groups(data: Any, found: Any) -> Any:
    """Return the audit's groups, each under the name of its first image's group."""
    _, first, codes = np.unique(found.groups_, return_index=True, return_inverse=True)
    return np.asarray(data.groups).astype(str)[first][codes]


def _compare(names: list[str], data: Any, options: CompareOptions, found: Any) -> Any:
    known = data.group_source != "none"
    given: dict[str, Any] = {} if options.stain is None else {"stain": options.stain}
    if not all(recipes.get_recipe(name).control for name in names):
        given["n_jobs"] = options.jobs
    own: Any = data.groups if known else None
    source = data.group_source if known else None
    if options.groups == "image":
        own, source = "image", None
    elif found is not None:
        # copies that the audit found keep groups together that the names keep apart
        own, source = safe_groups(data, found), source or "near-duplicate cluster"
    where: Any = nullcontext()
    if options.scheduler is not None:
        where = scale.on_cluster(options.scheduler)
    try:
        with where:
            return evaluation.compare(
                names,
                data.images,
                data.target,
                groups=own,
                group_source=source,
                cv=folds_of(options),
                recipe_params=given,
                covariates=data.get("covariates"),
                learning_curve=options.learning_curve,
                cache_dir=options.cache,
                n_jobs=-1 if options.scheduler is not None else _processes(options.jobs),
                random_state=options.seed,
                verbose=watching(),
            )
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        stop(str(error), NOTHING_DONE)


def _processes(jobs: int) -> int:
    """Return how many folds are fitted at once; one on a GPU, whose memory they would share."""
    from hemaest.nets.devices import resolve_device  # loads torch

    return 1 if resolve_device("auto").type == "cuda" else process_count(jobs)


def _saw_rendered_cells(names: list[str]) -> list[str]:
    """Return the recipes that begin with the shipped networks, which learned from such cells."""
    return [
        name
        for name in names
        if getattr(recipes.make_recipe(name)[-1], "pretrained", None) == "synthetic"
        or name.startswith("synthetic-")
    ]
