"""What masked pretraining and windowed attention bring on real cells.

    HEMAEST_DATA=... python -m benchmarks.pretraining [--small | --hour]
        [--only probe few all ...] [--encoders FOLDER]

Encoders learn from ``pbc_unlabelled`` and never from an image they are judged on; labels come from
``pbc``, one split by group on a CPU, five folds on a GPU. Settings were chosen on synthetic cells
and on the training side of that split. Nets see cells cut out to one scale, which is that of the
unlabeled ones. Each part is a section of RESULTS.md; ``--encoders`` keeps
the pretrained encoders, so that parts can be run one at a time.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._encoders import (
    FULL,
    HOUR,
    SMALL,
    Size,
    convnext,
    embedded,
    encoder,
    enhanced,
    frozen,
    outlined,
    plain_loop,
    pretrainer,
    unlabeled,
    unlabeled_cropper,
    wpat,
)
from benchmarks._results import data_folder, interval, write_section
from benchmarks.throughput import best_of
from hemaest._tables import format_table
from hemaest.datasets import load_pbc, load_segmentation_wbc, load_taleqani
from hemaest.groups import GroupedFolds, grouped_holdout
from hemaest.recipes import make_recipe
from hemaest.recipes._deep import cropper
from hemaest.segmentation import CellSegmenter

PARTS = ("probe", "few", "all", "ablation", "transfer", "synthetic", "cost")
# what the nets of a part begin with
ENCODERS = {
    "probe": {"plain", "untrained"},
    "few": {"plain"},
    "all": {"enhanced"},
    "ablation": {"plain", "enhanced"},
    "transfer": {"plain", "untrained"},
    "synthetic": {"synthetic", "untrained"},
    "cost": set(),
}
BARS = {
    "probe": "Bar: at least .95, and at least 15 points above the untrained encoder.",
    "few": "Bar: at least .88, and at least 10 points above the net from scratch.",
    "all": "Bars: 8 types at least .99, 11 subtypes macro F1 at least .91.",
    "cost": "Bar: at most 1.05 times the plain loop on a CPU, 1.10 on a GPU.",
}


def pbc(size: Size, level: str = "type") -> tuple[Any, np.ndarray, np.ndarray]:
    """Return cells as pretraining saw them, labels and groups."""
    data = load_pbc(data_folder() / "pbc", level=level)
    cells = unlabeled_cropper(size).transform(outlined(size, data.images, "pbc"))
    return cells, np.asarray(data.target), np.asarray(data.groups)


def pretrain(size: Size, parts: list[str], gpu: bool) -> None:
    """Make the encoders of some parts; without a GPU two at a time."""
    kinds = sorted(set().union(*(ENCODERS[part] for part in parts)))
    if {"plain", "enhanced"} & set(kinds):
        unlabeled(size)  # outlined once for both
    Parallel(n_jobs=1 if gpu else 2)(delayed(encoder)(size, kind) for kind in kinds)


def splits(y: np.ndarray, groups: np.ndarray, gpu: bool) -> list[Any]:
    """Return one split by group, or five folds on a GPU."""
    if not gpu:
        return [grouped_holdout(y, groups, 0.2, random_state=0)]
    return list(GroupedFolds(5, random_state=0).split(y, y, groups))


def some(y: np.ndarray, rows: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """Draw some rows of each class."""
    if count is None:
        return rows
    rng = np.random.default_rng(seed)
    own = [rows[y[rows] == label] for label in np.unique(y)]
    return np.concatenate([rng.choice(o, min(count, len(o)), replace=False) for o in own])


def linear() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=5000))


def fit_and_score(model: Any, X: Any, y: Any, train: Any, test: Any) -> tuple[float, float]:
    """Return accuracy and macro F1."""
    guess = model.fit(X[train], y[train]).predict(X[test])
    return accuracy_score(y[test], guess), f1_score(y[test], guess, average="macro")


def compared(arms: dict[str, list[Any]], gpu: bool) -> list[dict[str, str]]:
    """Return accuracy and macro F1 of each arm over its jobs.

    A job holds what :func:`fit_and_score` takes. Without a GPU they run two at a time: small nets
    gain more from a core each than from both for one.
    """
    jobs = [delayed(fit_and_score)(*job) for arm in arms.values() for job in arm]
    found = iter(Parallel(n_jobs=1 if gpu else 2)(jobs))
    rows = []
    for name, arm in arms.items():
        accuracy, f1 = zip(*(next(found) for _ in arm), strict=True)
        rows.append({"": name, "accuracy": interval(accuracy), "macro F1": interval(f1)})
    return rows


def probe(size: Size, gpu: bool) -> pd.DataFrame:
    """Linear probe on frozen embeddings, five folds by group."""
    X, y, groups = pbc(size)
    folds = list(GroupedFolds(5, random_state=0).split(y, y, groups))
    names = {"plain": "pretrained without labels", "untrained": "the same encoder, untrained"}
    tables = {name: embedded(size, kind, X) for kind, name in names.items()}
    arms = {name: [(linear(), Z, y, *fold) for fold in folds] for name, Z in tables.items()}
    table = pd.DataFrame(compared(arms, gpu)).rename(columns={"": "encoder"})
    return table.assign(features=[Z.shape[1] for Z in tables.values()])


def few(size: Size, gpu: bool) -> pd.DataFrame:
    """Ten labels a class: fine-tuned from pretraining against from scratch."""
    X, y, groups = pbc(size)
    Z, start = embedded(size, "plain", X), encoder(size, "plain")
    train, test = grouped_holdout(y, groups, 0.2, random_state=0)
    drawn = [(seed, some(y, train, 10, seed)) for seed in size.seeds]
    arms = {
        "wpat, pretrained": [(wpat(size, start, s, size.few), X, y, r, test) for s, r in drawn],
        "wpat, from scratch": [(wpat(size, None, s, size.few), X, y, r, test) for s, r in drawn],
        "linear, pretrained": [(linear(), Z, y, r, test) for _, r in drawn],
    }
    return pd.DataFrame(compared(arms, gpu)).rename(columns={"": "net"})


def every(size: Size, gpu: bool) -> pd.DataFrame:
    """All labels: pretrained against the same net and a residual net from scratch."""
    start, tables = encoder(size, "enhanced"), []
    for level, task in (("type", "8 types"), ("subtype", "11 subtypes")):
        X, y, groups = pbc(size, level)
        Z = enhanced(X)
        folds = list(enumerate(splits(y, groups, gpu)))
        other = {"max_epochs": size.all["max_epochs"], "image_size": size.image}
        arms = {
            "fcmae-wpat": [(wpat(size, start, s, size.all), Z, y, *fold) for s, fold in folds],
            "alhe-wpat, from scratch": [
                (wpat(size, None, s, size.all), Z, y, *fold) for s, fold in folds
            ],
            "deep-small, from scratch": [
                (make_recipe("deep-small", random_state=s, **other), X, y, *fold)
                for s, fold in folds
            ],
        }
        tables.append(pd.DataFrame(compared(arms, gpu)).assign(task=task))
    table = pd.concat(tables).rename(columns={"": "net"})
    return table[["task", "net", "accuracy", "macro F1"]]


def ablation(size: Size, gpu: bool) -> pd.DataFrame:
    """Return the whole, and the whole without each of its parts."""
    X, y, groups = pbc(size)
    Z = enhanced(X)
    how, plain, start = size.ablation, encoder(size, "plain"), encoder(size, "enhanced")
    makers = {
        "the whole": (Z, lambda s: wpat(size, start, s, how)),
        "without ALHE": (X, lambda s: wpat(size, plain, s, how)),
        "without FCMAE": (Z, lambda s: wpat(size, None, s, how)),
        "without WPAT": (Z, lambda s: convnext(size, start, s, how)),
    }
    arms = {
        name: [
            (make(seed), images, y, some(y, train, size.labels, seed), test)
            for seed in size.seeds
            for train, test in splits(y, groups, gpu)
        ]
        for name, (images, make) in makers.items()
    }
    return pd.DataFrame(compared(arms, gpu))


def transfer(size: Size, gpu: bool) -> pd.DataFrame:
    """Return how an encoder of one microscope serves another's cells."""
    rows = []
    for name, data in {
        "taleqani": load_taleqani(data_folder() / "taleqani"),
        "segmentation_wbc": load_segmentation_wbc(data_folder() / "segmentation_wbc"),
    }.items():
        X, y = outlined(size, data.images, name), np.asarray(data.target).astype(str)
        groups = None if data.groups is None else np.asarray(data.groups)
        if groups is None:
            folds = list(StratifiedKFold(4, shuffle=True, random_state=0).split(y, y))
        else:
            folds = list(GroupedFolds(4, random_state=0).split(y, y, groups))
        forest = make_recipe("handcrafted-xgboost", n_jobs=2, random_state=0)
        features = np.asarray(forest[1].fit_transform(X))
        net = make_recipe(
            "deep-small",
            segmenter=CellSegmenter(),
            image_size=size.image,
            max_epochs=size.transfer_epochs,
            random_state=0,
        )
        arms = {
            "pretrained, linear": (X, make_pipeline(cropper(), frozen(size, "plain"), linear())),
            "untrained, linear": (X, make_pipeline(cropper(), frozen(size, "untrained"), linear())),
            "color, linear": (data.images, make_recipe("color-logistic", random_state=0)),
            "handcrafted-xgboost": (features, forest[2:]),
            "from scratch": (X, net[1:]),
        }
        row = {"set": name, "images": len(y)}
        row |= {arm: mean_score(model, A, y, folds, gpu) for arm, (A, model) in arms.items()}
        rows.append(row)
        print(row, flush=True)
    return pd.DataFrame(rows)


def mean_score(model: Any, X: Any, y: Any, folds: Any, gpu: bool) -> str:
    """Return balanced accuracy over folds."""

    def score(train: Any, test: Any) -> float:
        guess = clone(model).fit(X[train], y[train]).predict(X[test])
        return balanced_accuracy_score(y[test], guess)

    return interval(Parallel(n_jobs=1 if gpu else 2)(delayed(score)(*fold) for fold in folds))


def synthetic(size: Size, gpu: bool) -> pd.DataFrame:
    """Return whether an encoder of synthetic cells beats random weights on real ones."""
    X, y, groups = pbc(size)
    train, test = grouped_holdout(y, groups, 0.2, random_state=0)
    tens = [(seed, some(y, train, 10, seed)) for seed in size.seeds]
    rows = []
    for kind in ("synthetic", "untrained"):
        Z, start = embedded(size, kind, X), encoder(size, kind)
        arms = {
            "linear, 10 labels a class": [(linear(), Z, y, r, test) for _, r in tens],
            "linear, all labels": [(linear(), Z, y, train, test)],
            "wpat, 10 labels a class": [
                (wpat(size, start, s, size.few), X, y, r, test) for s, r in tens
            ],
        }
        rows.append({"encoder": kind} | {r[""]: r["accuracy"] for r in compared(arms, gpu)})
    return pd.DataFrame(rows)


def cost(size: Size, gpu: bool) -> pd.DataFrame:
    """Return the time of ``fit`` over that of a plain loop, and what leaving out work saves."""
    import torch

    from hemaest.nets.fcmae import build_fcmae

    device = torch.device("cuda" if gpu else "cpu")
    if not gpu:  # processor time is compared, and threads that wait for each other spend it too
        torch.set_num_threads(1)
    n = 8192 if gpu else 256
    X = np.random.default_rng(0).integers(0, 255, (n, size.image, size.image, 3), dtype=np.uint8)
    model = pretrainer(size, max_epochs=3, batch_size=256 if gpu else 64)
    sides = {"fit": lambda: model.fit(X), "plain": lambda: plain_loop(model, X, device)}
    for run in sides.values() if gpu else ():
        run()
    found = best_of(sides, 5, cpu=not gpu)
    net = build_fcmae(
        "convnextv2_atto",
        image_size=size.image,
        decoder_dim=model.decoder_dim,
        **size.encoder,
    ).to(device)
    net.to(memory_format=torch.channels_last)
    x = torch.rand(64, 3, size.image, size.image, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    mask = net.draw_mask(64, size.image, torch.Generator().manual_seed(0))

    def step(sparse: bool) -> None:
        net.sparse = sparse
        net.loss(x, mask).mean().backward()
        if gpu:
            torch.cuda.synchronize()

    ways = best_of({"sparse": lambda: step(True), "dense": lambda: step(False)}, 5, cpu=not gpu)
    return pd.DataFrame(
        [
            {"what": "fit over a plain loop", "ratio": found["fit"] / found["plain"]},
            {
                "what": "a step that leaves out hidden work over one that does all, float32",
                "ratio": ways["sparse"] / ways["dense"],
            },
        ]
    ).assign(**{"images/s": [3 * n / found["fit"], 64 / ways["sparse"]]})


TITLES = {
    "probe": "linear probe, 8 types of pbc",
    "few": "10 labels a class",
    "all": "all labels",
    "ablation": "ablation",
    "transfer": "transfer, balanced accuracy",
    "synthetic": "an encoder of synthetic cells",
    "cost": "cost",
}


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--small", action="store_true", help="a small net and little time, no bar")
    sizes.add_argument("--hour", action="store_true", help="pretrain the small net for an hour")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--encoders", type=Path, help="where pretrained encoders are kept")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    gpu = torch.cuda.is_available() and not (given.small or given.hour)
    size = SMALL if given.small else HOUR if given.hour else FULL
    size.folder = given.encoders or Path(tempfile.mkdtemp())
    size.folder.mkdir(parents=True, exist_ok=True)
    parts = dict(zip(PARTS, (probe, few, every, ablation, transfer, synthetic, cost), strict=True))
    start = time.perf_counter()
    pretrain(size, given.only, gpu)
    before = (time.perf_counter() - start) / 60
    for part in given.only:
        start = time.perf_counter()
        table = parts[part](size, gpu)
        text = describe(size, part, gpu) + "\n\n" + format_table(table)
        minutes = (time.perf_counter() - start) / 60
        text += (
            f"\n\n{minutes:.1f} minutes by the clock, {os.cpu_count()} cores, after {before:.1f} "
            "for the encoders of all parts of that run."
        )
        if given.no_write:
            print(text)
        else:
            write_section(f"Pretraining{size.name}: {TITLES[part]}", text)


def describe(size: Size, part: str, gpu: bool) -> str:
    """Say what was done, in words."""
    encoder = "convnextv2_atto" if not size.encoder else f"a ConvNeXt V2 of {size.encoder}"
    text = (
        f"{encoder} at {size.image} px, {size.pretraining['max_epochs']} epochs of masked "
        "pretraining on the cells of pbc_unlabelled, cut out to one scale. Intervals: 95%, "
        "Student's t over seeds or folds. "
    )
    if part == "ablation" and size.labels:
        text += f"{size.labels} labels a class. "
    if size is FULL:
        return text + BARS.get(part, "")
    if size.unlabeled:
        text += f"{size.unlabeled} unlabeled cells. "
    if size.attention:
        text += f"Attention of {size.attention}. "
    return text + "A small net: no bar holds. The full size needs a GPU and is not measured."


if __name__ == "__main__":
    main()
