"""Random changes of a batch of training images that keep the type of the cell; mixing.

All functions take float images (n, 3, height, width) from 0 to 1 on the training device, and draw
from one generator on the CPU, so that a seed gives the same changes on every device. The training
networks of ``hemaest.deep`` and the GAN of ``hemaest.balance`` use them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hemaest._color import stain_basis

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Strength:
    """Strength of the changes.

    Parameters
    ----------
    shift : float
        Largest shift, as a proportion of the side.
    scale : float
        Images are scaled by up to ``exp(scale)`` either way. Small, because the size of a cell is
        a feature of its type.
    stain : float
        Each stain becomes up to ``exp(stain)`` times stronger or weaker.
    tilt : float
        The color of each stain is rotated by up to this many degrees.
    background : float
        Largest optical density that is added to or subtracted from each channel.
    blur : float
        Proportion of images that are blurred.
    erase : float
        Proportion of images in which a rectangle is hidden.
    """

    shift: float = 0.06
    scale: float = 0.05
    stain: float = 0.10
    tilt: float = 2.0
    background: float = 0.02
    blur: float = 0.0
    erase: float = 0.0


STANDARD = Strength()
STRONG = Strength(
    shift=0.10, scale=0.25, stain=0.30, tilt=6.0, background=0.03, blur=0.2, erase=0.25
)


def uniform(generator: torch.Generator, like: Tensor, *shape: int) -> Tensor:
    """Return numbers from -1 to 1 on the device of ``like``."""
    return (torch.rand(*shape, generator=generator) * 2 - 1).to(like.device, non_blocking=True)


def border_colors(images: Tensor) -> Tensor:
    """Return the median color of the border of each image, as (n, 3, 1, 1)."""
    top, bottom, left, right = images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]
    edge = torch.cat([top, bottom, left, right], dim=2)
    return edge.median(dim=2).values[:, :, None, None]


def move(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Rotate by any angle, mirror, shift and scale, in one interpolation.

    A cell has no upright side, so all angles are equally likely. The image is reflected at its
    border: corners of one color would mark training images. The interpolation is cubic, because a
    linear one would blur training images only.
    """
    n = len(images)
    noise = uniform(generator, images, n, 5)
    angle = noise[:, 0] * torch.pi
    factor = torch.exp(noise[:, 1] * strength.scale)
    mirror = torch.sign(noise[:, 2] + 1e-12)
    cos, sin = torch.cos(angle) * factor, torch.sin(angle) * factor
    shift = noise[:, 3:] * 2 * strength.shift
    rows = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(
        images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return moved.clamp_(0, 1)


def draw_stains(n: int, strength: Strength, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n changes of stain, distributed as in StainAugmenter.

    Returns matrices (n, 3, 3) and offsets (n, 3) in optical density.
    """
    stains = torch.from_numpy(stain_basis("giemsa")).float()
    noise = torch.rand(n, 7, generator=generator)
    gains = torch.exp((noise[:, :2] * 2 - 1) * strength.stain)
    angle = (noise[:, 2:4] * strength.tilt * torch.pi / 180)[..., None]
    sideways = torch.randn(n, 2, 3, generator=generator)
    dyes = stains[:2]
    sideways = F.normalize(sideways - (sideways * dyes).sum(-1, keepdim=True) * dyes, dim=-1)
    tilted = torch.cos(angle) * dyes + torch.sin(angle) * sideways
    rest = F.normalize(torch.linalg.cross(tilted[:, 0], tilted[:, 1]), dim=-1)
    # the residual axis keeps its sign
    rest = rest * torch.sign((rest * stains[2]).sum(-1, keepdim=True))
    changed = torch.cat([tilted * gains[..., None], rest[:, None]], dim=1)
    matrices = changed.mT @ torch.linalg.inv(stains.T)
    return matrices, (noise[:, 4:] * 2 - 1) * strength.background


def restain(images: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """Apply a change of stain to each image, in optical density.

    Examples
    --------
    >>> image = torch.rand(1, 3, 2, 2)
    >>> torch.allclose(restain(image, torch.eye(3)[None], torch.zeros(1, 3)), image, atol=1e-5)
    True
    """
    density = torch.log(256 / (images * 255 + 1)).flatten(2)
    changed = torch.baddbmm(
        offsets.to(images.device)[:, :, None], matrices.to(images.device), density
    )
    return ((256 * torch.exp(-changed) - 1) / 255).clamp(0, 1).view_as(images)


def stain_jitter(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Change the stain of each image at random."""
    return restain(images, *draw_stains(len(images), strength, generator))


def blur(images: Tensor, proportion: float, generator: torch.Generator) -> Tensor:
    """Blur a proportion of the images, like an image slightly out of focus."""
    draws = torch.rand(len(images), 2, generator=generator)
    rows = torch.nonzero(draws[:, 0] < proportion)[:, 0].to(images.device)
    if not len(rows):
        return images
    sharp = images[rows]
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    padded = F.pad(sharp, (2, 2, 2, 2), mode="replicate").flatten(0, 1)[:, None]
    soft = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))
    amount = draws[:, 1].to(images.device)[rows, None, None, None]
    return images.index_copy(0, rows, torch.lerp(sharp, soft.view(sharp.shape), amount))


def erase(images: Tensor, proportion: float, generator: torch.Generator) -> Tensor:
    """Fill a rectangle in a proportion of the images with the color of their border."""
    n, _, height, width = images.shape
    draws = torch.rand(n, 5, generator=generator)
    side = 0.15 + 0.25 * draws[:, 1:3]
    start = draws[:, 3:5] * (1 - side)
    y, x = torch.arange(height) / height, torch.arange(width) / width
    in_rows = (y >= start[:, :1]) & (y < start[:, :1] + side[:, :1])
    in_columns = (x >= start[:, 1:]) & (x < start[:, 1:] + side[:, 1:])
    hidden = in_rows[:, :, None] & in_columns[:, None] & (draws[:, 0] < proportion)[:, None, None]
    return torch.where(hidden[:, None].to(images.device), border_colors(images), images)


def augment_batch(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Return a randomly changed copy of a batch.

    Examples
    --------
    >>> images = torch.rand(2, 3, 8, 8)
    >>> augment_batch(images, STANDARD, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """
    images = move(images, strength, generator)
    images = stain_jitter(images, strength, generator)
    if strength.blur:
        images = blur(images, strength.blur, generator)
    if strength.erase:
        images = erase(images, strength.erase, generator)
    return images


def dihedral(images: Tensor, view: int) -> Tensor:
    """Return one of the 8 mirrored and rotated views of a batch; 0 is the batch itself.

    Examples
    --------
    >>> square = torch.arange(4.0).view(1, 1, 2, 2)
    >>> sorted(tuple(dihedral(square, v).flatten().int().tolist()) for v in range(8))[:2]
    [(0, 1, 2, 3), (0, 2, 1, 3)]
    """
    if view >= 4:
        images = images.flip(-1)
    return torch.rot90(images, view % 4, (-2, -1)) if view % 4 else images


def resolve_augment(augment: Any) -> Augment | None:
    """Return the function for a name, None, a callable, or a StainAugmenter.

    Parameters
    ----------
    augment : None, "standard", "strong", StainAugmenter or callable
        A callable takes (float images 0 to 1, torch generator). The changes of a StainAugmenter are
        applied after the standard moves.
    """
    if augment is None:
        return None
    if augment == "standard":
        return lambda images, generator: augment_batch(images, STANDARD, generator)
    if augment == "strong":
        return lambda images, generator: augment_batch(images, STRONG, generator)
    if hasattr(augment, "draw"):
        return lambda images, generator: restain(
            move(images, STANDARD, generator), *_drawn(augment, len(images), generator)
        )
    return augment


def _drawn(augmenter: Any, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    matrices, offsets = augmenter.draw(n, random_state=seed)
    return torch.from_numpy(matrices), torch.from_numpy(offsets)


def mix_batch(
    images: Tensor,
    target: Tensor,
    n_classes: int,
    generator: torch.Generator,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Mix each image with another one of the batch; the targets become probabilities.

    Written by hand because timm's version draws from numpy's global generator.

    Parameters
    ----------
    images : Tensor (n, 3, h, w)
    target : integer Tensor (n,)
    n_classes : int
    generator : torch.Generator
        On the CPU.
    mixup, cutmix : float
        Both parameters of a beta distribution. If both are above 0, each is used half of the time.

    Returns
    -------
    images : Tensor
    target : float Tensor (n, n_classes)

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> _, probability = mix_batch(torch.rand(4, 3, 8, 8), torch.arange(4), 4, g, mixup=0.5)
    >>> probability.sum(1)
    tensor([1., 1., 1., 1.])
    """
    n, _, height, width = images.shape
    onehot = F.one_hot(target, n_classes).float()
    order = torch.randperm(n, generator=generator)
    cut = cutmix > 0 and (mixup <= 0 or torch.rand((), generator=generator) < 0.5)
    share = float(_beta(cutmix if cut else mixup, generator))
    if cut:
        rows = int(height * (1 - share) ** 0.5)
        columns = int(width * (1 - share) ** 0.5)
        top = int(torch.randint(height - rows + 1, (), generator=generator))
        left = int(torch.randint(width - columns + 1, (), generator=generator))
        other = images[order, :, top : top + rows, left : left + columns]
        images = images.clone()
        images[:, :, top : top + rows, left : left + columns] = other
        share = 1 - rows * columns / (height * width)
    else:
        images = torch.lerp(images[order], images, share)
    return images, torch.lerp(onehot[order], onehot, share)


def _beta(alpha: float, generator: torch.Generator) -> Tensor:
    """Draw from a beta distribution with two equal parameters, from two gamma draws."""
    draws = torch._standard_gamma(torch.full((2,), float(alpha)), generator=generator)
    return draws[0] / draws.sum().clamp(min=1e-12)
