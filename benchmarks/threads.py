"""Does ``n_jobs=None`` choose well? Wall time of steps over images by the number of threads.

``python -m benchmarks.threads [--small] [--only STEP]``

The steps are measured in two processes, with and without ``OMP_NUM_THREADS=1``, alone and beside a
process that keeps one core busy. The four take turns, so that a slow minute of the machine meets
all of them, and each goes through its steps in a new order. Bar: the median time of ``n_jobs=None``
is at most 1.2 times that of the best setting, ``OMP_NUM_THREADS=1`` included. It is measured twice
in each round: what the two differ by is noise.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

import pandas as pd

from benchmarks._results import write_section
from hemaest._tables import format_table

SETTINGS = {"n_jobs=None": None, "n_jobs=1": 1, "n_jobs=2": 2, "None again": None}
RECIPES = ("handcrafted-xgboost", "deep-small")
BAR = 1.2
BUSY = [sys.executable, "-c", "while True: pass"]


def measure(n: int, only: str | None) -> None:
    """Time each step and setting once for each line that arrives; print milliseconds."""
    from hemaest.datasets import make_cells
    from hemaest.features import HandcraftedFeatures
    from hemaest.recipes import make_recipe
    from hemaest.segmentation import CellSegmenter, SmearDetector

    cells = make_cells(n, image_size=200, stain="mixed", n_labs=4, random_state=0)
    X, y = cells.images, cells.target
    Z = CellSegmenter(method="voters").fit(X).transform(X)
    work = {}
    for name, n_jobs in SETTINGS.items():
        segmenter = CellSegmenter(n_jobs=n_jobs).fit(X)
        detector = SmearDetector(n_jobs=n_jobs).fit(X)
        features = HandcraftedFeatures(n_jobs=n_jobs).fit(Z)
        work["CellSegmenter", name] = lambda s=segmenter: s.predict(X)
        work["SmearDetector", name] = lambda d=detector: d.predict(X[: n // 4])
        work["HandcraftedFeatures", name] = lambda f=features: f.transform(Z)
        for recipe in RECIPES:
            model = make_recipe(recipe, n_jobs=n_jobs, random_state=0)
            work[f"{recipe}, fit", name] = lambda m=model: m.fit(X, y)
    chosen = [key for key in work if only is None or key[0].startswith(only)]
    for _ in sys.stdin:
        spent = []
        for step, name in random.sample(chosen, len(chosen)):
            start = time.perf_counter()
            work[step, name]()
            spent.append((step, name, 1000 * (time.perf_counter() - start) / n))
        print(json.dumps(spent), flush=True)


class Worker:
    """A process that measures one round on request."""

    def __init__(self, n: int, only: str | None, environment: dict[str, str]):
        command = [sys.executable, "-m", "benchmarks.threads", "--measure", str(n)]
        self._process = subprocess.Popen(
            [*command, "--only", only] if only else command,
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def round(self) -> list[tuple[str, str, float]]:
        """Return step, setting and milliseconds of one round."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer images and rounds")
    parser.add_argument("--only", metavar="STEP", help="one step, by the beginning of its name")
    parser.add_argument("--measure", type=int, metavar="N", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.only)
        return
    n, rounds = (8, 5) if given.small else (16, 12)
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    workers = {"free": free, "1": free | {"OMP_NUM_THREADS": "1"}}
    workers = {name: Worker(n, given.only, own) for name, own in workers.items()}
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for turn in range(rounds + 1):  # the first warms up
        for beside in ("nothing", "a busy process"):
            busy = subprocess.Popen(BUSY) if beside != "nothing" else None
            try:
                measured = {threads: worker.round() for threads, worker in workers.items()}
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
            for threads, times in measured.items():
                for step, name, spent in times if turn else ():
                    row = found.setdefault((step, beside, threads), {})
                    row.setdefault(name, []).append(spent)
    for worker in workers.values():
        worker.close()
    rows = [
        {"step": step, "beside": beside, "OMP_NUM_THREADS": threads}
        | {name: statistics.median(times) for name, times in row.items()}
        for (step, beside, threads), row in found.items()
    ]
    table = pd.DataFrame(rows)
    # the best of all settings, the limit from outside included
    chosen = ["n_jobs=None", "n_jobs=1", "n_jobs=2"]
    least = table.groupby(["step", "beside"])[chosen].transform("min").min(axis=1)
    plain = table["OMP_NUM_THREADS"] == "free"
    for column in ("n_jobs=None", "None again"):
        table[f"{column} / best"] = (table[column] / least).where(plain)
    worst = table.loc[plain, "n_jobs=None / best"].max()
    again = (table["None again"] / table["n_jobs=None"])[plain]
    text = (
        f"{format_table(table.round(2))}\n\nMilliseconds an image, median of {rounds} rounds. Worst"
        f" of n_jobs=None against the best setting: {worst:.2f} (bar {BAR}). Measured again, "
        f"n_jobs=None took {again.min():.2f} to {again.max():.2f} times as long."
    )
    print(text)
    command = "python -m benchmarks.threads" + " --small" * given.small
    title = "Threads"
    if given.only:
        title, command = f"Threads: {given.only}", f"{command} --only {given.only}"
    write_section(title, text, command=command)


if __name__ == "__main__":
    main()
