"""ResNet24, and a lower total stride for it and the ConvNeXts of timm.

Built by name through :func:`hemaest.nets.build_net`.
"""

from typing import Any, Literal

import torch
from timm.layers import DropPath
from timm.layers.conv2d_same import Conv2dSame
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest.nets.cellnet import CellEncoder

Norm = Literal["batch", "group"]

EXPANSION = 4
# a coarser map leaves too few patches to mask and too few places for attention
SMALLEST_GRID = 6
STRIDES = (32, 16, 8, 4)


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """Return batch normalization, or group normalization in groups of about 16 channels.

    Batch normalization keeps statistics of the training laboratory; group normalization keeps none.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = max(1, channels // 16)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


class Shortcut(nn.Module):
    """The residual connection past a block, without weights."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Pool and pad; the identity where the shape does not change."""
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        if self.extra_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))
        return x


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3, 1x1, added to the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm, drop_path: float) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm1 = make_norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = make_norm(norm, width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.norm3 = make_norm(norm, outputs)
        self.shortcut = Shortcut(outputs - inputs, stride)
        self.drop_path = DropPath(drop_path)
        # each block is the identity at first
        nn.init.zeros_(self.norm3.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of the three convolutions to the shortcut."""
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        out = F.relu(self.norm2(self.conv2(out)), inplace=True)
        out = self.norm3(self.conv3(out))
        return F.relu(self.drop_path(out) + self.shortcut(x), inplace=True)


class ResNet24(nn.Module):
    """The residual network of 24 weighted layers, with timm's interface.

    Two convolutions in the stem, seven bottleneck blocks of three, one linear layer: 2 + 21 + 1.
    The shortcuts have no weights: where a block changes the shape they average-pool and pad with
    zero channels, so the count is exact.

    Parameters
    ----------
    num_classes : int, default=1000
        Number of outputs; 0 leaves out the last layer.
    norm : {"batch", "group"}, default="batch"
        Group normalization keeps no statistics of the training images, so a network loses less at
        another microscope.
    width : int, default=32
        Channels inside the first bottleneck; the last feature map has ``32 * width``.
    depths : tuple of int, default=(1, 2, 2, 2)
        Blocks in each stage. Only a sum of 7 makes 24 layers.
    drop_path_rate : float, default=0.0
        Probability that the last block is skipped in training; lower for earlier blocks.

    Examples
    --------
    >>> import torch
    >>> net = ResNet24(num_classes=5, width=8).eval()
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 5])
    >>> net.forward_features(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 256, 2, 2])
    """

    pretrained_cfg: dict[str, Any] = {"classifier": "fc", "first_conv": "stem.0"}

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        norm: Norm = "batch",
        width: int = 32,
        depths: tuple[int, ...] = (1, 2, 2, 2),
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1, bias=False),
            make_norm(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, 1, 1, bias=False),
            make_norm(norm, 2 * width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        channels = 2 * width
        stages: list[nn.Module] = []
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(Bottleneck(channels, width << i, stride, norm, rates.pop(0)))
                channels = (width << i) * EXPANSION
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.num_features = channels
        # in timm's format
        self.feature_info = [
            {"module": f"stages.{i}", "reduction": 4 << i, "num_chs": (width << i) * EXPANSION}
            for i in range(len(depths))
        ]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc: nn.Module = nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return how parameters group into layers, for layer-wise learning rates."""
        blocks = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
        return {"stem": r"^stem", "blocks": blocks}

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last feature map, 1/32 of the image in width and height."""
        return self.stages(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool a feature map, and classify it unless ``pre_logits``."""
        x = self.pool(x).flatten(1)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.forward_head(self.forward_features(x))


def fitting_stride(image_size: int) -> int:
    """Return the largest total stride that leaves a map of at least 6 x 6 places.

    Examples
    --------
    >>> [fitting_stride(size) for size in (224, 128, 96, 64, 32)]
    [32, 16, 16, 8, 4]
    """
    wide = [stride for stride in STRIDES if image_size // stride >= SMALLEST_GRID]
    return (wide or STRIDES[-1:])[0]


def default_stride(name: str, image_size: int | None) -> int | None:
    """Return the total stride that a network is built with to be masked or attended to.

    ``None`` is the network's own: that of the cellnet, whose weights were trained with it.

    Examples
    --------
    >>> default_stride("convnextv2_atto", 96), default_stride("cellnet", 96)
    (16, None)
    """
    return None if name == "cellnet" or image_size is None else fitting_stride(image_size)


def lower_stride(net: nn.Module, stride: int) -> nn.Module:
    """Let the stages beyond a total stride keep their resolution; changes the network in place.

    Weights keep their names and shapes, so trained weights still fit. (timm's ``output_stride``
    also dilates the 7 x 7 kernels, which then reach beyond the edges of a small map.)

    Parameters
    ----------
    net : Module
        A ConvNeXt of timm, a :class:`ResNet24` or a :class:`~hemaest.nets.CellEncoder`.
    stride : {32, 16, 8, 4}
        The new total stride.
    """
    if stride not in STRIDES:
        raise ValueError(f"stride={stride!r}; it must be one of {', '.join(map(str, STRIDES))}.")
    if not isinstance(net, (ResNet24, CellEncoder, ConvNeXt)):
        raise ValueError(
            f"stride={stride!r} can be lowered for 'resnet24', 'cellnet' and the ConvNeXts, not "
            f"for {type(net).__name__}."
        )
    for stage, info in zip(net.stages, net.feature_info, strict=True):
        if info["reduction"] > stride:
            _keep_resolution(stage)
            info["reduction"] = stride
    return net


def _keep_resolution(stage: Any) -> None:
    if isinstance(stage, nn.Sequential) and isinstance(stage[0], BasicBlock):  # of a cellnet
        stage[0].conv1.stride = (1, 1)
        stage[0].downsample[0] = nn.Identity()
        return
    if isinstance(stage, nn.Sequential):  # of a ResNet24
        stage[0].conv2.stride = (1, 1)
        stage[0].shortcut.stride = 1
        return
    old = stage.downsample[1]
    new = Conv2dSame(old.in_channels, old.out_channels, old.kernel_size, bias=old.bias is not None)
    new.load_state_dict(old.state_dict())
    stage.downsample[1] = new
