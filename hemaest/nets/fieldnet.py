"""The network of the shipped field model: what each pixel belongs to, how deep, and the scale.

``hemaest.pretrained.train_fields`` trains it on rendered fields; ``hemaest.segmentation`` finds
leukocytes with it. :func:`standardize_field` is what it sees of an image.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .cards import read_card, shipped_weights
from .unet import SmallUNet

__all__ = [
    "CLASSES",
    "UNIT",
    "FieldMaps",
    "FieldNet",
    "look_at_field",
    "shipped_field_net",
    "standardize_field",
]

CLASSES = ("background", "red_cell", "platelet", "cytoplasm", "nucleus")
UNIT = 0.3  # micrometers a pixel: the scale that the scale output is measured against
WINDOW = 128  # pixels over which the light is taken to be even
DARKEST = 0.15  # of the bright part of an image: what is darker is a frame, no film
LOG = np.log((np.arange(256, dtype=np.float32) + 8) / 263)


@dataclass(frozen=True)
class FieldMaps:
    """What the network says of a field.

    Attributes
    ----------
    shares : float32 array (height, width, 5)
        Probability of each of ``CLASSES``.
    depth : float32 array (height, width)
        0 at the edge of an object, 1 in its middle.
    um_per_pixel : float
        The scale at which the network takes the image to be; NaN where it sees no object.
    doubt : float
        How far its objects disagree about that, in octaves.
    """

    shares: NDArray[np.float32]
    depth: NDArray[np.float32]
    um_per_pixel: float
    doubt: float


class FieldNet(nn.Module):
    """A U-Net that looks at blocks of 2 x 2 pixels and answers for each pixel.

    Seven outputs: the logits of ``CLASSES``, the logit of the depth in the object, and the binary
    logarithm of micrometers a pixel over ``UNIT``.

    Parameters
    ----------
    widths : sequence of int
        Channels at half the resolution and after each halving.

    Examples
    --------
    >>> net = FieldNet((4, 8, 8))
    >>> net(torch.zeros(1, 3, 16, 24)).shape, net.stride
    (torch.Size([1, 7, 16, 24]), 8)
    """

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96, 128)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.unet = SmallUNet(12, 4 * (len(CLASSES) + 2), self.widths)

    @property
    def stride(self) -> int:
        """Height and width must be multiples of it."""
        return 2 * self.unet.stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at the size of x."""
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(x, 2)), 2)


def standardize_field(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the network sees: log intensity less its local mean, over its spread.

    Lamp, camera gain, vignetting and stain strength mostly go. A black frame has no say in the
    mean or in the spread.

    Parameters
    ----------
    image : uint8 array (height, width, 3)

    Returns
    -------
    seen : float32 array (height, width, 3)

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> image = rng.integers(100, 120, (64, 64, 3)).astype(np.uint8)
    >>> bool(abs(standardize_field(image).mean()) < 0.05)
    True
    """
    import cv2

    image = np.ascontiguousarray(image)
    level = LOG[image]
    bright = image.max(axis=2)
    film = (bright >= DARKEST * np.percentile(bright[::4, ::4], 90)).astype(np.float32)
    size = (WINDOW + 1, WINDOW + 1)
    weight = cv2.blur(film, size, borderType=cv2.BORDER_REFLECT)[..., None]
    whole = (level * film[..., None]).sum((0, 1)) / max(float(film.sum()), 1.0)
    mean = cv2.blur(level * film[..., None], size, borderType=cv2.BORDER_REFLECT)
    # where nearly all is frame the mean of the whole image stands in
    mean = (mean + 0.02 * whole) / (weight + 0.02)
    gap = level - mean
    spread = float(np.sqrt((gap**2 * film[..., None]).sum() / max(3 * float(film.sum()), 1.0)))
    return np.clip(gap / max(spread, 0.02), -6, 6).astype(np.float32)


def look_at_field(net: nn.Module, image: NDArray[np.uint8]) -> FieldMaps:
    """Run the network over an RGB image as it is.

    Parameters
    ----------
    net : FieldNet
        In evaluation mode.
    image : uint8 array (height, width, 3)

    Returns
    -------
    maps : FieldMaps
    """
    seen = standardize_field(image)
    height, width = seen.shape[:2]
    spare = [(0, -n % net.stride) for n in (height, width)]
    if any(n for _, n in spare):
        seen = np.pad(seen, [*spare, (0, 0)], mode="edge")
    with torch.inference_mode():
        # height, width, channels in memory is what channels_last means
        x = torch.from_numpy(seen)[None].permute(0, 3, 1, 2)
        out = net(x)[0, :, :height, :width]
        shares = out[: len(CLASSES)].softmax(0).permute(1, 2, 0).contiguous().numpy()
        depth = out[len(CLASSES)].sigmoid().numpy()
        octaves = out[len(CLASSES) + 1].numpy()
    object_ = depth > 0.4
    if object_.sum() < 20:
        return FieldMaps(shares, depth, float("nan"), float("nan"))
    low, middle, high = np.percentile(octaves[object_], [25, 50, 75])
    return FieldMaps(shares, depth, UNIT * 2 ** float(middle), float(high - low))


def fold_norms(net: FieldNet) -> FieldNet:
    """Return a copy with each batch norm folded into its convolution: the same answers, faster."""
    import copy

    from torch.nn.utils.fusion import fuse_conv_bn_eval

    net = copy.deepcopy(net).eval()
    for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        if len(block) > 1 and isinstance(block[1], nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(block[0], block[1])
            block[1] = nn.Identity()
    return net.to(memory_format=torch.channels_last).requires_grad_(False)


@lru_cache(maxsize=1)
def shipped_field_net() -> FieldNet:
    """Return the network that ships with the package, ready to predict; not to be changed."""
    from safetensors.torch import load_file

    settings: dict[str, Any] = read_card("blood-fields").settings
    net = FieldNet(tuple(settings["widths"]))
    weights = {k: v.float() for k, v in load_file(shipped_weights("blood-fields")).items()}
    net.load_state_dict(weights, strict=False)
    return fold_norms(net)
