"""``hemaest predict --parquet``, ``features``, ``embed``: many cells into partitioned Parquet."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from hemaest import datasets, features, pretrained, scale, segmentation
from hemaest._tables import format_table
from hemaest.cli._shared import NOTHING_DONE, WRONG_USAGE, say, stop

SHOWN = 20


def predict_parquet(
    paths: Sequence[Path], model: Path | None, out: Path, jobs: int, as_json: bool
) -> None:
    """Name the cells of a folder or manifest."""
    *first, source = paths
    if model is None and first:
        model = first.pop(0)
    if first:
        stop("--parquet takes one folder or manifest.", WRONG_USAGE)
    if model is None:
        estimator = pretrained.load_pretrained("blood-cells")
    else:
        estimator = model
    _run(estimator, source, out, "predict", jobs, as_json)


def write_features(source: Path, out: Path, jobs: int, as_json: bool) -> None:
    """Measure the cells of a folder or manifest."""
    from sklearn.pipeline import make_pipeline

    # neither step learns without masks; they only have to be fitted
    steps = make_pipeline(segmentation.CellSegmenter(), features.HandcraftedFeatures())
    fitted = steps.fit(datasets.make_cells(2, random_state=0).images)
    _run(fitted, source, out, "transform", jobs, as_json)


def write_embeddings(source: Path, out: Path, jobs: int, as_json: bool) -> None:
    """Embed the cells of a folder or manifest."""
    _run(pretrained.load_pretrained("blood-cells"), source, out, "transform", jobs, as_json)


def _run(estimator: Any, source: Path, out: Path, kind: Any, jobs: int, as_json: bool) -> None:
    try:
        result = scale.predict_stream(estimator, source, out, kind=kind, n_jobs=jobs)
    except (ImportError, FileNotFoundError, ValueError) as error:
        stop(str(error), WRONG_USAGE)
    failures = result.failures()
    if as_json:
        about = {"files": result.n_files, "failed": result.n_failed, "folder": str(out.resolve())}
        typer.echo(json.dumps(about, indent=2))
    if len(failures):
        say(f"{len(failures)} of the {result.n_files} files failed:")
        say(format_table(failures[["file", "error"]].head(SHOWN)))
        if len(failures) > SHOWN:
            say(f"... and {len(failures) - SHOWN} more (all are in {out / '_failures'})")
    say(f"Parquet: {out.resolve()}")
    if result.n_failed == result.n_files:
        raise typer.Exit(NOTHING_DONE)
