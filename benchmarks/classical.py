"""What the classical recipes reach on real cells, beside the color-only control, and their cost.

Run ``python -m benchmarks.classical [--small] [--only pbc splits labs taleqani cost]``. Five folds,
duplicates kept together. The label-free segmenter and the features learn nothing, so they run once
for each set; whatever learns (imputation, scaling, models, their inner hold-outs) is fitted inside
the training fold, as in the recipe.
"""

import argparse
import time
import warnings
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score, f1_score

from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_pbc, load_segmentation_wbc, load_taleqani
from hemaest.features import HandcraftedFeatures
from hemaest.groups import GroupedFolds
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.segmentation import CellSegmenter

RECIPES = [
    "color-knn",
    "color-logistic",
    "lbp-svm",
    "handcrafted-logistic",
    "handcrafted-forest",
    "handcrafted-svm",
    "handcrafted-xgboost",
    "ensemble-voting",
    "ensemble-stacking",
]
MIXED = "ensemble-mixed"  # with a net, on the outlined cells: what the classical ones lack
CONTROLS = ("color", "lbp")
BATCH = 100


def outlined(X, cells="central", stain=None) -> Iterator[np.ndarray]:
    """Yield the images with their cell maps, in batches of flat memory."""
    segmenter = CellSegmenter(cells=cells, n_jobs=2).fit(X[:1])
    for start in range(0, len(X), BATCH):
        batch = X[start : start + BATCH]
        yield segmenter.transform(batch if stain is None else stain.transform(batch))


def measured(batches: Iterable[np.ndarray], cells="central") -> pd.DataFrame:
    """Return all handcrafted features of outlined cells."""
    extractor = HandcraftedFeatures(cells=cells, n_jobs=2).set_output(transform="pandas")
    return pd.concat([extractor.fit_transform(batch) for batch in batches], ignore_index=True)


def front(name: str, X) -> np.ndarray | pd.DataFrame:
    """Return the features of a control, which learn nothing."""
    return make_recipe(name)["features"].fit_transform(X)


def tail(name: str, after: str = "features") -> ImagePipeline:
    """Return the steps of a recipe behind those that learn nothing."""
    recipe = make_recipe(name, random_state=0, n_jobs=2)
    names = [step for step, _ in recipe.steps]
    return ImagePipeline(recipe.steps[names.index(after) + 1 :])


def folds_of(y, groups, seed: int = 0):
    return list(GroupedFolds(5, random_state=seed).split(None, y, groups))


def scores(model, X, y, groups, folds) -> dict[str, str]:
    """Return mean and standard deviation over folds of three measures, and the time."""
    rows, start = [], time.perf_counter()
    take = (lambda i: X.iloc[i]) if isinstance(X, pd.DataFrame) else (lambda i: X[i])
    for train, test in folds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = clone(model).fit(take(train), y[train], groups=groups[train])
            got = fitted.predict(take(test))
        rows.append(
            (
                (got == y[test]).mean(),
                balanced_accuracy_score(y[test], got),
                f1_score(y[test], got, average="macro"),
            )
        )
    mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
    texts = [f"{m:.4f} +/- {s:.4f}" for m, s in zip(mean, spread, strict=True)]
    return {
        **dict(zip(("accuracy", "balanced accuracy", "macro F1"), texts, strict=True)),
        "seconds a fold": f"{(time.perf_counter() - start) / len(folds):.0f}",
    }


def table_of(names, fronts, y, groups, small) -> pd.DataFrame:
    folds = folds_of(y, groups)
    folds = folds[:1] if small else folds
    rows = []
    for name in names:
        model = tail(name, "segment" if name == MIXED else "features")
        rows.append({"recipe": name, **scores(model, fronts(name), y, groups, folds)})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def keep(X, y, groups, small):
    """Return every second image where the run is small."""
    step = 2 if small else 1
    return X[::step], np.asarray(y)[::step], np.asarray(groups)[::step]


def on_pbc(small: bool) -> list[str]:
    types = load_pbc(data_folder() / "pbc", level="type")
    fine = load_pbc(data_folder() / "pbc", level="subtype")
    X, y, groups = keep(types.images, types.target, types.groups, small)
    y_fine = np.asarray(fine.target)[:: 2 if small else 1]
    start = time.perf_counter()
    maps = list(outlined(X))
    made = {"handcrafted": measured(maps)}
    cost = time.perf_counter() - start
    made["maps"] = np.concatenate(maps)

    def fronts(name):
        if name == MIXED:
            return made["maps"]
        key = name.split("-")[0] if name.startswith(CONTROLS) else "handcrafted"
        if key not in made:
            made[key] = front(name, X)
        return made[key]

    run = partial(table_of, fronts=fronts, groups=groups, small=small)
    return [
        f"### pbc, {len(X)} images, 8 types\n",
        format_table(run([*RECIPES, MIXED], y=y)),
        f"\n### pbc, {len(X)} images, 11 fine subtypes\n",
        format_table(run([*RECIPES, MIXED], y=y_fine)),
        f"\nSegmentation and features of {len(X)} images, 2 threads: {cost:.0f} s "
        f"({1000 * cost / len(X):.0f} ms an image).",
    ]


def on_new_splits(small: bool) -> list[str]:
    """Compare the two baselines on folds that no setting was chosen on, cell by cell."""
    bunch = load_pbc(data_folder() / "pbc", level="type")
    X, y, groups = keep(bunch.images, bunch.target, bunch.groups, small)
    cells = measured(outlined(X))
    rows = []
    for seed in range(11, 12 if small else 14):
        folds = folds_of(y, groups, seed)
        row = {"seed of the folds": seed}
        for name in ("handcrafted-logistic", "handcrafted-xgboost"):
            found = scores(tail(name), cells, y, groups, folds)
            row |= {name: found["balanced accuracy"], f"{name}, s": found["seconds a fold"]}
        rows.append(row)
        print(row, flush=True)
    return [
        f"{len(X)} images, 8 types; balanced accuracy, mean and standard deviation of 5 folds.\n",
        format_table(pd.DataFrame(rows)),
    ]


def on_two_labs() -> list[str]:
    bunch = load_segmentation_wbc(data_folder() / "segmentation_wbc")
    lab = np.array(["dataset1" in name for name in bunch.filenames])
    y = np.asarray(bunch.target)
    cells = measured(outlined(bunch.images))
    rows = []
    for name in ("color-logistic", "handcrafted-xgboost", "handcrafted-svm", "ensemble-voting"):
        X = front(name, bunch.images) if name.startswith("color") else cells
        take = (lambda m, X=X: X.loc[m]) if isinstance(X, pd.DataFrame) else (lambda m, X=X: X[m])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = tail(name).fit(take(lab), y[lab])
        got = model.predict(take(~lab))
        rows.append({"recipe": name, "balanced accuracy": balanced_accuracy_score(y[~lab], got)})
        print(rows[-1], flush=True)
    return ["segmentation_wbc, other lab and other stain.\n", format_table(pd.DataFrame(rows))]


def on_taleqani(small: bool) -> list[str]:
    from hemaest.stain import ReinhardNormalizer

    bunch = load_taleqani(data_folder() / "taleqani")
    X, y, groups = keep(bunch.images, bunch.target, bunch.groups, small)
    raw = measured(outlined(X, cells="all"), cells="all")
    # the template is learned without labels, from every image: a report, not a bar
    normal = ReinhardNormalizer().fit(X[::10])
    even = measured(outlined(X, cells="all", stain=normal), cells="all")
    no_color = HandcraftedFeatures(families=("shape", "chromatin"), cells="all").fit(
        np.zeros((1, 4, 4, 4), np.uint8)
    )
    chosen = list(no_color.get_feature_names_out())
    folds = folds_of(y, groups)
    folds = folds[:1] if small else folds
    rows = []
    for what, name, data in (
        ("color only, raw", "color-logistic", front("color-logistic", X)),
        ("all features, raw", "handcrafted-xgboost", raw),
        ("all features, normalized (Reinhard)", "handcrafted-xgboost", even),
        ("shape and chromatin only, raw", "handcrafted-xgboost", raw[chosen]),
        ("shape and chromatin only, normalized", "handcrafted-xgboost", even[chosen]),
    ):
        rows.append(
            {"features": what, "recipe": name, **scores(tail(name), data, y, groups, folds)}
        )
        print(rows[-1], flush=True)
    return [f"{len(X)} fields, 4 classes.\n", format_table(pd.DataFrame(rows))]


def cost(small: bool) -> list[str]:
    """Return what it takes to train the whole default baseline on images, and to predict."""
    bunch = load_pbc(data_folder() / "pbc", level="type")
    X, y, groups = keep(bunch.images, bunch.target, bunch.groups, small)
    make_recipe("handcrafted-xgboost").fit(X[:40:2], np.arange(20) % 2)  # compiles its kernels
    recipe = make_recipe("handcrafted-xgboost", random_state=0, n_jobs=2)
    start, used = time.perf_counter(), time.process_time()
    recipe.fit(X, y, groups=groups)
    wall, used = time.perf_counter() - start, time.process_time() - used
    rows = [{"what": f"fit on {len(X)} images, s", "wall": wall, "processor": used, "bar": 180.0}]
    recipe.set_params(segment__n_jobs=1, features__n_jobs=1)
    start, used = time.perf_counter(), time.process_time()
    recipe.predict(X[:200])
    wall, used = time.perf_counter() - start, time.process_time() - used
    rows.append(
        {"what": "predict, ms an image", "wall": 5 * wall, "processor": 5 * used, "bar": 40.0}
    )
    return [
        "From images as files, two threads to fit, one to predict.\n",
        format_table(pd.DataFrame(rows)),
    ]


PARTS = {
    "pbc": ("Classical recipes on pbc", on_pbc),
    "splits": ("The two baselines on other folds of pbc", on_new_splits),
    "labs": ("Classical recipes trained on dataset1, tested on dataset2", lambda _: on_two_labs()),
    "taleqani": ("Classical recipes on taleqani: what color was worth", on_taleqani),
    "cost": ("Cost of handcrafted-xgboost", cost),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    arguments = parser.parse_args()
    kind = " (small: every second image, one fold)" if arguments.small else ""
    for name in arguments.only:
        title, run = PARTS[name]
        command = f"python -m benchmarks.classical{' --small' * arguments.small} --only {name}"
        write_section(f"{title}{kind}", "\n".join(run(arguments.small)), command=command)


if __name__ == "__main__":
    main()
