"""What the unlabeled cells of a laboratory add to the network that ships.

    HEMAEST_DATA=... python -m benchmarks.adaptation [--small] [--only few probe ...]
        [--keep FOLDER] [--epochs N] [--target types]

``FCMAEPretrainer("cellnet", pretrained="synthetic")`` adapts the network of rendered cells to the
images of ``pbc_unlabelled``, none of which is in ``pbc``. It is compared with the network as it
ships, on ``pbc``: a fifth is held out by group, ten labels of each type are drawn five times from
the rest. Every image is seen twice, whole and closer, as ``blood-cells`` does. The settings were
chosen beforehand, on no image of ``pbc``. A run that was cut off goes on in the folder.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._results import data_folder, interval, remembered, write_section
from benchmarks.across_labs import handcrafted
from hemaest._tables import format_table
from hemaest.datasets import load_pbc, load_segmentation_wbc, load_taleqani
from hemaest.deep import DeepEmbedding, FCMAEPretrainer, ImageClassifier, WPATClassifier
from hemaest.groups import GroupedFolds, grouped_holdout
from hemaest.images import ImageRef, to_object_array
from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer
from hemaest.pretrained import load_pretrained
from hemaest.pretrained.cells import SIZE
from hemaest.recipes import make_recipe
from hemaest.segmentation import CellSegmenter

LABELS = 10
SHIPPED = "synthetic"


@dataclass(frozen=True)
class Size:
    """How much is done."""

    epochs: int
    unlabeled: int | None
    draws: int
    fine_tuning: int
    folder: Path
    target: str = "features"
    name: str = ""


def looks(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return each image whole and closer, as the shipped network sees it."""
    return load_pretrained("blood-cells").squares(images)


def seen(size: Size, name: str, images: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return both looks at a set, kept in the folder."""
    return remembered(size.folder / f"looks-{name}.joblib", lambda: looks(images()))


def pool(size: Size) -> np.ndarray:
    """Return both looks at the unlabeled images, as one set."""
    files = sorted((data_folder() / "pbc_unlabelled").glob("*.jpg"))
    if size.unlabeled is not None:
        files = [files[i] for i in np.random.default_rng(0).permutation(len(files))]
        files = files[: size.unlabeled]
    images = to_object_array([ImageRef(path) for path in files])
    return np.concatenate(seen(size, f"pool-{len(files)}", lambda: images))


def adapted(size: Size, enhanced: bool = False) -> Path:
    """Return the file of the adapted encoder, made now if it is not there."""
    kind = "enhanced" if enhanced else "plain"
    path = size.folder / f"adapted-{kind}-{size.target}-{size.unlabeled}-{size.epochs}.safetensors"
    if path.exists():
        return path
    start = time.process_time()
    X = pool(size)
    model = FCMAEPretrainer(
        "cellnet",
        pretrained=SHIPPED,
        target=size.target,
        max_epochs=size.epochs,
        checkpoint_dir=size.folder,
        random_state=0,
        verbose=False,
    )
    model.fit(enhance(X) if enhanced else X)
    print(model.history_.to_string(), f"{(time.process_time() - start) / 60:.1f} core-minutes")
    return model.save(path)


def enhance(X: np.ndarray) -> np.ndarray:
    """Return images after ALHE."""
    return np.asarray(AdaptiveLocalHistogramEnhancer(n_jobs=1).fit_transform(X))


def embedded(start: Any, both: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return what a frozen encoder sees of both looks, side by side; the mean of two turns."""
    encoder = DeepEmbedding("cellnet", pretrained=start, image_size=SIZE)
    return np.hstack(
        [
            np.mean(
                [
                    encoder.fit_transform(np.ascontiguousarray(np.rot90(X, k, axes=(1, 2))))
                    for k in range(2)
                ],
                axis=0,
            )
            for X in both
        ]
    )


def linear(C: float = 0.03) -> Any:
    """Return the linear model of ``synthetic-linear``."""
    return make_pipeline(scaler(), LogisticRegression(C=C, max_iter=5000))


def scaler() -> Any:
    """Return what fills in missing measurements and scales, by the rows that it is fitted on."""
    filled = SimpleImputer(strategy="median", keep_empty_features=True)
    return make_pipeline(filled, StandardScaler())


def scored(model: Any, X: Any, y: np.ndarray, train: Any, test: Any) -> tuple[float, float]:
    """Return accuracy and macro F1."""
    guess = model.fit(X[train], y[train]).predict(X[test])
    return accuracy_score(y[test], guess), f1_score(y[test], guess, average="macro")


def net(kind: str, start: Any, seed: int, epochs: int) -> Any:
    """Return the network to fine-tune: plain, or with windowed attention."""
    options = {
        "pretrained": start,
        "image_size": SIZE,
        "max_epochs": epochs,
        "batch_size": 16,
        "lr": 1e-3,
        "random_state": seed,
        "verbose": False,
    }
    if kind == "wpat":
        windows = {"dim": 64, "heads": 2}
        return WPATClassifier(backbone_options=windows, **options)
    return ImageClassifier("cellnet", **options)


def table(arms: dict[str, list[tuple[float, float]]], pairs: dict[str, tuple[str, str]]) -> str:
    """Return accuracy and macro F1 of each arm, and how far one is above another, in points."""
    rows = []
    for name, scores in arms.items():
        accuracy, f1 = np.array(scores).T
        rows.append({"": name, "accuracy": interval(accuracy), "macro F1": interval(f1)})
    for name, (one, other) in pairs.items():
        gain = 100 * (np.array(arms[one]) - np.array(arms[other]))
        rows.append({"": name, "accuracy": f"{interval(gain[:, 0])} points",
                     "macro F1": f"{interval(gain[:, 1])} points"})  # fmt: skip
    return format_table(pd.DataFrame(rows))


def real(size: Size, level: str = "type") -> tuple[Any, np.ndarray, np.ndarray]:
    """Return both looks at ``pbc``, labels and groups."""
    data = load_pbc(data_folder() / "pbc", level=level)
    both = seen(size, "pbc", lambda: data.images)
    return both, np.asarray(data.target), np.asarray(data.groups)


@dataclass(frozen=True)
class FewLabels:
    """Both looks at the cells that are drawn or held out, what is measured of them, and types."""

    both: tuple[np.ndarray, np.ndarray]
    measured: np.ndarray
    y: np.ndarray
    draws: list[np.ndarray]
    test: np.ndarray


def few_labels(size: Size) -> FewLabels:
    """Return a fifth of ``pbc`` to test on, and draws of a few of each type from the rest."""
    data = load_pbc(data_folder() / "pbc")
    y, groups = np.asarray(data.target), np.asarray(data.groups)
    train, test = grouped_holdout(y, groups, 0.2, random_state=0)
    draws = drawn(size, y, train)
    rows = np.unique(np.concatenate([test, *draws]))
    both = seen(size, f"few-{len(rows)}", lambda: data.images[rows])
    file = size.folder / f"measured-{len(rows)}.joblib"
    measured = remembered(file, lambda: handcrafted(data.images[rows]))
    places = [np.searchsorted(rows, part) for part in draws]
    return FewLabels(both, measured, y[rows], places, np.searchsorted(rows, test))


def balanced_blocks(rows: np.ndarray, *blocks: np.ndarray) -> np.ndarray:
    """Return blocks of features side by side, each of one weight, scaled by the labeled rows."""
    scaled = [scaler().fit(X[rows]).transform(X) / np.sqrt(X.shape[1]) for X in blocks]
    return np.hstack(scaled)


def votes(start: Any, Z: np.ndarray, cells: FewLabels, epochs: int) -> list[tuple[float, float]]:
    """Return the scores of a linear model and networks fine-tuned on either look, together."""
    scores = []
    classes, true = np.unique(cells.y), cells.y[cells.test]
    for draw, rows in enumerate(cells.draws):
        X = balanced_blocks(rows, Z, cells.measured)
        model = LogisticRegression(C=30, max_iter=5000).fit(X[rows], cells.y[rows])
        votes = 2 * model.predict_proba(X[cells.test])
        for look in cells.both:
            tuned = net("plain", start, draw, epochs).fit(look[rows], cells.y[rows])
            votes = votes + tuned.predict_proba(look[cells.test])
        guess = classes[votes.argmax(axis=1)]
        scores.append((accuracy_score(true, guess), f1_score(true, guess, average="macro")))
    return scores


def tuned(model: Any, X: np.ndarray, cells: FewLabels) -> list[tuple[float, float]]:
    """Return the scores of a network that is fine-tuned on each draw, seeded by its number."""
    return [
        scored(model(draw), X, cells.y, rows, cells.test) for draw, rows in enumerate(cells.draws)
    ]


def drawn(size: Size, y: np.ndarray, train: np.ndarray) -> list[np.ndarray]:
    """Draw the labeled rows, a few of each class."""
    return [
        np.concatenate(
            [
                np.random.default_rng([draw, k]).choice(train[y[train] == label], LABELS, False)
                for k, label in enumerate(np.unique(y))
            ]
        )
        for draw in range(size.draws)
    ]


def few(size: Size) -> str:
    """Ten labels of each type: linear, fine-tuned, with attention, all of it, before and after."""
    cells = few_labels(size)
    arms: dict[str, list[tuple[float, float]]] = {}
    for name, start in (("shipped", SHIPPED), ("adapted", adapted(size))):
        Z = embedded(start, cells.both)
        arms[f"linear, {name}"] = [
            scored(linear(), Z, cells.y, rows, cells.test) for rows in cells.draws
        ]
        arms[f"with handcrafted features, {name}"] = [
            scored(
                LogisticRegression(C=30, max_iter=5000),
                balanced_blocks(rows, Z, cells.measured), cells.y, rows, cells.test,
            )
            for rows in cells.draws
        ]  # fmt: skip
        for kind in ("plain", "wpat") if size.fine_tuning else ():
            model = partial(net, kind, start, epochs=size.fine_tuning)
            arms[f"{kind}, {name}"] = tuned(model, cells.both[1], cells)
        if size.fine_tuning:
            arms[f"vote, {name}"] = votes(start, Z, cells, size.fine_tuning)
    pairs = {}
    for kind in ("linear", "with handcrafted features", "plain", "wpat", "vote"):
        if f"{kind}, adapted" in arms:
            pairs[f"{kind}: gained"] = f"{kind}, adapted", f"{kind}, shipped"
    return table(arms, pairs) + "\n\nBars: 2 points, interval above 0, and at least .94."


def probe(size: Size) -> str:
    """All labels: a linear model on frozen embeddings, five folds by group."""
    texts = []
    for level, words in (("type", "8 types"), ("subtype", "11 subtypes")):
        both, y, groups = real(size, level)
        folds = list(GroupedFolds(5, random_state=0).split(y, y, groups))
        arms = {}
        for name, start in (("shipped", SHIPPED), ("adapted", adapted(size))):
            Z = embedded(start, both)
            arms[f"{words}, {name}"] = [scored(linear(0.1), Z, y, *fold) for fold in folds]
        pairs = {f"{words}: gained": (f"{words}, adapted", f"{words}, shipped")}
        texts.append(table(arms, pairs))
    return "\n\n".join([*texts, "Bar: 8 types at least .96."])


def every(size: Size) -> str:
    """All labels, five folds by group: linear, trees, fine-tuned on cells of one scale, a vote."""
    texts = []
    for level, words in (("type", "8 types"), ("subtype", "11 subtypes")):
        data = load_pbc(data_folder() / "pbc", level=level)
        y, groups = np.asarray(data.target), np.asarray(data.groups)
        X = np.hstack([load_embedding(size), measured_pbc(size)])
        names = ("linear", "trees", "fine-tuned", "vote")
        arms: dict[str, list[tuple[float, float]]] = {f"{words}: {name}": [] for name in names}
        for number, (train, test) in enumerate(GroupedFolds(5, random_state=0).split(y, y, groups)):
            file = size.folder / f"one-scale-{level}-{size.fine_tuning}-{number}.joblib"
            first = linear().fit(X[train], y[train]).predict_proba(X[test])
            second = trees(number).fit(X[train], y[train]).predict_proba(X[test])

            def tune(train=train, test=test, number=number, data=data, y=y) -> np.ndarray:
                model = of_one_scale(size, number)
                return model.fit(data.images[train], y[train]).predict_proba(data.images[test])

            third = remembered(file, tune)
            votes = (first, second, third, first + second + third)
            for name, probabilities in zip(names, votes, strict=True):
                guess = np.unique(y)[probabilities.argmax(axis=1)]
                f1 = f1_score(y[test], guess, average="macro")
                arms[f"{words}: {name}"].append((accuracy_score(y[test], guess), f1))
            print(words, number, {name: scores[-1] for name, scores in arms.items()}, flush=True)
        texts.append(table(arms, {}))
    return "\n\n".join([*texts, "Bars: accuracy of 8 types at least .99, F1 of 11 subtypes .91."])


def trees(seed: int) -> Any:
    """Return the boosted trees of ``handcrafted-xgboost``."""
    return make_recipe("handcrafted-xgboost", n_jobs=1, random_state=seed).steps[-1][1]


def of_one_scale(size: Size, seed: int) -> Any:
    """Return the adapted network, to be fine-tuned on cells that are cut out to one scale."""
    outlines = CellSegmenter(n_jobs=1)
    model = make_recipe(
        "synthetic-finetune", segmenter=outlines, max_epochs=size.fine_tuning, random_state=seed
    )
    return model.set_params(classify__pretrained=adapted(size), classify__verbose=False)


def measured_pbc(size: Size) -> np.ndarray:
    """Return the handcrafted features of all cells of ``pbc``."""
    data = load_pbc(data_folder() / "pbc")
    return remembered(size.folder / "measured-pbc.joblib", lambda: handcrafted(data.images))


def load_embedding(size: Size) -> np.ndarray:
    """Return what the network that ships sees of all cells of ``pbc``."""
    data = load_pbc(data_folder() / "pbc")
    file = size.folder / "embedding-pbc.joblib"
    return remembered(file, lambda: load_pretrained("blood-cells").transform(data.images))


def ablation(size: Size) -> str:
    """Ten labels of each type: the whole hybrid, and without each of its parts."""
    cells = few_labels(size)
    X = cells.both[1]
    Z, bare, whole = enhance(X), adapted(size), adapted(size, enhanced=True)
    makers = {
        "the whole": (Z, "wpat", whole),
        "without ALHE": (X, "wpat", bare),
        "without adaptation": (Z, "wpat", SHIPPED),
        "without attention": (Z, "plain", whole),
        "without the three": (X, "plain", SHIPPED),
    }
    arms = {
        name: tuned(partial(net, kind, start, epochs=size.fine_tuning), images, cells)
        for name, (images, kind, start) in makers.items()
    }
    pairs = {f"the whole less {name}": ("the whole", name) for name in list(makers)[1:]}
    return table(arms, pairs)


def transfer(size: Size) -> str:
    """Other laboratories: a linear model on the frozen encoder, beside color and measurements."""
    rows = []
    root = data_folder()
    for name, data in {
        "taleqani": load_taleqani(root / "taleqani"),
        "segmentation_wbc": load_segmentation_wbc(root / "segmentation_wbc"),
    }.items():
        y = np.asarray(data.target).astype(str)
        groups = np.arange(len(y)) if data.groups is None else np.asarray(data.groups)
        common = np.isin(y, [label for label in np.unique(y) if (y == label).sum() >= 8])
        images, y, groups = data.images[common], y[common], groups[common]
        folds = list(GroupedFolds(4, random_state=0).split(y, y, groups))
        both = seen(size, name, lambda images=images: images)
        arms = {}
        file = size.folder / f"measured-{name}.joblib"
        measured = remembered(file, lambda images=images: handcrafted(images))
        arms[f"{name}: handcrafted"] = [scored(linear(0.1), measured, y, *fold) for fold in folds]
        for kind, start in (("shipped", SHIPPED), ("adapted to pbc", adapted(size))):
            Z = embedded(start, both)
            arms[f"{name}: {kind}"] = [scored(linear(0.1), Z, y, *fold) for fold in folds]
            Z = np.hstack([Z, measured])
            words = f"{name}: {kind}, with handcrafted"
            arms[words] = [scored(linear(0.1), Z, y, *fold) for fold in folds]
        for recipe in ("color-logistic", "handcrafted-xgboost"):
            made = make_recipe(recipe, n_jobs=1, random_state=0)
            arms[f"{name}: {recipe}"] = [scored(made, images, y, *fold) for fold in folds]
        rows.append(table(arms, {}))
    return "\n\n".join(rows)


PARTS = {
    "few": few, "probe": probe, "every": every, "ablation": ablation, "transfer": transfer,
}  # fmt: skip
TITLES = {
    "few": "ten labels of each type of pbc",
    "probe": "linear probe on all labels of pbc",
    "every": "all labels of pbc",
    "ablation": "the parts of the hybrid, ten labels of each type of pbc",
    "transfer": "encoder adapted to pbc, in other laboratories",
}


def main() -> None:
    """Run parts and write their sections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="600 images, little time")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--keep", type=Path, default=Path("build/adaptation"))
    parser.add_argument("--epochs", type=int, help="of adaptation")
    parser.add_argument("--target", choices=("features", "types"), default="features")
    parser.add_argument("--unlabeled", type=int, help="how many unlabeled images")
    parser.add_argument("--no-fine-tuning", action="store_true", help="linear models only")
    parser.add_argument("--tuning-epochs", type=int, help="of each fine-tuning")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    size = Size(epochs=10, unlabeled=None, draws=5, fine_tuning=30, folder=given.keep)
    if given.small:
        size = replace(size, epochs=1, unlabeled=600, draws=2, fine_tuning=3, name=" (small)")
    size = replace(
        size,
        epochs=given.epochs or size.epochs,
        unlabeled=given.unlabeled or size.unlabeled,
        target=given.target,
        fine_tuning=0 if given.no_fine_tuning else given.tuning_epochs or size.fine_tuning,
    )
    size.folder.mkdir(parents=True, exist_ok=True)
    for part in given.only:
        start = time.process_time()
        text = PARTS[part](size)
        minutes = (time.process_time() - start) / 60
        text = (
            f"{size.unlabeled or 6000} unlabeled images, each whole and closer, {size.epochs} "
            f"epochs of adaptation to {size.target}, {size.fine_tuning} of fine-tuning. "
            f"Intervals: 95%, Student's t over {size.draws} draws or the folds.\n\n{text}"
            f"\n\n{minutes:.1f} core-minutes ({os.cpu_count()} cores)."
        )
        if given.no_write:
            print(text, flush=True)
        else:
            write_section(f"Adaptation{size.name}: {TITLES[part]}", text)


if __name__ == "__main__":
    main()
