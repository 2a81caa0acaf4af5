"""``hemaest recipes``."""

import json

import pandas as pd
import typer

from hemaest._tables import format_table


def run(as_json: bool) -> None:
    """Print the names and summaries of all recipes."""
    from hemaest.recipes._registry import all_recipes

    rows = [{"recipe": r.name, "what it is": r.summary} for r in all_recipes().values()]
    typer.echo(json.dumps(rows, indent=2) if as_json else format_table(pd.DataFrame(rows)))
