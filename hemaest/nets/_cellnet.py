"""A small residual network that trains fast on a CPU."""

from typing import Any

from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def cellnet(
    num_classes: int = 1000,
    *,
    channels: tuple[int, ...] = (32, 64, 128, 256),
    depths: tuple[int, ...] = (1, 1, 2, 2),
    **options: Any,
) -> nn.Module:
    """Return a narrow residual network with a deep stem, for cells at 64 to 128 pixels.

    Plain 3x3 convolutions use a CPU best: depthwise ones and wide last stages cost more time than
    they bring on single cells.

    Parameters
    ----------
    num_classes : int, default=1000
        Outputs; 0 for none.
    channels, depths : tuples of 4 ints
        Width and number of blocks of the stages.
    **options : dict
        Handed to timm's ``ResNet``.
    """
    net = ResNet(
        BasicBlock,
        depths,
        num_classes=num_classes,
        channels=channels,
        stem_width=channels[0] // 2,
        stem_type="deep",
        avg_down=True,
        **options,
    )
    net.pretrained_cfg = {"classifier": "fc", "first_conv": "conv1.0"}  # type: ignore[assignment]
    return net
