"""A plain DCGAN for one class, the rival of the ACDB-GAN in its benchmark.

Batch norm, transposed convolutions, cross-entropy, Adam at 2e-4: what is commonly written when a
class needs more images, trained on mirrored and turned copies.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def generator(size: int, width: int, latent: int) -> nn.Sequential:
    steps = int(np.log2(size // 4))
    wide = [min(width << k, 8 * width) for k in range(steps, 0, -1)]
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent, wide[0], 4, bias=False)]
    for before, after in zip(wide, [*wide[1:], None], strict=True):
        layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
        layers.append(nn.ConvTranspose2d(before, after or 3, 4, 2, 1, bias=after is None))
    return nn.Sequential(*layers, nn.Tanh())


def discriminator(size: int, width: int) -> nn.Sequential:
    steps = int(np.log2(size // 4))
    wide = [min(width << k, 8 * width) for k in range(1, steps + 1)]
    layers: list[nn.Module] = []
    for k, (before, after) in enumerate(zip([3, *wide[:-1]], wide, strict=True)):
        layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=k == 0))
        layers += [] if k == 0 else [nn.BatchNorm2d(after)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers, nn.Conv2d(wide[-1], 1, 4), nn.Flatten(0))


def start(module: nn.Module) -> None:
    """Set weights as the authors of the DCGAN do."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def make_cells(
    images: np.ndarray,
    n: int,
    *,
    seconds: float,
    clock: Callable[[], float],
    width: int,
    device: str,
    seed: int = 0,
) -> tuple[np.ndarray, int]:
    """Train on squares of one class for some seconds; return n new ones and the steps done."""
    latent, batch_size, size = 64, min(32, len(images)), images.shape[1]
    torch.manual_seed(seed)
    nets = [generator(size, width, latent), discriminator(size, width)]
    for net in nets:
        net.apply(start).to(device)
    make, judge = nets
    optimizers = [torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999)) for net in nets]
    data = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1).to(device)
    begin, steps = clock(), 0
    while clock() - begin < seconds:
        real = data[torch.randint(len(data), (batch_size,), device=device)]
        real = torch.rot90(real, int(torch.randint(4, ())), (2, 3))
        real = real.flip(3) if torch.rand(()) < 0.5 else real
        fake = make(torch.randn(batch_size, latent, 1, 1, device=device))
        of_real, of_fake = judge(real), judge(fake.detach())
        loss = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        loss = F.softplus(-judge(fake)).mean()
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        steps += 1
    make.eval()
    with torch.no_grad():
        parts = [make(torch.randn(len(r), latent, 1, 1, device=device)) for r in _parts(n)]
    found = torch.cat(parts).add(1).mul(127.5).round().clamp(0, 255).byte()
    return found.permute(0, 2, 3, 1).cpu().numpy(), steps


def _parts(n: int) -> list[range]:
    return [range(i, min(i + 64, n)) for i in range(0, n, 64)]
