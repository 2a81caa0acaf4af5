"""Random changes through which a discriminator looks at real and fake images alike.

They can be differentiated, so the generator learns through them; and as both sides get them, what
they do is not learnt as part of a cell. Each is made to some images only: always changed, cells
hide from the discriminator that a generator draws the same one again and again. Mirrored and
turned views are the exception that does no harm: a cell has no upright side.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# of images that each change is made to
SHARE = 0.5


def uniform(generator: torch.Generator, n: int, k: int, like: Tensor) -> Tensor:
    """Return k columns of numbers from -1 to 1, drawn on the CPU."""
    return (torch.rand(n, k, generator=generator) * 2 - 1).to(like.device, non_blocking=True)


def views(images: Tensor, noise: Tensor) -> Tensor:
    """Mirror and transpose each image by the signs of three columns: the 8 views of a square.

    Examples
    --------
    >>> square = torch.arange(4.0).view(1, 1, 2, 2)
    >>> views(square, torch.tensor([[1.0, -1.0, -1.0]])).flatten().tolist()
    [1.0, 0.0, 3.0, 2.0]
    """
    choose = (noise > 0)[:, :, None, None, None]
    images = torch.where(choose[:, 0], images.flip(-1), images)
    images = torch.where(choose[:, 1], images.flip(-2), images)
    return torch.where(choose[:, 2], images.mT, images)


def shift(images: Tensor, noise: Tensor, most: float) -> Tensor:
    """Move each image by whole pixels, at most that share of its side, mirrored at the border."""
    n, _, height, width = images.shape
    sides = torch.tensor([width, height], device=images.device)
    moved = (noise * most * sides).round() * 2 / sides
    theta = torch.eye(2, 3, device=images.device).repeat(n, 1, 1)
    theta[:, :, 2] = moved
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=False
    )


def recolour(images: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Change brightness, saturation and contrast of each image."""
    light, colour, contrast = noise[:, :, None, None, None].unbind(1)
    images = images + strength * light
    grey = images.mean(dim=1, keepdim=True)
    images = torch.lerp(grey, images, 1 + strength * colour)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(middle, images, 1 + strength * contrast)


def cut_out(images: Tensor, noise: Tensor, share: float) -> Tensor:
    """Set a square of each image to zero, of that share of its side."""
    height, width = images.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=images.device)
    columns = torch.linspace(-1, 1, width, device=images.device)
    hidden = (rows - noise[:, :1]).abs()[:, :, None].lt(share) & (columns - noise[:, 1:]).abs()[
        :, None
    ].lt(share)
    return images.masked_fill(hidden[:, None], 0.0)


def some(changed: Tensor, images: Tensor, noise: Tensor) -> Tensor:
    """Return the changed image where the noise says so, for a share of all, else the image."""
    return torch.where((noise < 2 * SHARE - 1)[:, None, None, None], changed, images)


def look_through(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image turned, and some of them moved, recoloured, partly hidden, at random.

    Examples
    --------
    >>> images = torch.zeros(2, 3, 8, 8)
    >>> look_through(images, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """
    noise = uniform(generator, len(images), 13, images)
    images = views(images, noise[:, :3])
    images = some(recolour(images, noise[:, 3:6], 0.25), images, noise[:, 10])
    images = some(shift(images, noise[:, 6:8], 0.125), images, noise[:, 11])
    return some(cut_out(images, noise[:, 8:10], 0.35), images, noise[:, 12])
