"""Mixup and cutmix, with their own generator: timm's draw from numpy's global one."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mix_batch(
    images: Tensor,
    target: Tensor,
    n_classes: int,
    generator: torch.Generator,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Mix each image with another one of the batch; the targets become shares.

    Parameters
    ----------
    images : Tensor (n, 3, h, w)
    target : integer Tensor (n,)
    n_classes : int
    generator : torch.Generator
        On the CPU.
    mixup, cutmix : float
        Strength (the two parameters of a beta distribution); with both, either by chance.

    Returns
    -------
    images : Tensor
    target : float Tensor (n, n_classes)

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> _, shares = mix_batch(torch.rand(4, 3, 8, 8), torch.arange(4), 4, g, mixup=0.5)
    >>> shares.sum(1)
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
    """Draw from a beta distribution with two equal parameters (Johnk's way, by gamma draws)."""
    draws = torch._standard_gamma(torch.full((2,), float(alpha)), generator=generator)
    return draws[0] / draws.sum().clamp(min=1e-12)
