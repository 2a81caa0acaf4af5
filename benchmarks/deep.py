"""Accuracy of the deep recipes on pbc, from scratch.

    HEMAEST_DATA=... python -m benchmarks.deep [--small] [--tasks type subtype] [--seeds 0 1 2]

On a CPU: one fixed split by group, 80% to train on, and some seeds of ``deep-small``. On a GPU:
five folds by group of ``deep-small``, ``resnet24`` and ``resnet50`` too. The settings were chosen
beforehand, not on these images.
"""

import argparse
import os
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score

from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_pbc
from hemaest.groups import GroupedFolds, grouped_holdout
from hemaest.recipes import make_recipe

# what fits into 20 minutes of 2 cores for 1,800 images
CPU = {"image_size": 128, "max_epochs": 140}
SMALL = {"image_size": 64, "max_epochs": 15}
TASKS = {"type": "8 types", "subtype": "11 subtypes"}


def settings(small: bool, epochs: int | None) -> dict[str, Any]:
    chosen = dict(SMALL if small else CPU)
    return chosen | ({} if epochs is None else {"max_epochs": epochs})


def train_and_test(
    recipe: str, data: Any, train: np.ndarray, test: np.ndarray, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Fit a recipe on some rows and score it on others."""
    strong = {} if recipe == "vit" else {"classify__augment": "strong", "classify__batch_size": 32}
    model = make_recipe(recipe, random_state=seed, **options).set_params(**strong)
    start, cpu = time.perf_counter(), time.process_time()
    model.fit(data.images[train], data.target[train])
    fit, cpu = time.perf_counter() - start, time.process_time() - cpu
    guess = model.predict(data.images[test])
    truth = data.target[test]
    return {
        "recipe": recipe,
        "seed": seed,
        "images": len(train),
        "pixels": options.get("image_size"),
        "epochs": model[-1].max_epochs,
        "accuracy": accuracy_score(truth, guess),
        "macro F1": f1_score(truth, guess, average="macro"),
        "fit, min": fit / 60,
        "fit, core-min": cpu / 60,
    }


def run(task: str, seeds: list[int], options: dict[str, Any], gpu: bool) -> pd.DataFrame:
    """Return one row for each training of a task."""
    data = load_pbc(data_folder() / "pbc", level=task)
    target, groups = np.asarray(data.target), np.asarray(data.groups)
    data.target = target
    if not gpu:
        train, test = grouped_holdout(target, groups, 0.2, random_state=0)
        rows = [train_and_test("deep-small", data, train, test, s, options) for s in seeds]
    else:
        folds = list(GroupedFolds(5, random_state=0).split(target, target, groups))
        rows = [
            train_and_test(recipe, data, train, test, seed, sized)
            for recipe, sized in (
                ("deep-small", options),
                ("resnet24", {"image_size": 160, "max_epochs": 100}),
                ("resnet50", {"image_size": 224, "max_epochs": 100}),
            )
            for seed, (train, test) in enumerate(folds)
        ]
    return pd.DataFrame(rows)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="short trainings, no bar")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the full number")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    options = settings(given.small, given.epochs)
    gpu = torch.cuda.is_available() and not given.small
    seeds = given.seeds[:1] if given.small else given.seeds
    whole = not given.small and given.epochs in (None, CPU["max_epochs"])
    size = "" if whole else " (small)"
    for task in given.tasks:
        text = report(run(task, seeds, options, gpu), options, gpu, whole)
        if given.no_write:
            print(text)
        else:
            command = " ".join(["python -m benchmarks.deep", *sys.argv[1:]])
            write_section(f"Deep recipes on pbc, {TASKS[task]}{size}", text, command=command)


def report(table: pd.DataFrame, options: dict[str, Any], gpu: bool, whole: bool) -> str:
    """Return the table with how it came about and what was asked for."""
    import torch

    how = "five folds by group" if gpu else "one split by group, 80% to train on"
    bars = (
        "Bars: accuracy of 8 types at least .985 in at most 20 minutes of 2 cores a training; "
        "macro F1 of 11 subtypes at least .90."
        if whole
        else f"A short setting ({options['max_epochs']} epochs at {options['image_size']} pixels; "
        f"the full one is {CPU['max_epochs']} at {CPU['image_size']}): no bar holds."
    )
    mean = table.groupby("recipe", sort=False)[["accuracy", "macro F1"]].agg(["mean", "std"])
    spread = [
        f"{recipe}: accuracy {row[('accuracy', 'mean')]:.4f} +/- {row[('accuracy', 'std')]:.4f}, "
        f"macro F1 {row[('macro F1', 'mean')]:.4f} +/- {row[('macro F1', 'std')]:.4f}."
        for recipe, row in mean.iterrows()
    ]
    top = f"From scratch, threads: {torch.get_num_threads()}, {os.uname().machine}, {how}."
    return "\n\n".join([top, format_table(table), " ".join(spread), bars])


if __name__ == "__main__":
    main()
