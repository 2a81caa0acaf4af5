"""``hemaest compare``."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from hemaest._progress import watching
from hemaest._tables import format_table
from hemaest.cli._shared import (
    NOTHING_DONE,
    WRONG_USAGE,
    load_cells,
    resumable,
    say,
    split_unit,
    stop,
    typed,
)
from hemaest.cli._warm import compile_ahead

DEFAULT = ("color-logistic", "handcrafted-xgboost", "deep-small")


def run(
    folder: Path | None,
    recipes: str,
    groups: str,
    cells: int,
    folds: int | None,
    stain: str | None,
    learning_curve: bool,
    look: bool,
    report: Path,
    cache: Path | None,
    jobs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare the recipes on the folder's images or on synthetic cells."""
    names = chosen_recipes(recipes)
    compile_ahead()
    folds = folds or (3 if folder is None else 5)
    data = load_cells(folder, groups, cells, seed)
    say(
        f"Comparing {', '.join(names)} on {len(data.images)} images of "
        f"{len(set(data.target))} classes, {folds} folds, split by {split_unit(data, groups)}."
    )
    found = audited(data, groups, jobs, seed) if look else None
    options = {} if stain is None else {"stain": stain}
    with resumable(cache), warnings.catch_warnings():
        # the notes below the table tell which failed, and why
        warnings.filterwarnings("ignore", message="These recipes failed")
        comparison = _compare(
            names, data, groups, folds, options, learning_curve, cache, jobs, seed, found
        )
    table = comparison.table
    if as_json:
        typer.echo(table.to_json(orient="records", indent=2))
    else:
        typer.echo(format_table(ranking(table)))
        for row in table[table["note"].ne("")].itertuples():
            typer.echo(f"{row.recipe}: {row.note}")
        typer.echo()
        typer.echo(comparison.summary())
    comparison.to_html(report, audit=found, unreadable=data.get("failures"), command=typed())
    say(f"\nReport: {report.resolve()}")


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
    """Return the recipes that a user named, or the default ones; refuse an unknown name."""
    from hemaest.recipes import get_recipe, list_recipes

    if not text:
        return list(DEFAULT)
    if text.strip() == "all":
        return list_recipes()
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [get_recipe(name).name for name in names]
    except ValueError as error:
        stop(str(error), WRONG_USAGE)


def audited(data: Any, groups: str, jobs: int, seed: int) -> Any:
    """Return what speaks against the images; tell of what is grave before the work begins."""
    from hemaest.evaluation import audit

    known = groups != "image" and data.group_source != "none"
    say("Looking for copies and shortcuts first ...")
    try:
        found = audit(
            data.images,
            data.target,
            groups=data.groups if known else None,
            n_jobs=jobs,
            random_state=seed,
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


def _compare(
    names: list[str],
    data: Any,
    groups: str,
    folds: int,
    options: dict[str, Any],
    learning_curve: bool,
    cache: Path | None,
    jobs: int,
    seed: int,
    found: Any,
) -> Any:
    from hemaest.evaluation import compare
    from hemaest.recipes import get_recipe

    known = data.group_source != "none"
    # threads inside the recipes, not processes beside each other: each process would hold its own
    # copy of torch, more than a gigabyte
    threads = {} if all(get_recipe(n).control for n in names) else {"n_jobs": jobs}
    own: Any = data.groups if known else None
    source = data.group_source if known else None
    if groups == "image":
        own, source = "image", None
    elif found is not None:
        # copies that the audit found keep groups together that the names keep apart
        own, source = safe_groups(data, found), source or "near-duplicate cluster"
    try:
        return compare(
            names,
            data.images,
            data.target,
            groups=own,
            group_source=source,
            cv=folds,
            recipe_params={**threads, **options},
            covariates=data.get("covariates"),
            learning_curve=learning_curve,
            cache_dir=cache,
            random_state=seed,
            verbose=watching(),
        )
    except (ValueError, RuntimeError) as error:
        stop(str(error), NOTHING_DONE)
