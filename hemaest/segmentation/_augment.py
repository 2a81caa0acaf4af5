"""Make training cells unlike each other: place, region-wise stain, granules, rims, lens, camera."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Strength:
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


MILD = Strength(
    zoom=(0.7, 1.2), region=0.1, pale=0.05, tone=0.15, texture=0.1, grain=0.15, glow=0.2,
    fringe=0.5, blur=1.2, noise=0.03, mix=0.15,
)  # fmt: skip


def augment(
    x: Tensor, y: Tensor, rng: torch.Generator, how: Strength, side: int
) -> tuple[Tensor, Tensor]:
    """Return a changed batch of pictures of ``side`` pixels.

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
    """Cut a side of some pictures away and show another picture there: neighbours, cut cells."""
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
    x: Tensor, y: Tensor, rng: torch.Generator, how: Strength, side: int
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


def _restain(x: Tensor, soft: Tensor, rng: torch.Generator, how: Strength) -> Tensor:
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


def _chromatin(x: Tensor, y: Tensor, rng: torch.Generator, how: Strength) -> Tensor:
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
    """Fill the cytoplasm of some cells with grains of one colour, up to the nucleus' darkness."""
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


def _blur(x: Tensor, rng: torch.Generator, how: Strength) -> Tensor:
    """Put each picture out of focus by its own amount; some lenses also part the colours."""
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
    """Lay empty bands along the edges of some pictures; the truth below becomes background."""
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
