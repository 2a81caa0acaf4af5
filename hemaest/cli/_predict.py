"""``hemaest predict``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from hemaest import datasets, persistence, pretrained
from hemaest._files import write_whole
from hemaest._progress import track
from hemaest._tables import format_table
from hemaest.cli._info import read_card
from hemaest.cli._ledger import Ledger
from hemaest.cli._outputs import Drawings, written_path
from hemaest.cli._readers import evenly, opened, reader_of
from hemaest.cli._shared import (
    INTERRUPTED,
    NOTHING_DONE,
    WRONG_USAGE,
    noted,
    printable,
    say,
    stop,
)
from hemaest.clinical.reading import looks_like_field

SHOWN = 20
WHOLE = ("cell", "nucleus_area", "cell_area")
# images that are looked at before the work, where all have to show the same
LOOKED_AT = 6


@dataclass(frozen=True)
class PredictOptions:
    """What ``hemaest predict`` was given."""

    paths: tuple[Path, ...]
    model: Path | None = None
    kind: str = "auto"
    same_microscope: bool = False
    csv: Path | None = None
    annotate: Path | None = None
    count: bool = False
    counter: Path | None = None
    jobs: int = -1
    as_json: bool = False


def run(options: PredictOptions) -> None:
    """Classify the cell of every image, or find and classify all leukocytes of every field."""
    model, roots = model_and_paths(options)
    card: dict[str, Any] = {"checksum": "shipped", "trained_on": {}}
    if model is not None:
        card = read_card(model)
    files, left_out = listed(roots)
    classifier = loaded(model)
    kind = chosen_kind(options.kind, card["trained_on"], files, shipped=model is None)
    warn_of(card["trained_on"], kind)
    drawings = Drawings(options.annotate, files, roots)
    reader = reader_of(
        kind, classifier, card["trained_on"], files, drawings,
        same_microscope=options.same_microscope, jobs=options.jobs,
    )  # fmt: skip
    settings = {"input": kind, "same_microscope": options.same_microscope}
    ledger = Ledger(options.csv, {"model": card["checksum"], **settings, "format": 3})
    done = {file for file in files if ledger.has(file)}
    if options.annotate is not None:
        # a field without its drawing is not done
        done = {
            file
            for file in done
            if ledger.rows[str(file)][0]["input"] != "field" or drawings.path_of(file).exists()
        }
    new = [file for file in files if file not in done]
    if done:
        say(f"{len(done)} of {len(files)} files were done before; going on.")
    with noted():
        try:
            for file, rows in track(reader.read(new), "predicting", total=len(new)):
                ledger.add(file, rows)
        except KeyboardInterrupt:
            ledger.close()
            csv = options.csv
            hint = (
                "Run the same command to continue from here."
                if csv
                else "--csv FILE would keep them."
            )
            stop(
                f"\nInterrupted after {len(ledger.rows)} of {len(files)} files. {hint}", INTERRUPTED
            )
        table = pd.DataFrame(
            [row for file in files for row in ledger.rows[str(file)]]
            + [reader.failed(file, why) for file, why in left_out.items()]
        )
        for column in [c for c in WHOLE if c in table]:  # empty where a file failed
            table[column] = pd.to_numeric(table[column], errors="coerce").astype("Int64")
        finish(table, [*files, *left_out], options, drawings)
    ledger.remove()


def finish(
    table: pd.DataFrame,
    files: Sequence[Path],
    options: PredictOptions,
    drawings: Drawings,
) -> None:
    """Write the table first, then print and draw; list what failed."""
    csv = options.csv
    failed = table.loc[table["error"] != "", ["file", "error"]].reset_index(drop=True)
    n_failed = failed["file"].nunique()
    n_done = len(files) - len(set(table["file"]) - set(table.loc[table["error"] == "", "file"]))
    if csv is not None:
        write_whole(csv, table.to_csv(index=False).encode())
    if options.as_json:
        typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
    elif n_done:
        show(table, options)
    if n_done:
        drawings.draw_sheets(table[table["input"] == "cell"])
    if n_failed:
        say(f"\n{n_failed} of the {len(files)} files failed:")
        say(format_table(failed))
    if drawings.failures:
        say(f"\n{len(drawings.failures)} drawings failed; the predictions are complete:")
        say(format_table(pd.DataFrame(drawings.failures, columns=["file", "reason"])))
    if options.annotate is not None and n_done:
        say(f"\nDrawings: {options.annotate.resolve()}")
    if csv is not None:
        say(f"\nTable: {csv.resolve()}")
    if not n_done:
        raise typer.Exit(NOTHING_DONE)


def model_and_paths(options: PredictOptions) -> tuple[Path | None, list[Path]]:
    """Return the model, None for the shipped one, and the images: the model may come first."""
    first, *rest = options.paths
    is_model = first.suffix == ".hemaest" or (not first.exists() and rest)
    if options.model is None and first.is_file() and not is_model:
        with open(first, "rb") as file:
            is_model = file.read(4) == b"PK\3\4"
    if options.model is not None or not is_model:
        return options.model, list(options.paths)
    if not rest:
        stop(f"{first} is a model; give images, or folders of them, after it.", WRONG_USAGE)
    return first, rest


def listed(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Return the image files that are meant, each once, and what is left out of them and why."""
    found: dict[Path, None] = {}
    left_out: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            listing = datasets.list_files(path)
            found |= dict.fromkeys(listing.files)
            left_out |= listing.left_out
            if listing.others:
                say(f"Note: {path}: {listing.others_in_words()}.")
        elif path.is_file():
            found[path] = None
        else:
            stop(f"{path} is neither a file nor a folder.", WRONG_USAGE)
    if not found:
        for file, why in left_out.items():
            say(f"{written_path(file)}: {why}")
        stop(f"no image file in {', '.join(map(str, paths))}.", NOTHING_DONE)
    return list(found), left_out


def loaded(model: Path | None) -> Any:
    """Return the classifier; versions that differ are said in a line."""
    with noted():
        try:
            return (
                pretrained.load_pretrained("blood-cells")
                if model is None
                else persistence.load(model)
            )
        except (ValueError, OSError) as error:
            stop(str(error), WRONG_USAGE)


def chosen_kind(kind: str, trained: dict[str, Any], files: Sequence[Path], *, shipped: bool) -> str:
    """Return what the images show: as given, or as the model was trained; refuse what is neither.

    The shipped models take both ("auto"): each image is looked at by itself.
    """
    own = trained.get("input")
    if kind == "cell" and own == "field":
        stop(
            "this model was trained on whole fields, in which it finds the cells itself; "
            "use --input field (or auto).",
            WRONG_USAGE,
        )
    if kind != "auto":
        return kind
    if own == "field":
        return "field"
    if own != "cell" and not shipped:
        stop(
            "this model does not say whether it was trained on single cells or whole fields; "
            "give --input cell or --input field.",
            WRONG_USAGE,
        )
    if shipped:
        return "auto"
    fields, seen = fields_among(files)
    if 2 * fields > seen:
        stop(
            f"these images look like whole fields ({fields} of {seen} that were looked at), and "
            "this model was trained on single cells: use --input field to find the cells first, or "
            "--input cell if each image is one cell.",
            WRONG_USAGE,
        )
    return "cell"


def fields_among(files: Sequence[Path]) -> tuple[int, int]:
    """Return how many of a few images look like fields, and how many were looked at."""
    read = (opened(file)[0] for file in evenly(files, LOOKED_AT))
    images = [image for image in read if image is not None]
    return sum(map(looks_like_field, images)), len(images)


def warn_of(trained: dict[str, Any], kind: str) -> None:
    """Say what a reader of the result must hold against it."""
    if trained.get("source") == "synthetic cells":
        say(
            "Note: this model has only seen synthetic cells. It shows how things work; "
            "do not believe the types it names on real ones."
        )
    if kind == "field" and trained.get("input") == "cell" and not trained.get("red_cell_radius"):
        say(
            "Note: the magnification of the training images is unknown (no red cells were seen), "
            "so cells are cut out by their own size."
        )


def show(table: pd.DataFrame, options: PredictOptions) -> None:
    """Print the predictions, or how many cells of each type there are."""
    good = table[table["error"] == ""].drop(columns="error")
    if options.count:
        typer.echo(format_table(counted(good, options.counter)))
        if options.counter is None:
            typer.echo(
                "\nThe intervals hold the error of counting, not those of the classifier; "
                "--counter FILE adds them."
            )
        fields = good[good["input"] == "field"]
        if len(fields):
            number, empty = fields["file"].nunique(), int((fields["label"] == "").sum())
            typer.echo(f"\n{number} fields, {empty} of them without a leukocyte.")
        return
    columns = ["file", "cell", "label", "confidence", "nc_ratio", "note"]
    if good["input"].nunique() > 1:
        columns.insert(1, "input")
    shown = good[[c for c in columns if c in good and not (good[c].isna() | (good[c] == "")).all()]]
    typer.echo(printable(format_table(shown.head(SHOWN))))
    if len(shown) > SHOWN:
        where = f"all are in {options.csv}" if options.csv else "--csv FILE keeps all"
        typer.echo(f"... and {len(shown) - SHOWN} more ({where})")


def counted(table: pd.DataFrame, counter: Path | None = None) -> pd.DataFrame:
    """Return the differential count, with 95% intervals.

    With a saved :class:`~hemaest.clinical.DifferentialCounter` they hold the classifier's errors.

    Examples
    --------
    >>> counted(pd.DataFrame({"label": ["blast", "blast", ""]})).round(2).values.tolist()
    [['blast', 2, 100.0, 34.24, 100.0], ['all', 2, 100.0, nan, nan]]
    """
    labels = table.loc[table["label"] != "", "label"]
    if counter is not None and len(labels):
        found = loaded(counter).count(labels.to_numpy(dtype=str))
        return found.reset_index(names="type")
    from scipy.stats import binomtest

    total, nan = len(labels), float("nan")
    rows = []
    for label, number in labels.value_counts().items():
        ends = binomtest(int(number), total).proportion_ci(method="wilson")
        percents = [100 * share for share in (number / total, ends.low, ends.high)]
        rows.append((label, number, *percents))
    rows.append(("all", total, 100.0 if total else nan, nan, nan))
    return pd.DataFrame(rows, columns=["type", "n", "percent", "low", "high"])
