"""Accuracy of the deep recipes on pbc, from scratch.

    HEMAEST_DATA=... python -m benchmarks.deep [--small] [--tasks type subtype] [--seeds 0 1 2]

On a CPU: one fixed split by group, 80% to train on, and some seeds of ``deep-small`` on whole
images, on cut-out cells, and on both (``ensemble-views``); of subtypes also ``ensemble-mixed``,
whose net sees the cut-out cell. On a GPU: five folds by group of ``deep-small``, ``resnet24`` and
``resnet50``. How strongly images are changed, and how large a cut-out cell is shown, was chosen on
a part of the training images of the CPU's split. With ``--keep FOLDER`` each finished training is
noted there, and a run that was ended goes on behind it.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score

from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_pbc
from hemaest.groups import GroupedFolds, grouped_holdout
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.segmentation import CellSegmenter

# fits into 40 minutes of one core for 1,800 images; two threads in one net are not twice as fast
CPU = {"image_size": 128, "max_epochs": 150}
SMALL = {"image_size": 64, "max_epochs": 15}
CUT_OUT = 0.75  # a cell alone fills a smaller square than the whole image
TWO_NETS = 115 / 150  # of the epochs for each of two nets, which fit as well
TASKS = {"type": "8 types", "subtype": "11 subtypes"}
ON_CELLS = "deep-small, cell cut out"
ON_CPU = {
    "type": ["deep-small", ON_CELLS, "ensemble-views"],
    "subtype": ["deep-small", ON_CELLS, "ensemble-views", "ensemble-mixed"],
}
# beside them on a CPU: what color alone gives, and what is measured on cells without a net
NO_NET = ("color-logistic", "ensemble-voting")


def settings(small: bool, epochs: int | None) -> dict[str, Any]:
    chosen = dict(SMALL if small else CPU)
    return chosen | ({} if epochs is None else {"max_epochs": epochs})


def made(name: str, seed: int, options: dict[str, Any]) -> ImagePipeline:
    """Return a recipe with the settings of this benchmark."""
    threads = torch.get_num_threads()
    if name in NO_NET:
        return make_recipe(name, n_jobs=threads, random_state=seed)
    options = options | {"n_jobs": threads, "random_state": seed}
    if name == ON_CELLS:
        model = make_recipe("deep-small", segmenter=CellSegmenter(n_jobs=threads), **options)
    else:
        model = make_recipe(name, **options)
    if name == "ensemble-views":
        smaller = round(CUT_OUT * options["image_size"])
        model.set_params(classify__cell__net__image_size=smaller)
    nets = {
        "ensemble-mixed": ["classify__deep__net"],
        "ensemble-views": ["classify__image", "classify__cell__net"],
    }
    return model.set_params(**{f"{net}__batch_size": 32 for net in nets.get(name, ["classify"])})


def train_and_test(
    recipe: str, data: Any, train: np.ndarray, test: np.ndarray, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Fit a recipe on some rows and score it on others."""
    model = made(recipe, seed, options)
    start, cpu = time.perf_counter(), time.process_time()
    model.fit(data.images[train], data.target[train])
    fit, cpu = time.perf_counter() - start, time.process_time() - cpu
    guess = model.predict(data.images[test])
    truth = data.target[test]
    return {
        "recipe": recipe,
        "seed": seed,
        "images": len(train),
        "pixels": options.get("image_size", ""),
        "epochs": options.get("max_epochs", ""),
        "threads": torch.get_num_threads(),
        "accuracy": accuracy_score(truth, guess),
        "macro F1": f1_score(truth, guess, average="macro"),
        "fit, min": fit / 60,
        "fit, core-min": cpu / 60,
    }


def kept(row: Callable[[], dict[str, Any]], file: Path | None) -> dict[str, Any]:
    """Return the row that an earlier run left in the file, else make it and leave it there."""
    if file is not None and file.exists():
        return json.loads(file.read_text())
    found = row()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return found


def run(
    task: str,
    recipes: list[str],
    seeds: list[int],
    options: dict[str, Any],
    gpu: bool,
    keep: Path | None = None,
) -> pd.DataFrame:
    """Return one row for each training of a task."""
    types = np.asarray(load_pbc(data_folder() / "pbc").target)
    data = load_pbc(data_folder() / "pbc", level=task)
    target, groups = np.asarray(data.target), np.asarray(data.groups)
    data.target = target
    if not gpu:
        # the same test images in both tasks: no setting was chosen while looking at them
        part = grouped_holdout(types, groups, 0.2, random_state=0)
        shared = options | {"max_epochs": round(TWO_NETS * options["max_epochs"])}
        cut_out = options | {"image_size": round(CUT_OUT * options["image_size"])}
        jobs = [(recipe, seeds[0], part, {}) for recipe in NO_NET]
        sizes = {ON_CELLS: cut_out, "ensemble-mixed": cut_out, "ensemble-views": shared}
        jobs += [(r, seed, part, sizes.get(r, options)) for r in recipes for seed in seeds]
    else:
        folds = list(GroupedFolds(5, random_state=0).split(target, target, groups))
        jobs = [
            (recipe, seed, part, sized)
            for recipe, sized in (
                ("deep-small", options),
                ("resnet24", {"image_size": 160, "max_epochs": 100}),
                ("resnet50", {"image_size": 224, "max_epochs": 100}),
            )
            for seed, part in enumerate(folds)
        ]
    rows = []
    for recipe, seed, (train, test), sized in jobs:
        parts = (task, recipe.replace(", ", "-"), seed, *sized.values())
        name = "-".join(map(str, parts)) + ".json"
        train_this = partial(train_and_test, recipe, data, train, test, seed, sized)
        rows.append(kept(train_this, keep and keep / name))
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="short trainings, no bar")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--recipes", nargs="+", choices=ON_CPU["subtype"], help="of those that a CPU trains"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the full number")
    parser.add_argument("--keep", type=Path, help="a folder for the rows of finished trainings")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    options = settings(given.small, given.epochs)
    gpu = torch.cuda.is_available() and not given.small
    seeds = given.seeds[:1] if given.small else given.seeds
    whole = not given.small and given.epochs in (None, CPU["max_epochs"])
    size = "" if whole else " (small)"
    for task in given.tasks:
        recipes = [r for r in ON_CPU[task] if given.recipes is None or r in given.recipes]
        table = run(task, recipes, seeds, options, gpu, given.keep)
        text = report(table, options, gpu, whole)
        if given.no_write:
            print(text)
        else:
            arguments = [a for a in sys.argv[1:] if a not in ("--keep", str(given.keep))]
            command = f"python -m benchmarks.deep {shlex.join(arguments)}".strip()
            only = f": {', '.join(recipes)}" if given.recipes else ""
            write_section(f"Deep recipes on pbc, {TASKS[task]}{size}{only}", text, command=command)


def report(table: pd.DataFrame, options: dict[str, Any], gpu: bool, whole: bool) -> str:
    """Return the table with how it came about and what was requested."""
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
        for recipe, row in mean.dropna().iterrows()
    ]
    top = f"From scratch, {os.uname().machine}, {how}."
    return "\n\n".join([top, format_table(table), " ".join(spread), bars])


if __name__ == "__main__":
    main()
