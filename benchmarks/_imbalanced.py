"""One imbalanced problem of the balancing benchmark: its split, and what is fitted and measured."""

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import f1_score, recall_score
from sklearn.utils import Bunch

from benchmarks._dcgan import make_cells as dcgan_cells
from hemaest.balance import ACDBGAN, RenderedCellSampler, generative_report
from hemaest.balance._quota import deficits
from hemaest.deep import ImageClassifier
from hemaest.deep.letterbox import letterbox
from hemaest.evaluation.scores import calibration_error
from hemaest.features import HandcraftedFeatures
from hemaest.groups import GroupedFolds
from hemaest.images import as_array
from hemaest.recipes import ImagePipeline, make_recipe
from hemaest.recipes._deep import cropper
from hemaest.segmentation import CellSegmenter

# a core's own time: others on the machine must not decide which GAN trains longer
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time


@dataclass(frozen=True)
class Size:
    """What the two sizes of the run differ in."""

    pixels: int
    per_class: int | None
    per_test_class: int | None
    n_seeds: int
    epochs: int
    gan: dict[str, Any] | None
    refiner: dict[str, Any] | None
    on_features: tuple[str | None, ...]
    raw_cells: int
    corrections: tuple[str, ...] = ()
    from_rendered: bool = True  # else the network of deep-small begins with random weights
    name: str = ""


# what the renderer calls the classes of pbc that it draws under other names
NAMES = {"ig": ["promyelocyte", "myelocyte", "metamyelocyte"]}
GANS = {"ACDB-GAN": "noise", "refined": "rendered"}

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
    if not size.from_rendered:
        options = {"pretrained": False, **options}
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
        for name in self.size.corrections or NETS:
            options = NETS[name]
            start = time.perf_counter()
            fitted = net(self.size, self.seed, **options).fit(self.X, self.y, self.groups)
            self.measure("deep-small", name, fitted, time.perf_counter() - start, self.test_X)

    def rendered(self) -> None:
        """Fit the net with rendered cells as they are, matched to the fold."""
        start = time.perf_counter()
        sampler = RenderedCellSampler(names=NAMES, random_state=self.seed)
        X, y = sampler.fit_resample(self.X, self.y)
        fitted = net(self.size, self.seed).fit(X, y)
        self.measure("deep-small", "rendered", fitted, time.perf_counter() - start, self.test_X)

    def gans(self) -> dict[str, ACDBGAN]:
        """Fit each GAN once; its variants differ in what is taken from it."""
        return {name: self.gan(name) for name in GANS if self.options(name) is not None}

    def options(self, kind: str) -> dict[str, Any] | None:
        """Return the settings of a GAN at this size; None where it is left out."""
        return self.size.refiner if kind == "refined" else self.size.gan

    def gan(self, kind: str) -> ACDBGAN:
        """Fit one GAN, and the net on what it makes."""
        start, clock = time.perf_counter(), CLOCK()
        gan = ACDBGAN(
            image_size=self.size.pixels,
            source=GANS[kind],
            names=NAMES,
            random_state=self.seed,
            **(self.options(kind) or {}),
        )
        gan.fit(self.X, self.y, self.groups)
        cost, self.gan_seconds = time.perf_counter() - start, CLOCK() - clock
        every = deficits(gan.counts_)
        for name, quota, filtered in (
            (kind, gan.quota_, True),
            (f"{kind}, no adaptive quota", every, True),
            (f"{kind}, no filter", gan.quota_, False),
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
        sampler = RenderedCellSampler(names=NAMES, random_state=self.seed)
        X, y = sampler.fit_resample(self.outlined[0], self.y)
        made = extractor.fit_transform(X[sampler.sample_indices_ < 0])
        filled = pd.concat([tables[0], made], ignore_index=True)
        for balance in (*self.size.on_features, "rendered"):
            recipe = make_recipe("handcrafted-xgboost", balance=balance, random_state=self.seed)
            tail = ImagePipeline(recipe.steps[-2:])
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if balance == "rendered":
                    tail.fit(filled, y)
                else:
                    tail.fit(tables[0], self.y, groups=self.groups)
            name = {None: "nothing", "weights": "class weights", "oversample": "oversampling"}
            spent = time.perf_counter() - start
            self.measure(
                "handcrafted-xgboost", name.get(balance, str(balance)), tail, spent, tables[1]
            )

    def realism(self, gans: dict[str, ACDBGAN]) -> pd.DataFrame:
        """Compare raw cells of the GANs with held-out real ones, by one encoder."""
        encoder = net(self.size, self.seed, tta=False, resampler="balanced", precision="float32")
        encoder.fit(self.X, self.y, self.groups)
        n, parts = self.size.raw_cells, {}
        for name, gan in gans.items():
            for kind, filtered in (("raw", False), ("filtered", True)):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    parts[f"{name}, {kind}"] = {
                        c: gan.sample(n, c, filtered=filtered) for c in self.rare
                    }
        renderer = gans["refined"].renderer_
        parts["rendered"] = {
            c: squares(renderer.draw(n, c, random_state=self.seed), self.size.pixels)
            for c in self.rare
        }
        seconds = self.gan_seconds / len(self.rare)
        parts["DCGAN, one for each class"] = {
            c: dcgan_cells(
                self.X[self.y == c],
                n,
                seconds=seconds,
                clock=CLOCK,
                width=self.size.refiner["width"],
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
            self.reports = getattr(self, "reports", {}) | {name: report}
        return pd.concat(rows)
