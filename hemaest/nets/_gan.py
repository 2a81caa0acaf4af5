"""A small class-conditional generator and its discriminator, for cells at 16 to 256 pixels.

The generator scales the channels of each convolution by a style that is drawn from noise and
class, and divides by the spread this gives, so it needs no normalization layer. The discriminator
is residual. All weights have unit variance and are scaled where they are used, so that one
learning rate suits every layer. ``conditioning`` (0 to 1) says how much the class counts: a run
that begins without it and lets it grow does not collapse on classes of few images.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST = (4, 5, 6, 7)
# what leaky ReLU takes from the variance
GAIN = math.sqrt(2)
SLOPE = 0.2


def stages(image_size: int) -> tuple[int, int]:
    """Return the side of the smallest feature map, and how often it is doubled.

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
        f"image_size={image_size} is not 4, 5, 6 or 7 times a power of two; the next ones are "
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
        """Convolve; the size stays."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class StyledConv(Conv):
    """A 3x3 convolution whose input channels are scaled by a style, at unit output variance."""

    def __init__(self, inputs: int, outputs: int, style: int) -> None:
        super().__init__(inputs, outputs, 3)
        self.style = Linear(style, inputs, bias=1.0)

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """Convolve under a style; scaling in and out equals scaling the weights."""
        gains = self.style(style)
        weight = self.weight * self.scale
        spread = (gains.square() @ weight.square().sum(dim=(2, 3)).T + 1e-8).rsqrt()
        x = F.conv2d(x * gains[:, :, None, None], weight, padding=1)
        x = torch.addcmul(self.bias[None, :, None, None], x, spread[:, :, None, None])
        return F.leaky_relu(x, SLOPE) * GAIN


class Generator(nn.Module):
    """From noise and class to images, about -1 to 1.

    Parameters
    ----------
    n_classes : int
        How many classes there are.
    image_size : int
        Side of the images.
    latent_size : int
        Length of the noise.
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
        # where things lie comes from the first map, what they are from the styles
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


class DownBlock(nn.Module):
    """Two convolutions beside a shortcut, then half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, inputs, 3)
        self.conv2 = Conv(inputs, outputs, 3)
        self.shortcut = Conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Halve; pooling before the last convolution costs a quarter of pooling after it."""
        out = F.leaky_relu(self.conv1(x), SLOPE) * GAIN
        out = F.leaky_relu(self.conv2(F.avg_pool2d(out, 2)), SLOPE) * GAIN
        return (out + self.shortcut(F.avg_pool2d(x, 2))) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """From images and their class to a score: how real.

    Parameters
    ----------
    n_classes, image_size, width : int
        As of the :class:`Generator`.

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
        """Return one score for each image: that of any cell, and that of a cell of its class."""
        x = F.leaky_relu(self.from_rgb(images), SLOPE) * GAIN
        x = F.leaky_relu(self.conv(self.blocks(x)), SLOPE) * GAIN
        x = F.leaky_relu(self.dense(x.flatten(1)), SLOPE) * GAIN
        of_class = (x * self.classes(label)).sum(dim=1) * self.scale
        return self.score(x)[:, 0] + conditioning * of_class


def pairing_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses of discriminator and generator for scores of paired images.

    Each fake is judged against the real one beside it, of the same class: only which is more real
    counts, so the generator cannot win by a few images that fool everybody.

    Examples
    --------
    >>> d, g = pairing_losses(torch.tensor([5.0]), torch.tensor([-5.0]))
    >>> bool(d < 1e-3), bool(g > 9)
    (True, True)
    """
    return F.softplus(fake - real).mean(), F.softplus(real - fake).mean()


def slope_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared slope of scores over images: R1 on real ones, R2 on fakes.

    Examples
    --------
    >>> x = torch.ones(2, 3, requires_grad=True)
    >>> slope_penalty((2 * x).sum(dim=1), x).item()
    12.0
    """
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return slope.float().square().flatten(1).sum(dim=1).mean()
