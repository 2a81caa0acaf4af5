"""``hemaest train``."""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from hemaest._progress import watching
from hemaest._tables import format_table
from hemaest.cli._shared import (
    NOTHING_DONE,
    WRONG_USAGE,
    Cells,
    load_cells,
    resumable,
    say,
    split_unit,
    stop,
)
from hemaest.cli._warm import compile_ahead

# enough to know the magnification of a set; each takes a third of a second
LOOKED_AT = 24


def run(
    folder: Path | None,
    recipe: str,
    model: Path,
    kind: str,
    options: dict[str, Any],
    groups: str,
    cells: int,
    folds: int,
    cache: Path | None,
    jobs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a recipe by cross-validation, fit it on everything, and save it with its claim."""
    from hemaest.evaluation import hash_images
    from hemaest.persistence import save

    make(recipe, kind, options, 1, seed)  # a wrong name or option ends here, before the work
    compile_ahead()
    data = load_cells(folder, groups, cells, seed)
    claim = None
    if folds:
        with resumable(cache):
            claim = measured(recipe, data, kind, options, groups, folds, cache, jobs, seed, as_json)
    say(f"Fitting {recipe} on all {len(data.images)} images ...")
    fitted = make(recipe, kind, options, jobs, seed, cache)
    try:
        with resumable(cache):
            fitted.fit(data.images, data.target, groups=data.groups)
    except (ValueError, RuntimeError) as error:
        stop(str(error), NOTHING_DONE)
    path = save(
        fitted,
        model,
        data_hash=hash_images(data.images),
        claim=claim,
        trained_on=about(data, kind, recipe, folder, jobs),
    )
    say(f"\nModel: {path.resolve()} ({path.stat().st_size / 1e6:.1f} MB)")
    say(f"Use it: hemaest predict {path} YOUR_IMAGES --csv predictions.csv")


def make(
    recipe: str, kind: str, options: dict[str, Any], jobs: int, seed: int, cache: Path | None = None
) -> Any:
    """Make the recipe; on whole fields it begins with the detector."""
    from hemaest.recipes import ImagePipeline, make_recipe
    from hemaest.segmentation import SmearDetector

    try:
        made = make_recipe(recipe, n_jobs=jobs, random_state=seed, **options)
    except ValueError as error:
        stop(str(error), WRONG_USAGE)
    last = made.steps[-1][1]
    if cache is not None and "checkpoint_dir" in last.get_params(deep=False):
        last.set_params(checkpoint_dir=str(cache / "net"))
    if kind == "cell":
        return made
    return ImagePipeline([("detect", SmearDetector(n_jobs=jobs)), *made.steps])


def measured(
    recipe: str,
    data: Cells,
    kind: str,
    options: dict[str, Any],
    groups: str,
    folds: int,
    cache: Path | None,
    jobs: int,
    seed: int,
    as_json: bool,
) -> Any:
    """Return the claim card of a cross-validation, and print the figures."""
    from hemaest.evaluation import compare

    say(f"Measuring {recipe} by {folds} folds, split by {split_unit(data, groups)} ...")
    known = data.group_source != "none"
    try:
        comparison = compare(
            # threads inside the recipe, not processes, each of which would hold its own torch
            {recipe: make(recipe, kind, options, jobs, seed)},
            data.images,
            data.target,
            groups="image" if groups == "image" else data.groups if known else None,
            group_source=data.group_source if known else None,
            cv=folds,
            cache_dir=cache,
            random_state=seed,
            verbose=watching(),
        )
    except (ValueError, RuntimeError) as error:
        stop(f"{error}\n(--folds 0 trains without measuring.)", NOTHING_DONE)
    table = comparison.table
    if as_json:
        typer.echo(table.to_json(orient="records", indent=2))
    else:
        shown = ["recipe", "balanced_accuracy", "low", "high", "accuracy", "macro_f1"]
        typer.echo(format_table(table[shown]))
        typer.echo()
        typer.echo(comparison.summary())
        for flag in comparison.claim().flags:
            typer.echo(f"{flag['severity'].capitalize()}: {flag['text']}")
        typer.echo()
    return comparison.claim()


def about(data: Cells, kind: str, recipe: str, folder: Path | None, jobs: int) -> dict[str, Any]:
    """Return what the training images are, as far as predicting must know it."""
    from hemaest.images import as_array
    from hemaest.segmentation import SmearDetector

    places = np.unique(np.linspace(0, len(data.images) - 1, LOOKED_AT).round().astype(int))
    sample = [as_array(data.images[i]) for i in places]
    radius = SmearDetector(n_jobs=jobs).fit(sample[:1]).count(sample)["red_cell_radius"].median()
    names, counts = np.unique(np.asarray(data.target).astype(str), return_counts=True)
    height, width = np.median([image.shape[:2] for image in sample], axis=0)
    return {
        "input": kind,
        "recipe": recipe,
        "source": "synthetic cells" if folder is None else folder.resolve().name,
        "images": len(data.images),
        "classes": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "split by": split_unit(data, ""),
        "height": int(height),
        "width": int(width),
        "red_cell_radius": None if radius != radius else round(float(radius), 2),
    }
