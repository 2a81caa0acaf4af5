"""What helps when classes are of unequal size, and whether the GAN earns its time.

    HEMAEST_DATA=... python -m benchmarks.balancing [--small | --hour] [--only pbc wbc ...]

An imbalanced problem is made from ``pbc``: three of its 8 types keep 15 training images. The test
fold is untouched. Everything that learns (nets, GANs, encoders, quotas, filters) sees the training
fold only. Nets and GANs see the cells cut out to one scale. The same table on dataset1 of
``segmentation_wbc``, where eosinophils are rare by nature. The settings were chosen on synthetic
cells (``make_cells``), not on these images.
"""

import argparse
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.metrics import f1_score, recall_score
from sklearn.utils import Bunch

from benchmarks._dcgan import make_cells as dcgan_cells
from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.balance import ACDBGAN, generative_report
from hemaest.balance._quota import deficits
from hemaest.datasets import load_pbc, load_segmentation_wbc
from hemaest.deep import ImageClassifier
from hemaest.deep._letterbox import letterbox
from hemaest.evaluation._metrics import calibration_error
from hemaest.features import HandcraftedFeatures
from hemaest.groups import GroupedFolds
from hemaest.images import as_array
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.recipes._deep import cropper
from hemaest.segmentation import CellSegmenter

# a core's own time: others on the machine must not decide which GAN trains longer
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time
RARE = ["basophil", "monocyte", "platelet"]
KEPT = 15


@dataclass(frozen=True)
class Size:
    """What the two sizes of the run differ in."""

    pixels: int
    per_class: int | None
    per_test_class: int | None
    n_seeds: int
    epochs: int
    gan: dict[str, Any]
    on_features: tuple[str | None, ...]
    raw_cells: int
    name: str = ""


FULL = Size(
    pixels=64,
    per_class=None,
    per_test_class=None,
    n_seeds=5,
    epochs=30,
    gan={"max_steps": 6000, "width": 32, "batch_size": 64},
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
    on_features=(None, "weights", "oversample", "smote"),
    raw_cells=150,
    name=" (small)",
)
HOUR = replace(
    SMALL,
    gan={"max_steps": 6000, "width": 16, "batch_size": 16, "lr": 2e-3},
    name=" (an hour of CPU)",
)

NETS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "class weights": {"class_weight": "balanced"},
    "logit-adjusted": {"loss": "logit-adjusted"},
    "focal": {"loss": "focal"},
    "oversampling": {"resampler": "balanced"},
    "augmentation only": {"augment": "strong"},
}


def squares(images: Any, size: int) -> np.ndarray:
    return np.stack([letterbox(as_array(image)[..., :3], size) for image in images])


def cut(y: np.ndarray, train: np.ndarray, rare: list[str], kept: int, seed: int) -> np.ndarray:
    """Return the training rows with only some images of each rare class."""
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(train[y[train] == label])[: kept if label in rare else None]
        for label in np.unique(y)
    ]
    return np.sort(np.concatenate(rows))


def fewer(y: np.ndarray, rows: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Return at most so many rows of each class."""
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(rows[y[rows] == label])[:most] for label in np.unique(y)]
    return np.sort(np.concatenate(parts))


def scores(model: Any, X: Any, y: np.ndarray, rare: list[str]) -> dict[str, float]:
    """Return what the table shows of a fitted model."""
    proba = model.predict_proba(X)
    guess = model.classes_[proba.argmax(axis=1)]
    codes = np.searchsorted(model.classes_, y)
    return {
        "minority recall": recall_score(y, guess, labels=rare, average="macro", zero_division=0),
        "macro F1": f1_score(y, guess, average="macro", zero_division=0),
        "calibration error": calibration_error(codes, proba),
    }


def net(size: Size, seed: int, **options: Any) -> ImageClassifier:
    """Return the net of ``deep-small``."""
    recipe = make_recipe(
        "deep-small", image_size=size.pixels, max_epochs=size.epochs, random_state=seed
    )
    return recipe[-1].set_params(**options)


class Problem:
    """One split of one imbalanced set, and the rows of its table."""

    def __init__(self, data: Bunch, rare: list[str], size: Size, seed: int, kept: int | None):
        self.size, self.seed, self.rare = size, seed, rare
        y, groups = np.asarray(data.target), np.asarray(data.groups)
        folds = GroupedFolds(5, random_state=seed).split(None, y, groups)
        train, test = next(iter(folds))
        train = fewer(y, train, size.per_class, seed)
        if kept is not None:
            train = cut(y, train, rare, kept, seed)
        test = fewer(y, test, size.per_test_class, seed)
        self.y, self.test_y, self.groups = y[train], y[test], groups[train]
        segmenter = CellSegmenter(n_jobs=2)
        self.outlined = [
            segmenter.fit_transform(data.images[train]),
            segmenter.transform(data.images[test]),
        ]
        crop = cropper(n_jobs=2).fit(self.outlined[0])
        self.X, self.test_X = (
            squares(crop.transform(images), size.pixels) for images in self.outlined
        )
        self.rows: list[dict[str, Any]] = []

    def measure(self, model: str, balance: str, fitted: Any, seconds: float, X: Any) -> None:
        """Add a row to the table."""
        found = scores(fitted, X, self.test_y, self.rare)
        self.rows.append(
            {"model": model, "balance": balance, "seed": self.seed, **found, "seconds": seconds}
        )
        print(self.rows[-1], flush=True)

    def nets(self) -> None:
        """Fit the net with each cheap correction."""
        for name, options in NETS.items():
            start = time.perf_counter()
            fitted = net(self.size, self.seed, **options).fit(self.X, self.y, self.groups)
            self.measure("deep-small", name, fitted, time.perf_counter() - start, self.test_X)

    def gan(self) -> ACDBGAN:
        """Fit the GAN once; its variants differ in what is taken from it."""
        start, clock = time.perf_counter(), CLOCK()
        gan = ACDBGAN(image_size=self.size.pixels, random_state=self.seed, **self.size.gan)
        gan.fit(self.X, self.y, self.groups)
        cost, self.gan_seconds = time.perf_counter() - start, CLOCK() - clock
        every = deficits(gan.counts_)
        for name, quota, filtered in (
            ("ACDB-GAN", gan.quota_, True),
            ("ACDB-GAN, no adaptive quota", every, True),
            ("ACDB-GAN, no filter", gan.quota_, False),
        ):
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of classes that stay short
                X, y = gan._fill(self.X, self.y, quota, filtered, self.seed)
            fitted = net(self.size, self.seed).fit(X, y)
            spent = cost + time.perf_counter() - start
            self.measure("deep-small", name, fitted, spent, self.test_X)
            made = {label: int((y[len(self.y) :] == label).sum()) for label in self.rare}
            print(name, "made", made, gan.filtered_ if filtered else "", flush=True)
        return gan

    def features(self) -> None:
        """Fit boosted trees on measures of the cells, with each correction."""
        tables = []
        for images in self.outlined:
            extractor = HandcraftedFeatures(n_jobs=2).set_output(transform="pandas")
            tables.append(extractor.fit_transform(images))
        for balance in self.size.on_features:
            recipe = make_recipe("handcrafted-xgboost", balance=balance, random_state=self.seed)
            tail = ImagePipeline(recipe.steps[2:])
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tail.fit(tables[0], self.y, groups=self.groups)
            name = {None: "nothing", "weights": "class weights", "oversample": "oversampling"}
            spent = time.perf_counter() - start
            self.measure(
                "handcrafted-xgboost", name.get(balance, str(balance)), tail, spent, tables[1]
            )

    def realism(self, gan: ACDBGAN) -> pd.DataFrame:
        """Compare raw cells of both GANs with held-out real ones, by one encoder."""
        encoder = net(self.size, self.seed, tta=False, resampler="balanced", precision="float32")
        encoder.fit(self.X, self.y, self.groups)
        n, parts = self.size.raw_cells, {}
        parts["ACDB-GAN, raw"] = {c: gan.sample(n, c, filtered=False) for c in self.rare}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            parts["ACDB-GAN, filtered"] = {c: gan.sample(n, c, filtered=True) for c in self.rare}
        seconds = self.gan_seconds / len(self.rare)
        parts["DCGAN, one for each class"] = {
            c: dcgan_cells(
                self.X[self.y == c],
                n,
                seconds=seconds,
                clock=CLOCK,
                width=self.size.gan["width"],
                device=str(encoder.net_.torch_device),
            )[0]
            for c in self.rare
        }
        real = np.isin(self.test_y, self.rare)
        rows = []
        for name, cells in parts.items():
            kept = {c: images for c, images in cells.items() if len(images) >= 4}
            if not kept:
                continue
            report = generative_report(
                self.test_X[real],
                np.concatenate(list(kept.values())),
                self.test_y[real],
                np.repeat(list(kept), [len(images) for images in kept.values()]),
                training=self.X,
                training_labels=self.y,
                encoder=encoder,
                random_state=0,
            )
            rows.append(report.table.assign(cells=name, seed=self.seed))
            self.pictures = getattr(self, "pictures", {}) | {name: report}
        return pd.concat(rows)


def interval(values: np.ndarray) -> str:
    """Return mean and 95% t-interval over seeds."""
    from scipy.stats import t

    mean = values.mean()
    if len(values) < 2:
        return f"{mean:.3f}"
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:.3f} +/- {half:.3f}"


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each balance, means over seeds, and the gain over doing nothing."""
    names = ["minority recall", "macro F1", "calibration error"]
    lines = []
    for (model, balance), part in rows.groupby(["model", "balance"], sort=False):
        base = rows[(rows["model"] == model) & (rows["balance"] == "nothing")]
        gain = 100 * (part["minority recall"].to_numpy() - base["minority recall"].to_numpy())
        line = {"model": model, "balance": balance}
        line |= {name: interval(part[name].to_numpy()) for name in names}
        line["recall gained, points"] = interval(gain)
        lines.append(line | {"seconds": part["seconds"].mean()})
    return pd.DataFrame(lines)


def realism_table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = ["FID", "KID", "KID low", "KID high", "precision", "coverage"]
    shown += ["SSIM real", "SSIM synthetic", "distance real", "distance synthetic"]
    shown += ["memorized", "memorized by chance"]
    return rows.groupby(["cells", "class"], sort=False)[shown].mean().reset_index()


def run(name: str, data: Bunch, rare: list[str], size: Size, kept: int | None) -> list[str]:
    """Return the text of one data set."""
    problems, realism = [], []
    for seed in range(size.n_seeds):
        problem = Problem(data, rare, size, seed, kept)
        problem.nets()
        gan = problem.gan()
        problem.features()
        if kept is not None:
            realism.append(problem.realism(gan))
        problems.append(problem)
    rows = pd.DataFrame([row for problem in problems for row in problem.rows])
    counts = dict(zip(*np.unique(problems[0].y, return_counts=True), strict=True))
    text = [
        f"### {name}\n",
        f"{len(problems[0].y)} training images ({', '.join(f'{k} {v}' for k, v in counts.items())})"
        f", {len(problems[0].test_y)} test images, {size.n_seeds} seed(s), {size.pixels} pixels, "
        f"{size.epochs} epochs, GAN {size.gan}. Nets and GANs see cells cut out to one scale.\n",
        format_table(summary(rows)),
    ]
    if realism:
        found = pd.concat(realism)
        text += [
            "\nRaw and filtered cells of the ACDB-GAN and raw ones of one DCGAN for each class, "
            "trained as long, against held-out real cells. One encoder for all: the net of "
            "deep-small, fitted on the training fold.\n",
            format_table(realism_table(found)),
            "",
            *bars(rows, found),
        ]
    return text


def bars(rows: pd.DataFrame, realism: pd.DataFrame) -> list[str]:
    """Say whether each bar holds."""
    nets = rows[rows["model"] == "deep-small"].set_index(["balance", "seed"])
    means = nets["macro F1"].groupby("balance").mean()
    best = max(("class weights", "oversampling"), key=lambda b: means[b])
    gain = 100 * (nets["minority recall"]["ACDB-GAN"] - nets["minority recall"]["nothing"])
    kid = realism[realism["class"] != "all"].groupby("cells")["KID"].mean()
    together = realism[realism["class"] == "all"].groupby("cells")
    copies, chance = together["memorized"].mean(), together["memorized by chance"].mean().max()
    ratio = kid["ACDB-GAN, raw"] / kid["DCGAN, one for each class"]
    found = [
        ("minority recall over nothing, points", "8, interval above 0", interval(gain.to_numpy())),
        (
            f"macro F1 less that of {best}",
            "above 0",
            interval((nets["macro F1"]["ACDB-GAN"] - nets["macro F1"][best]).to_numpy()),
        ),
        ("KID over that of the DCGANs", "at most 0.5", f"{ratio:.3f}"),
        ("memorized, raw", "at most 0.02", f"{copies['ACDB-GAN, raw']:.3f}"),
        ("memorized, filtered", "at most 0.02", f"{copies.get('ACDB-GAN, filtered', 0):.3f}"),
        ("memorized by chance alone", "", f"{chance:.3f}"),
    ]
    return [format_table(pd.DataFrame(found, columns=["what", "bar (full size)", "found"]))]


def pbc(size: Size) -> list[str]:
    data = load_pbc(data_folder() / "pbc")
    return run(f"pbc, {', '.join(RARE)} cut to {KEPT}", data, RARE, size, KEPT)


def wbc(size: Size) -> list[str]:
    data = load_segmentation_wbc(data_folder() / "segmentation_wbc")
    y = np.array([data.class_names[label] for label in data.target])
    keep = np.array(["dataset1" in name for name in data.filenames]) & (y != "basophil")
    chosen = Bunch(images=data.images[keep], target=y[keep], groups=np.asarray(data.groups)[keep])
    whole = replace(size, per_class=None, per_test_class=None)
    return run("segmentation_wbc, dataset1", chosen, ["eosinophil"], whole, None)


def throughput(size: Size) -> list[str]:
    """Compare the estimator's loop with a plain one of the same nets."""
    from benchmarks._gan_loops import estimator_loop, plain_loop

    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (256, size.pixels, size.pixels, 3)).astype(np.uint8)
    y = np.repeat(np.arange(8), 32)
    options = {**size.gan, "image_size": size.pixels, "max_steps": 24, "report_every": 24}
    pairs = [(estimator_loop(X, y, options), plain_loop(X, y, options)) for _ in range(4)][1:]
    ratio = [ours / plain for ours, plain in pairs]
    best = [max(column) for column in zip(*pairs, strict=True)]
    return [
        "### Training throughput\n",
        f"{best[0]:.1f} images/s in the estimator's loop, {best[1]:.1f} in a plain loop of the "
        f"same nets; ratio of pairs: median {np.median(ratio):.3f} (bar 0.90).",
    ]


PARTS = {"pbc": pbc, "wbc": wbc, "throughput": throughput}


def written(part: str, size: Size) -> str:
    """Run a part and return its text."""
    start = time.perf_counter()
    text = PARTS[part](size)
    minutes = (time.perf_counter() - start) / 60
    text.append(f"\n{minutes:.1f} minutes by the clock, {torch.get_num_threads()} thread(s).")
    if size is not FULL:
        text.append("The bars are those of the full size, which was not measured: no GPU.")
    return "\n".join(text)


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
    sizes.add_argument("--hour", action="store_true", help="as small, the GAN six times as long")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    gpu = torch.cuda.is_available()
    if not (gpu or given.small or given.hour):
        raise SystemExit("no GPU here: the full size would take days; take --small or --hour.")
    size = SMALL if given.small else HOUR if given.hour else FULL
    # a set for each core; what is timed against something else runs alone
    sets = [part for part in given.only if part != "throughput"]
    texts = Parallel(n_jobs=1 if gpu else 2)(delayed(written)(part, size) for part in sets)
    for part, text in zip(sets, texts, strict=True):
        show(part, text, size, given.no_write)
    if "throughput" in given.only:
        show("throughput", written("throughput", size), size, given.no_write)


if __name__ == "__main__":
    main()
