"""How real are the synthetic cells? Measured on real images that none of it has seen.

Four questions: can a net that has seen only synthetic cells name real ones, can one outline real
ones, are the drawn shapes separable from real ones, and do real measurements lie in the drawn
range? The recipes were written from textbooks and by looking at the development part of the real
sets (``pbc``: one image in five, drawn with seed 0; ``segmentation_wbc``: every fourth); all
scores are on the rest. Run ``python -m benchmarks.synthetic [--small] [--only PART ...]``.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from benchmarks._results import data_folder, write_section
from benchmarks._shapes import central_cell, shape_of
from benchmarks._small_nets import SmallCNN, SmallUNet, segmentation_loss, to_density, train
from hemaest._tables import format_table
from hemaest.datasets import iter_cells, make_cells, make_smear

FIVE = ["basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil"]
NUCLEATED = {
    "neutrophil": 4, "band_neutrophil": 1, "eosinophil": 3.5, "basophil": 2, "lymphocyte": 4,
    "reactive_lymphocyte": 1.5, "monocyte": 4, "plasma_cell": 1, "lymphoblast": 1,
    "myeloblast": 1, "promyelocyte": 1, "myelocyte": 1, "metamyelocyte": 1, "erythroblast": 1,
    "unidentifiable": 0.5,
}  # fmt: skip
PBC_FIELD = 38.0  # micrometers across a pbc image: its red cells are 7.2 wide
PBC_TYPES = {
    "SNE": "neutrophil", "BNE": "band_neutrophil", "EO": "eosinophil", "BA": "basophil",
    "LY": "lymphocyte", "MO": "monocyte", "ERB": "erythroblast", "PMY": "promyelocyte",
    "MY": "myelocyte", "MMY": "metamyelocyte",
}  # fmt: skip
SIZE = 128
CROP = 112
NEUTROPHIL = 13.5  # micrometers: sets the scale of sets whose magnification is not given


def speed(small: bool) -> str:
    """Cells and megapixels a second of processor time, and memory of batches."""
    make_cells(4, random_state=0)
    make_smear(64, random_state=0)
    rows = []
    for size in (64, 128, 256):
        best = np.inf
        for repeat in range(3):
            start = time.process_time()
            make_cells(200, image_size=size, random_state=repeat)
            best = min(best, time.process_time() - start)
        rows.append(("make_cells", f"{size} px", 200 / best, "cells/s"))
    for side in (2048,) if small else (2048, 8192):
        start = time.process_time()
        make_smear(side, random_state=0)
        rate = side**2 / 1e6 / (time.process_time() - start)
        rows.append(("make_smear", f"{side} x {side}", rate, "megapixels/s"))
    peaks = []
    for number in (1000, 3000):
        for _batch in iter_cells(number, batch_size=250, random_state=0):
            pass
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    rows.append(("iter_cells", "3,000 after 1,000 cells", peaks[1] - peaks[0], "MB more"))
    return format_table(pd.DataFrame(rows, columns=["what", "size", "value", "unit"]), 1)


def is_development(number: int) -> bool:
    """Return the development part of segmentation_wbc: every fourth."""
    return number % 4 == 0


def segmentation_set(lab: int, development: bool) -> tuple[list, list, list]:
    """Return images, maps (0, 1, 2) and types of one lab's part."""
    folder = data_folder() / "segmentation_wbc"
    table = pd.read_csv(folder / f"class_labels_of_dataset_{lab}.csv")
    images, maps, types = [], [], []
    for number, kind in table.itertuples(index=False):
        if is_development(number) != development:
            continue
        stem = folder / f"dataset{lab}" / f"{number:03d}"
        images.append(_read(f"{stem}_image.png"))
        mask = cv2.imread(f"{stem}_mask.png", cv2.IMREAD_GRAYSCALE)
        maps.append(np.where(mask > 200, 2, np.where(mask > 60, 1, 0)).astype(np.uint8))
        types.append(["neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil"][kind - 1])
    return images, maps, types


def pbc_set(development: bool) -> pd.DataFrame:
    """Return file, label and subtype of one part of pbc."""
    table = pd.read_csv(data_folder() / "pbc" / "labels.csv")
    chosen = table.sample(frac=0.2, random_state=0).index
    return table.loc[chosen] if development else table.drop(chosen)


def _read(path: str | Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def train_segmenter(n: int) -> SmallUNet:
    """Train on synthetic cells of every stain; no real image is used."""
    torch.manual_seed(0)
    net = SmallUNet()

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for cells in iter_cells(
            n, batch_size=128, classes=list(NUCLEATED), class_weights=NUCLEATED, image_size=SIZE,
            field=(16.0, 38.0), n_labs=80, n_patients=160, stain="mixed", lab_effect=1.6,
            neighbors=0.15, random_state=7,
        ):  # fmt: skip
            x = to_density(cells.images)
            y = torch.from_numpy(np.where(cells.masks > 2, 0, cells.masks).astype(np.int64))
            yield from ((x[a : a + 16], y[a : a + 16]) for a in range(0, len(x) - 15, 16))

    return train(net, batches(), segmentation_loss, n // 16, report=_progress)


def _progress(step: int, loss: float) -> None:
    if step % 100 == 0:
        print(f"  step {step}: loss {loss:.3f}", flush=True)


def predict_maps(net: SmallUNet, images: list[np.ndarray]) -> list[np.ndarray]:
    """Return a map for each image, at its own size."""
    maps = []
    for start in range(0, len(images), 32):
        part = images[start : start + 32]
        x = to_density(np.stack([cv2.resize(i, (SIZE, SIZE), interpolation=3) for i in part]))
        with torch.no_grad():
            share = (net(x).softmax(1) + net(x.flip(3)).softmax(1).flip(3)).numpy()
        for one, image in zip(share, part, strict=True):
            size = image.shape[1::-1]
            labels = np.stack([cv2.resize(c, size) for c in one]).argmax(0)
            maps.append(central_cell(labels.astype(np.uint8)))
    return maps


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return twice the overlap over the sum of the areas."""
    return 2 * float((a & b).sum()) / max(int(a.sum() + b.sum()), 1)


def segmentation(net: SmallUNet) -> str:
    """Score the net on the held-out part of both labs."""
    rows = []
    for lab in (1, 2):
        images, maps, _ = segmentation_set(lab, development=False)
        drawn = predict_maps(net, images)
        nucleus = [dice(p == 2, m == 2) for p, m in zip(drawn, maps, strict=True)]
        cell = [dice(p > 0, m > 0) for p, m in zip(drawn, maps, strict=True)]
        rows.append((f"dataset{lab}", len(maps), np.mean(nucleus), np.median(nucleus),
                     np.mean(cell), np.median(cell)))  # fmt: skip
    names = "lab cells nucleus_mean nucleus_median cell_mean cell_median".split()
    return format_table(pd.DataFrame(rows, columns=names))


def train_namer(n: int) -> SmallCNN:
    """Train on synthetic cells alone to name five types."""
    torch.manual_seed(0)
    also = {"band_neutrophil": "neutrophil", "reactive_lymphocyte": "lymphocyte"}
    net = SmallCNN(5)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for cells in iter_cells(
            n, batch_size=256, classes=[*FIVE, *also], class_weights=[4, 4, 3.4, 4, 3, 1, 0.6],
            image_size=CROP, field=(22.0, 32.0), n_labs=80, n_patients=160, lab_effect=1.5,
            stain=["may-gruenwald-giemsa", "wright", "may-gruenwald-giemsa", "leishman",
                   "may-gruenwald-giemsa", "overstained"], neighbors=0.03, random_state=11,
        ):  # fmt: skip
            x = to_density(cells.images)
            y = torch.tensor([FIVE.index(also.get(t, t)) for t in cells.target])
            for a in range(0, len(x) - 31, 32):
                turn = int(torch.randint(0, 4, (1,)))
                yield torch.rot90(x[a : a + 32], turn, (2, 3)), y[a : a + 32]

    def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, y, label_smoothing=0.1)

    return train(net, batches(), loss, n // 32, report=_progress)


def classification(net: SmallCNN) -> str:
    """Name real pbc cells of five types."""
    size, field = CROP, 26.0
    real = pbc_set(development=False)
    real = real[real.label.isin(FIVE)]
    predicted = []
    for start in range(0, len(real), 64):
        crops = []
        for file in real.file[start : start + 64]:
            image = _read(data_folder() / "pbc" / file)
            middle, half = (
                np.array(image.shape[:2]) // 2,
                int(image.shape[0] * field / PBC_FIELD / 2),
            )
            (y0, x0), (y1, x1) = middle - half, middle + half
            crops.append(cv2.resize(image[y0:y1, x0:x1], (size, size), interpolation=3))
        x = to_density(np.stack(crops))
        with torch.no_grad():
            votes = sum(net(v).softmax(1) for v in (x, x.flip(2), x.flip(3), x.flip(2, 3)))
        predicted += [FIVE[k] for k in votes.argmax(1).tolist()]
    score = balanced_accuracy_score(real.label, predicted)
    table = pd.DataFrame(confusion_matrix(real.label, predicted, labels=FIVE), columns=FIVE)
    table.insert(0, "true", FIVE)
    table["recall"] = [np.mean(np.array(predicted)[real.label == t] == t) for t in FIVE]
    return f"Balanced accuracy {score:.3f} on {len(real)} real cells.\n\n{format_table(table)}"


def micrometres_per_pixel(lab: int) -> float:
    """Set a lab's scale by its development neutrophils."""
    _, maps, types = segmentation_set(lab, development=True)
    areas = [(m > 0).sum() for m, t in zip(maps, types, strict=True) if t == "neutrophil"]
    return NEUTROPHIL / float(np.median(2 * np.sqrt(np.array(areas) / np.pi)))


def shapes() -> str:
    """Separate real from synthetic by areas, N:C ratio and lobes of the maps alone."""
    columns = ["cell_area", "nucleus_area", "nc_ratio", "n_lobes"]
    more = [*columns, "cell_solidity", "nucleus_solidity", "cell_elongation"]
    rows = []
    for lab in (1, 2):
        _, maps, types = segmentation_set(lab, development=False)
        unit = micrometres_per_pixel(lab)
        side = maps[0].shape[0]
        real = pd.DataFrame([shape_of(m, unit) for m in maps])
        shares = {t: types.count(t) for t in sorted(set(types))}
        cells = make_cells(
            len(maps), classes=list(shares), class_weights=shares, image_size=side,
            field=side * unit, random_state=0,
        )  # fmt: skip
        drawn = pd.DataFrame([shape_of(m, unit) for m in cells.masks])
        both = pd.concat([real, drawn], ignore_index=True)
        y = np.r_[np.ones(len(real)), np.zeros(len(drawn))]
        for name, chosen in (("areas, N:C, lobes", columns), ("and outline", more)):
            aucs = []
            for model in (
                make_pipeline(StandardScaler(), LogisticRegression()),
                RandomForestClassifier(300, min_samples_leaf=5, random_state=0),
            ):
                folds = StratifiedKFold(5, shuffle=True, random_state=0)
                p = cross_val_predict(model, both[chosen], y, cv=folds, method="predict_proba")
                aucs.append(roc_auc_score(y, p[:, 1]))
            rows.append((f"dataset{lab}", name, len(real), *aucs))
    names = ["lab", "features", "cells of each", "AUC logistic", "AUC forest"]
    return format_table(pd.DataFrame(rows, columns=names))


def measure(images: list[np.ndarray], maps: list[np.ndarray], unit: float) -> pd.DataFrame:
    """Return shape and color measurements of cells under given maps."""
    rows = []
    for image, cell_map in zip(images, maps, strict=True):
        row = shape_of(cell_map, unit)
        light = np.quantile(image.reshape(-1, 3)[::7], 0.95, axis=0)
        density = np.log((light + 1) / (image + 1.0))
        nucleus, cytoplasm = density[cell_map == 2], density[cell_map == 1]
        if len(nucleus) < 20 or len(cytoplasm) < 20:
            continue
        row["nucleus_density"] = float(nucleus.mean())
        for c, name in enumerate(("red", "green", "blue")):
            row[f"cytoplasm_{name}"] = float(np.median(cytoplasm[:, c]))
        rows.append(row)
    return pd.DataFrame(rows)


def statistics(net: SmallUNet, n: int) -> str:
    """Compare real pbc measurements with the synthetic 5 to 95% range, type by type."""
    real = pbc_set(development=False)
    kept = "diameter nc_ratio n_lobes nucleus_density cytoplasm_red cytoplasm_green cytoplasm_blue"
    side, rows = 256, []
    for subtype, kind in PBC_TYPES.items():
        files = real.file[real.subtype == subtype][:n]
        images = [cv2.resize(_read(data_folder() / "pbc" / f), (side, side)) for f in files]
        found = measure(images, predict_maps(net, images), PBC_FIELD / side)
        cells = make_cells(
            n, classes=[kind], image_size=side, field=PBC_FIELD, n_patients=n, random_state=0
        )
        images = list(cells.images)
        drawn = measure(images, predict_maps(net, images), PBC_FIELD / side)
        low, high = drawn.quantile(0.05), drawn.quantile(0.95)
        for name in kept.split():
            middle = found[name].median()
            share = found[name].between(low[name], high[name]).mean()
            inside = bool(low[name] <= middle <= high[name])
            rows.append((kind, name, middle, low[name], high[name], inside, share))
    columns = ["type", "measure", "real median", "5%", "95%", "inside", "real cells inside"]
    table = pd.DataFrame(rows, columns=columns)
    inside, share = table["inside"].mean(), table["real cells inside"].mean()
    table["inside"] = np.where(table["inside"], "yes", "no")
    return (
        f"{100 * inside:.0f}% of {len(table)} real medians lie inside the synthetic 5-95% range; "
        f"so do {100 * share:.0f}% of single real cells.\n\n{format_table(table)}"
    )


def trained(make, n: int, path: str | None) -> tuple[torch.nn.Module, int]:
    """Return a net that ``make(n)`` trained, kept in a file with the number of cells it saw."""
    if path and Path(path).exists():
        kept = torch.load(path)
        net = make(0)
        net.load_state_dict(kept["weights"])
        return net.eval(), kept["cells"]
    net = make(n)
    if path:
        torch.save({"weights": net.state_dict(), "cells": n}, path)
    return net, n


def main() -> None:
    """Run the parts that are requested; each writes a section of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="end within 20 minutes on 2 cores")
    parts = ["speed", "shapes", "segmentation", "statistics", "classification"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--segmenter", help="file to keep the outlining net in, or read it from")
    parser.add_argument("--namer", help="file to keep the naming net in, or read it from")
    given = parser.parse_args()
    torch.set_num_threads(1 if given.small else torch.get_num_threads())
    command = "python -m benchmarks.synthetic" + (" --small" if given.small else "")

    def write(part: str, title: str, text: str) -> None:
        write_section(f"Synthetic cells: {title}", text, command=f"{command} --only {part}")

    if "speed" in given.only:
        write("speed", "speed on one core", speed(given.small))
    if "shapes" in given.only:
        write("shapes", "separated from real ones by shape (bar: AUC at most .75)", shapes())
    if {"segmentation", "statistics"} & set(given.only):
        net, n = trained(train_segmenter, 4800 if given.small else 24000, given.segmenter)
        note = f"The net saw {n} synthetic cells and no real one.\n\n"
    if "segmentation" in given.only:
        title = "a network trained on them outlines real cells (bar: Dice .90 and .90)"
        write("segmentation", title, note + segmentation(net))
    if "statistics" in given.only:
        title = "real pbc measurements in their 5-95% range (bar: 80%)"
        write("statistics", title, note + statistics(net, 40 if given.small else 200))
    if "classification" in given.only:
        net, n = trained(train_namer, 6400 if given.small else 38400, given.namer)
        title = "a network trained on them names real pbc cells (bar: .60, chance .20)"
        note = f"The net saw {n} synthetic cells and no real one. "
        write("classification", title, note + classification(net))


if __name__ == "__main__":
    main()
