"""Does ``n_jobs=None`` choose well? Wall time of steps over images by the number of threads.

``python -m benchmarks.threads [--small]``

The steps are measured in processes of their own, with and without ``OMP_NUM_THREADS=1``, alone and
beside a process that keeps one core busy. Bar: ``n_jobs=None`` takes at most 1.2 times the best of
all settings, ``OMP_NUM_THREADS=1`` included.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import pandas as pd

from benchmarks._results import write_section
from hemaest._tables import format_table

SETTINGS = (None, 1, 2)
RECIPES = ("handcrafted-xgboost", "deep-small")
BAR = 1.2
BUSY = [sys.executable, "-c", "while True: pass"]


def measure(n: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the best milliseconds an image of each step and setting, taken in turn."""
    from hemaest.datasets import make_cells
    from hemaest.features import HandcraftedFeatures
    from hemaest.recipes import make_recipe
    from hemaest.segmentation import CellSegmenter, SmearDetector

    cells = make_cells(n, image_size=200, stain="mixed", n_labs=4, random_state=0)
    X, y = cells.images, cells.target
    Z = CellSegmenter(method="voters").fit(X).transform(X)
    work = {}
    for n_jobs in SETTINGS:
        segmenter = CellSegmenter(n_jobs=n_jobs).fit(X)
        detector = SmearDetector(n_jobs=n_jobs).fit(X)
        features = HandcraftedFeatures(n_jobs=n_jobs).fit(Z)
        name = str(n_jobs)
        work["CellSegmenter", name] = lambda s=segmenter: s.predict(X)
        work["SmearDetector", name] = lambda d=detector: d.predict(X[: n // 4])
        work["HandcraftedFeatures", name] = lambda f=features: f.transform(Z)
        for recipe in RECIPES:
            model = make_recipe(recipe, n_jobs=n_jobs, random_state=0)
            work[f"{recipe}, fit", name] = lambda m=model: m.fit(X, y)
    best: dict[str, dict[str, float]] = {}
    for turn in range(rounds + 1):  # the first warms up
        for (step, name), function in work.items():
            start = time.perf_counter()
            function()
            spent = 1000 * (time.perf_counter() - start) / n
            if turn:
                row = best.setdefault(step, {})
                row[name] = min(row.get(name, spent), spent)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer images and rounds")
    parser.add_argument("--measure", nargs=2, type=int, metavar=("N", "ROUNDS"))
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(*given.measure)))
        return
    size = ["8", "3"] if given.small else ["32", "7"]
    command = [sys.executable, "-m", "benchmarks.threads", "--measure", *size]
    plain = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    rows = []
    for threads, env in (("free", plain), ("1", plain | {"OMP_NUM_THREADS": "1"})):
        for beside in (False, True):
            busy = subprocess.Popen(BUSY) if beside else None
            try:
                out = subprocess.run(command, env=env, check=True, capture_output=True).stdout
            finally:
                if busy is not None:
                    busy.kill()
                    busy.wait()
            for step, best in json.loads(out.splitlines()[-1]).items():
                where = "a busy process" if beside else "nothing"
                rows.append(
                    {"step": step, "beside": where, "OMP_NUM_THREADS": threads}
                    | {f"n_jobs={k}": v for k, v in best.items()}
                )
    table = pd.DataFrame(rows)
    settings = [f"n_jobs={k}" for k in SETTINGS]
    # the best of all settings, the limit from outside included
    best = table.groupby(["step", "beside"])[settings].transform("min").min(axis=1)
    free = table["OMP_NUM_THREADS"] == "free"
    table["None / best"] = (table["n_jobs=None"] / best).where(free)
    worst = table.loc[free, "None / best"].max()
    found = (
        f"{format_table(table.round(2))}\n\nMilliseconds an image. Worst of n_jobs=None against "
        f"the best setting: {worst:.2f} (bar {BAR})."
    )
    print(found)
    small = " --small" * given.small
    write_section("Threads", found, command=f"python -m benchmarks.threads{small}")


if __name__ == "__main__":
    main()
