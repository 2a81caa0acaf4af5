"""``hemaest audit``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from hemaest import evaluation
from hemaest._progress import watching
from hemaest._tables import format_table
from hemaest.cli._shared import (
    NOTHING_DONE,
    command_line,
    load_folder,
    printable,
    say,
    stop,
)


@dataclass(frozen=True)
class AuditOptions:
    """What ``hemaest audit`` was given."""

    folder: Path
    test: Path | None = None
    groups: str = "infer"
    report: Path = Path("hemaest-audit.html")
    jobs: int = -1
    seed: int = 0
    as_json: bool = False


def run(options: AuditOptions) -> None:
    """Look for what would make a score on these images worthless; write a report."""
    data = load_folder(options.folder, options.groups)
    X, y, known, is_test = data.images, data.target, data.groups, None
    sources, failures = {data.group_source}, data.failures
    if options.test is not None:
        other = load_folder(options.test, options.groups)
        is_test = np.r_[np.zeros(len(X), bool), np.ones(len(other.images), bool)]
        X, y = np.concatenate([X, other.images]), np.concatenate([y, other.target])
        known = np.concatenate([known, other.groups])
        sources.add(other.group_source)
        failures = pd.concat([failures, other.failures], ignore_index=True)
    say(f"Looking at {len(X)} images ...")
    # one name is one patient in both folders; numbers of other kinds may begin anew in each
    one_world = options.test is None or sources == {"patient"}
    use = options.groups != "image" and one_world and "none" not in sources
    try:
        found = evaluation.audit(
            X,
            y,
            groups=known if use else None,
            test=is_test,
            n_jobs=options.jobs,
            random_state=options.seed,
            verbose=watching(),
        )
    except ValueError as error:
        stop(str(error), NOTHING_DONE)
    if options.as_json:
        findings = json.loads(found.table.to_json(orient="records"))
        shortcuts = json.loads(found.shortcuts.to_json(orient="records"))
        typer.echo(json.dumps({"findings": findings, "shortcuts": shortcuts}, indent=2))
    else:
        typer.echo(printable(in_words(found)))
    found.to_html(options.report, unreadable=failures, command=command_line())
    say(f"\nReport, with the images: {options.report.resolve()}")


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
