"""``hemaest train`` and ``hemaest adapt``."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import typer

from hemaest import evaluation, persistence, recipes, segmentation
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


@dataclass(frozen=True)
class TrainOptions:
    """What ``hemaest train`` was given."""

    folder: Path | None = None
    recipe: str = "auto"
    output: Path = Path("model.hemaest")
    kind: str = "cell"
    settings: dict[str, Any] = field(default_factory=dict)
    groups: str = "infer"
    cells: int = 200
    folds: int = 3
    cache: Path | None = None
    jobs: int = -1
    seed: int = 0
    as_json: bool = False


def run(options: TrainOptions) -> None:
    """Measure a recipe by cross-validation, fit it on everything, and save it with its claim."""
    if options.recipe != "auto":
        make(options, jobs=1)  # a wrong name or option ends here, before the work
    compile_ahead()
    data = load_cells(options.folder, options.groups, options.cells, options.seed)
    if options.recipe == "auto":
        options = replace(options, recipe=recipes.default_recipe(data.target))
        make(options, jobs=1)
    claim = None
    if options.folds:
        with resumable(options.cache):
            claim = measured(options, data)
    say(f"Fitting {options.recipe} on all {len(data.images)} images ...")
    fitted = make(options, jobs=options.jobs, keep=True)
    with resumable(options.cache):
        try:
            fitted.fit(data.images, data.target, groups=data.groups)
        except (ValueError, RuntimeError) as error:
            stop(str(error), NOTHING_DONE)
        about = description(data, options)
    saved(fitted, options.output, data, claim, about)


def saved(fitted: Any, path: Path, data: Cells, claim: Any, about: dict[str, Any]) -> None:
    """Save a model; where the disk is full, save it elsewhere rather than lose it."""
    import tempfile

    facts = {"data_hash": evaluation.hash_images(data.images), "claim": claim, "trained_on": about}
    try:
        persistence.save(fitted, path, **facts)
    except OSError as error:
        say(str(error))
        path = Path(tempfile.mkdtemp(prefix="hemaest-")) / path.name
        try:
            persistence.save(fitted, path, **facts)
        except OSError as second:
            stop(f"{second} The model is lost; make room and train again.", NOTHING_DONE)
    say(f"\nModel: {path.resolve()} ({path.stat().st_size / 1e6:.1f} MB)")
    say(f"Use it: hemaest predict {path} YOUR_IMAGES --csv predictions.csv")


def make(options: TrainOptions, *, jobs: int, keep: bool = False) -> Any:
    """Make the recipe; on whole fields it begins with the detector."""
    try:
        made = recipes.make_recipe(
            options.recipe, n_jobs=jobs, random_state=options.seed, **options.settings
        )
    except ValueError as error:
        stop(str(error), WRONG_USAGE)
    last = made.steps[-1][1]
    if keep and options.cache is not None and "checkpoint_dir" in last.get_params(deep=False):
        last.set_params(checkpoint_dir=str(options.cache / "net"))
    if options.kind == "cell":
        return made
    return recipes.ImagePipeline([("detect", segmentation.SmearDetector(n_jobs=jobs)), *made.steps])


def measured(options: TrainOptions, data: Cells) -> Any:
    """Return the claim card of a cross-validation, and print the scores."""
    unit = split_unit(data, options.groups)
    say(f"Measuring {options.recipe} by {options.folds} folds, split by {unit} ...")
    known = data.group_source != "none"
    try:
        comparison = evaluation.compare(
            # threads inside the recipe, not processes, each of which would hold its own torch
            {options.recipe: make(options, jobs=options.jobs)},
            data.images,
            data.target,
            groups="image" if options.groups == "image" else data.groups if known else None,
            group_source=data.group_source if known else None,
            cv=options.folds,
            cache_dir=options.cache,
            random_state=options.seed,
            verbose=watching(),
        )
    except (ValueError, RuntimeError) as error:
        stop(f"{error}\n(--folds 0 trains without measuring.)", NOTHING_DONE)
    table = comparison.table
    if options.as_json:
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


def description(data: Cells, options: TrainOptions) -> dict[str, Any]:
    """Return what the training images are, as far as predicting must know it."""
    from hemaest.images import as_array

    places = np.unique(np.linspace(0, len(data.images) - 1, LOOKED_AT).round().astype(int))
    sample = [as_array(data.images[i]) for i in places]
    radius = (
        segmentation.SmearDetector(n_jobs=options.jobs)
        .fit(sample[:1])
        .count(sample)["red_cell_radius"]
        .median()
    )
    names, counts = np.unique(np.asarray(data.target).astype(str), return_counts=True)
    height, width = np.median([image.shape[:2] for image in sample], axis=0)
    return {
        "input": options.kind,
        "recipe": options.recipe,
        "source": "synthetic cells" if options.folder is None else options.folder.resolve().name,
        "images": len(data.images),
        "classes": dict(zip(names.tolist(), counts.tolist(), strict=True)),
        "split by": split_unit(data, ""),
        "height": int(height),
        "width": int(width),
        "red_cell_radius": None if radius != radius else round(float(radius), 2),
    }


def adapt(options: TrainOptions, model: Path | None) -> None:
    """Train a classifier of a laboratory's own types on what a trained network sees."""
    from hemaest.cli._predict import loaded

    compile_ahead()
    data = load_cells(options.folder, options.groups, options.cells, options.seed)
    network = None if model is None else loaded(model)
    if network is not None and not hasattr(network, "transform"):
        stop(
            f"{model} gives no embeddings; give a model of a deep recipe, or none for the shipped "
            "network.",
            WRONG_USAGE,
        )
    say(f"Fitting a linear classifier on {len(data.images)} images ...")
    with resumable(None):
        try:
            if network is None:
                fitted = recipes.adapt(
                    data.images, data.target, groups=data.groups, n_jobs=options.jobs,
                    random_state=options.seed,
                )  # fmt: skip
            else:
                fitted = linear_on(network).fit(data.images, data.target)
        except (ValueError, RuntimeError) as error:
            stop(str(error), NOTHING_DONE)
        about = description(data, options)
    saved(fitted, options.output, data, None, about)


def linear_on(network: Any) -> Any:
    """Return an unfitted pipeline: the embeddings of a network, scaled, and a linear classifier."""
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    linear = LogisticRegression(class_weight="balanced", max_iter=5000)
    steps = [("embed", FrozenEstimator(network)), ("scale", StandardScaler()), ("classify", linear)]
    return recipes.ImagePipeline(steps)
