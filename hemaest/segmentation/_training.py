"""Train the segmentation network: pairs of images and maps, augmentation, the training loop.

:func:`fine_tune` trains the network that ships further on given masks, for ``CellSegmenter.fit``;
``benchmarks/train_segmenter.py`` trains it from nothing on rendered cells by the same parts.
This module imports torch.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest import cellmap
from hemaest._progress import track
from hemaest._seeds import seed_of
from hemaest.datasets import make_cells
from hemaest.images import iter_arrays, rgb
from hemaest.nets.unet import SmallUNet
from hemaest.segmentation._network import (
    SIDE,
    class_probabilities,
    default_network,
    default_weights,
    fuse,
)
from hemaest.segmentation._working_image import dice, square_around, standardize

Pair = tuple[NDArray[np.float16], NDArray[np.uint8]]

COARSE_SIDE = 80
POOL_SIDE = 144
AROUND = 2.4
# the overlap with the shipped network's answer from which on masks follow its convention
USUAL = 0.75


@dataclass(frozen=True)
class AugmentStrength:
    """How far a batch is moved; the defaults suit synthetic cells, ``MILD`` suits real masks."""

    zoom: tuple[float, float] = (0.7, 1.3)
    shift: float = 0.15
    stain: float = 0.18
    region: float = 0.25
    pale: float = 0.3
    tone: float = 0.2
    texture: float = 0.3
    grain: float = 0.6
    glow: float = 0.4
    fringe: float = 1.0
    blur: float = 2.5
    noise: float = 0.05
    mix: float = 0.3


MILD = AugmentStrength(
    zoom=(0.7, 1.2), region=0.1, pale=0.05, tone=0.15, texture=0.1, grain=0.15, glow=0.2,
    fringe=0.5, blur=1.2, noise=0.03, mix=0.15,
)  # fmt: skip


def fine_tune(
    X: NDArray[Any],
    masks: list[NDArray[np.uint8]],
    *,
    epochs: int,
    random_state: Any,
    batch_size: int = 16,
) -> Any:
    """Return a copy of the network that ships, trained on the pairs.

    Where the masks mean by nucleus and cell what synthetic cells mean, synthetic cells of all
    stains are mixed in, so that the network does not forget other labs.
    """
    if not any(cellmap.nuclei(m).any() for m in masks):
        raise ValueError("masks hold no nucleus (value 2) at all.")
    seed = seed_of(random_state)
    pairs: list[Pair] = []
    for image, mask in zip(iter_arrays(X), masks, strict=True):
        pairs.append(pair(rgb(image), mask, closer=True))
    steps = max(4, epochs * len(pairs) // batch_size)
    with_cells = [(x, kind) for x, kind in pairs if kind.any()]
    if with_cells and follows_convention(with_cells[:: max(1, len(with_cells) // 24)]):
        more = len(pairs) // 2
        pairs += synthetic_pairs(more, seed)
        steps += epochs * more // batch_size
    net = train(
        copy.deepcopy(default_weights()),
        np.stack([x for x, _ in pairs]),
        np.stack([kind for _, kind in pairs]),
        steps=steps,
        seed=seed,
        how=MILD,
        batch_size=batch_size,
        lr=1e-3,
    )
    return fuse(net)


def follows_convention(pairs: list[Pair]) -> bool:
    """Return whether masks mean by nucleus and cell what the network that ships means.

    Examples
    --------
    >>> cells = make_cells(8, stain="mixed", n_labs=6, image_size=96, random_state=3)
    >>> follows_convention([pair(i, m) for i, m in zip(cells.images, cells.masks)])
    True
    >>> follows_convention([pair(i, 2 * (m > 0)) for i, m in zip(cells.images, cells.masks)])
    False
    """
    overlaps = []
    for x, kind in pairs:
        found = class_probabilities(
            default_network(), x.transpose(1, 2, 0).astype(np.float32)
        ).argmax(-1)
        overlaps.append([dice(found == 2, cellmap.nuclei(kind)), dice(found > 0, kind > 0)])
    return bool((np.median(overlaps, axis=0) > USUAL).all())


def synthetic_pairs(n: int, seed: int) -> list[Pair]:
    """Return training pairs of synthetic cells, in every stain."""
    if not n:
        return []
    cells = make_cells(
        n,
        stain="mixed",
        n_labs=max(1, n // 8),
        n_patients=max(10, n // 4),
        field=(18, 34),
        neighbors=0.2,
        image_size=POOL_SIDE,
        lab_effect=1.5,
        random_state=seed,
    )
    return [pair(image, mask) for image, mask in zip(cells.images, cells.masks, strict=True)]


def pair(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], side: int = POOL_SIDE, closer: bool = False
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Return one training pair: standardized density (3, s, s) and classes (s, s).

    With ``closer`` the pair shows the cell in the middle of a window of ``AROUND`` times its size,
    where the image is larger than that.
    """
    import cv2

    kind = cellmap.encode(labels > 0, cellmap.nuclei(labels))
    if closer and kind.any():
        window = square_around(kind > 0, AROUND)
        image, kind = image[window], kind[window]
    shrink = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink))
    how = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
    image = cv2.resize(np.ascontiguousarray(image), size, interpolation=how)
    kind = cv2.resize(kind, size, interpolation=cv2.INTER_NEAREST)
    x = standardize(image)
    spare = [(0, side - x.shape[0]), (0, side - x.shape[1])]
    x, kind = np.pad(x, [*spare, (0, 0)], mode="symmetric"), np.pad(kind, spare, mode="symmetric")
    return x.transpose(2, 0, 1).astype(np.float16), kind


def make_net(seed: int, widths: Sequence[int]) -> SmallUNet:
    """Return an untrained network; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallUNet(3, 3, tuple(widths))


def train(
    net: SmallUNet,
    x: NDArray[np.float16],
    kind: NDArray[np.uint8],
    *,
    steps: int,
    seed: int,
    how: AugmentStrength | None = None,
    batch_size: int = 24,
    lr: float = 3e-3,
    coarse: float = 0.0,
    bfloat16: bool = False,
    watch: Callable[[int, SmallUNet], None] | None = None,
) -> SmallUNet:
    """Train in place by one-cycle AdamW; return the running average of the weights.

    A first share ``coarse`` of the steps sees small images, at half the cost. ``bfloat16``
    saves a third of the time on processors that multiply in it. ``watch`` is shown the step and
    the average.
    """
    how = how or AugmentStrength()
    rng = torch.Generator().manual_seed(seed)
    net = net.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=max(steps, 4), pct_start=0.15
    )
    # a short run must forget its start, a long one averages its last few hundred steps
    decay = float(np.clip(1 - 8 / max(steps, 1), 0.5, 0.998))
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=True
    )
    for step in track(range(steps), "segmenter"):
        which = torch.randint(len(x), (batch_size,), generator=rng).numpy()
        bx = torch.from_numpy(x[which].astype(np.float32))
        by = F.one_hot(torch.from_numpy(kind[which].astype(np.int64)), 3)
        side = COARSE_SIDE if step < coarse * steps else SIDE
        bx, by = augment(bx, by.permute(0, 3, 1, 2).float(), rng, how, side)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = net(bx.to(memory_format=torch.channels_last))
        loss = segmentation_loss(logits.float(), by)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        if watch is not None:
            watch(step + 1, average.module)
    return average.module.eval()


def segmentation_loss(logits: Tensor, share: Tensor) -> Tensor:
    """Return cross entropy plus soft Dice of the nucleus and of the whole cell."""
    entropy = -(share * F.log_softmax(logits, 1)).sum(1).mean()
    p = logits.softmax(1)
    loss = entropy
    for channels in (slice(2, 3), slice(1, 3)):
        a, b = p[:, channels].sum(1), share[:, channels].sum(1)
        both = (a * b).sum((1, 2))
        loss = loss + 0.5 * (1 - (2 * both + 20) / (a.sum((1, 2)) + b.sum((1, 2)) + 20)).mean()
    return loss


def augment(
    x: Tensor, y: Tensor, rng: torch.Generator, how: AugmentStrength, side: int
) -> tuple[Tensor, Tensor]:
    """Return a changed batch of images of ``side`` pixels.

    x is standardized density (n, 3, s, s), y the class shares (n, 3, s, s).
    """
    x, y = _mix(x, y, rng, how.mix)
    x, y = _move(x, y, rng, how, side)
    soft = F.avg_pool2d(y, 5, 1, 2, count_include_pad=False)
    x = _restain(x, soft, rng, how)
    x = _chromatin(x, y, rng, how)
    x = _granules(x, y, rng, how.grain)
    x = _rim(x, y, soft, rng, how.grain)
    x = _blur(x, rng, how)
    x = _tone(x, rng, how.tone)
    x = _frame(x, y, rng)
    x = x + _uniform(rng, len(x), 0, how.noise) * torch.randn(x.shape, generator=rng)
    return _rescale(x), y


def _uniform(rng: torch.Generator, n: int, low: float, high: float, *more: int) -> Tensor:
    shape = (n, *(more or (1,)), 1, 1)
    return low + (high - low) * torch.rand(shape, generator=rng)


def _normal(rng: torch.Generator, n: int, scale: float, channels: int = 3) -> Tensor:
    return scale * torch.randn((n, channels, 1, 1), generator=rng)


def _some(rng: torch.Generator, n: int, share: float) -> Tensor:
    return (torch.rand((n, 1, 1, 1), generator=rng) < share).float()


def _field(rng: torch.Generator, x: Tensor, coarse: int) -> Tensor:
    """Return smooth random fields, about unit variance."""
    n, size = len(x), x.shape[-1]
    seed = 1.4 * torch.randn((n, 1, max(2, size // coarse), max(2, size // coarse)), generator=rng)
    return F.interpolate(seed, size=(size, size), mode="bilinear")


def _mix(x: Tensor, y: Tensor, rng: torch.Generator, share: float) -> tuple[Tensor, Tensor]:
    """Cut a side of some images away and show another image there: neighbors, cut cells."""
    n, size = len(x), x.shape[-1]
    other = torch.randperm(n, generator=rng)
    angle = _uniform(rng, n, 0, 2 * torch.pi)
    line = torch.linspace(-1, 1, size)
    along = torch.cos(angle) * line[None, None, None] + torch.sin(angle) * line[None, None, :, None]
    beyond = (along > _uniform(rng, n, 0.55, 0.8)).float() * _some(rng, n, share)
    roll = [int(v) for v in torch.randint(0, size, (2,), generator=rng)]
    x2, y2 = x[other].roll(roll, (2, 3)), y[other].roll(roll, (2, 3))
    return x * (1 - beyond) + x2 * beyond, y * (1 - beyond) + y2 * beyond


def _move(
    x: Tensor, y: Tensor, rng: torch.Generator, how: AugmentStrength, side: int
) -> tuple[Tensor, Tensor]:
    """Turn, mirror, zoom, stretch and shift."""
    n = len(x)
    angle = torch.rand(n, generator=rng) * 2 * torch.pi
    low, high = (torch.log(torch.tensor(v)) for v in how.zoom)
    zoom = torch.exp(low + (high - low) * torch.rand(n, generator=rng))
    stretch = torch.exp(0.12 * torch.randn(n, generator=rng))
    flip = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    shift = how.shift * (2 * torch.rand((n, 2), generator=rng) - 1)
    theta = torch.stack(
        [
            torch.stack([cos * flip * zoom * stretch, -sin * zoom, shift[:, 0]], dim=1),
            torch.stack([sin * flip * zoom * stretch, cos * zoom, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [n, 6, side, side], align_corners=False)
    both = F.grid_sample(torch.cat([x, y], 1), grid, padding_mode="reflection", align_corners=False)
    return both[:, :3], both[:, 3:]


def _restain(x: Tensor, soft: Tensor, rng: torch.Generator, how: AugmentStrength) -> Tensor:
    """Change every dye a little, and each region (surround, cytoplasm, nucleus) on its own."""
    n = len(x)
    gain = _normal(rng, n, how.stain) + _normal(rng, n, how.stain, 1)
    for k, wider in enumerate((1.6, 1.0, 0.8)):
        own = wider * (_normal(rng, n, how.region) + _normal(rng, n, how.region, 1))
        if k == 1:  # cytoplasm so pale that it is hardly more than plasma
            own = own - _some(rng, n, how.pale) * _uniform(rng, n, 0, 1.3)
        gain = gain + soft[:, k : k + 1] * own
    x = x * torch.exp(gain)
    slope = 0.06 * how.stain / 0.18 * _field(rng, x, x.shape[-1] // 2)
    return x + slope + _normal(rng, n, 0.02)


def _chromatin(x: Tensor, y: Tensor, rng: torch.Generator, how: AugmentStrength) -> Tensor:
    """Clump the chromatin, coarse or fine; let the edge of some nuclei differ from their middle."""
    n = len(x)
    nucleus = y[:, 2:]
    coarse = torch.rand((n, 1, 1, 1), generator=rng)
    clumps = coarse * _field(rng, x, 7) + (1 - coarse) * _field(rng, x, 3)
    x = x * torch.exp(_uniform(rng, n, 0, how.texture) * clumps * nucleus)
    few = F.avg_pool2d(nucleus, 4)
    for _ in range(3):
        few = F.avg_pool2d(few, 3, 1, 1)
    dome = F.interpolate(few, size=x.shape[2:], mode="bilinear") * nucleus
    # one dye more or less towards the middle, and all of them paler towards the edge
    middle = _some(rng, n, how.glow) * _normal(rng, n, 0.5)
    edge = _some(rng, n, how.texture) * _uniform(rng, n, 0, 1)
    return x * torch.exp(middle * dome) * (1 - edge * (nucleus - dome).clamp(0, 1))


def _granules(x: Tensor, y: Tensor, rng: torch.Generator, share: float) -> Tensor:
    """Fill the cytoplasm of some cells with grains of one color, up to the nucleus' darkness."""
    n = len(x)
    fine = (torch.rand((n, 1, 1, 1), generator=rng) < 0.6).float()
    grains = fine * _field(rng, x, 3) + (1 - fine) * _field(rng, x, 6)
    grains = (1.5 * (grains - _uniform(rng, n, -1.0, 1.0))).clamp(0, 1)
    color = _uniform(rng, n, 0.0, 1.0, 3) * torch.tensor([0.45, 1.0, 0.6])[:, None, None]
    amount = grains * y[:, 1:2] * _some(rng, n, 0.5 * share) * _uniform(rng, n, 0.2, 1.0)
    return x + amount * color


def _rim(x: Tensor, y: Tensor, soft: Tensor, rng: torch.Generator, share: float) -> Tensor:
    """Darken or brighten the edge of some cells, as a lens out of focus does."""
    n = len(x)
    outside = y[:, :1]
    band = (4 * soft[:, :1] * (1 - soft[:, :1])).clamp(0, 1)
    dark = _some(rng, n, 0.4 * share) * _uniform(rng, n, 0.0, 0.6)
    halo = _some(rng, n, 0.4 * share) * _uniform(rng, n, 0.0, 0.15)
    return x + band * (dark * (1 - outside) - halo * outside)


def _blur(x: Tensor, rng: torch.Generator, how: AugmentStrength) -> Tensor:
    """Put each image out of focus by its own amount; some lenses also part the colors."""
    n = len(x)
    sigma = _uniform(rng, n, 0.05, how.blur).reshape(n, 1, 1)
    parted = _some(rng, n, 0.3).reshape(n, 1, 1)
    sigma = sigma * torch.exp(parted * 0.3 * torch.randn((n, 3, 1), generator=rng))
    shift = parted * how.fringe * (2 * torch.rand((2, n, 3, 1), generator=rng) - 1)
    at = torch.arange(-5, 6, dtype=torch.float32)
    kernel = torch.exp(-0.5 * ((at - shift) / sigma.clamp(min=0.3)) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).reshape(2, 3 * n, 1, 11)
    planes = F.pad(x.reshape(1, 3 * n, *x.shape[2:]), (5, 5, 5, 5), mode="replicate")
    planes = F.conv2d(planes, kernel[0, :, :, None], groups=3 * n)
    planes = F.conv2d(planes, kernel[1, :, :, :, None], groups=3 * n)
    return planes.reshape(x.shape)


def _tone(x: Tensor, rng: torch.Generator, scale: float) -> Tensor:
    """Bend the scale of density as cameras do, and let some of them end in black early."""
    n = len(x)
    power = torch.exp(_normal(rng, n, scale, 1) + _normal(rng, n, 0.3 * scale))
    bent = x.clamp(min=0.02) ** power - 0.02**power + x.clamp(max=0.02)
    black = torch.where(_some(rng, n, scale) > 0, _uniform(rng, n, 0.7, 1.3, 3), torch.inf)
    return torch.minimum(bent, black)


def _frame(x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """Lay empty bands along the edges of some images; the truth below becomes background."""
    n, size = len(x), x.shape[-1]
    for i in torch.nonzero(torch.rand(n, generator=rng) < 0.1).flatten().tolist():
        width = int(torch.randint(1, size // 6, (1,), generator=rng))
        side = int(torch.randint(0, 4, (1,), generator=rng))
        band = slice(width) if side < 2 else slice(size - width, None)
        rows, columns = (band, slice(None)) if side % 2 else (slice(None), band)
        x[i, :, rows, columns] = 0
        y[i, :, rows, columns] = torch.tensor([1.0, 0, 0])[:, None, None]
    return x


def _rescale(x: Tensor) -> Tensor:
    """Bring the darkest stain back to 1, as ``standardize`` does."""
    mean = x.mean(1).flatten(1)
    k = max(1, int(0.02 * mean.shape[1]))
    strongest = mean.topk(k, dim=1).values[:, -1].clamp(min=0.25)
    return x / strongest[:, None, None, None]
