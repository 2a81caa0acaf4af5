"""The network of the shipped cell classifier: a small residual encoder with four heads.

``hemaest.pretrained`` trains it on rendered cells and predicts with it; the encoder alone is what
``backbone="cellnet", pretrained="synthetic"`` begins with.
"""

from dataclasses import dataclass
from typing import Any

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from .cards import read_card, shipped_weights

__all__ = [
    "BloodCellNet", "CellEncoder", "Seen", "Standardize", "near_widths", "net_of", "recolor",
    "shipped_net", "standardize",
]  # fmt: skip

# widths in octaves from 1 um; the network takes how near that of an image is to each of them
WIDTHS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)
NUCLEUS = (1.0, 1.25, 0.55)  # optical density of a recolored nucleus: the usual violet
LEAST = 0.02  # share of an image that is enough to read a color from


def standardize(x: Tensor) -> Tensor:
    """Give each channel of each image mean 0 and spread 1: lamp, camera and stain strength go.

    Any affine change of the channels before, such as another normalization, makes no difference.

    Examples
    --------
    >>> x = torch.rand(2, 3, 8, 8)
    >>> torch.allclose(standardize(x), standardize(0.3 * x + 0.1), atol=1e-2)
    True
    """
    mean = x.mean(dim=(2, 3), keepdim=True)
    spread = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    return (x - mean) * torch.rsqrt(spread + 1e-5)


def recolor(x: Tensor, outline: Tensor) -> Tensor:
    """Bring the glass to white and the nucleus to one violet: lamp, camera and dye go.

    What is left is how cytoplasm and granules differ from the nucleus. A cell without a nucleus is
    brought to that violet itself; an image without a cell stays as it is.

    Parameters
    ----------
    x : Tensor of shape (n, 3, h, w)
        RGB from 0 to 1.
    outline : Tensor of shape (n, 3, k, l)
        Probability of background, cytoplasm and nucleus of the cell that the image is about.

    Returns
    -------
    recolored : Tensor of shape (n, 3, h, w)

    Examples
    --------
    >>> x = torch.full((1, 3, 8, 8), 0.9)
    >>> x[..., 2:6, 2:6] = torch.tensor([0.3, 0.2, 0.5])[:, None, None]
    >>> nucleus = (x[:, :1] < 0.5).float()
    >>> seen = recolor(x, torch.cat([1 - nucleus, 0 * nucleus, nucleus], dim=1))
    >>> [round(float(-v.log()), 2) for v in seen[0, :, 4, 4]], float(seen[0, 0, 0, 0])
    ([1.0, 1.25, 0.55], 1.0)
    """
    glass = torch.quantile(x.flatten(2), 0.95, dim=2)[..., None, None].clamp(min=0.05)
    density = -(x.clamp(min=0.01) / glass).log()
    outline = F.interpolate(outline, x.shape[2:], mode="nearest")
    cell, nucleus = ((part > 0.5) * part for part in (1 - outline[:, :1], outline[:, 2:]))
    share = nucleus.mean(dim=(2, 3), keepdim=True)
    where = torch.where(share > LEAST, nucleus, cell)
    weight = where.mean(dim=(2, 3), keepdim=True)
    mean = (density * where).mean(dim=(2, 3), keepdim=True) / weight.clamp(min=1e-6)
    aim = x.new_tensor(NUCLEUS)[:, None, None]
    factor = (aim / mean.clamp(min=0.1)).clamp(0.4, 3.0)
    recolored = (-density * factor).exp().clamp(0, 1)
    return torch.where(weight > LEAST, recolored, x)


def near_widths(width: Tensor) -> Tensor:
    """Return how near a width, in micrometers, is to each of ``WIDTHS``; 0 to all if not known.

    Parameters
    ----------
    width : Tensor of shape (n,)
        0 or NaN where it is not known.

    Returns
    -------
    near : Tensor of shape (n, len(WIDTHS))

    Examples
    --------
    >>> near = near_widths(torch.tensor([16.0, 0.0]))
    >>> WIDTHS[int(near[0].argmax())], float(near[1].sum())
    (4.0, 0.0)
    """
    known = width > 0
    octaves = torch.where(known, width, torch.ones_like(width)).log2()
    away = (octaves[:, None].clamp(WIDTHS[0], WIDTHS[-1]) - width.new_tensor(WIDTHS)) / 0.5
    return torch.exp(-away.square()) * known[:, None]


class Standardize(nn.Module):
    """:func:`standardize` as a layer: masked pretraining confines it to what is visible."""

    def forward(self, x: Tensor) -> Tensor:
        """Return standardized images."""
        return standardize(x)


class CellEncoder(ResNet):
    """A narrow residual network with a deep stem, for cells at 64 to 128 pixels.

    Plain 3x3 convolutions use a CPU best: depthwise ones and wide last stages cost more time than
    they bring on single cells.

    Parameters
    ----------
    num_classes : int, default=1000
        Outputs; 0 for none.
    channels, depths : tuples of 4 ints
        Width and number of blocks of the stages.
    per_image : bool, default=False
        Whether each image is standardized first, see :func:`standardize`.
    **options : dict
        Handed to timm's ``ResNet``.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        depths: tuple[int, ...] = (1, 1, 2, 2),
        per_image: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            BasicBlock,
            tuple(depths),
            num_classes=num_classes,
            channels=tuple(channels),
            stem_width=channels[0] // 2,
            stem_type="deep",
            avg_down=True,
            **options,
        )
        self.standardize = Standardize() if per_image else nn.Identity()
        self.pretrained_cfg = {"classifier": "fc", "first_conv": "conv1.0"}
        self.feature_info = [
            {"module": f"layer{i + 1}", "reduction": 4 << i, "num_chs": channels[i]}
            for i in range(4)
        ]

    def stem(self, x: Tensor) -> Tensor:
        """Return the first map, at a quarter of the size."""
        return self.maxpool(self.act1(self.bn1(self.conv1(self.standardize(x)))))

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The four stages, whose maps are 1/4, 1/8, 1/16 and 1/32 of the size."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map."""
        return self.maps(x)[-1]


@dataclass(frozen=True)
class Seen:
    """What the network says of a batch.

    Attributes
    ----------
    logits : (n, n_classes)
    embedding : (n, c)
    outline : (n, 3, h/4, w/4)
        Logits of background, cytoplasm and nucleus of the cell that the image is about.
    traits : (n, n_traits)
    familiar : (n,)
        Logit of the image showing a stained film.
    """

    logits: Tensor
    embedding: Tensor
    outline: Tensor
    traits: Tensor
    familiar: Tensor


class BloodCellNet(nn.Module):
    """Type, outline, traits and familiarity of the cell in the middle of an image.

    Cut out and enlarged, a platelet looks like a lymphocyte. The network takes the width of the
    image; without it, it goes by what it sees.

    Parameters
    ----------
    n_classes, n_traits : int
        Outputs.
    channels, depths : tuples of 4 ints
        Of the encoder.

    Examples
    --------
    >>> net = BloodCellNet(5, 3, channels=(8, 8, 8, 16), depths=(1, 1, 1, 1)).eval()
    >>> seen = net(torch.rand(2, 3, 64, 64))
    >>> seen.logits.shape, seen.embedding.shape, seen.outline.shape
    (torch.Size([2, 5]), torch.Size([2, 24]), torch.Size([2, 3, 16, 16]))
    """

    def __init__(
        self,
        n_classes: int,
        n_traits: int,
        *,
        channels: tuple[int, ...] = (24, 48, 96, 160),
        depths: tuple[int, ...] = (1, 1, 2, 1),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # how a saved model builds it again
        self.config = {
            "n_classes": n_classes,
            "n_traits": n_traits,
            "channels": tuple(channels),
            "depths": tuple(depths),
            "dropout": dropout,
        }
        self.encoder = CellEncoder(0, channels=channels, depths=depths, per_image=True)
        width = channels[2] + channels[3]
        self.lateral = nn.ModuleList(nn.Conv2d(c, 32, 1) for c in channels)
        self.mix = nn.Sequential(
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        )
        self.outline = nn.Conv2d(32, 3, 1)
        # what the width adds to the maps of the second and the third stage
        self.scale = nn.ModuleList(nn.Linear(len(WIDTHS), c, bias=False) for c in channels[1:3])
        for part in self.scale:
            nn.init.zeros_(part.weight)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(width, n_classes)
        self.trait = nn.Linear(width, n_traits)
        self.familiar = nn.Linear(width, 1)

    def forward(self, x: Tensor, width: Tensor | None = None) -> Seen:
        """Return everything about each image of (n, 3, h, w); any affine scale of RGB will do.

        ``width`` (n,) is that of the images in micrometers, 0 or NaN where it is not known.
        """
        maps = self._maps(x, width)
        y = self.lateral[3](maps[3])
        for k in (2, 1, 0):
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y = y + self.lateral[k](maps[k])
        embedding = torch.cat([maps[2].mean(dim=(2, 3)), maps[3].mean(dim=(2, 3))], dim=1)
        read = self.dropout(embedding)
        return Seen(
            logits=self.classify(read),
            embedding=embedding,
            outline=self.outline(self.mix(y)),
            traits=self.trait(read),
            familiar=self.familiar(read).squeeze(1),
        )

    def _maps(self, x: Tensor, width: Tensor | None) -> list[Tensor]:
        """Return the maps of the four stages; the last two know the width."""
        if width is None:
            return self.encoder.maps(x)
        near = near_widths(width)
        x = self.encoder.stem(x)
        maps = []
        for k, stage in enumerate(self.encoder.stages):
            x = stage(x)
            maps.append(x)
            if k in (1, 2):
                x = x + self.scale[k - 1](near.to(x.dtype))[:, :, None, None]
        return maps

    def flat(self, order: Tensor) -> nn.Module:
        """Return this network with a tuple of tensors as output, the classes in another order."""
        return _Flat(self, order)


class _Flat(nn.Module):
    """What a file for other programs holds: they know no dataclass."""

    def __init__(self, net: BloodCellNet, order: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("order", order)

    def forward(self, x: Tensor, width: Tensor) -> tuple[Tensor, ...]:
        seen = self.net(x, width)
        logits = seen.logits.index_select(1, self.order)
        return logits, seen.embedding, seen.outline, seen.traits, seen.familiar


def shipped_net() -> BloodCellNet:
    """Return the network that ships, with its weights, in evaluation mode.

    Examples
    --------
    >>> shipped_net().classify.out_features
    16
    """
    from safetensors.torch import load_file

    weights = load_file(shipped_weights("blood-cells"))
    return net_of(weights, read_card("blood-cells").settings)


def net_of(weights: dict[str, Tensor], settings: dict[str, Any]) -> BloodCellNet:
    """Return a network around its weights, which are float16 in files."""
    net = BloodCellNet(
        len(weights["classify.bias"]),
        len(weights["trait.bias"]),
        channels=tuple(settings["channels"]),
        depths=tuple(settings["depths"]),
    )
    # batch normalization counts its batches; files do not
    net.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    return net.eval()
