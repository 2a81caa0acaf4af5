"""A small U-Net, trained and used by ``hemaest.segmentation``.

Its decoder adds instead of concatenating: 2 ms for 128 x 128 pixels on one core.
"""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SmallUNet"]


class SmallUNet(nn.Module):
    """A U-Net of a few hundred thousand weights.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of input and output channels.
    widths : sequence of int
        Channels at full resolution and after each halving.

    Examples
    --------
    >>> import torch
    >>> net = SmallUNet(3, 2, widths=(4, 8, 8))
    >>> net(torch.zeros(1, 3, 16, 24)).shape
    torch.Size([1, 2, 16, 24])
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        widths: tuple[int, ...] = (12, 24, 48, 64, 96),
    ) -> None:
        super().__init__()
        # how a saved model builds it again
        self.config = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "widths": tuple(widths),
        }
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.stem = _block(in_channels, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_block(a, b, stride=2), _block(b, b)) for a, b in pairs
        )
        self.lateral = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up = nn.ModuleList(_block(a, a) for a, _ in pairs)
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    @property
    def stride(self) -> int:
        """Height and width must be multiples of it."""
        return 2 ** len(self.down)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the size of x."""
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(skips[-1]))
        y = skips.pop()
        for lateral, up in zip(reversed(self.lateral), reversed(self.up), strict=True):
            y = F.interpolate(lateral(y), scale_factor=2, mode="bilinear")
            y = up(y.add_(skips.pop()))  # in place: new memory costs as much as the sum
        return self.head(y)


def _block(a: int, b: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)
    )
