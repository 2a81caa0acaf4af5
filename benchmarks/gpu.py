"""Run the benchmarks that a GPU is needed for, in order of worth, as far as the minutes go.

    HEMAEST_DATA=... python -m benchmarks.gpu --minutes 25 [--small] [--keep FOLDER] [--list]

Each step is a benchmark of its own, which writes its section of RESULTS.md. What is finished is
noted in the folder and not run again. A step that the time cuts off keeps its parts (encoders,
seeds, checkpoints) there, so the same command goes on from them another day. ``--small`` runs small
sizes of the same steps, on a CPU too, and writes sections of their own.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hemaest._files import write_whole

# of a step that was interrupted: to write what it has
GRACE = 20.0
LEAST_MINUTES = 0.5
# a step that keeps nothing of a part is not started with less than this share of its time
WORTH_BEGINNING = 0.9


@dataclass(frozen=True)
class Step:
    """One command of the plan.

    Parameters
    ----------
    name : str
        For the list and the notes.
    command, small : tuple of str
        Module and arguments; ``{keep}`` is the folder.
    minutes, small_minutes : float
        About what it takes on one GPU, and its small size on 2 cores.
    resumes : bool, default=True
        Whether a run that was cut off leaves parts that the next one goes on from.
    """

    name: str
    command: tuple[str, ...]
    small: tuple[str, ...]
    minutes: float
    small_minutes: float
    resumes: bool = True

    def arguments(self, small: bool, keep: Path) -> list[str]:
        """Return module and arguments for a size."""
        return [part.format(keep=keep) for part in (self.small if small else self.command)]


def _adaptation(name: str, part: str, minutes: float, small_minutes: float) -> Step:
    kept = ("--only", part, "--keep", "{keep}/adaptation")
    return Step(
        name,
        ("benchmarks.adaptation", *kept),
        ("benchmarks.adaptation", "--small", *kept),
        minutes,
        small_minutes,
    )


def _pretraining(name: str, part: str, minutes: float, small_minutes: float) -> Step:
    def command(*size: str) -> tuple[str, ...]:
        # sizes share no encoder
        folder = "{keep}/encoders" + "".join(size)
        return ("benchmarks.pretraining", *size, "--only", part, "--encoders", folder)

    return Step(name, command(), command("--small"), minutes, small_minutes)


# the most that is learned by a minute comes first
PLAN = (
    _adaptation("adapted network, ten labels", "few", 4, 5),
    _adaptation("adapted network, linear probe", "probe", 2, 3),
    Step(
        "balancing with refined cells",
        ("benchmarks.balancing", "--only", "pbc", "--keep", "{keep}/balancing"),
        ("benchmarks.balancing", "--small", "--only", "pbc", "--keep", "{keep}/balancing"),
        30,
        15,
    ),
    _adaptation("adapted network, ablation", "ablation", 5, 5),
    _adaptation("adapted network, other laboratories", "transfer", 3, 6),
    _pretraining("from nothing, ten labels", "few", 25, 12),
    _pretraining("from nothing, all labels", "all", 20, 10),
    _pretraining("from nothing, ablation", "ablation", 20, 10),
    Step(
        "deep recipes",
        ("benchmarks.deep", "--tasks", "type", "--keep", "{keep}/deep"),
        ("benchmarks.deep", "--small", "--tasks", "type", "--keep", "{keep}/deep"),
        30,
        15,
    ),
    Step(
        "loops against plain ones",
        ("benchmarks.pretraining", "--only", "cost"),
        ("benchmarks.pretraining", "--small", "--only", "cost"),
        3,
        3,
        resumes=False,
    ),
)


def finished(keep: Path, small: bool) -> dict[str, float]:
    """Return the minutes of each step that is done, by name."""
    file = notes(keep, small)
    return json.loads(file.read_text()) if file.exists() else {}


def notes(keep: Path, small: bool) -> Path:
    """Return the file that says what is done."""
    return keep / ("done-small.json" if small else "done.json")


def worth_beginning(step: Step, small: bool, left: float) -> bool:
    """Return whether so many minutes are of use to a step."""
    needed = step.small_minutes if small else step.minutes
    return left >= LEAST_MINUTES if step.resumes else left >= WORTH_BEGINNING * needed


def run(arguments: list[str], seconds: float) -> bool:
    """Run a module for at most so long; return whether it ended by itself, without an error."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], start_new_session=True)
    try:
        return process.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            # its workers too
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(timeout=GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def work(minutes: float, small: bool, keep: Path, plan: tuple[Step, ...] = PLAN) -> list[str]:
    """Run the steps that are not done, in order, until the time is over; return what was done."""
    end = time.monotonic() + 60 * minutes
    keep.mkdir(parents=True, exist_ok=True)
    done, now = finished(keep, small), []
    for step in plan:
        left = (end - time.monotonic()) / 60
        if step.name in done or not worth_beginning(step, small, left):
            continue
        print(f"{step.name}: {left:.0f} minutes are left", flush=True)
        start = time.monotonic()
        whole = run(step.arguments(small, keep), 60 * left)
        spent = (time.monotonic() - start) / 60
        print(f"{step.name}: {'done' if whole else 'cut off'} after {spent:.1f} minutes")
        if whole:
            done[step.name] = round(spent, 2)
            write_whole(notes(keep, small), json.dumps(done, indent=1).encode())
            now.append(step.name)
    return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--small", action="store_true", help="small sizes, on a CPU too")
    parser.add_argument("--keep", type=Path, default=Path("build/gpu"))
    parser.add_argument("--list", action="store_true", help="print the plan only")
    given = parser.parse_args()
    if given.list:
        done = finished(given.keep, given.small)
        for step in PLAN:
            about = step.small_minutes if given.small else step.minutes
            state = f"done in {done[step.name]}" if step.name in done else f"about {about:g}"
            command = " ".join(step.arguments(given.small, given.keep))
            print(f"{step.name}: {state} minutes\n    python -m {command}")
        return
    import torch

    if not (given.small or torch.cuda.is_available()):
        raise SystemExit("no GPU here: take --small, or --list for the plan.")
    work(given.minutes, given.small, given.keep)


if __name__ == "__main__":
    main()
