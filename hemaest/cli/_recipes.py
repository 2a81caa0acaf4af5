"""``hemaest recipes``."""

import json

import pandas as pd
import typer

from hemaest._tables import format_table


def run(as_json: bool) -> None:
    """Print the names and summaries of all recipes."""
    from hemaest.recipes import get_recipe, list_recipes

    rows = [{"recipe": r.name, "what it is": r.summary} for r in map(get_recipe, list_recipes())]
    typer.echo(json.dumps(rows, indent=2) if as_json else format_table(pd.DataFrame(rows)))
