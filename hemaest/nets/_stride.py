"""Feature maps that stay fine enough on small images: a smaller total stride, the same weights."""

from timm.layers.conv2d_same import Conv2dSame
from timm.models.convnext import ConvNeXt
from torch import nn

from hemaest.nets._resnet24 import ResNet24

# a coarser map leaves too few places to hide some and to look around
SMALLEST_GRID = 6
STRIDES = (32, 16, 8, 4)


def fitting_stride(image_size: int) -> int:
    """Return the largest total stride that leaves a map of at least 6 x 6 places.

    Examples
    --------
    >>> [fitting_stride(size) for size in (224, 128, 96, 64, 32)]
    [32, 16, 16, 8, 4]
    """
    wide = [stride for stride in STRIDES if image_size // stride >= SMALLEST_GRID]
    return (wide or STRIDES[-1:])[0]


def lower_stride(net: nn.Module, stride: int) -> nn.Module:
    """Let the stages beyond a total stride keep their resolution, in place.

    Weights keep their names and shapes, so files of trained weights still fit. (timm's own
    ``output_stride`` also dilates the 7 x 7 kernels, which then reach over the edges of a small
    map.)

    Parameters
    ----------
    net : Module
        A ConvNeXt of timm or a :class:`ResNet24`.
    stride : {32, 16, 8, 4}
        Wanted.
    """
    if stride not in STRIDES:
        raise ValueError(f"stride={stride!r}; it must be one of {', '.join(map(str, STRIDES))}.")
    if not isinstance(net, (ResNet24, ConvNeXt)):
        raise ValueError(
            f"stride={stride!r} can be lowered for 'resnet24' and the ConvNeXts, not for "
            f"{type(net).__name__}."
        )
    for stage, info in zip(net.stages, net.feature_info, strict=True):
        if info["reduction"] > stride:
            _keep_resolution(stage)
            info["reduction"] = stride
    return net


def _keep_resolution(stage: nn.Module) -> None:
    if isinstance(stage, nn.Sequential):  # of a ResNet24
        stage[0].conv2.stride = (1, 1)
        stage[0].shortcut.stride = 1
        return
    old = stage.downsample[1]
    new = Conv2dSame(old.in_channels, old.out_channels, old.kernel_size, bias=old.bias is not None)
    new.load_state_dict(old.state_dict())
    stage.downsample[1] = new
