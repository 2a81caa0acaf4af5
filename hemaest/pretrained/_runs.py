"""What the trainings of the shipped networks share: settings, first weights, checkpoints, cards."""

import argparse
import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from hemaest._files import write_whole
from hemaest.nets.cards import file_hash
from hemaest.nets.devices import multiplies_bfloat16

__all__ = [
    "command_of", "commit", "first_weights", "keep", "load", "on_this_processor", "origin",
    "parsed", "resume",
]  # fmt: skip


def parsed(
    usual: Any, about: str, command: Sequence[str] | None = None
) -> tuple[Any, Path, list[Path]]:
    """Return the settings, the folder and the first weights that a command line gives."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--learning-rate", type=float, default=usual.learning_rate)
    parser.add_argument(
        "--start", type=Path, nargs="+", default=[], help="weights to begin with: their mean"
    )
    given = parser.parse_args(command)
    numbers = {name: getattr(given, name) for name in ("steps", "seed", "learning_rate")}
    return replace(usual, **numbers), given.out, given.start


def first_weights(files: Sequence[Path], out: Path) -> Path | None:
    """Return the file of weights to begin with; the mean of several often does better than each.

    What a network of an earlier version does not have counts as zeros.
    """
    from safetensors.torch import load_file, save_file

    if len(files) < 2:
        return files[0] if files else None
    runs = [load_file(file) for file in files]
    known = {name: value for run in runs for name, value in run.items()}
    mean = {
        name: sum(run[name].double() for run in runs if name in run) / len(runs) for name in known
    }
    out.mkdir(parents=True, exist_ok=True)
    path = out / "start.safetensors"
    save_file({name: value.to(known[name].dtype) for name, value in mean.items()}, path)
    return path


def on_this_processor(settings: Any) -> Any:
    """Return the settings with the number type that this processor is fast in."""
    if settings.precision != "auto":
        return settings
    return replace(settings, precision="bfloat16" if multiplies_bfloat16() else "float32")


def load(net: torch.nn.Module, path: Path) -> None:
    """Begin with the weights of an earlier run; what a network can do besides, with zeros."""
    from safetensors.torch import load_file

    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    weights = load_file(path)
    for name in [k for k in weights if ".head." in k and k in own]:
        more = len(own[name]) - len(weights[name])
        if more > 0:
            zeros = torch.zeros(more, *weights[name].shape[1:], dtype=weights[name].dtype)
            weights[name] = torch.cat([weights[name], zeros])
    for name in [k for k in own if k.startswith("scale.") and k not in weights]:
        weights[name] = torch.zeros_like(own[name])
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        raise ValueError(f"{path} holds weights of another network.")
    net.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)


def keep(out: Path, settings: Any, step: int, net: Any, average: Any, optimizer: Any) -> None:
    """Write a checkpoint, whole or not at all."""
    state = {
        "settings": lasting(settings),
        "step": step,
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    write_whole(out / "checkpoint.pt", lambda file: torch.save(state, file))


def lasting(settings: Any) -> str:
    """Return the settings that a run must keep; it may be made longer before the descent."""
    return json.dumps({k: v for k, v in asdict(settings).items() if k != "steps"})


def resume(out: Path, settings: Any, net: Any, average: Any, optimizer: Any) -> int:
    """Load the checkpoint of a stopped run of the same settings; return the next step."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    if state["settings"] != lasting(settings):
        raise ValueError(f"{path} is of a run with other settings; give another --out.")
    net.load_state_dict(state["net"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def origin(start_from: Path | None) -> str:
    """Return which weights a run began with, as its card says it."""
    return f"; began with the weights {file_hash(start_from)[:8]}" if start_from else ""


def command_of(name: str, settings: Any, start_from: Path | None) -> str:
    """Return the command line of a run, as its card says it."""
    words = [f"python -m hemaest.pretrained.train_{name} --out runs/blood-{name}"]
    words += [f"--steps {settings.steps} --seed {settings.seed}"]
    words += [f"--learning-rate {settings.learning_rate}"]
    words += [f"--start {start_from.name}"] if start_from else []
    return " ".join(words)


def commit() -> str:
    """Return the commit of the code that runs."""
    here = Path(__file__).parent
    asked = ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
