"""Random changes of a batch of images that keep the cell what it is, on the training device.

All work on float images (n, 3, height, width) from 0 to 1 and draw from one generator on the
CPU, so that a seed gives the same changes on every device.
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
    """How far images are changed.

    Parameters
    ----------
    shift : float
        Largest shift, as a share of the side.
    scale : float
        Images are scaled by up to ``exp(scale)`` either way: little, for a cell's size says what
        it is.
    stain : float
        Each stain is made up to ``exp(stain)`` times stronger or weaker.
    tilt : float
        Each stain's colour is turned by up to this many degrees.
    background : float
        Optical density added to or taken from each channel.
    blur : float
        Share of images that are blurred.
    erase : float
        Share of images in which a rectangle is hidden.
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


def border_colours(images: Tensor) -> Tensor:
    """Return the median colour of each image's border, as (n, 3, 1, 1)."""
    top, bottom, left, right = images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]
    edge = torch.cat([top, bottom, left, right], dim=2)
    return edge.median(dim=2).values[:, :, None, None]


def turn(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Rotate by any angle, mirror, shift and scale, in one interpolation.

    A cell has no upright side, so every angle is as likely. What lies outside is the image
    mirrored: corners of one colour would be a mark that only training images have. For the same
    reason the interpolation is cubic: a linear one blurs what prediction will see sharp.
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
    turned = F.grid_sample(
        images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return turned.clamp_(0, 1)


def draw_stains(n: int, strength: Strength, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw n changes of stain, as the StainAugmenter does, all at once.

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
    # what is neither dye keeps its sign
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
    """Change how each image is stained, at random."""
    return restain(images, *draw_stains(len(images), strength, generator))


def blur(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Blur some of the images, as a picture slightly out of focus is."""
    draws = torch.rand(len(images), 2, generator=generator)
    rows = torch.nonzero(draws[:, 0] < share)[:, 0].to(images.device)
    if not len(rows):
        return images
    sharp = images[rows]
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    padded = F.pad(sharp, (2, 2, 2, 2), mode="replicate").flatten(0, 1)[:, None]
    soft = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))
    amount = draws[:, 1].to(images.device)[rows, None, None, None]
    return images.index_copy(0, rows, torch.lerp(sharp, soft.view(sharp.shape), amount))


def erase(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Hide a rectangle of some of the images under the colour of their border."""
    n, _, height, width = images.shape
    draws = torch.rand(n, 5, generator=generator)
    side = 0.15 + 0.25 * draws[:, 1:3]
    start = draws[:, 3:5] * (1 - side)
    y, x = torch.arange(height) / height, torch.arange(width) / width
    in_rows = (y >= start[:, :1]) & (y < start[:, :1] + side[:, :1])
    in_columns = (x >= start[:, 1:]) & (x < start[:, 1:] + side[:, 1:])
    hidden = in_rows[:, :, None] & in_columns[:, None] & (draws[:, 0] < share)[:, None, None]
    return torch.where(hidden[:, None].to(images.device), border_colours(images), images)


def augment_batch(images: Tensor, strength: Strength, generator: torch.Generator) -> Tensor:
    """Return a changed copy of a batch.

    Examples
    --------
    >>> images = torch.rand(2, 3, 8, 8)
    >>> augment_batch(images, STANDARD, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """
    images = turn(images, strength, generator)
    images = stain_jitter(images, strength, generator)
    if strength.blur:
        images = blur(images, strength.blur, generator)
    if strength.erase:
        images = erase(images, strength.erase, generator)
    return images


def dihedral(images: Tensor, view: int) -> Tensor:
    """Return one of the 8 mirrored and quarter-turned views of a batch; 0 is the batch itself.

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
        A callable takes (float images 0 to 1, torch generator). What a StainAugmenter draws comes
        after the standard turns.
    """
    if augment is None:
        return None
    if augment == "standard":
        return lambda images, generator: augment_batch(images, STANDARD, generator)
    if augment == "strong":
        return lambda images, generator: augment_batch(images, STRONG, generator)
    if hasattr(augment, "draw"):
        return lambda images, generator: restain(
            turn(images, STANDARD, generator), *_drawn(augment, len(images), generator)
        )
    return augment


def _drawn(augmenter: Any, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    matrices, offsets = augmenter.draw(n, random_state=seed)
    return torch.from_numpy(matrices), torch.from_numpy(offsets)
