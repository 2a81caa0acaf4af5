"""``hemaest audit``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from hemaest._progress import watching
from hemaest._tables import format_table
from hemaest.cli._shared import NOTHING_DONE, load_folder, say, stop, typed


def run(
    folder: Path, test: Path | None, groups: str, report: Path, jobs: int, seed: int, as_json: bool
) -> None:
    """Look for what would make a score on these images worthless; write a report."""
    from hemaest.evaluation import audit

    data = load_folder(folder, groups)
    X, y, known, is_test = data.images, data.target, data.groups, None
    sources = {data.group_source}
    if test is not None:
        other = load_folder(test, groups)
        is_test = np.r_[np.zeros(len(X), bool), np.ones(len(other.images), bool)]
        X, y = np.concatenate([X, other.images]), np.concatenate([y, other.target])
        known = np.concatenate([known, other.groups])
        sources.add(other.group_source)
    say(f"Looking at {len(X)} images ...")
    # one name is one patient in both folders; numbers of other kinds may begin anew in each
    use = groups != "image" and (test is None or sources == {"patient"}) and "none" not in sources
    try:
        found = audit(
            X,
            y,
            groups=known if use else None,
            test=is_test,
            n_jobs=jobs,
            random_state=seed,
            verbose=watching(),
        )
    except ValueError as error:
        stop(str(error), NOTHING_DONE)
    if as_json:
        parts = {"findings": found.table, "shortcuts": found.shortcuts}
        rows = {name: json.loads(part.to_json(orient="records")) for name, part in parts.items()}
        typer.echo(json.dumps(rows, indent=2))
    else:
        typer.echo(in_words(found))
    failures = [data.failures] if test is None else [data.failures, other.failures]
    found.to_html(report, unreadable=pd.concat(failures, ignore_index=True), command=typed())
    say(f"\nReport, with the images: {report.resolve()}")


def in_words(found: Any) -> str:
    """Return the findings as a table, and their advice below it, which is too long for a cell."""
    lines = [found.summary(), ""]
    if len(found.table):
        lines.append(format_table(found.table.drop(columns="advice")))
        lines.append("")
        lines += [
            f"{row.severity.capitalize()}, {row.finding}: {row.advice}"
            for row in found.table.itertuples(index=False)
        ]
    if len(found.shortcuts):
        lines += ["", "What a model reaches that sees nothing of the cell's form:", ""]
        lines.append(format_table(found.shortcuts))
    return "\n".join(lines)
