"""Train the shipped network further on given masks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._seeds import seed_of
from hemaest.images import iter_arrays, rgb

Pair = tuple[NDArray[np.float16], NDArray[np.uint8]]

# the overlap with the shipped network's answer from which on masks follow the usual convention
USUAL = 0.75


def check_masks(masks: Any, X: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """Return the true maps as a list; each must fit its image."""
    if len(masks) != len(X):
        raise ValueError(f"masks has {len(masks)} items, X has {len(X)}; give one for each image.")
    checked = []
    for i, (mask, image) in enumerate(zip(masks, iter_arrays(X), strict=True)):
        checked.append(cellmap.check(mask, shape=image.shape[:2], name=f"masks[{i}]"))
    return checked


def fine_tune(
    X: NDArray[Any],
    masks: list[NDArray[np.uint8]],
    *,
    fields: bool,
    epochs: int,
    random_state: Any,
    batch_size: int = 16,
) -> Any:
    """Return a copy of the shipped network, trained on the pairs.

    Where the masks mean by nucleus and cell what synthetic cells mean, synthetic cells of all
    stains are mixed in, so that the network does not forget other labs.
    """
    import copy

    if not any(cellmap.nuclei(m).any() for m in masks):
        raise ValueError("masks hold no nucleus (value 2) at all.")
    from hemaest.segmentation._augment import MILD
    from hemaest.segmentation._network import fused, pair, shipped, train

    seed = seed_of(random_state)
    pairs: list[Pair] = []
    for image, mask in zip(iter_arrays(X), masks, strict=True):
        if fields:
            pairs += field_pairs(rgb(image), mask)
        else:
            pairs.append(pair(rgb(image), mask, closer=True))
    steps = max(4, epochs * len(pairs) // batch_size)
    with_cells = [(x, kind) for x, kind in pairs if kind.any()]
    if with_cells and usual(with_cells[:: max(1, len(with_cells) // 24)]):
        more = len(pairs) // 2
        pairs += synthetic_pairs(more, seed)
        steps += epochs * more // batch_size
    net = train(
        copy.deepcopy(shipped()),
        np.stack([x for x, _ in pairs]),
        np.stack([kind for _, kind in pairs]),
        steps=steps,
        seed=seed,
        how=MILD,
        batch_size=batch_size,
        lr=1e-3,
    )
    return fused(net)


def field_pairs(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> list[Pair]:
    """Return training pairs of a field, at the size at which it is looked at.

    One shows each leukocyte, and no more than as many, spread evenly, what else there is.
    """
    import cv2

    from hemaest.segmentation._field import working_side
    from hemaest.segmentation._frame import paint_frame
    from hemaest.segmentation._network import POOL_SIDE, SIDE, seen_at

    image = paint_frame(image)
    # training cuts SIDE pixels out of each pair after it brought all of it to that size
    x = seen_at(image, round(working_side(image) * POOL_SIDE / SIDE))
    kind = cellmap.encode(labels > 0, cellmap.nuclei(labels))
    kind = cv2.resize(kind, x.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    spare = [(0, max(0, POOL_SIDE - n)) for n in kind.shape]
    x, kind = np.pad(x, [*spare, (0, 0)], mode="symmetric"), np.pad(kind, spare, mode="symmetric")
    _, _, _, middles = cv2.connectedComponentsWithStats((kind > 0).astype(np.uint8))
    last = np.array(kind.shape) - POOL_SIDE
    corners = (middles[1:, ::-1] - POOL_SIDE / 2).round().astype(int).clip(0, last).tolist()
    grid = [range(0, int(n) + 1, POOL_SIDE) for n in last]
    empty = [
        (top, left)
        for top in grid[0]
        for left in grid[1]
        if not kind[top : top + POOL_SIDE, left : left + POOL_SIDE].any()
    ]
    corners += empty[:: max(1, len(empty) // max(1, len(corners)))]
    windows = [np.s_[top : top + POOL_SIDE, left : left + POOL_SIDE] for top, left in corners]
    return [(x[w].transpose(2, 0, 1).astype(np.float16), kind[w]) for w in windows]


def usual(pairs: list[Pair]) -> bool:
    """Tell whether masks mean by nucleus and cell what the shipped network means."""
    from hemaest.segmentation._combined import dice
    from hemaest.segmentation._network import class_shares, shipped_fused

    overlaps = []
    for x, kind in pairs:
        found = class_shares(shipped_fused(), x.transpose(1, 2, 0).astype(np.float32)).argmax(-1)
        overlaps.append([dice(found == 2, kind == 2), dice(found > 0, kind > 0)])
    return bool((np.median(overlaps, axis=0) > USUAL).all())


def synthetic_pairs(n: int, seed: int) -> list[Pair]:
    """Return training pairs of synthetic cells, in every stain."""
    from hemaest.datasets import make_cells
    from hemaest.segmentation._network import POOL_SIDE, pair

    if not n:
        return []
    cells = make_cells(
        n,
        stain="mixed",
        n_labs=max(1, n // 8),
        n_patients=max(10, n // 4),
        field=(18, 34),
        neighbours=0.2,
        image_size=POOL_SIDE,
        lab_effect=1.5,
        random_state=seed,
    )
    return [pair(image, mask) for image, mask in zip(cells.images, cells.masks, strict=True)]
