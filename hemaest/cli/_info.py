"""``hemaest info`` and ``hemaest recipes``: what there is, without running any of it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from hemaest import persistence, recipes
from hemaest._tables import format_table
from hemaest.cli._shared import WRONG_USAGE, printable, stop


def show_model(model: Path, as_json: bool) -> None:
    """Print what a saved model says of itself; nothing in it is run."""
    card = read_card(model)
    typer.echo(json.dumps(card, indent=2) if as_json else printable(in_words(card)))


def show_recipes(as_json: bool) -> None:
    """Print the names and summaries of all recipes."""
    rows = [
        {"recipe": n, "what it is": recipes.get_recipe(n).summary} for n in recipes.list_recipes()
    ]
    typer.echo(json.dumps(rows, indent=2) if as_json else format_table(pd.DataFrame(rows)))


def read_card(model: Path) -> dict[str, Any]:
    """Return the card of a model file, or end with the reason."""
    try:
        return persistence.info(model)
    except (ValueError, OSError) as error:
        stop(str(error), WRONG_USAGE)


def in_words(card: dict[str, Any]) -> str:
    """Return the card as lines for a person."""
    trained = card["trained_on"]
    claim = card["claim"] or {}
    facts = claim.get("facts", {})
    lines = [("Model", card["estimator"]), ("Classes", ", ".join(map(str, card["classes"] or [])))]
    for i, step in enumerate(card["steps"]):
        settings = ", ".join(f"{k}={v}" for k, v in step["parameters"].items())
        lines.append(("Steps" if i == 0 else "", f"{step['class']}({_short(settings)})"))
    lines += [
        (str(name).replace("_", " ").capitalize(), _short(_words(v))) for name, v in trained.items()
    ]
    if card["data_hash"]:
        lines.append(("Data hash", f"sha256 {card['data_hash']}"))
    lines.append(("Claim", _short(str(facts.get("Claim", "none")))))
    for flag in claim.get("flags", []):
        if isinstance(flag, dict):
            lines.append(("", _short(f"{flag.get('severity')}: {flag.get('text')}")))
    lines.append(("Versions", ", ".join(f"{n} {v}" for n, v in card["versions"].items())))
    if card["names_beyond_the_list"]:
        own = ", ".join(card["names_beyond_the_list"])
        lines.append(("Needs", f"{own} (given to load as trusted=[...])"))
    lines.append(("Checksum", f"sha256 {card['checksum']} (right)"))
    width = min(24, max(len(name) for name, _ in lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "unknown" if value is None else str(value)


def _short(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else text[: limit - 4] + " ..."
