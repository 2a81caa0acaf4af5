"""``hemaest agree`` and ``hemaest serve``: answers about smears, and the review page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
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
    if as_json:
        typer.echo(found.table.to_json(orient="records", indent=2))
    else:
        typer.echo("\n\n".join(format_table(part) for part in _by_question(found.table)))
        typer.echo("slope and intercept: Passing and Bablok; bias: test less reference, in points")
    found.to_html(report)
    say(f"\nReport: {report.resolve()}")


def _by_question(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables that fit a terminal of 80 characters: the lines, and the differences."""

    def between(low: str, high: str) -> list[str]:
        return [f"{a:.2f} to {b:.2f}" for a, b in zip(table[low], table[high], strict=True)]

    kind, smears = table["type"], table["smears"]
    lines = {
        "type": kind,
        "smears": smears,
        "mean %": table["mean"].round(2),
        "slope": table["slope"],
        "95% interval": between("slope_low", "slope_high"),
        "intercept": table["intercept"].round(2),
    }
    differences = {
        "type": kind,
        "bias": table["bias"].round(2),
        "95% interval": between("bias_low", "bias_high"),
        "95% of differences": between("limit_low", "limit_high"),
    }
    if table["within_chance"].notna().any():
        differences["within chance"] = table["within_chance"]
    return pd.DataFrame(lines), pd.DataFrame(differences)


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
