"""``hemaest info``."""

import json
from pathlib import Path
from typing import Any

import typer

from hemaest.cli._shared import WRONG_USAGE, stop


def run(model: Path, as_json: bool) -> None:
    """Print what a saved model says of itself; nothing in it is run."""
    card = read_card(model)
    typer.echo(json.dumps(card, indent=2) if as_json else in_words(card))


def read_card(model: Path) -> dict[str, Any]:
    """Return the card of a model file, or end with the reason."""
    from hemaest.persistence import info

    try:
        return info(model)
    except (ValueError, OSError) as error:
        stop(str(error), WRONG_USAGE)


def in_words(card: dict[str, Any]) -> str:
    """Return the card as lines for a person."""
    trained = card["trained_on"]
    claim = card["claim"] or {}
    lines = [("Model", card["estimator"]), ("Classes", ", ".join(map(str, card["classes"] or [])))]
    for i, step in enumerate(card["steps"]):
        settings = ", ".join(f"{k}={v}" for k, v in step["parameters"].items())
        lines.append(("Steps" if i == 0 else "", f"{step['class']}({_short(settings)})"))
    lines += [
        (name.replace("_", " ").capitalize(), _short(_words(v))) for name, v in trained.items()
    ]
    if card["data_hash"]:
        lines.append(("Data hash", f"sha256 {card['data_hash']}"))
    lines += [("Claim", claim["facts"]["Claim"])] if "facts" in claim else [("Claim", "none")]
    lines += [("", f"{flag['severity']}: {flag['text']}") for flag in claim.get("flags", [])]
    lines.append(("Versions", ", ".join(f"{n} {v}" for n, v in card["versions"].items())))
    beyond = card["names_beyond_the_list"]
    if beyond:
        lines.append(("Needs", f"{', '.join(beyond)} (given to load as trusted=[...])"))
    lines.append(("Checksum", f"sha256 {card['checksum']} (right)"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return "unknown" if value is None else str(value)


def _short(text: str, limit: int = 400) -> str:
    return text if len(text) <= limit else text[: limit - 4] + " ..."
