"""Train the network that ships with ``CellSegmenter``, on synthetic cells alone.

``python -m benchmarks.train_segmenter [--out cells.safetensors] [--small]``

No photograph is read. Two stages: the six common types first, then fourteen types with harder
augmentation. On two busy cores the whole takes about an hour; the weights depend on the version of
``make_cells`` and of torch, so another run gives another network of the same kind.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemaest.datasets import iter_cells
from hemaest.segmentation import _network
from hemaest.segmentation._augment import Strength

COMMON = {
    "neutrophil": 1, "lymphocyte": 1, "monocyte": 1, "eosinophil": 1, "basophil": 1,
    "lymphoblast": 1,
}  # fmt: skip
ALL = {
    "neutrophil": 4, "band_neutrophil": 1, "eosinophil": 4, "basophil": 2, "lymphocyte": 5,
    "reactive_lymphocyte": 1.5, "monocyte": 4, "plasma_cell": 1, "lymphoblast": 2,
    "myeloblast": 1.5, "promyelocyte": 1, "myelocyte": 1, "metamyelocyte": 1, "erythroblast": 1,
}  # fmt: skip
WIDTHS = (12, 24, 48, 64, 96)


@dataclass(frozen=True)
class Stage:
    """One pool of cells and one run of training."""

    types: dict[str, float]
    n_cells: int
    steps: int
    batch_size: int
    lr: float
    seed: int
    how: Strength


EASIER = Strength(region=0.22, pale=0, texture=0, grain=0.5, blur=1.5)
STAGES = (
    Stage(COMMON, 6000, 3000, 24, 3e-3, 11, EASIER),
    Stage(ALL, 8000, 2200, 16, 1.5e-3, 21, Strength()),
)


def draw_pool(stage: Stage, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training pairs of a stage: standardized density and classes."""
    side = _network.POOL_SIDE
    x = np.empty((n_cells, 3, side, side), np.float16)
    kind = np.empty((n_cells, side, side), np.uint8)
    at = 0
    for batch in iter_cells(
        n_cells,
        classes=list(stage.types),
        class_weights=list(stage.types.values()),
        stain="mixed",
        n_labs=max(2, n_cells // 12),
        n_patients=max(2, n_cells // 6),
        field=(15, 42),
        neighbours=0.3,
        image_size=side,
        lab_effect=1.5,
        random_state=stage.seed,
    ):
        for image, labels in zip(batch.images, batch.masks, strict=True):
            x[at], kind[at] = _network.pair(image, labels)
            at += 1
    return x, kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=str(_network.SHIPPED))
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    given = parser.parse_args()
    share = 100 if given.small else 1
    net = _network.make_net(0, WIDTHS)
    for stage in STAGES:
        x, kind = draw_pool(stage, stage.n_cells // share)
        net = _network.train(
            net,
            x,
            kind,
            steps=stage.steps // share,
            seed=stage.seed,
            how=stage.how,
            batch_size=stage.batch_size,
            lr=stage.lr,
        )
        _network.save_weights(net, given.out, WIDTHS)
    print(f"{given.out}: {Path(given.out).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
