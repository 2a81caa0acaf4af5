"""``hemaest predict``."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from hemaest._progress import track
from hemaest._tables import format_table
from hemaest.cli._info import read_card
from hemaest.cli._ledger import Ledger
from hemaest.cli._readers import CellReader, FieldReader
from hemaest.cli._shared import NOTHING_DONE, WRONG_USAGE, say, stop

SHOWN = 20
WHOLE = ("cell", "nucleus_area", "cell_area")


def run(
    model: Path,
    paths: list[Path],
    kind: str,
    csv: Path | None,
    annotate: Path | None,
    count: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Name the cell of every picture, or find and name all leukocytes of every field."""
    card = read_card(model)
    kind = chosen_kind(kind, card)
    files = listed(paths)
    estimator = loaded(model)
    reader: Any = (FieldReader if kind == "field" else CellReader)(
        estimator, card["trained_on"], annotate, jobs
    )
    warn_of(card, kind)
    reader.prepare(files)
    ledger = Ledger(csv, {"model": card["checksum"], "input": kind, "annotate": str(annotate)})
    new = [file for file in files if not ledger.has(file)]
    if len(new) < len(files):
        say(f"{len(files) - len(new)} of {len(files)} files were done before; going on.")
    try:
        for file, rows in track(reader.read(new), "predicting", total=len(new)):
            ledger.add(file, rows)
    except KeyboardInterrupt:
        ledger.close()
        hint = "Run the same command to go on from here." if csv else "--csv FILE would keep them."
        stop(f"\nInterrupted after {len(ledger.rows)} of {len(files)} files. {hint}", NOTHING_DONE)
    table = pd.DataFrame([row for file in files for row in ledger.rows[str(file)]])
    table = table.astype({c: "Int64" for c in WHOLE if c in table})
    broken = failures(table)
    done = len(files) - len(broken)
    if done:
        reader.finish(table)
    if csv is not None:
        written(table, csv)
    if as_json:
        typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
    elif done:
        show(table, count, csv)
    if len(broken):
        say(f"\n{len(broken)} of the {len(files)} files failed:")
        say(format_table(broken))
    if annotate is not None and done:
        say(f"\nPictures: {annotate.resolve()}")
    if csv is not None:
        ledger.remove()
        say(f"\nTable: {csv.resolve()}")
    if not done:
        raise typer.Exit(NOTHING_DONE)


def chosen_kind(kind: str, card: dict[str, Any]) -> str:
    """Return what the pictures show: as asked, or as the model was trained."""
    trained = card["trained_on"].get("input")
    if kind == "auto":
        if trained not in {"cell", "field"}:
            stop(
                "this model does not say whether it was trained on single cells or whole fields; "
                "give --input cell or --input field.",
                WRONG_USAGE,
            )
        return str(trained)
    if kind == "cell" and trained == "field":
        stop(
            "this model was trained on whole fields, in which it finds the cells itself; "
            "use --input field (or auto).",
            WRONG_USAGE,
        )
    return kind


def listed(paths: list[Path]) -> list[Path]:
    """Return the image files that are meant, each once."""
    from hemaest.datasets._tree import image_files

    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(image_files(path))
        elif path.is_file():
            found[path] = None
        else:
            stop(f"{path} is neither a file nor a folder.", WRONG_USAGE)
    if not found:
        stop(f"no image file in {', '.join(map(str, paths))}.", NOTHING_DONE)
    return list(found)


def loaded(model: Path) -> Any:
    """Return the estimator; versions that differ are told in a line."""
    import warnings

    from hemaest.persistence import load

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator = load(model)
        except ValueError as error:
            stop(str(error), WRONG_USAGE)
    for warning in caught:
        say(f"Note: {warning.message}")
    return estimator


def warn_of(card: dict[str, Any], kind: str) -> None:
    """Say what a reader of the result must hold against it."""
    trained = card["trained_on"]
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


def failures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the files that failed, with the reason."""
    return table.loc[table["error"] != "", ["file", "error"]].reset_index(drop=True)


def written(table: pd.DataFrame, csv: Path) -> None:
    """Write the table of all files, also of those that failed."""
    csv.parent.mkdir(parents=True, exist_ok=True)
    part = csv.with_name(csv.name + ".new")
    table.to_csv(part, index=False)
    part.replace(csv)


def show(table: pd.DataFrame, count: bool, csv: Path | None) -> None:
    """Print the predictions, or how many cells of each type there are."""
    good = table[table["error"] == ""].drop(columns="error")
    if count:
        typer.echo(format_table(counted(good)))
        if "cell" in good:
            empty = int((good["label"] == "").sum())
            typer.echo(f"\n{good['file'].nunique()} fields, {empty} of them without a leukocyte.")
        return
    columns = ["file", "cell", "label", "confidence", "nc_ratio", "note"]
    shown = good[[c for c in columns if c in good and not (good[c] == "").all()]]
    typer.echo(format_table(shown.head(SHOWN)))
    if len(shown) > SHOWN:
        where = f"all are in {csv}" if csv else "--csv FILE keeps all"
        typer.echo(f"... and {len(shown) - SHOWN} more ({where})")


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the differential count, with 95% intervals (Wilson).

    Examples
    --------
    >>> counted(pd.DataFrame({"label": ["blast", "blast", ""]})).round(2).values.tolist()
    [['blast', 2, 1.0, 0.34, 1.0], ['all', 2, 1.0, nan, nan]]
    """
    labels = table.loc[table["label"] != "", "label"]
    total = len(labels)
    rows = []
    for label, number in labels.value_counts().items():
        low, high = wilson(int(number), total)
        rows.append(
            {"class": label, "cells": number, "share": number / total, "low": low, "high": high}
        )
    nan = float("nan")
    rows.append({"class": "all", "cells": total, "share": 1.0 if total else nan})
    return pd.DataFrame(rows, columns=["class", "cells", "share", "low", "high"])


def wilson(number: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95% interval of a share.

    Examples
    --------
    >>> [round(end, 3) for end in wilson(5, 10)]
    [0.237, 0.763]
    """
    share = number / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / (4 * total**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
