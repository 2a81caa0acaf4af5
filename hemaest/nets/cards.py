"""The weights that ship with the package, and what is written about each.

A model is two files in ``hemaest/nets/shipped``: ``NAME.safetensors`` and ``NAME.json``, its card,
written by the training script. :mod:`hemaest.pretrained`, the segmenters and the deep estimators
read them through :func:`read_card` and :func:`shipped_weights`; nothing is loaded whose hash is
not the one on the card.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hemaest.base import did_you_mean

__all__ = ["ModelCard", "card_names", "file_hash", "read_card", "shipped_weights", "write_card"]

FOLDER = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class ModelCard:
    """What a shipped model is: where it comes from, what it can do, and how well.

    Parameters
    ----------
    name : str
        As :func:`hemaest.pretrained.load_pretrained` takes it.
    task : str
        One sentence: what goes in, what comes out.
    training_data : str
        What the network saw.
    command : str
        Writes the same weights again.
    commit : str
        The commit of the repository at which the command was run.
    sha256 : str
        Of the file of weights.
    classes : tuple of str
        The classes that it predicts.
    scores : dict of str to dict
        For each set of test images, the scores by name.
    settings : dict
        All numbers of the training run, as the script had them.
    calibration : dict
        Numbers that were found after training, on rendered images that it did not see.
    license : str
        Of the weights.

    Examples
    --------
    >>> from hemaest.pretrained import ModelCard
    >>> card = ModelCard("mine", "names cells", "rendered cells", "python train.py", "1a2b", "00ff")
    >>> card.license
    'BSD-3-Clause'
    """

    name: str
    task: str
    training_data: str
    command: str
    commit: str
    sha256: str
    classes: tuple[str, ...] = ()
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, float] = field(default_factory=dict)
    license: str = "BSD-3-Clause"

    @property
    def path(self) -> Path:
        """The file of weights."""
        return FOLDER / f"{self.name}.safetensors"

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.task}", f"Trained on: {self.training_data}"]
        if self.classes:
            lines.append(f"Classes: {', '.join(self.classes)}")
        for source, scores in self.scores.items():
            lines.append(f"{source}: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        lines += [f"Reproduce: {self.command} (commit {self.commit})", f"License: {self.license}"]
        return "\n".join(lines)


def card_names() -> list[str]:
    """Return the names of the shipped models.

    Examples
    --------
    >>> isinstance(card_names(), list)
    True
    """
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_card(name: str) -> ModelCard:
    """Return the card of a shipped model; an unknown name is answered with the nearest.

    Examples
    --------
    >>> read_card("blood-cell")
    Traceback (most recent call last):
    ...
    ValueError: no shipped model is called 'blood-cell'...
    """
    known = card_names()
    if name not in known:
        raise ValueError(
            f"no shipped model is called {name!r}.{did_you_mean(name, known)} "
            f"There are {', '.join(known)}."
        )
    row = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return ModelCard(**{**row, "classes": tuple(row["classes"])})


def write_card(card: ModelCard, folder: Path) -> Path:
    """Write a card beside its weights."""
    path = folder / f"{card.name}.json"
    path.write_text(json.dumps(asdict(card), indent=1) + "\n", encoding="utf-8")
    return path


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def shipped_weights(name: str) -> Path:
    """Return the file of weights of a shipped model, after its hash was compared with the card."""
    card = read_card(name)
    found = file_hash(card.path)
    if found != card.sha256:
        raise ValueError(
            f"{card.path} is not the file that its card describes: its SHA-256 is {found}, the "
            f"card has {card.sha256}. Install hemaest again."
        )
    return card.path
