"""``hemaest agree`` and ``hemaest serve``: answers about smears, and the review page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from hemaest import clinical, web
from hemaest._tables import format_table
from hemaest.cli._shared import NOTHING_DONE, WRONG_USAGE, say, stop


def agree(reference: Path, test: Path, report: Path, n_cells: float | None, as_json: bool) -> None:
    """Compare two tables of counts of the same smears, and write a report."""
    try:
        found: Any = clinical.agreement.compare_methods(
            clinical.agreement.read_counts(reference),
            clinical.agreement.read_counts(test),
            n_cells=n_cells,
        )
    except (ValueError, OSError) as error:
        stop(str(error), WRONG_USAGE)
    table = found.table
    typer.echo(
        table.reset_index().to_json(orient="records", indent=2)
        if as_json
        else format_table(table.reset_index())
    )
    found.to_html(report)
    say(f"\nReport: {report.resolve()}")


@dataclass(frozen=True)
class ServeOptions:
    """What ``hemaest serve`` was given."""

    paths: tuple[Path, ...] = ()
    model: Path | None = None
    counter: Path | None = None
    state: Path | None = None
    ephemeral: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    workers: int = 1
    open_browser: bool = True


def serve(options: ServeOptions) -> None:
    """Serve the review page until a person stops it."""
    from dataclasses import asdict

    given = asdict(options)
    open_browser = given.pop("open_browser")
    try:
        web.serve(web.Settings(**given), open_browser=open_browser)
    except (ImportError, ValueError) as error:
        stop(str(error), WRONG_USAGE)
    except OSError as error:
        stop(f"The page cannot be served: {error.strerror or error}.", NOTHING_DONE)
