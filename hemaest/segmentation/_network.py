"""The network: its class probabilities, and the segmentation of one cell by it.

A small U-Net, trained on rendered cells, sees the whole image at a glance and then the cell closer.
Training is in :mod:`hemaest.segmentation._training`. This module imports torch.
"""

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hemaest.nets.unet import SmallUNet
from hemaest.segmentation._color_models import adapted
from hemaest.segmentation._instances import split_at_necks
from hemaest.segmentation._voters import filled, touching
from hemaest.segmentation._working_image import (
    Mask,
    SegmentationResult,
    no_cell,
    one_cell,
    square_around,
    standardize,
    working_image,
)

SIDE = 112
SHIPPED = Path(__file__).with_name("cells.safetensors")
# the first look sees the whole image at this size, the closer one this many widths of the cell
FIRST_SIDE = 80
WINDOW = 1.7
SMALLEST = 12
# a mask that fills this much of its hull has no neck to be split at
CONVEX = 0.94


def segment_by_network(net: SmallUNet, image: NDArray[np.uint8]) -> SegmentationResult:
    """Segment the central cell of an RGB crop."""
    size = image.shape[:2]
    if working_image(image, 64).blank:
        return no_cell(size)
    whole = np.s_[: size[0], : size[1]]
    _, shares = predict_at(net, image, FIRST_SIDE)
    cell = central_cell(shares)
    window = whole if cell is None else square_around(enlarged(cell, size) > 0.5, WINDOW)
    for view in (window, whole):
        density, shares = predict_at(net, image[view])
        cell = central_cell(shares)
        if cell is not None:
            better = adapted(density, shares, cell)
            return _found(better, restrict_to_cell(cell, shares, better), size, view)
        if view == whole:
            break
    return no_cell(size)


def _found(
    shares: NDArray[np.float32], cell: Mask, size: tuple[int, int], window: tuple[slice, slice]
) -> SegmentationResult:
    """Keep the soft maps of one cell and put them where the window was."""
    import cv2

    near = cv2.dilate(cell.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    whole = shares[..., 1] + shares[..., 2]
    whole = np.where(cell, np.maximum(whole, 0.501), np.where(near, np.minimum(whole, 0.499), 0))
    nucleus = np.where(cell, shares[..., 2], 0)
    maps = np.zeros((2, *size), np.float32)
    for full, small in zip(maps, (nucleus, np.maximum(whole, nucleus)), strict=True):
        part = full[window]
        part[:] = enlarged(small, part.shape)
    return one_cell(maps[0], maps[1], certainty(shares, cell))


def enlarged(soft: NDArray, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Bring a map to a size."""
    import cv2

    return cv2.resize(soft.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def central_cell(shares: NDArray[np.float32]) -> Mask | None:
    """Return the mask of the most central large cell, None where there is none."""
    import cv2

    mask = shares[..., 0] < 0.5
    nucleus = shares[..., 2] > 0.5
    height, width = mask.shape
    n, labels, stats, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if n < 2 or not nucleus.any():
        return None
    weight = np.bincount(labels[nucleus], minlength=n) + 0.2 * stats[:, cv2.CC_STAT_AREA]
    off = np.hypot(*(centres - [(width - 1) / 2, (height - 1) / 2]).T) / min(height, width)
    score = weight * np.exp(-((off / 0.35) ** 2))
    score[0] = 0
    chosen = labels == int(score.argmax())
    if chosen.sum() < SMALLEST:
        return None
    chosen = _central_part(chosen, nucleus)
    return filled(chosen)


def restrict_to_cell(cell: Mask, before: NDArray[np.float32], after: NDArray[np.float32]) -> Mask:
    """Return the cell after its shares changed: never what was another cell's before."""
    others = (before[..., 0] < 0.5) & ~cell
    mask = (after[..., 0] < 0.5) & ~others
    kept = touching(mask, cell)
    return filled(kept) if 2 * kept.sum() > cell.sum() else cell


def _central_part(mask: Mask, nucleus: Mask) -> Mask:
    """Part touching cells and keep the one nearest to the middle."""
    if _solidity(mask) > CONVEX:
        return mask
    radius = 0.5 * np.sqrt(mask.sum() / np.pi)
    small = max(1, int(radius // 12))
    pieces = split_at_necks(mask[::small, ::small], radius / small)
    if pieces.max() < 2:
        return mask
    import cv2

    height, width = mask.shape
    pieces = cv2.resize(pieces.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    count = np.bincount(pieces[nucleus & mask], minlength=int(pieces.max()) + 1)
    count[0] = 0
    large = count >= 0.25 * count.max()
    if large.sum() < 2:
        return mask
    off = np.full(len(count), np.inf)
    for k in np.flatnonzero(large):
        ys, xs = np.nonzero(pieces == k)
        if len(ys):
            off[k] = np.hypot(ys.mean() - (height - 1) / 2, xs.mean() - (width - 1) / 2)
    return mask & (pieces == int(off.argmin()))


def _solidity(mask: Mask) -> float:
    """Return the share of its hull that a mask fills."""
    import cv2

    points = cv2.findNonZero(mask.astype(np.uint8))
    corners = cv2.convexHull(points).reshape(-1, 2)
    # pixels are squares, the hull of their centers is half a pixel short all around
    return float(mask.sum() / max(cv2.contourArea(corners) + 0.5 * cv2.arcLength(corners, True), 1))


def certainty(shares: NDArray[np.float32], cell: Mask) -> float:
    """Return the mean of the winning share inside the cell."""
    return float(shares[cell].max(axis=-1).mean()) if cell.any() else float("nan")


def predict_at(
    net: SmallUNet, image: NDArray[np.uint8], side: int = SIDE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the standardized density and the class shares of an RGB image, each (h, w, 3).

    Both have ``side`` pixels along the longer edge; the classes are background, cytoplasm and
    nucleus.
    """
    x = density_at(image, side)
    return x, class_probabilities(net, x)


def density_at(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Return the standardized density of an image with ``side`` pixels along its longer edge."""
    import cv2

    scale = side / max(image.shape[:2])
    small = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return standardize(cv2.resize(np.ascontiguousarray(image), small, interpolation=how))


def class_probabilities(net: SmallUNet, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return background, cytoplasm and nucleus (h, w, 3) of standardized density."""
    spare = [(0, -n % net.stride) for n in x.shape[:2]]
    padded = np.pad(x, [*spare, (0, 0)], mode="edge") if any(n for _, n in spare) else x
    with torch.inference_mode():
        # height, width, channels in memory is what channels_last means
        p = net(torch.from_numpy(padded)[None].permute(0, 3, 1, 2)).softmax(1)[0]
    return p[:, : x.shape[0], : x.shape[1]].permute(1, 2, 0).contiguous().numpy()


def fuse(net: SmallUNet) -> SmallUNet:
    """Return a copy with each batch norm folded into its convolution: the same answers, faster."""
    net = copy.deepcopy(net).eval()
    for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        if len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(block[0], block[1])
            block[1] = nn.Identity()
    return net.to(memory_format=torch.channels_last).requires_grad_(False)


def save_weights(net: SmallUNet, path: Any, widths: Sequence[int]) -> None:
    """Write the weights in half precision, with the widths as metadata."""
    state = {
        k: v.half().contiguous() if v.is_floating_point() else v
        for k, v in net.state_dict().items()
        if "num_batches" not in k
    }
    save_file(state, str(path), metadata={"widths": ",".join(map(str, widths))})


def load_weights(path: Any = SHIPPED) -> SmallUNet:
    """Read a network that ``save_weights`` wrote."""
    with safe_open(str(path), framework="pt") as file:
        widths = tuple(int(w) for w in file.metadata()["widths"].split(","))
        state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    net = SmallUNet(3, 3, widths)
    net.load_state_dict(state, strict=False)
    return net.eval().to(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def default_weights() -> SmallUNet:
    """Return the network that comes with the package; read once, not to be changed."""
    return load_weights(SHIPPED)


@lru_cache(maxsize=1)
def default_network() -> SmallUNet:
    """Return the same, ready to answer."""
    return fuse(default_weights())
