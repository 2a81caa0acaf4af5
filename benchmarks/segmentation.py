"""Segmentation of single cells against expert masks; fields are in ``benchmarks.fields``.

``python -m benchmarks.segmentation [--small] [--figure worst.png]``

``--parts`` chooses among cells, learned, synthetic and speed.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_segmentation_wbc, make_cells
from hemaest.images import iter_arrays, to_object_array
from hemaest.segmentation import CellSegmenter
from hemaest.segmentation._working_image import dice

FAILURE = 0.7
TYPES = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
PARTS = ("cells", "learned", "synthetic", "speed")
METHODS = {"default": "both", "network alone": "network"}
BARS = {
    "voters": (0.955, 0.965, 0.970, 0.945),
    "both": (0.955, 0.965, 0.970, 0.945),
    "network": (0.945, 0.960, 0.955, 0.935),
    "learned, 5-fold": (0.960, 0.975, 0.980, 0.972),
    "learned on the other lab": (0.945, 0.960, 0.955, 0.930),
}
NAMES = {
    "voters": "no labels: voters",
    "both": "no labels: voters and network (default)",
    "network": "synthetic only: network",
}


def dices(maps: list[NDArray], truth: NDArray) -> pd.DataFrame:
    """Return nucleus and cell Dice of each image."""
    rows = [
        {"nucleus": dice(p == 2, t == 2), "cell": dice(p > 0, t > 0)}
        for p, t in zip(maps, truth, strict=True)
    ]
    return pd.DataFrame(rows)


def summary(method: str, scores: pd.DataFrame, bar: str) -> dict:
    """Return one row of the main table; the bars stand beside the figures."""
    row: dict = {"method": method}
    for j, part in enumerate(("nucleus", "cell")):
        for lab in (1, 2):
            of = scores[scores.lab == lab]
            name = f"{part} d{lab}"
            row[name] = of[part].mean() if len(of) else float("nan")
            row[f"bar {name}"] = BARS[bar][2 * j + lab - 1]
    for lab in (1, 2):
        of = scores[scores.lab == lab]
        worst = of[["nucleus", "cell"]].min(axis=1)
        row[f"% < {FAILURE} d{lab}"] = 100 * (worst < FAILURE).mean() if len(of) else float("nan")
    return row


def by_type(method: str, scores: pd.DataFrame) -> list[dict]:
    rows = []
    for (lab, kind), of in scores.groupby(["lab", "type"]):
        rows.append(
            {
                "method": method, "lab": f"d{lab}", "type": TYPES[kind], "n": len(of),
                "nucleus": of.nucleus.mean(), "cell": of.cell.mean(),
                f"n < {FAILURE}": int((of[["nucleus", "cell"]].min(axis=1) < FAILURE).sum()),
            }
        )  # fmt: skip
    return rows


def with_labels(scores: pd.DataFrame, bunch) -> pd.DataFrame:
    return scores.assign(lab=bunch.lab, type=bunch.target)


def load_cells(small: bool):
    bunch = load_segmentation_wbc(data_folder() / "segmentation_wbc")
    keep = np.arange(len(bunch.images))[:: 5 if small else 1]
    for name in ("masks", "target", "lab", "filenames"):
        bunch[name] = np.asarray(bunch[name])[keep] if name != "masks" else bunch[name][keep]
    bunch.images = to_object_array(list(iter_arrays(bunch.images[keep])))
    return bunch


def label_free(bunch) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict]:
    """Score the methods that see no mask."""
    main, types, trust, all_maps = [], [], [], {}
    for method in ("voters", "network", "both"):
        segmenter = CellSegmenter(method="auto" if method == "both" else method).fit(bunch.images)
        segmenter.predict(bunch.images[:2])
        start = time.process_time()
        maps = list(segmenter.predict(bunch.images))
        spent = 1000 * (time.process_time() - start) / len(maps)
        scores = with_labels(dices(maps, bunch.masks), bunch)
        main.append(summary(NAMES[method], scores, method) | {"CPU ms": spent})
        types += by_type(method, scores)
        all_maps[method] = maps
        quality = segmenter.quality(bunch.images)
        worst = scores[["nucleus", "cell"]].min(axis=1)
        for limit in (0.7, 0.85):
            bad = worst < limit
            trust.append(
                {
                    "method": method, "Dice under": limit, "images": int(bad.sum()),
                    "of these flagged": int((bad & ~quality.trusted).sum()),
                    "good ones flagged %": 100 * (~quality.trusted[~bad]).mean(),
                }
            )  # fmt: skip
    return pd.DataFrame(main), pd.DataFrame(types), pd.DataFrame(trust), all_maps


def learned(bunch, folds: int, epochs: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score training on masks, with voters (the default) and without: in folds, across labs."""
    n = len(bunch.images)
    strata = 10 * bunch.lab + bunch.target
    rare = {s for s in np.unique(strata) if (strata == s).sum() < folds}
    strata = np.where(np.isin(strata, list(rare)), 10 * bunch.lab + 1, strata)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    labs = [(np.flatnonzero(bunch.lab != k), np.flatnonzero(bunch.lab == k)) for k in (1, 2)]
    main, types = [], []
    for name, bar, splits in (
        (f"learned, {folds}-fold", "learned, 5-fold", splitter.split(np.zeros(n), strata)),
        ("learned on the other lab", "learned on the other lab", labs),
    ):
        maps = trained(bunch, splits, epochs)
        for method, own in maps.items():
            scores = with_labels(dices(own, bunch.masks), bunch)
            row = summary(f"{name}, {method}", scores, bar)
            main.append(row)
            types += by_type(f"{name}, {method}", scores)
            print(row, flush=True)
    return pd.DataFrame(main), pd.DataFrame(types)


def trained(bunch, splits, epochs: int) -> dict[str, list]:
    """Return the maps of every image by a segmenter that was trained without it."""
    maps: dict[str, list] = {name: [None] * len(bunch.images) for name in METHODS}
    for train, test in splits:
        segmenter = CellSegmenter(max_epochs=epochs, random_state=0)
        segmenter.fit(bunch.images[train], masks=bunch.masks[train])
        for name, found in answers(segmenter, bunch.images[test]).items():
            for i, labels in zip(test, found, strict=True):
                maps[name][i] = labels
    return maps


def answers(segmenter: CellSegmenter, images) -> dict[str, list]:
    """Return the maps with and without the voters."""
    found = {}
    for name, method in METHODS.items():
        segmenter.method_ = method
        found[name] = list(segmenter.predict(images))
    return found


def synthetic_only(bunch, epochs: int, n: int = 400) -> pd.DataFrame:
    """Score on real cells what was trained on synthetic masks alone."""
    cells = make_cells(n, image_size=144, stain="mixed", n_labs=40, lab_effect=1.5, random_state=7)
    segmenter = CellSegmenter(max_epochs=epochs, random_state=0)
    segmenter.fit(cells.images, masks=cells.masks)
    rows = []
    for name, maps in answers(segmenter, bunch.images).items():
        scores = with_labels(dices(maps, bunch.masks), bunch)
        rows.append(summary(f"trained on {n} synthetic cells, {name}", scores, "network"))
    return pd.DataFrame(rows)


def with_load(text: str) -> str:
    """Say beside times how busy the machine was."""
    busy = os.getloadavg()[0]
    return (
        f"{text}\n\nLoad average {busy:.0f}: on a busy machine CPU times are up to twice as long."
    )


def best_of(function: Callable[[], object], rounds: int = 5) -> float:
    """Return the least CPU milliseconds of a few rounds."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        function()
        spent.append(1000 * (time.process_time() - start))
    return min(spent)


def speed(n: int = 12) -> pd.DataFrame:
    """Measure CPU milliseconds an image on synthetic cells, and of the network alone in batches."""
    import torch

    from hemaest.segmentation._network import FIRST_SIDE, SIDE, default_network

    rows = []
    for side in (120, 240, 360):
        X = make_cells(n, image_size=side, stain="mixed", n_labs=4, random_state=side).images
        row: dict = {"what": f"cells of {side}x{side}"}
        for name, method in (("voters", "voters"), ("network", "network"), ("default", "auto")):
            segmenter = CellSegmenter(method=method).fit(X)
            segmenter.predict(X[:2])
            row[name] = best_of(lambda s=segmenter, X=X: s.predict(X)) / n
        rows.append(row | {"bar": 30.0})
    net = default_network()
    with torch.inference_mode():
        for side, what in ((SIDE, "closer look"), (FIRST_SIDE, "first look")):
            batch = torch.zeros(16, 3, side, side).contiguous(memory_format=torch.channels_last)
            net(batch)
            spent = best_of(lambda b=batch: net(b)) / 16
            rows.append({"what": f"the network in batches of 16, {what}", "network": spent})
    rows[-1]["bar"] = rows[-2]["bar"] = 4.0
    return pd.DataFrame(rows)


def draw_worst(bunch, maps: list, path: str, count: int = 12) -> None:
    """Draw the worst results above their truth."""
    import cv2

    scores = dices(maps, bunch.masks).min(axis=1).to_numpy()
    tiles = []
    for i in np.argsort(scores)[:count]:
        pair = [outlined(bunch.images[i], m) for m in (maps[i], bunch.masks[i])]
        cv2.putText(pair[0], f"{scores[i]:.2f}", (4, 14), 0, 0.45, (255, 0, 0), 1)
        tiles.append(np.vstack(pair))
    rows = [np.hstack(tiles[k : k + 6]) for k in range(0, len(tiles), 6)]
    cv2.imwrite(path, np.vstack(rows)[..., ::-1])


def outlined(image: NDArray, labels: NDArray, side: int = 180) -> NDArray:
    import cv2

    size = (side, side)
    image = cv2.resize(image, size)
    labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    for least, color in ((1, (0, 160, 0)), (2, (255, 255, 0))):
        mask = (labels >= least).astype(np.uint8)
        lines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, lines, -1, color, 1)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a fifth of the images, two folds")
    parser.add_argument("--parts", nargs="+", default=list(PARTS))
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--folds", type=int, default=None)
    parser.add_argument("--figure", help="where to draw the twelve worst cells")
    given = parser.parse_args()
    epochs = given.epochs or (5 if given.small else 30)
    size = "small" if given.small else "full"
    if "cells" in given.parts:
        bunch = load_cells(given.small)
        table, types, trust, maps = label_free(bunch)
        if given.figure:
            draw_worst(bunch, maps["both"], given.figure)
        text = with_load("\n\n".join(format_table(t) for t in (table, types, trust)))
        text += (
            " The network alone is what was learned from synthetic cells; the default takes it and "
            "the voters, and has seen no real mask either."
        )
        write_section(f"Segmentation of cells without labels ({size})", text)
    if "learned" in given.parts:
        folds = given.folds or (2 if given.small else 5)
        table, types = learned(load_cells(given.small), folds, epochs)
        text = f"{epochs} epochs, {folds} folds.\n\n{format_table(table)}\n\n{format_table(types)}"
        write_section(f"Segmentation of cells learned from masks ({size})", text)
    if "synthetic" in given.parts:
        table = format_table(synthetic_only(load_cells(given.small), epochs))
        write_section(f"Segmentation of cells learned from synthetic masks ({size})", table)
    if "speed" in given.parts:
        table = with_load(format_table(speed()))
        write_section("Speed of the segmenter, CPU ms", table)


if __name__ == "__main__":
    main()
