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
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from .cards import read_card, shipped_weights
from .unet import SmallUNet
from .weights import fold_norms

__all__ = [
    "CLASSES",
    "UNIT",
    "FieldMaps",
    "FieldNet",
    "copy_of_shipped",
    "depth_of",
    "look_at_field",
    "seen_width",
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
        Probability of each of ``CLASSES``; one class after the other in memory.
    kind : int64 array (height, width)
        Place in ``CLASSES`` of the likeliest.
    depth : float32 array (height, width)
        0 at the edge of an object, 1 in its middle.
    film : bool array (height, width)
        False on a black frame.
    um_per_pixel : float
        The scale at which the network takes the image to be; NaN where it sees no object.
    doubt : float
        How far its objects disagree about that, in octaves.
    familiar : float
        Log-odds that this is a film that can be read, and no writing, scene, tissue or noise.
    """

    shares: NDArray[np.float32]
    kind: NDArray[np.int64]
    depth: NDArray[np.float32]
    film: NDArray[np.bool_]
    um_per_pixel: float
    doubt: float
    familiar: float


class FieldNet(nn.Module):
    """A U-Net that looks at blocks of 2 x 2 pixels and answers for each pixel.

    Eight outputs: the logits of ``CLASSES``, the logit of the depth in the object, the binary
    logarithm of micrometers a pixel over ``UNIT``, and the logit of a film that can be read, which
    counts as its mean over an image.

    Parameters
    ----------
    widths : sequence of int
        Channels at half the resolution and after each halving.

    Examples
    --------
    >>> net = FieldNet((4, 8, 8))
    >>> net(torch.zeros(1, 3, 16, 24)).shape, net.stride
    (torch.Size([1, 8, 16, 24]), 8)
    """

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96, 128)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.unet = SmallUNet(12, 4 * (len(CLASSES) + 3), self.widths)

    @property
    def stride(self) -> int:
        """Height and width must be multiples of it."""
        return 2 * self.unet.stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at the size of x."""
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(x, 2)), 2)


def standardize_field(
    image: NDArray[np.uint8], film: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Return what the network sees: log intensity less its local mean, over its spread.

    Lamp, camera gain, vignetting and stain strength mostly go. A black frame has no say in the
    mean or in the spread.

    Parameters
    ----------
    image : uint8 array (height, width, 3)
    film : bool array (height, width), optional
        What is no black frame, where that is known.

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
    level = cv2.LUT(image, LOG)
    film = on_film(image) if film is None else film
    size = (WINDOW + 1, WINDOW + 1)
    # where nearly all is frame the mean of the whole image stands in for that of the window
    if film.all():  # the same as below, in a third of the time
        whole = np.array(cv2.mean(level)[:3], np.float32)
        mean = cv2.blur(level, size, borderType=cv2.BORDER_REFLECT)
        gap = level - (mean + np.float32(0.02) * whole) / np.float32(1.02)
        spread = float(np.sqrt(np.dot(gap.ravel(), gap.ravel()) / gap.size))
    else:
        weight = film.astype(np.float32)
        n = max(float(weight.sum()), 1.0)
        level_there = level * weight[..., None]
        whole = level_there.sum((0, 1)) / n
        near = cv2.blur(weight, size, borderType=cv2.BORDER_REFLECT)[..., None]
        mean = cv2.blur(level_there, size, borderType=cv2.BORDER_REFLECT)
        gap = level - (mean + 0.02 * whole) / (near + 0.02)
        spread = float(np.sqrt((gap**2 * weight[..., None]).sum() / (3 * n)))
    return np.clip(gap / np.float32(max(spread, 0.02)), -6, 6)


def on_film(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Separate film from a black frame."""
    import cv2

    red, green, blue = cv2.split(np.ascontiguousarray(image))
    bright = cv2.max(cv2.max(red, green), blue)
    return np.asarray(bright >= DARKEST * np.percentile(bright[::4, ::4], 90))


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
    film = on_film(image)
    seen = standardize_field(image, film)
    height, width = seen.shape[:2]
    spare = [(0, -n % net.stride) for n in (height, width)]
    if any(n for _, n in spare):
        seen = np.pad(seen, [*spare, (0, 0)], mode="edge")
    with torch.inference_mode():
        # height, width, channels in memory is what channels_last means
        x = torch.from_numpy(seen)[None].permute(0, 3, 1, 2)
        out = net(x)[0, :, :height, :width]
        shares = out[: len(CLASSES)].softmax(0)
        kind = _likeliest(shares).numpy()
        shares = shares.permute(1, 2, 0).numpy()
        depth = out[len(CLASSES)].sigmoid().numpy()
        octaves = out[len(CLASSES) + 1].numpy()
        familiar = out[len(CLASSES) + 2].numpy()
    object_ = depth > 0.4
    um, doubt = float("nan"), float("nan")
    if object_.sum() >= 20:
        low, middle, high = np.percentile(octaves[object_], [25, 50, 75])
        um, doubt = UNIT * 2 ** float(middle), float(high - low)
    known = float(familiar[film].mean()) if film.any() else 0.0
    return FieldMaps(shares, kind, depth, film, um, doubt, known)


def _likeliest(shares: Tensor) -> Tensor:
    """Return ``shares.argmax(0)`` in a seventh of the time that torch takes for it."""
    kind = torch.zeros(shares.shape[1:], dtype=torch.int64)
    best = shares[0]
    for k in range(1, len(shares)):
        kind = torch.where(shares[k] > best, k, kind)
        best = torch.maximum(best, shares[k])
    return kind


def depth_of(owners: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the distance to the edge of the object of each pixel, over that object's largest.

    Parameters
    ----------
    owners : int array (height, width)
        0 where there is no object.

    Returns
    -------
    depth : float32 array (height, width)

    Examples
    --------
    >>> owners = np.zeros((9, 9), int); owners[2:7, 2:5] = 1; owners[2:7, 5:8] = 2
    >>> depth_of(owners)[4, 1:9].round(1).tolist()
    [0.0, 0.5, 1.0, 0.5, 0.5, 1.0, 0.5, 0.0]
    """
    import cv2

    inside = owners > 0
    edge = np.zeros(owners.shape, bool)
    for axis in (0, 1):
        a, b = np.moveaxis(owners, axis, 0)[:-1], np.moveaxis(owners, axis, 0)[1:]
        step, at = a != b, np.moveaxis(edge, axis, 0)
        at[:-1] |= step
        at[1:] |= step
    far = cv2.distanceTransform((inside & ~edge).astype(np.uint8), cv2.DIST_L2, 3) + 1.0
    largest = np.zeros(int(owners.max(initial=0)) + 1, np.float32)
    np.maximum.at(largest, owners.ravel(), far.ravel())
    return np.where(inside, far / np.maximum(largest[owners], 1), 0).astype(np.float32)


def copy_of_shipped(name: str = "blood-fields") -> FieldNet:
    """Return the network that ships with the package, to be trained further."""
    settings: dict[str, Any] = read_card(name).settings
    net = FieldNet(tuple(settings["widths"]))
    weights = {k: v.float() for k, v in load_file(shipped_weights(name)).items()}
    net.load_state_dict(weights, strict=False)
    return net.to(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def shipped_field_net() -> FieldNet:
    """Return the network that ships with the package, ready to predict; not to be changed."""
    return fold_norms(copy_of_shipped())


def seen_width(image: NDArray[np.uint8]) -> float:
    """Return how wide an RGB image of some 100 pixels is, in micrometers.

    The network that ships knows it by the red cells and leukocytes that it sees. A crop that is
    filled by a platelet seems as wide as one that is filled by a leukocyte.

    Parameters
    ----------
    image : uint8 array (height, width, 3)

    Returns
    -------
    width : float
        Of the longer side; NaN where there is no object.
    """
    return look_at_field(shipped_field_net(), image).um_per_pixel * max(image.shape[:2])
