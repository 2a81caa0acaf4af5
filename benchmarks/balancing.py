"""What helps when classes are of unequal size, and whether the GAN earns its time.

    HEMAEST_DATA=... python -m benchmarks.balancing [--small | --hour | --rendered |
        --scratch | --refined] [--only pbc wbc ...] [--seeds N] [--keep FOLDER]

An imbalanced problem is made from ``pbc``: three of its 8 types keep 15 training images. The test
fold is untouched. Everything that learns (nets, GANs, encoders, quotas, filters) sees the training
fold only. Nets and GANs see the cells cut out to one scale. The same table on dataset1 of
``segmentation_wbc``, where eosinophils are rare by nature. The settings were chosen on synthetic
cells (``make_cells``), not on these images. ``--keep`` leaves what each seed found in a folder, and
a run that was cut off goes on from there.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.utils import Bunch

from benchmarks._imbalanced import Problem, Size
from benchmarks._results import data_folder, interval, remembered, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_pbc, load_segmentation_wbc

# corrections that make no new cell
CHEAP = ("class weights", "oversampling", "smote")
MAKING = ("rendered", "refined", "ACDB-GAN")
RARE = ["basophil", "monocyte", "platelet"]
KEPT = 15

FULL = Size(
    pixels=64,
    per_class=None,
    per_test_class=None,
    n_seeds=5,
    epochs=30,
    gan={"max_steps": 6000, "width": 32, "batch_size": 64},
    refiner={"max_steps": 3000, "width": 32, "batch_size": 64},
    on_features=(None, "weights", "oversample", "smote", "borderline-smote", "adasyn"),
    raw_cells=500,
)
SMALL = Size(
    pixels=32,
    per_class=60,
    per_test_class=30,
    n_seeds=1,
    epochs=15,
    gan={"max_steps": 1000, "width": 16, "batch_size": 16, "lr": 4e-3},
    refiner={"max_steps": 400, "width": 16, "batch_size": 16},
    on_features=(None, "weights", "oversample", "smote"),
    raw_cells=150,
    name=" (small)",
)
HOUR = replace(
    SMALL,
    n_seeds=5,
    gan={"max_steps": 6000, "width": 16, "batch_size": 16, "lr": 2e-3},
    refiner={"max_steps": 2000, "width": 16, "batch_size": 16},
    name=" (an hour of CPU a seed)",
)
# cells as they are rendered, without a GAN; then with the GAN that refines them
RENDERED = replace(
    SMALL,
    pixels=64,
    epochs=8,
    n_seeds=5,
    gan=None,
    refiner=None,
    on_features=(),
    corrections=("nothing", "class weights", "oversampling"),
    name=" (rendered cells)",
)
SCRATCH = replace(
    RENDERED, epochs=20, from_rendered=False, name=" (rendered cells, from random weights)"
)
REFINED = replace(
    RENDERED,
    on_features=(None, "weights", "smote"),
    refiner={"max_steps": 500, "width": 8, "batch_size": 16},
    raw_cells=150,
    name=" (refined cells)",
)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each balance, means over seeds, and the gain over doing nothing."""
    names = ["minority recall", "macro F1", "calibration error"]
    lines = []
    for (model, balance), part in rows.groupby(["model", "balance"], sort=False):
        base = rows[(rows["model"] == model) & (rows["balance"] == "nothing")]
        gain = 100 * (part["minority recall"].to_numpy() - base["minority recall"].to_numpy())
        line = {"model": model, "balance": balance}
        line |= {name: interval(part[name]) for name in names}
        line["recall gained, points"] = interval(gain)
        lines.append(line | {"seconds": part["seconds"].mean()})
    return pd.DataFrame(lines)


def realism_table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = ["fid", "kid", "kid_low", "kid_high", "precision", "coverage"]
    shown += ["ssim_real", "ssim_synthetic", "distance_real", "distance_synthetic"]
    shown += ["memorized", "memorized_by_chance"]
    return rows.groupby(["cells", "class"], sort=False)[shown].mean().reset_index()


@dataclass(frozen=True)
class Found:
    """What one seed of a set found."""

    rows: pd.DataFrame
    realism: pd.DataFrame | None
    counts: dict[str, int]
    n_test: int
    minutes: float


@dataclass(frozen=True)
class Task:
    """An imbalanced set: its name in the table, where it comes from, which classes are rare."""

    name: str
    load: Callable[[], Bunch]
    rare: list[str]
    kept: int | None = None
    whole: bool = False

    def solve(self, size: Size, seed: int) -> Found:
        """Fit and measure everything on one split."""
        start = time.perf_counter()
        problem = Problem(self.load(), self.rare, size, seed, self.kept)
        problem.nets()
        problem.rendered()
        gans = problem.gans()
        if size.on_features:
            problem.features()
        realism = None if self.kept is None or not gans else problem.realism(gans)
        labels, counts = np.unique(problem.y, return_counts=True)
        return Found(
            pd.DataFrame(problem.rows),
            realism,
            dict(zip(labels.tolist(), counts.tolist(), strict=True)),
            len(problem.test_y),
            (time.perf_counter() - start) / 60,
        )


def solved(part: str, size: Size, seed: int, folder: Path | None) -> Found:
    """Return what a seed found, from the folder where it is there."""
    task = TASKS[part]
    if task.whole:
        size = replace(size, per_class=None, per_test_class=None)
    if folder is None:
        return task.solve(size, seed)
    file = folder / f"{part}{size.name}-{seed}.joblib"
    # as a dict, which does not ask where the class is when the benchmark is the main module
    return Found(**remembered(file, lambda: vars(task.solve(size, seed))))


def described(task: Task, size: Size, found: list[Found]) -> str:
    """Return the text of one set."""
    counts, realism = found[0].counts, [f.realism for f in found if f.realism is not None]
    rows = pd.concat([f.rows for f in found])
    text = [
        f"### {task.name}\n",
        f"{sum(counts.values())} training images ("
        f"{', '.join(f'{k} {v}' for k, v in counts.items())})"
        f", {found[0].n_test} test images, {len(found)} seed(s), {size.pixels} pixels, "
        f"{size.epochs} epochs, GAN {size.gan}, refiner {size.refiner}. Nets and "
        "GANs see cells cut out to one scale.\n",
        format_table(summary(rows)),
    ]
    if not realism:
        text += ["", *bars(rows)]
    else:
        judged = pd.concat(realism)
        text += [
            "\nRaw and filtered cells of the GANs, rendered ones, and raw ones of one DCGAN for "
            "each class, trained as long, against held-out real cells. One encoder for all: the "
            "net of deep-small, fitted on the training fold.\n",
            format_table(realism_table(judged)),
            "",
            *bars(rows),
            *likeness(judged),
        ]
    minutes = np.mean([f.minutes for f in found])
    text.append(f"\n{minutes:.1f} minutes a seed, {torch.get_num_threads()} thread(s).")
    return "\n".join(text)


def bars(rows: pd.DataFrame) -> list[str]:
    """Compare what makes new cells with the best correction that makes none."""
    scores = rows.set_index(["model", "balance", "seed"])
    means = scores["macro F1"].groupby(["model", "balance"]).mean()
    found = []
    for model, balance in means.index:
        if balance not in MAKING:
            continue
        own = scores.loc[model]
        gain = 100 * (own["minority recall"][balance] - own["minority recall"]["nothing"])
        for words, rivals in (
            ("of its own", [key for key in means.index if key[0] == model]),
            ("of all", list(means.index)),
        ):
            best = max((key for key in rivals if key[1] in CHEAP), key=lambda key: means[key])
            more = own["macro F1"][balance] - scores["macro F1"][best]
            found.append(
                {
                    "model": model,
                    "balance": balance,
                    "recall gained, points (bar 15)": interval(gain),
                    "best correction": f"{words}: {' with '.join(best)}",
                    "macro F1 above it (bar .02)": interval(more),
                }
            )
    return [format_table(pd.DataFrame(found))]


def likeness(realism: pd.DataFrame) -> list[str]:
    """Compare the cells that were made with those of a DCGAN for each class."""
    each = realism[realism["class"] != "all"]
    kid = each.groupby(["cells", "class"])["kid"].mean().unstack()
    dcgan = kid.loc["DCGAN, one for each class"]
    together = realism[realism["class"] == "all"].groupby("cells")
    copies, chance = together["memorized"].mean(), together["memorized_by_chance"].mean()
    return [
        format_table(
            pd.DataFrame(
                {
                    "cells": kid.index,
                    "KID over that of the DCGANs, median class (bar .5)": [
                        round(float((row.clip(lower=0) / dcgan).median()), 3)
                        for _, row in kid.iterrows()
                    ],
                    "memorized (bar .02)": copies.reindex(kid.index).round(3).to_numpy(),
                    "memorized_by_chance": chance.reindex(kid.index).round(3).to_numpy(),
                }
            )
        )
    ]


def dataset1() -> Bunch:
    """Return dataset1 of ``segmentation_wbc`` without its one basophil."""
    data = load_segmentation_wbc(data_folder() / "segmentation_wbc")
    y = np.array([data.class_names[label] for label in data.target])
    keep = np.array(["dataset1" in name for name in data.filenames]) & (y != "basophil")
    return Bunch(images=data.images[keep], target=y[keep], groups=np.asarray(data.groups)[keep])


TASKS = {
    "pbc": Task(
        f"pbc, {', '.join(RARE)} cut to {KEPT}",
        lambda: load_pbc(data_folder() / "pbc"),
        RARE,
        KEPT,
    ),
    "wbc": Task("segmentation_wbc, dataset1", dataset1, ["eosinophil"], whole=True),
}


def throughput(size: Size) -> str:
    """Compare the estimator's loop with a plain one of the same nets."""
    from benchmarks._gan_loops import estimator_loop, plain_loop

    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (256, size.pixels, size.pixels, 3)).astype(np.uint8)
    y = np.repeat(np.arange(8), 32)
    options = {**size.gan, "image_size": size.pixels, "max_steps": 24, "report_every": 24}
    pairs = [(estimator_loop(X, y, options), plain_loop(X, y, options)) for _ in range(4)][1:]
    ratio = [ours / plain for ours, plain in pairs]
    best = [max(column) for column in zip(*pairs, strict=True)]
    return (
        "### Training throughput\n\n"
        f"{best[0]:.1f} images/s in the estimator's loop, {best[1]:.1f} in a plain loop of the "
        f"same nets; ratio of pairs: median {np.median(ratio):.3f} (bar 0.90)."
    )


def show(part: str, text: str, size: Size, print_only: bool) -> None:
    """Print a part's text or write it to RESULTS.md."""
    if print_only:
        print(text, flush=True)
    else:
        write_section(f"Balancing: {part}{size.name}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--small", action="store_true", help="32 px, few rows, one seed")
    sizes.add_argument("--hour", action="store_true", help="as small, GANs six times as long")
    sizes.add_argument("--rendered", action="store_true", help="64 px, no GAN, five seeds")
    sizes.add_argument("--scratch", action="store_true", help="the same from random weights")
    sizes.add_argument("--refined", action="store_true", help="the same with refined cells")
    parts = [*TASKS, "throughput"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seeds", type=int, help="how many, if not as many as the size has")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time, without a GPU")
    parser.add_argument("--keep", type=Path, help="where to leave what each seed found")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    gpu = torch.cuda.is_available()
    chosen = {
        "small": SMALL, "hour": HOUR, "rendered": RENDERED, "scratch": SCRATCH, "refined": REFINED,
    }  # fmt: skip
    size = next((chosen[name] for name in chosen if getattr(given, name)), FULL)
    if not gpu and size is FULL:
        raise SystemExit(
            "no GPU here: the full size would take days; take --small, --rendered or --hour."
        )
    size = replace(size, n_seeds=given.seeds or size.n_seeds)
    # a seed for each core; what is timed against something else runs alone
    jobs = [(part, seed) for part in given.only if part in TASKS for seed in range(size.n_seeds)]
    found = Parallel(n_jobs=1 if gpu else given.jobs)(
        delayed(solved)(part, size, seed, given.keep) for part, seed in jobs
    )
    for part in dict.fromkeys(part for part, _ in jobs):
        own = [f for (name, _), f in zip(jobs, found, strict=True) if name == part]
        show(part, described(TASKS[part], size, own), size, given.no_write)
    if "throughput" in given.only:
        show("throughput", throughput(size), size, given.no_write)


if __name__ == "__main__":
    main()
