"""Train the shipped network further on given masks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._seeds import seed_of
from hemaest.images import iter_arrays, rgb


def check_masks(masks: Any, X: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """Return the true maps as a list; each must fit its image."""
    if len(masks) != len(X):
        raise ValueError(f"masks has {len(masks)} items, X has {len(X)}; give one for each image.")
    checked = []
    for i, (mask, image) in enumerate(zip(masks, iter_arrays(X), strict=True)):
        mask = np.asarray(mask)
        if mask.shape != image.shape[:2]:
            raise ValueError(f"masks[{i}] has shape {mask.shape}, its image {image.shape[:2]}.")
        if mask.dtype.kind not in "biu":
            raise ValueError(f"masks[{i}] is {mask.dtype}; a cell map holds integers.")
        if mask.min(initial=0) < 0 or mask.max(initial=0) > 254:
            raise ValueError(
                f"masks[{i}] holds values from {mask.min()} to {mask.max()}; a cell map holds 0 "
                "(background), 1 (cytoplasm), 2 (nucleus), and 2k-1, 2k for further cells."
            )
        checked.append(mask.astype(np.uint8))
    if not any(((m > 0) & (m % 2 == 0)).any() for m in checked):
        raise ValueError("masks hold no nucleus (value 2) at all.")
    return checked


def fine_tune(
    X: NDArray[Any],
    masks: list[NDArray[np.uint8]],
    *,
    closer: bool,
    epochs: int,
    random_state: Any,
    batch_size: int = 16,
) -> Any:
    """Return a copy of the shipped network, trained on the pairs."""
    import copy

    from hemaest.segmentation._augment import MILD
    from hemaest.segmentation._network import fused, pair, shipped, train

    pairs = [
        pair(rgb(image), mask, closer=closer)
        for image, mask in zip(iter_arrays(X), masks, strict=True)
    ]
    steps = max(4, epochs * len(pairs) // batch_size)
    net = train(
        copy.deepcopy(shipped()),
        np.stack([x for x, _ in pairs]),
        np.stack([kind for _, kind in pairs]),
        steps=steps,
        seed=seed_of(random_state),
        how=MILD,
        batch_size=batch_size,
        lr=1e-3,
    )
    return fused(net)
