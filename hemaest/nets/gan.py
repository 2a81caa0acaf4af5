"""A small class-conditional GAN for cells at 16 to 256 pixels: networks, losses, augmentation.

The generator scales the channels of each convolution by a style (from noise and class) and divides
by the resulting standard deviation, so it needs no normalization layer. The discriminator is
residual. All weights have unit variance and are scaled where they are used, so that one learning
rate suits every layer. ``conditioning`` (0 to 1) is the influence of the class: a run that starts
at 0 and increases it does not collapse on classes of few images.

The discriminator sees real and fake images through the same random changes. They are
differentiable, so the generator learns through them. Each is applied to some images only: with
changes everywhere, the generator could repeat one cell unnoticed. Mirrored and rotated views are
applied to all, because a cell has no upright side.

:class:`hemaest.balance.ACDBGAN` trains it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest.nets.cellnet import standardize

SMALLEST = (4, 5, 6, 7)
# restores the variance after a leaky ReLU
GAIN = math.sqrt(2)
SLOPE = 0.2
# proportion of images that each change is applied to
SHARE = 0.5


def stages(image_size: int) -> tuple[int, int]:
    """Return the side of the smallest feature map and the number of doublings.

    Examples
    --------
    >>> stages(64), stages(96)
    ((4, 4), (6, 4))
    """
    for start in SMALLEST:
        doublings = round(math.log2(image_size / start))
        if doublings >= 2 and start << doublings == image_size:
            return start, doublings
    allowed = sorted(s << k for s in SMALLEST for k in range(2, 7) if s << k <= 256)
    raise ValueError(
        f"image_size={image_size} is not 4, 5, 6 or 7 times a power of two; the nearest are "
        f"{max((a for a in allowed if a < image_size), default=allowed[0])} and "
        f"{min((a for a in allowed if a > image_size), default=allowed[-1])}."
    )


def channels(width: int, doublings: int, most: int) -> list[int]:
    """Return the channels of each stage, from the smallest map to the largest."""
    return [min(width << k, most) for k in range(doublings, -1, -1)]


class Linear(nn.Module):
    """A linear layer whose weights are scaled where they are used."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sums."""
        return F.linear(x, self.weight * self.scale, self.bias)


class Conv(nn.Module):
    """A convolution whose weights are scaled where they are used."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = 1 / math.sqrt(inputs * side * side)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve at constant size."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class StyledConv(Conv):
    """A 3x3 convolution whose input channels are scaled by a style, at unit output variance."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__(inputs, outputs, 3)
        self.style = Linear(style, inputs, bias=1.0)

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """Convolve with a style; scaling input and output equals scaling the weights."""
        gains = self.style(style)
        weight = self.weight * self.scale
        spread = (gains.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        x = F.conv2d(x * gains[:, :, None, None], weight, padding=1)
        x = torch.addcmul(self.bias[None, :, None, None], x, spread[:, :, None, None])
        return F.leaky_relu(x, SLOPE) * GAIN


class Generator(nn.Module):
    """Maps noise and class to images from about -1 to 1.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    image_size : int
        Side of the images.
    latent_size : int
        Length of the noise vector.
    width : int
        Channels of the largest feature map; each smaller one has twice as many, at most 8 times.

    Examples
    --------
    >>> net = Generator(3, 32, latent_size=16, width=4)
    >>> net(torch.zeros(2, 16), torch.tensor([0, 2])).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self, n_classes: int, image_size: int, *, latent_size: int = 64, width: int = 32
    ) -> None:
        super().__init__()
        side, doublings = stages(image_size)
        wide = channels(width, doublings, 8 * width)
        self.latent_size = latent_size
        self.classes = nn.Embedding(n_classes, latent_size)
        self.mapping = nn.ModuleList([Linear(latent_size, latent_size) for _ in range(2)])
        self.start = Linear(latent_size, wide[0] * side * side)
        self.shape = (wide[0], side, side)
        self.first = StyledConv(wide[0], wide[0], latent_size)
        self.before = nn.ModuleList(
            StyledConv(a, b, latent_size) for a, b in zip(wide[:-1], wide[1:], strict=True)
        )
        self.after = nn.ModuleList(StyledConv(b, b, latent_size) for b in wide[1:])
        self.to_rgb = nn.ModuleList(Conv(c, 3, 1) for c in wide)

    def forward(self, noise: Tensor, label: Tensor, conditioning: float = 1.0) -> Tensor:
        """Return images (n, 3, size, size)."""
        style = noise + conditioning * self.classes(label)
        style = style * (style.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        # the first map sets the layout, the styles set the appearance
        x = self.start(style).unflatten(1, self.shape)
        for layer in self.mapping:
            style = F.leaky_relu(layer(style), SLOPE) * GAIN
        x = self.first(x, style)
        image = self.to_rgb[0](x)
        for before, after, to_rgb in zip(self.before, self.after, self.to_rgb[1:], strict=True):
            x = before(F.interpolate(x, scale_factor=2.0, mode="nearest"), style)
            x = after(x, style)
            image = F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)
            image = image + to_rgb(x)
        return image


class Refiner(nn.Module):
    """Changes images a little, by noise and class: a rendered cell becomes one of a laboratory.

    Parameters
    ----------
    n_classes, latent_size : int
        As for :class:`Generator`.
    width : int
        Channels at full resolution; twice and four times as many at a half and a quarter of it.
    reach : float, default=0.6
        Largest change of a channel, on the scale -1 to 1.

    Examples
    --------
    >>> net = Refiner(3, latent_size=16, width=4)
    >>> source = torch.rand(2, 3, 32, 32) * 2 - 1
    >>> refined = net(torch.zeros(2, 16), torch.tensor([0, 2]), source=source)
    >>> torch.equal(refined, source)  # before it is trained
    True
    """

    def __init__(
        self, n_classes: int, *, latent_size: int = 64, width: int = 32, reach: float = 0.6
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.reach = reach
        self.classes = nn.Embedding(n_classes, latent_size)
        self.mapping = nn.ModuleList([Linear(latent_size, latent_size) for _ in range(2)])
        wide = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList(Conv(a, b, 3) for a, b in zip((3, *wide[:-1]), wide, strict=True))
        self.middle = StyledConv(wide[2], wide[2], latent_size)
        self.up = nn.ModuleList(
            StyledConv(a, b, latent_size) for a, b in ((wide[2], wide[1]), (wide[1], wide[0]))
        )
        self.to_rgb = Conv(width, 3, 3)
        nn.init.zeros_(self.to_rgb.weight)

    def forward(
        self, noise: Tensor, label: Tensor, conditioning: float = 1.0, *, source: Tensor
    ) -> Tensor:
        """Return the source images (n, 3, size, size), changed."""
        style = noise + conditioning * self.classes(label)
        style = style * (style.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            style = F.leaky_relu(layer(style), SLOPE) * GAIN
        maps, x = [], source
        for k, down in enumerate(self.down):
            x = F.leaky_relu(down(F.avg_pool2d(x, 2) if k else x), SLOPE) * GAIN
            maps.append(x)
        x = self.middle(x, style)
        for up, skip in zip(self.up, maps[1::-1], strict=True):
            x = up(F.interpolate(x, scale_factor=2.0, mode="nearest"), style)
            x = (x + skip) * math.sqrt(0.5)
        return (source + self.reach * torch.tanh(self.to_rgb(x))).clamp(-1, 1)


def structure_loss(refined: Tensor, source: Tensor) -> Tensor:
    """Return how far images differ, whatever the gain and offset of their channels.

    Examples
    --------
    >>> x = torch.rand(1, 3, 8, 8)
    >>> bool(structure_loss(0.5 * x + 0.2, x) < 1e-3 < structure_loss(x.flip(-1), x))
    True
    """
    return (standardize(refined) - standardize(source)).abs().mean()


class DownBlock(nn.Module):
    """Two convolutions beside a shortcut, at half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, inputs, 3)
        self.conv2 = Conv(inputs, outputs, 3)
        self.shortcut = Conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Downsample; pooling before the last convolution costs a quarter of pooling after it."""
        out = F.leaky_relu(self.conv1(x), SLOPE) * GAIN
        out = F.leaky_relu(self.conv2(F.avg_pool2d(out, 2)), SLOPE) * GAIN
        return (out + self.shortcut(F.avg_pool2d(x, 2))) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Maps images and their class to a score: how real they look.

    Parameters
    ----------
    n_classes, image_size, width : int
        As for :class:`Generator`.

    Examples
    --------
    >>> net = Discriminator(3, 32, width=4)
    >>> net(torch.zeros(2, 3, 32, 32), torch.tensor([0, 2])).shape
    torch.Size([2])
    """

    def __init__(self, n_classes: int, image_size: int, *, width: int = 32) -> None:
        super().__init__()
        side, doublings = stages(image_size)
        wide = channels(width, doublings, 8 * width)[::-1]
        self.from_rgb = Conv(3, wide[0], 1)
        self.blocks = nn.Sequential(
            *(DownBlock(a, b) for a, b in zip(wide[:-1], wide[1:], strict=True))
        )
        self.conv = Conv(wide[-1], wide[-1], 3)
        self.dense = Linear(wide[-1] * side * side, wide[-1])
        self.score = Linear(wide[-1], 1)
        self.classes = nn.Embedding(n_classes, wide[-1])
        self.scale = 1 / math.sqrt(wide[-1])

    def forward(self, images: Tensor, label: Tensor, conditioning: float = 1.0) -> Tensor:
        """Return one score for each image: as a cell, plus as a cell of its class."""
        x = F.leaky_relu(self.from_rgb(images), SLOPE) * GAIN
        x = F.leaky_relu(self.conv(self.blocks(x)), SLOPE) * GAIN
        x = F.leaky_relu(self.dense(x.flatten(1)), SLOPE) * GAIN
        of_class = (x * self.classes(label)).sum(dim=1) * self.scale
        return self.score(x)[:, 0] + conditioning * of_class


def relativistic_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of discriminator and generator for scores of paired images.

    Each fake image is compared with a real one of the same class. Only the difference of scores
    counts, so the generator cannot win by a few convincing images.

    Examples
    --------
    >>> d, g = relativistic_losses(torch.tensor([5.0]), torch.tensor([-5.0]))
    >>> bool(d < 1e-3), bool(g > 9)
    (True, True)
    """
    return F.softplus(fake - real).mean(), F.softplus(real - fake).mean()


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared gradient of scores over images: R1 on real images, R2 on fake ones.

    Examples
    --------
    >>> x = torch.ones(2, 3, requires_grad=True)
    >>> gradient_penalty((2 * x).sum(dim=1), x).item()
    12.0
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(dim=1).mean()


def uniform(generator: torch.Generator, n: int, k: int, like: Tensor) -> Tensor:
    """Return uniform numbers from -1 to 1, shape (n, k), drawn on the CPU."""
    return (torch.rand(n, k, generator=generator) * 2 - 1).to(like.device, non_blocking=True)


def dihedral_views(images: Tensor, noise: Tensor) -> Tensor:
    """Mirror and transpose each image by the signs of three columns: the 8 views of a square.

    Examples
    --------
    >>> square = torch.arange(4.0).view(1, 1, 2, 2)
    >>> dihedral_views(square, torch.tensor([[1.0, -1.0, -1.0]])).flatten().tolist()
    [1.0, 0.0, 3.0, 2.0]
    """
    choose = (noise > 0)[:, :, None, None, None]
    images = torch.where(choose[:, 0], images.flip(-1), images)
    images = torch.where(choose[:, 1], images.flip(-2), images)
    return torch.where(choose[:, 2], images.mT, images)


def shift(images: Tensor, noise: Tensor, most: float) -> Tensor:
    """Shift each image by whole pixels, up to a proportion of its side; reflects at the border."""
    n, _, height, width = images.shape
    sides = torch.tensor([width, height], device=images.device)
    moved = (noise * most * sides).round() * 2 / sides
    theta = torch.eye(2, 3, device=images.device).repeat(n, 1, 1)
    theta[:, :, 2] = moved
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(
        images, grid.to(images.dtype), padding_mode="reflection", align_corners=False
    )


def jitter_color(images: Tensor, noise: Tensor, strength: float) -> Tensor:
    """Change brightness, saturation and contrast of each image."""
    light, color, contrast = noise[:, :, None, None, None].unbind(1)
    images = images + strength * light
    gray = images.mean(dim=1, keepdim=True)
    images = torch.lerp(gray, images, 1 + strength * color)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(middle, images, 1 + strength * contrast)


def cut_out(images: Tensor, noise: Tensor, share: float) -> Tensor:
    """Set a square of each image to zero, of a proportion of its side."""
    height, width = images.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=images.device)
    columns = torch.linspace(-1, 1, width, device=images.device)
    hidden = (rows - noise[:, :1]).abs()[:, :, None].lt(share) & (columns - noise[:, 1:]).abs()[
        :, None
    ].lt(share)
    return images.masked_fill(hidden[:, None], 0.0)


def apply_to_share(changed: Tensor, images: Tensor, noise: Tensor) -> Tensor:
    """Return the changed image for a random proportion of all images, else the image itself."""
    return torch.where((noise < 2 * SHARE - 1)[:, None, None, None], changed, images)


def augment_for_discriminator(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image rotated or mirrored, some of them shifted, recolored or partly hidden.

    Examples
    --------
    >>> images = torch.zeros(2, 3, 8, 8)
    >>> augment_for_discriminator(images, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 8, 8])
    """
    noise = uniform(generator, len(images), 13, images)
    images = dihedral_views(images, noise[:, :3])
    images = apply_to_share(jitter_color(images, noise[:, 3:6], 0.25), images, noise[:, 10])
    images = apply_to_share(shift(images, noise[:, 6:8], 0.125), images, noise[:, 11])
    return apply_to_share(cut_out(images, noise[:, 8:10], 0.35), images, noise[:, 12])
