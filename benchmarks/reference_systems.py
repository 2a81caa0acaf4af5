"""Five published systems: what was claimed, what their protocol gives, what holds without leaks.

    HEMAEST_DATA=... python -m benchmarks.reference_systems [--small] [--only r0 r1] [--data DIR]
        [--keep FOLDER]

DIR holds ``pbc``, ``taleqani``, ``bccd``; where the full public sets lie beside them
(``bone_marrow``, ``kaggle_wbc``, ``raabin``, ``leukemia_folders``) these are run too. The nets are
run at their authors' size on a GPU; without one, only the recipes that need none are (R1's and R3's
nets are small enough), and the rows of the others say so. ``--small`` runs everything on a CPU,
reduced until it proves nothing but that it works. ``r1-pbc`` is R1 whose net begins with what it
has learnt of ``pbc``, another lab's cells. ``--keep`` leaves that net, each fold and each leak in a
folder, and a run that was cut off goes on from there; take another after a change of the benchmark.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from benchmarks import _leaks
from benchmarks._results import accelerator, data_folder, remembered, write_section
from hemaest import datasets
from hemaest._tables import format_table
from hemaest.evaluation import compare
from hemaest.groups import GroupedFolds, split
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.segmentation import SmearDetector

FOUR = ("eosinophil", "lymphocyte", "monocyte", "neutrophil")
SEED = 0
FOLDS = 5
SMALL_IMAGES = 120
# passes over pbc of the net that R1 begins with
TAUGHT_EPOCHS = 40
REDUCED = {"image_size": 64, "max_epochs": 2, "max_steps": 40}
NOT_RUN = "not run: needs a GPU"
# of a row: shown in full below the overview, or not a figure
NOT_IN_OVERVIEW = {"card", "table", "types", "left out"}
SMALL_NOTE = f"Small: {SMALL_IMAGES} images, two folds, two epochs; it shows that all runs, no bar."


@dataclass(frozen=True)
class Task:
    """One set of labeled images, and how it is split without a leak."""

    data: str
    load: Callable[[Path], Any]
    note: str = ""
    repeats: int = 1
    sizes: tuple[float, ...] | None = None


@dataclass(frozen=True)
class System:
    """One published system."""

    recipes: tuple[str, ...]
    claimed: str
    measured: str
    leak: Callable[..., float]
    leak_in_words: str
    tasks: tuple[Task, ...]
    others: tuple[str, ...] = ("handcrafted-xgboost", "ensemble-voting")
    fields: bool = False
    trained: bool = False
    small: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """How all is run: on which sets, how large, on what, and where things found are left."""

    folder: Path
    small: bool
    gpu: bool
    keep: Path

    def kept(self, name: str, task: Task) -> Path:
        """Return where what is found of a system on a set is left."""
        small = "-small" if self.small else ""
        return self.keep / f"{name}-{task.data}-{task.note}{small}".replace(" ", "-")


def four_types(bunch: Any) -> Any:
    """Keep the four types that all sets of white cells share."""
    names = np.array([str(bunch.class_names.get(t, t)).lower() for t in bunch.target])
    kept = np.isin(names, FOUR)
    bunch.images, bunch.target = bunch.images[kept], names[kept]
    bunch.groups = np.asarray(bunch.groups)[kept]
    return bunch


def fields_of_one_type(path: Path) -> Any:
    """Load the smear fields of one of the four types, and count the others."""
    bunch = datasets.load_bccd(path)
    names = bunch.target.tolist()
    bunch = four_types(bunch)
    blank, several = names.count(""), sum("," in name for name in names)
    other = len(names) - blank - several - len(bunch.images)
    bunch.left_out = (
        f"Of {len(names)} fields are left out: {blank} without a type, {several} with several "
        f"types, {other} of another type."
    )
    return bunch


def kaggle(path: Path) -> Any:
    """Load the whole Kaggle set, its own TEST folder as the only test part."""
    train, test = (datasets.load_kaggle_wbc(path, subset=part) for part in ("train", "test"))
    n = len(train.images)
    train.images = np.concatenate([train.images, test.images])
    train.target = np.concatenate([train.target, test.target])
    both = [[f"{part}/{g}" for g in b.groups] for part, b in (("train", train), ("test", test))]
    train.groups = np.array(both[0][:n] + both[1])
    train.folds = [(np.arange(n), np.arange(n, len(train.images)))]
    return train


TALEQANI = Task("taleqani", datasets.load_taleqani)
PBC = Task("pbc", datasets.load_pbc)
PBC_FOUR = Task("pbc", lambda p: four_types(datasets.load_pbc(p)), "four types")
BCCD_FOUR = Task("bccd", fields_of_one_type, "fields of one type", 5)
PBC_FINE = Task(
    "pbc",
    lambda p: datasets.load_pbc(p, level="subtype"),
    "11 fine subtypes, a stand-in for the marrow's stages",
)
# the shares of training, validation and test that the authors name
EIGHTY, SEVENTY = (0.8, 0.1, 0.1), (0.7, 0.1, 0.2)
KAGGLE = Task("kaggle_wbc", kaggle, "TRAIN to TEST")
MARROW = tuple(
    Task(
        "bone_marrow",
        lambda p, types=types: datasets.load_bone_marrow(p, classes=types),
        f"{types} types",
        sizes=EIGHTY,
    )
    for types in ("14", "21")
)
RAABIN = Task("raabin", datasets.load_raabin)
LEUKEMIA = Task("leukemia_folders", datasets.load_leukemia_folders)

SYSTEMS = {
    "r0": System(
        ("r0-reinhard-resnet50",),
        "98.35% accuracy",
        "the best validation epoch of five; test fold unused",
        _leaks.best_validation_epoch,
        "best validation epoch reported",
        (TALEQANI,),
        others=("handcrafted-xgboost", "ensemble-voting", "ensemble-mixed"),
    ),
    "r1": System(
        ("r1-detect-segment-classify",),
        "99.65% accuracy",
        "61.76% on the real test folder",
        _leaks.scored_on_training,
        "validation images trained on",
        (BCCD_FOUR, KAGGLE),
        fields=True,
    ),
    "r2": System(
        ("r2-resnet50", "r2-vit"),
        "68.36% / 80.27% accuracy",
        "ViT's is the validation set's",
        _leaks.best_validation_epoch,
        "best validation epoch reported",
        (PBC_FINE, *MARROW),
    ),
    "r3": System(
        ("r3-resnet24",),
        "90% accuracy",
        "69.2% on TEST; 86.2% chosen on TEST",
        _leaks.copies_dealt_one_by_one,
        "turned copies on both sides",
        (PBC_FOUR, replace(BCCD_FOUR, repeats=1), KAGGLE),
    ),
    "r4": System(
        ("r4-alhe-acdbgan-fcmae-wpat",),
        "96% accuracy",
        "tested on its own training images",
        _leaks.split_anew,
        "split anew before the test",
        (*(replace(task, sizes=SEVENTY) for task in (TALEQANI, PBC, RAABIN)), LEUKEMIA),
        others=("handcrafted-xgboost", "ensemble-voting", "fcmae-wpat"),
    ),
}
SYSTEMS["r1-pbc"] = replace(
    SYSTEMS["r1"], others=("handcrafted-xgboost",), tasks=(BCCD_FOUR,), trained=True
)
TRAINED_NOTE = (
    "The net of R1 begins with what it has learnt of the 8 types of pbc, another lab's cells, in "
    f"{TAUGHT_EPOCHS} epochs, and is led on at a quarter of its rate. All else is as in R1, and so "
    "are the folds.\n\n"
)


def on_cpu(recipe: str) -> bool:
    """Return whether a recipe trains at its full size without a GPU."""
    return recipe.startswith(("handcrafted", "ensemble", "color", "r1", "r3"))


def made(recipe: str, small: bool, memory: str | None = None) -> ImagePipeline:
    """Return the recipe at its full size, or so small that a CPU runs it in seconds.

    Published ImageNet weights are taken where they can be had; the small run starts at random. What
    was outlined and measured in the images of a fold is remembered for the next recipe.
    """
    model = make_recipe(recipe, random_state=SEED, n_jobs=2, memory=memory)
    if not small:
        return model
    for name, value in model.get_params().items():
        last = name.rsplit("__", 1)[-1]
        if isinstance(value, int) and value > REDUCED.get(last, value):
            model.set_params(**{name: REDUCED[last]})
        elif last == "pretrained" and value is True:
            model.set_params(**{name: False})
        elif value == "vit_base_patch16_224":
            model.set_params(**{name: "vit_tiny_patch16_224"})
    return model


def after_detection(model: ImagePipeline) -> ImagePipeline:
    """Return the steps behind the detector, where a recipe brings its own."""
    return ImagePipeline([s for s in model.steps if s[0] != "detect"], memory=model.memory)


def trained(run: Run) -> Any:
    """Return R1's net after it was trained on the 8 types of ``pbc``."""
    bunch = datasets.load_pbc(run.folder / "pbc")
    bunch = subset(bunch, SMALL_IMAGES) if run.small else bunch
    recipe = made("r1-detect-segment-classify", run.small)
    crop, net = (clone(step) for _, step in recipe[-1].get_params()["deep"].steps)
    if not run.small:
        net.set_params(max_epochs=TAUGHT_EPOCHS, batch_size=32)
    outlined = clone(recipe.named_steps["segment"]).fit_transform(bunch.images)
    return net.fit(crop.fit_transform(outlined), bunch.target)


def begun_with(net: Any, model: ImagePipeline) -> ImagePipeline:
    """Return R1 with its net started from another one, and trained on more slowly."""
    slower = net.lr / 4
    start = {"pretrained": FrozenEstimator(net), "lr": slower}
    return clone(model).set_params(**{f"classify__deep__net__{k}": v for k, v in start.items()})


def subset(bunch: Any, n: int) -> Any:
    """Keep about n images, the rare classes whole as far as may be."""
    y = np.asarray(bunch.target)
    rng = np.random.default_rng(SEED)
    each = max(8, n // len(np.unique(y)))
    rows = [rng.permutation(np.flatnonzero(y == c))[:each] for c in np.unique(y)]
    kept = np.sort(np.concatenate(rows))
    bunch.images, bunch.target = bunch.images[kept], y[kept]
    bunch.groups = np.asarray(bunch.groups)[kept]
    if "folds" in bunch:
        inside = [np.flatnonzero(np.isin(kept, part)) for part in bunch.folds[0]]
        bunch.folds = [tuple(inside)]
    return bunch


def folds_of(bunch: Any, task: Task, small: bool) -> Any:
    """Return the set's own split, one of its authors' sizes, or folds by photograph."""
    if "folds" in bunch:
        return bunch.folds
    y = np.asarray(bunch.target)
    if task.sizes and not small:
        return split(None, y, bunch.groups, task.sizes, random_state=SEED)
    number, repeats = (2, 1) if small else (FOLDS, task.repeats)
    deals = [GroupedFolds(number, random_state=SEED + r) for r in range(repeats)]
    return [fold for deal in deals for fold in deal.split(None, y, bunch.groups)]


def rows_of(name: str, run: Run) -> Iterator[dict[str, Any]]:
    """Yield one row for each recipe of a system on each of its sets."""
    system = SYSTEMS[name]
    for task in system.tasks:
        common = {"system": name.upper(), "data": f"{task.data}, {task.note}".strip(", ")}
        if not (run.folder / task.data).is_dir():
            yield {**common, "recipe": f"not run: no folder {task.data}"}
            continue
        bunch = task.load(run.folder / task.data)
        bunch = subset(bunch, SMALL_IMAGES) if run.small else bunch
        for row in _task_rows(system, task, bunch, run, run.kept(name, task)):
            yield {**common, **row}


def _task_rows(
    system: System, task: Task, bunch: Any, run: Run, keep: Path
) -> Iterator[dict[str, Any]]:
    y = np.asarray(bunch.target)
    own = [r for r in system.recipes if run.small or run.gpu or on_cpu(r)]
    others = [r for r in system.others if run.small or run.gpu or on_cpu(r)]
    images = bunch.images
    if system.fields:  # the detector learns nothing, so each field is searched once for all folds
        images = SmearDetector(n_jobs=2).fit(images[:1]).transform(images)
    models = {r: after_detection(made(r, run.small, str(keep / "memory"))) for r in (*own, *others)}
    if system.trained:
        net = remembered(keep / "trained.joblib", lambda: trained(run))
        models |= {r: begun_with(net, models[r]) for r in own}
    start = time.perf_counter()
    result = compare(
        models,
        images,
        y,
        groups=np.asarray(bunch.groups),
        group_source=str(bunch.group_source),
        cv=folds_of(bunch, task, run.small),
        # nets so small gain more from a core each than from all for one
        n_jobs=1 if run.gpu else 2,
        cache_dir=keep / "folds",
        random_state=SEED,
    )
    minutes = (time.perf_counter() - start) / 60
    leaks = {
        r: remembered(keep / f"leak-{r}.joblib", partial(system.leak, models[r], images, y, SEED))
        for r in own
    }
    table = result.table.set_index("recipe")
    best = table["accuracy"].idxmax()
    for recipe in system.recipes:
        ran = recipe in table.index
        leaky = leaks[recipe] if ran else NOT_RUN
        yield {
            "images": str(len(y)),
            "recipe": recipe,
            "claimed": system.claimed,
            "their code": system.measured,
            "their protocol (leaks)": leaky,
            "clean": table.loc[recipe, "accuracy"] if ran else NOT_RUN,
            "clean macro F1": with_interval(table.loc[recipe]) if ran else "",
            "wrong photographs": wrong_photographs(result, recipe, bunch) if ran else "",
            "color alone": table.loc["color-logistic", "accuracy"],
            "handcrafted-xgboost": table.loc["handcrafted-xgboost", "accuracy"],
            "best": f"{table.loc[best, 'accuracy']:.3f} ({best})",
            "card": result.claim(),
            "table": result.table,
            "types": result.per_class,
            "left out": bunch.get("left_out", ""),
            "minutes": minutes,
        }


def wrong_photographs(result: Any, recipe: str, bunch: Any) -> str:
    """Return how many photographs are wrong when their copies vote, where they are known."""
    if bunch.group_source != "photograph":
        return ""
    own = result.predictions[result.predictions["recipe"] == recipe]
    own = own.assign(photograph=np.asarray(bunch.groups)[own["image"]])
    votes = own.groupby("photograph").agg({"true": "first", "predicted": lambda p: p.mode()[0]})
    return f"{(votes['true'] != votes['predicted']).sum()} of {len(votes)}"


def with_interval(row: pd.Series) -> str:
    """Return a recipe's macro F1 with the bootstrap's 95% interval."""
    return f"{row['macro_f1']:.3f} ({row['macro_f1_low']:.3f} to {row['macro_f1_high']:.3f})"


def sections(rows: list[dict[str, Any]]) -> str:
    """Return the overview, then for each set the whole comparison and how it was made."""
    left_out = NOT_IN_OVERVIEW | {"claimed", "their code"}
    short = pd.DataFrame([{k: v for k, v in r.items() if k not in left_out} for r in rows])
    short = short.astype(object).where(short.notna(), "")
    short = short.loc[:, (short != "").any()]
    text = [format_table(short), ""]
    seen = set()
    for row in rows:
        if "table" not in row or (key := (row["system"], row["data"])) in seen:
            continue
        seen.add(key)
        facts = row["card"].facts
        system = SYSTEMS[row["system"].lower()]
        text += [
            f"### {row['system']} on {row['data']}",
            "",
            f"Claimed {system.claimed}; found: {system.measured}. In the column that leaks: "
            f"{system.leak_in_words}. {row['left out']}".strip(),
            "",
            format_table(row["table"]),
            "",
            format_table(row["types"][row["types"]["recipe"].isin(system.recipes)]),
            "",
            f"Split unit: {facts['Split unit']}. {facts['Protocol']}. {facts['Data hash']}. "
            + " ".join(f"{f['severity'].capitalize()}: {f['text']}" for f in row["card"].flags),
            "",
        ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="everything on a CPU, proving nothing")
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--data", type=Path, help="the folder of the sets (else HEMAEST_DATA)")
    parser.add_argument("--keep", type=Path, help="where to leave what is found on the way")
    given = parser.parse_args()
    folder = given.data or data_folder()
    os.environ.setdefault("HEMAEST_DATA", str(folder))
    with TemporaryDirectory() as passing:
        keep = given.keep or Path(passing)
        run = Run(folder, given.small, accelerator() != "no GPU", keep)
        for name in given.only:
            show(name, run)


def show(name: str, run: Run) -> None:
    """Run a system and write its section."""
    command = f"python -m benchmarks.reference_systems --only {name}{' --small' * run.small}"
    rows = []
    for row in rows_of(name, run):
        print({k: v for k, v in row.items() if k not in NOT_IN_OVERVIEW}, flush=True)
        rows.append(row)
    notes = f"{SMALL_NOTE}\n\n" * run.small + TRAINED_NOTE * SYSTEMS[name].trained
    kind = " (small)" if run.small else ""
    write_section(f"Reference system {name.upper()}{kind}", notes + sections(rows), command=command)


if __name__ == "__main__":
    main()
