"""Train the network of fields further on masks of fields, for ``CellSegmenter("all").fit``.

Masks say where leukocytes and their nuclei are, and nothing of red cells and platelets: what they
leave empty may stay any of the three other classes. This module imports torch.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hemaest import cellmap
from hemaest._frame import paint_frame
from hemaest._progress import track
from hemaest._seeds import seed_of
from hemaest.images import iter_arrays, rgb
from hemaest.nets.fieldnet import (
    CLASSES,
    UNIT,
    FieldNet,
    copy_of_shipped,
    depth_of,
    shipped_field_net,
    standardize_field,
)
from hemaest.nets.weights import fold_norms
from hemaest.segmentation._field import resized, working_zoom
from hemaest.segmentation._fields import Scale, measure_scale

CROP = 160
LEARNING_RATE = 1e-3
FIRST_WHITE = CLASSES.index("cytoplasm")

Pair = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


def fine_tune_fields(
    X: NDArray[Any],
    masks: list[NDArray[Any]],
    *,
    scale: Scale | None,
    epochs: int,
    random_state: Any,
    batch_size: int = 8,
) -> FieldNet:
    """Return a copy of the network that ships, trained on the fields and their cell maps."""
    if not any(cellmap.nuclei(m).any() for m in masks):
        raise ValueError("masks hold no nucleus (value 2) at all.")
    fields = [
        _seen(paint_frame(rgb(image)), mask, scale)
        for image, mask in zip(iter_arrays(X), masks, strict=True)
    ]
    rng = np.random.default_rng(seed_of(random_state))
    views = sum(max(1, round(kind.size / CROP**2)) for _, kind, _ in fields)
    steps = max(4, epochs * views // batch_size)
    net = copy_of_shipped().eval()  # the norms keep their means: few fields move them
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15
    )
    weight = np.array([kind.size for _, kind, _ in fields], float)
    weight /= weight.sum()
    for _ in track(range(steps), "segmenter"):
        which = rng.choice(len(fields), batch_size, p=weight)
        parts = zip(*(_crop(fields[k], rng) for k in which), strict=True)
        x, kind, depth = (torch.from_numpy(np.stack(part)) for part in parts)
        loss = loss_of_masks(net(x.contiguous(memory_format=torch.channels_last)), kind, depth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return fold_norms(net)


def loss_of_masks(out: Tensor, kind: Tensor, depth: Tensor) -> Tensor:
    """Return the loss where the classes are nothing (0), cytoplasm (1) and nucleus (2)."""
    logits = out[:, : len(CLASSES)].log_softmax(1)
    rest = logits[:, :FIRST_WHITE].logsumexp(1, keepdim=True)
    entropy = F.nll_loss(torch.cat([rest, logits[:, FIRST_WHITE:]], 1), kind)
    white = (kind > 0).float()
    gap = (out[:, len(CLASSES)].sigmoid() - depth).abs() * white
    return entropy + gap.sum() / white.sum().clamp(min=1)


def _seen(image: NDArray[np.uint8], labels: NDArray[Any], scale: Scale | None) -> Pair:
    """Return a field as the network sees it, the class and the depth of each pixel."""
    import cv2

    found = measure_scale(image, shipped_field_net()) if scale is None else scale
    um = found.um_per_pixel if np.isfinite(found.um_per_pixel) else UNIT
    seen = standardize_field(resized(image, working_zoom(um)))
    size = seen.shape[1::-1]
    cells = cellmap.cells(labels)
    depth = cv2.resize(depth_of(cells), size, interpolation=cv2.INTER_LINEAR)
    kind = np.where(cells > 0, 1 + cellmap.nuclei(labels), 0).astype(np.uint8)
    kind = cv2.resize(kind, size, interpolation=cv2.INTER_NEAREST).astype(np.int64)
    spare = [(0, max(0, CROP - n)) for n in kind.shape]
    return (
        np.pad(seen, [*spare, (0, 0)], mode="symmetric"),
        np.pad(kind, spare, mode="symmetric"),
        np.pad(depth, spare, mode="symmetric"),
    )


def _crop(field: Pair, rng: np.random.Generator) -> Pair:
    """Cut a window, about a leukocyte in most cases, turn it and mirror it."""
    seen, kind, depth = field
    last = np.array(kind.shape) - CROP
    corner = rng.integers(0, last + 1)
    places = np.flatnonzero(kind)
    if len(places) and rng.random() < 0.7:
        middle = np.array(np.unravel_index(rng.choice(places), kind.shape))
        corner = (middle - CROP // 2 + rng.integers(-30, 31, 2)).clip(0, last)
    y, x = corner
    turn, flip = int(rng.integers(4)), bool(rng.integers(2))

    def cut(a: NDArray[Any]) -> NDArray[Any]:
        a = np.rot90(a[y : y + CROP, x : x + CROP], turn)
        return np.ascontiguousarray(a[:, ::-1] if flip else a)

    gain = np.exp(0.08 * rng.standard_normal((3, 1, 1))).astype(np.float32)
    view = np.ascontiguousarray(cut(seen).transpose(2, 0, 1)) * gain
    return view, cut(kind), cut(depth)
