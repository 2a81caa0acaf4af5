"""Train the network that ships with ``CellSegmenter``, on synthetic cells alone.

``python -m benchmarks.train_segmenter [--out cells.safetensors] [--small]``

No photograph is read. Fourteen types in every stain of ``make_cells``, seen from near and from far,
and varied further by the augmentation there. The whole takes half an hour of one core
that multiplies in bfloat16; the weights depend on the version of ``make_cells`` and of torch, so
another run elsewhere gives another network of the same kind. The weights that ship were made by an
earlier form of this script, in two stages and with a weaker lens and camera, also on synthetic
cells alone; a full run of this form has not replaced them yet.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hemaest.datasets import iter_cells
from hemaest.nets.unet import SmallUNet
from hemaest.segmentation import _network, _training

TYPES = {
    "neutrophil": 4, "band_neutrophil": 1, "eosinophil": 4, "basophil": 2, "lymphocyte": 5,
    "reactive_lymphocyte": 1.5, "monocyte": 4, "plasma_cell": 1, "lymphoblast": 2,
    "myeloblast": 1.5, "promyelocyte": 1, "myelocyte": 1, "metamyelocyte": 1, "erythroblast": 1,
}  # fmt: skip
WIDTHS = (12, 24, 48, 64, 96)
STEPS = 7000
COARSE = 0.8
BATCH = 16
RATE = 3e-3
SEED = 31


@dataclass(frozen=True)
class Pool:
    """Cells seen from one distance: the width of the image in micrometers."""

    n_cells: int
    field: tuple[float, float]
    seed: int


POOLS = (Pool(6000, (16, 28), 32), Pool(4500, (24, 46), 33))


def draw_pool(pool: Pool, x: np.ndarray, kind: np.ndarray) -> None:
    """Fill the training pairs of a pool: standardized density and classes."""
    n_cells, side, at = len(x), x.shape[-1], 0
    for batch in iter_cells(
        n_cells,
        classes=list(TYPES),
        class_weights=list(TYPES.values()),
        stain="mixed",
        n_labs=max(2, n_cells // 12),
        n_patients=max(2, n_cells // 6),
        field=pool.field,
        neighbors=0.3,
        image_size=side,
        lab_effect=1.5,
        random_state=pool.seed,
    ):
        for image, labels in zip(batch.images, batch.masks, strict=True):
            x[at], kind[at] = _training.pair(image, labels)
            at += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=str(_network.SHIPPED))
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    parser.add_argument("--float32", action="store_true", help="for processors without bfloat16")
    given = parser.parse_args()
    share = 100 if given.small else 1
    start, side = time.process_time(), _training.POOL_SIDE
    sizes = [pool.n_cells // share for pool in POOLS]
    x = np.empty((sum(sizes), 3, side, side), np.float16)
    kind = np.empty((sum(sizes), side, side), np.uint8)
    for pool, to, n in zip(POOLS, np.cumsum(sizes), sizes, strict=True):
        draw_pool(pool, x[to - n : to], kind[to - n : to])
    print(f"{len(x)} cells drawn, {time.process_time() - start:.0f} s", flush=True)

    def watch(step: int, net: SmallUNet) -> None:
        if step % 500 == 0:
            _network.save_weights(net, given.out, WIDTHS)
            print(f"step {step}, {time.process_time() - start:.0f} s", flush=True)

    net = _training.train(
        _training.make_net(SEED, WIDTHS),
        x,
        kind,
        steps=STEPS // share,
        seed=SEED,
        batch_size=BATCH,
        lr=RATE,
        coarse=COARSE,
        bfloat16=not given.float32,
        watch=watch,
    )
    _network.save_weights(net, given.out, WIDTHS)
    print(f"{given.out}: {Path(given.out).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
