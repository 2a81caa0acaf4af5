"""A fully convolutional masked autoencoder: hide most of a picture, learn to paint it in.

The encoder is a plain convolutional net that sees only the patches left over; a single ConvNeXt
block guesses the hidden ones from its map. What is learnt stays in the encoder.
"""

from typing import Any

import torch
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn

from hemaest.nets._build import NormalizedNet, build_net, check_name
from hemaest.nets._resnet24 import ResNet24
from hemaest.nets._stride import fitting_stride
from hemaest.nets._visible import Visible, enlarge, see_only, visible_block

# about 2.5 of 255 grey levels: a patch of plain background is not blown up to the camera's noise
FLAT = 1e-4


class FCMAE(nn.Module):
    """Encoder, mask and decoder of masked pretraining.

    Parameters
    ----------
    encoder : NormalizedNet
        Over a ConvNeXt V2 or a :class:`ResNet24`; changed in place so that it can see a part only.
    patch_size : int
        Side of the patches that are hidden, a multiple of the encoder's total stride: a finer mask
        would leak, since a place of the last map sees that many pixels at once.
    mask_ratio : float, default=0.6
        Share of patches that are hidden.
    decoder_dim : int, default=256
        Width of the decoder.
    sparse : bool, default=True
        Leave out the work at hidden places where the blocks allow it. The answer is the same.

    Examples
    --------
    >>> from hemaest.nets import build_net
    >>> encoder, _ = build_net("resnet24", 0, width=8, stride=8)
    >>> net = FCMAE(encoder, patch_size=8)
    >>> mask = net.draw(2, 64, torch.Generator().manual_seed(0))
    >>> mask.shape, mask[0].sum().item()
    (torch.Size([2, 8, 8]), 26)
    >>> net.loss(torch.rand(2, 3, 64, 64), mask).shape
    torch.Size([2])
    """

    def __init__(
        self,
        encoder: NormalizedNet,
        patch_size: int,
        mask_ratio: float = 0.6,
        decoder_dim: int = 256,
        *,
        sparse: bool = True,
    ) -> None:
        super().__init__()
        net = encoder.backbone
        if not isinstance(net, ResNet24) and not is_convnext_v2(net):
            raise ValueError(
                f"masked pretraining needs 'resnet24' or a ConvNeXt V2 ('convnextv2_atto', ...), "
                f"not {type(net).__name__}."
            )
        self.stride = int(net.feature_info[-1]["reduction"])  # type: ignore[index]
        if patch_size % self.stride:
            raise ValueError(
                f"patch_size={patch_size} is no multiple of the encoder's total stride of "
                f"{self.stride} pixels, so hidden pixels would leak; take {self.stride} or leave "
                "it None."
            )
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio
        self.sparse = sparse and isinstance(net, ConvNeXt)
        self.visible = Visible()
        self.encoder = encoder
        see_only(net, self.visible)
        # the decoder looks at the whole map
        self.project = nn.Conv2d(int(net.num_features), decoder_dim, 1)  # type: ignore[arg-type]
        self.hidden = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.block = ConvNeXtBlock(decoder_dim, use_grn=True, conv_mlp=True, ls_init_value=None)
        self.paint = nn.Conv2d(decoder_dim, 3 * self.stride**2, 1)
        for layer in (self.project, self.paint, self.hidden):
            nn.init.trunc_normal_(getattr(layer, "weight", layer), std=0.02)

    @property
    def num_features(self) -> int:
        """Length of an embedding."""
        return self.encoder.num_features

    def draw(self, n: int, side: int, generator: torch.Generator) -> Tensor:
        """Draw which patches of each image are seen: bool (n, g, g), as many in each."""
        grid = side // self.patch_size
        seen = grid * grid - min(grid * grid - 1, max(1, round(self.mask_ratio * grid * grid)))
        rank = torch.rand(n, grid * grid, generator=generator).argsort(dim=1).argsort(dim=1)
        return (rank < seen).view(n, grid, grid)

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the last map (n, c, h, w) of images from 0 to 1; hidden places are zero."""
        net: Any = self.encoder.backbone
        with self.visible.only(mask):
            x = self.encoder.normalize(x)
            if not self.sparse:
                return self.visible.hide(net.forward_features(x))
            x = net.stem(x)
            for stage in net.stages:
                x = stage.downsample(x)
                side = x.shape[-1]
                tokens = self.visible.gather(x)
                for block in stage.blocks:
                    tokens = visible_block(block, tokens, self.visible, side)
                x = self.visible.scatter(tokens, side, side)
            return x

    def decode(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the guess (n, h, w, 3 * stride ** 2) at the normalized pixels of each place."""
        seen = enlarge(mask, *features.shape[-2:])[:, None].to(features.device)
        x = self.project(features)
        x = torch.where(seen, x, self.hidden.to(x.dtype))
        return self.paint(self.block(x)).permute(0, 2, 3, 1)

    def patches(self, x: Tensor) -> Tensor:
        """Return the pixels (n, h, w, 3 * stride ** 2) under each place of the last map."""
        return pixels_of(x, self.stride)

    def normalized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pixels under each place less the mean of its patch, over its spread; and both.

        One mean for all channels: which of them is darker is left for the net to guess, so that it
        keeps an eye for stains.
        """
        truth, whole = self.patches(x), pixels_of(x, self.patch_size)
        places = truth.shape[1:3]
        mean = enlarge(whole.mean(-1, keepdim=True), *places)
        spread = enlarge((whole.var(-1, keepdim=True) + FLAT).sqrt(), *places)
        return (truth - mean) / spread, mean, spread

    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return for each image the mean squared error on its hidden patches alone.

        Every patch is compared after its own mean and spread are taken out: what counts is
        structure, not brightness.
        """
        guess = self.decode(self.encode(x, mask), mask).float()
        error = (guess - self.normalized(x)[0]).square().mean(-1)
        hidden = ~enlarge(mask, *error.shape[1:]).to(error.device)
        return (error * hidden).sum((1, 2)) / hidden.sum((1, 2))

    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return images with hidden patches painted in, at their own brightness and contrast."""
        guess = self.decode(self.encode(x, mask), mask).float()
        _, mean, spread = self.normalized(x)
        seen = enlarge(mask, *guess.shape[1:3])[..., None].to(x.device)
        whole = torch.where(seen, self.patches(x), guess * spread + mean)
        return nn.functional.pixel_shuffle(whole.permute(0, 3, 1, 2), self.stride).clamp(0, 1)

    def embed(self, x: Tensor) -> Tensor:
        """Return one vector for each whole image."""
        return self.encoder.embed(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map of whole images."""
        return self.encoder.features(x)


def pixels_of(x: Tensor, side: int) -> Tensor:
    """Return the pixels of each square of an image, (n, h, w, 3 * side ** 2)."""
    return nn.functional.pixel_unshuffle(x, side).permute(0, 2, 3, 1)


def is_convnext_v2(net: nn.Module) -> bool:
    """Return whether a net is a ConvNeXt with global response normalization."""
    return isinstance(net, ConvNeXt) and all(
        hasattr(block.mlp, "grn") for block in net.modules() if isinstance(block, ConvNeXtBlock)
    )


def build_fcmae(
    name: str,
    *,
    image_size: int,
    patch_size: int | None = None,
    mask_ratio: float = 0.6,
    decoder_dim: int = 256,
    drop_path: float = 0.0,
    **options: Any,
) -> FCMAE:
    """Build the autoencoder around an encoder's name.

    Parameters
    ----------
    name : str
        ``"resnet24"`` or a ConvNeXt V2 of timm.
    image_size : int
        Side of the images, a multiple of the patch.
    patch_size : int, optional
        By default the encoder's total stride, which is lowered on small images so that there are
        at least 6 x 6 patches.
    mask_ratio, decoder_dim
        See :class:`FCMAE`.
    drop_path : float, default=0.0
        Stochastic depth.
    **options : dict
        Handed to the encoder.
    """
    if check_name(name) != "resnet24" and not name.startswith("convnextv2"):
        raise ValueError(
            "masked pretraining needs 'resnet24' or a ConvNeXt V2 ('convnextv2_atto', ...), not "
            f"{name!r}."
        )
    options.setdefault("stride", fitting_stride(image_size))
    encoder, _ = build_net(name, 0, image_size=image_size, drop_path=drop_path, **options)
    net = FCMAE(encoder, patch_size or options["stride"], mask_ratio, decoder_dim)
    patch = net.patch_size
    if image_size % patch or image_size < 2 * patch:
        lower = max(2, image_size // patch) * patch
        raise ValueError(
            f"image_size={image_size} is not cut evenly into patches of {patch} pixels; take "
            f"{lower} or {lower + patch}."
        )
    return net
