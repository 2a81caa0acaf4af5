"""``hemaest compare``."""

from pathlib import Path
from typing import Any

import typer
from sklearn.utils import Bunch

from hemaest._progress import watching
from hemaest._tables import format_table
from hemaest.cli._shared import NOTHING_DONE, WRONG_USAGE, load_folder, say, stop

DEFAULT = ("color-logistic", "handcrafted-forest", "deep-small")
COLUMNS = (
    "recipe",
    "balanced accuracy",
    "low",
    "high",
    "accuracy",
    "macro F1",
    "fit s",
    "predict ms",
    "note",
)


def run(
    folder: Path | None,
    recipes: str,
    groups: str,
    cells: int,
    folds: int,
    report: Path,
    cache: Path | None,
    jobs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare the recipes on the folder's images or on synthetic cells."""
    names = chosen_recipes(recipes)
    if folder is None:
        say(f"Drawing {cells} synthetic cells of 20 patients ...")
        data = synthetic(cells, seed)
    else:
        data = load_folder(folder, groups)
    classes = len(set(data.target))
    if classes < 2:
        stop(f"all images have the label {data.target[0]!r}: nothing to compare.", WRONG_USAGE)
    say(
        f"Comparing {', '.join(names)} on {len(data.images)} images of {classes} classes, "
        f"{folds} folds, split by {_unit(data, groups)}."
    )
    comparison = _compare(names, data, groups, folds, cache, jobs, seed)
    table = comparison.table
    if as_json:
        typer.echo(table.to_json(orient="records", indent=2))
    else:
        shown = [c for c in COLUMNS if c in table.columns]
        typer.echo(format_table(table[shown]))
        typer.echo()
        typer.echo(comparison.summary())
    comparison.to_html(report)
    say(f"\nReport: {report.resolve()}")


def chosen_recipes(text: str) -> list[str]:
    """Return the recipes that a user named, or the default ones; refuse an unknown name."""
    from hemaest.recipes import list_recipes
    from hemaest.recipes._registry import get_recipe

    if not text:
        return list(DEFAULT)
    if text.strip() == "all":
        return list_recipes()
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [get_recipe(name).name for name in names]
    except ValueError as error:
        stop(str(error), WRONG_USAGE)


def synthetic(cells: int, seed: int) -> Bunch:
    """Return synthetic cells of 20 patients in two laboratories."""
    from hemaest.datasets import make_cells

    data = make_cells(cells, n_patients=20, n_labs=2, random_state=seed)
    data.group_source = "patient"
    return data


def _unit(data: Any, groups: str) -> str:
    if groups == "image":
        return "image"
    return "near-duplicate cluster" if data.group_source == "none" else data.group_source


def _compare(
    names: list[str], data: Any, groups: str, folds: int, cache: Path | None, jobs: int, seed: int
) -> Any:
    from hemaest.evaluation import compare

    known = data.group_source != "none"
    try:
        return compare(
            names,
            data.images,
            data.target,
            groups="image" if groups == "image" else data.groups if known else None,
            group_source=data.group_source if known else None,
            cv=folds,
            n_jobs=jobs,
            cache_dir=cache,
            random_state=seed,
            verbose=watching(),
        )
    except (ValueError, RuntimeError) as error:
        stop(str(error), NOTHING_DONE)
