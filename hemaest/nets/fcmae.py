"""A fully convolutional masked autoencoder: hide most of an image, learn to reconstruct it.

The encoder is a plain convolutional network that sees only the visible patches; a single ConvNeXt
block predicts the hidden ones from its feature map. What is learned stays in the encoder.

Hidden patches are absent, not black. A layer that reads its neighbors (convolution, pooling) reads
zeros at hidden places, as it does beyond the edge of an image; a layer that sums over a map (batch,
group and global response normalization, standardization of an image) sums over the visible places
only. So the visible places
get the values that they would have if the rest of the image did not exist.

:class:`hemaest.deep.FCMAEPretrainer` trains it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest.nets.build import OWN_NETWORKS, NormalizedNet, build_net, check_name
from hemaest.nets.cellnet import CellEncoder, Standardize, standardize
from hemaest.nets.convnets import ResNet24, default_stride

# about 2.5 of 255 gray levels: the noise of plain background is not amplified
MIN_VARIANCE = 1e-4

WANTED = "masked pretraining needs 'cellnet', 'resnet24' or a ConvNeXt V2 ('convnextv2_atto', ...)"


class FCMAE(nn.Module):
    """Encoder and decoder of masked pretraining.

    Parameters
    ----------
    encoder : NormalizedNet
        Around a ConvNeXt V2, a :class:`ResNet24` or a :class:`~hemaest.nets.cellnet.CellEncoder`.
        Its layers are changed in place, so that they can ignore hidden patches.
    patch_size : int
        Side of the patches, a multiple of the total stride of the encoder. A finer mask would leak:
        each place of the last map covers that many pixels.
    mask_ratio : float, default=0.6
        Proportion of hidden patches.
    decoder_dim : int, default=256
        Width of the decoder.
    sparse : bool, default=True
        Skip the computation at hidden places where the blocks allow it. The result is the same.

    Examples
    --------
    >>> from hemaest.nets import build_net
    >>> encoder, _ = build_net("resnet24", 0, width=8, stride=8)
    >>> net = FCMAE(encoder, patch_size=8)
    >>> mask = net.draw_mask(2, 64, torch.Generator().manual_seed(0))
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
        if not isinstance(net, (CellEncoder, ResNet24)) and not is_convnext_v2(net):
            raise ValueError(f"{WANTED}, not {type(net).__name__}.")
        self.stride = int(net.feature_info[-1]["reduction"])  # type: ignore[index]
        if patch_size % self.stride:
            raise ValueError(
                f"patch_size={patch_size} is not a multiple of {self.stride}, the total stride of "
                f"the encoder, so hidden pixels would leak; take {self.stride} or None."
            )
        self.patch_size = patch_size
        self.mask_ratio = mask_ratio
        self.sparse = sparse and isinstance(net, ConvNeXt)
        self.visible = VisiblePatches()
        self.encoder = encoder
        restrict_to_visible(net, self.visible)
        # the decoder uses the whole map
        self.project = nn.Conv2d(int(net.num_features), decoder_dim, 1)  # type: ignore[arg-type]
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.block = ConvNeXtBlock(decoder_dim, use_grn=True, conv_mlp=True, ls_init_value=None)
        self.to_pixels = nn.Conv2d(decoder_dim, 3 * self.stride**2, 1)
        for layer in (self.project, self.to_pixels, self.mask_token):
            nn.init.trunc_normal_(getattr(layer, "weight", layer), std=0.02)

    @property
    def num_features(self) -> int:
        """Length of an embedding."""
        return self.encoder.num_features

    def draw_mask(self, n: int, side: int, generator: torch.Generator) -> Tensor:
        """Draw the visible patches of each image: bool (n, g, g), the same number in each."""
        grid = side // self.patch_size
        n_visible = grid * grid - min(grid * grid - 1, max(1, round(self.mask_ratio * grid * grid)))
        rank = torch.rand(n, grid * grid, generator=generator).argsort(dim=1).argsort(dim=1)
        return (rank < n_visible).view(n, grid, grid)

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
                    tokens = sparse_block(block, tokens, self.visible, side)
                x = self.visible.scatter(tokens, side, side)
            return x

    def decode(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the predicted normalized pixels of each place, (n, h, w, 3 * stride ** 2)."""
        seen = enlarge(mask, *features.shape[-2:])[:, None].to(features.device)
        x = self.project(features)
        x = torch.where(seen, x, self.mask_token.to(x.dtype))
        return self.to_pixels(self.block(x)).permute(0, 2, 3, 1)

    def patches(self, x: Tensor) -> Tensor:
        """Return the pixels of each place of the last map, (n, h, w, 3 * stride ** 2)."""
        return pixels_of(x, self.stride)

    def normalized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pixels of each place, standardized by their patch, then its mean and std.

        All channels share one mean. Which channel is darker is left to the prediction, so that the
        encoder learns stain colors.
        """
        truth, whole = self.patches(x), pixels_of(x, self.patch_size)
        places = truth.shape[1:3]
        mean = enlarge(whole.mean(-1, keepdim=True), *places)
        spread = enlarge((whole.var(-1, keepdim=True) + MIN_VARIANCE).sqrt(), *places)
        return (truth - mean) / spread, mean, spread

    def loss(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the mean squared error over the hidden patches of each image.

        Every patch is standardized by its own mean and std first, so that structure counts and
        brightness does not.
        """
        predicted = self.decode(self.encode(x, mask), mask).float()
        error = (predicted - self.normalized(x)[0]).square().mean(-1)
        hidden = ~enlarge(mask, *error.shape[1:]).to(error.device)
        return (error * hidden).sum((1, 2)) / hidden.sum((1, 2))

    def reconstruct(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return images with predicted hidden patches, at their true brightness and contrast."""
        predicted = self.decode(self.encode(x, mask), mask).float()
        _, mean, spread = self.normalized(x)
        seen = enlarge(mask, *predicted.shape[1:3])[..., None].to(x.device)
        pixels = torch.where(seen, self.patches(x), predicted * spread + mean)
        return nn.functional.pixel_shuffle(pixels.permute(0, 3, 1, 2), self.stride).clamp(0, 1)

    def embed(self, x: Tensor) -> Tensor:
        """Return one vector for each image, without a mask."""
        return self.encoder.embed(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map of images without a mask."""
        return self.encoder.features(x)


def pixels_of(x: Tensor, side: int) -> Tensor:
    """Return the pixels of each square of an image, (n, h, w, 3 * side ** 2)."""
    return nn.functional.pixel_unshuffle(x, side).permute(0, 2, 3, 1)


def is_convnext_v2(net: nn.Module) -> bool:
    """Return whether a network is a ConvNeXt with global response normalization."""
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
    pretrained: bool | str | dict[str, Tensor] = False,
    **options: Any,
) -> FCMAE:
    """Build the autoencoder around an encoder, given by name.

    Parameters
    ----------
    name : str
        ``"cellnet"``, ``"resnet24"`` or a ConvNeXt V2 of timm.
    image_size : int
        Side of the images, a multiple of the patch size.
    patch_size : int, optional
        By default the total stride of the encoder. That of a cellnet is its own; that of the
        others is lowered for small images so that there are at least 6 x 6 patches.
    mask_ratio, decoder_dim
        See :class:`FCMAE`.
    drop_path : float, default=0.0
        Stochastic depth.
    pretrained : bool, path or dict of Tensors, default=False
        Weights of the encoder, as :func:`hemaest.nets.build_net` takes them.
    **options : dict
        Passed to the encoder.
    """
    if check_name(name) not in OWN_NETWORKS and not name.startswith("convnextv2"):
        raise ValueError(f"{WANTED}, not {name!r}.")
    options.setdefault("stride", default_stride(name, image_size))
    encoder, _ = build_net(
        name, 0, image_size=image_size, drop_path=drop_path, pretrained=pretrained, **options
    )
    stride = int(encoder.backbone.feature_info[-1]["reduction"])  # type: ignore[index]
    net = FCMAE(encoder, patch_size or stride, mask_ratio, decoder_dim)
    patch = net.patch_size
    if image_size % patch or image_size < 2 * patch:
        lower = max(2, image_size // patch) * patch
        raise ValueError(
            f"image_size={image_size} is not a multiple of the patch size {patch}; take "
            f"{lower} or {lower + patch}."
        )
    return net


class VisiblePatches:
    """Which patches the layers of a network see: all of them, except inside :meth:`only`."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        self._cached: dict[Any, Tensor] = {}

    @contextmanager
    def only(self, mask: Tensor) -> Iterator[None]:
        """Hide patches inside a ``with`` block.

        Parameters
        ----------
        mask : bool Tensor (n, g, g)
            True where a patch is visible; the same number in every image.
        """
        self.mask, self._cached = mask, {}
        try:
            yield
        finally:
            self.mask, self._cached = None, {}

    def at(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return the mask (n, 1, height, width) at the resolution of a map."""
        key = ("mask", height, width)
        if key not in self._cached:
            self._cached[key] = enlarge(self.mask, height, width)[:, None].to(device)
        return self._cached[key]

    def rows(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return the flat positions of the visible places among all of a batch."""
        key = ("rows", height, width)
        if key not in self._cached:
            # on the CPU, where the mask is made: on a GPU nonzero would wait for it
            places = enlarge(self.mask, height, width).flatten().nonzero()[:, 0]
            self._cached[key] = places.to(device, non_blocking=True)
        return self._cached[key]

    def hide(self, x: Tensor) -> Tensor:
        """Return a map (n, c, h, w) with zeros at hidden places."""
        if self.mask is None:
            return x
        return x * self.at(x.shape[-2], x.shape[-1], x.device)

    def hide_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Hide the input of a module; a forward pre-hook."""
        return (self.hide(inputs[0]), *inputs[1:])

    def gather(self, x: Tensor) -> Tensor:
        """Return the visible places of a map (n, c, h, w) as tokens (n, places, c)."""
        n, c, height, width = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(-1, c)
        return flat[self.rows(height, width, x.device)].view(n, -1, c)

    def scatter(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the map (n, c, h, w) of visible tokens, zero at hidden places."""
        n, _, c = tokens.shape
        flat = tokens.new_zeros(n * height * width, c)
        flat = flat.index_copy(0, self.rows(height, width, tokens.device), tokens.flatten(0, 1))
        return flat.view(n, height, width, c).permute(0, 3, 1, 2)


def enlarge(mask: Tensor | None, height: int, width: int) -> Tensor:
    """Repeat each patch of a mask (n, g, g, ...) over the places of a finer map.

    Examples
    --------
    >>> enlarge(torch.tensor([[[True, False]]]), 2, 4).int()
    tensor([[[1, 1, 0, 0],
             [1, 1, 0, 0]]], dtype=torch.int32)
    """
    assert mask is not None
    rows, columns = height // mask.shape[1], width // mask.shape[2]
    return mask.repeat_interleave(rows, 1).repeat_interleave(columns, 2)


class VisibleGRN(GlobalResponseNorm):
    """Global response normalization over the visible places.

    G is the L2 norm of each channel over them, N = G / mean(G), out = gamma * (x * N) + beta + x.
    """

    visible: VisiblePatches

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; zeros do not change an L2 norm."""
        last = self.channel_dim == -1
        hidden = self.visible.hide(x.permute(0, 3, 1, 2) if last else x)
        return super().forward(hidden.permute(0, 2, 3, 1) if last else hidden)


class VisibleBatchNorm(nn.BatchNorm2d):
    """Batch normalization with the statistics of the visible places."""

    visible: VisiblePatches

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the visible places; the others become zero."""
        if self.visible.mask is None:
            return super().forward(x)
        tokens = self.visible.gather(x)
        normed = super().forward(tokens.flatten(0, 1)[..., None, None]).view(tokens.shape)
        return self.visible.scatter(normed, *x.shape[-2:])


class VisibleGroupNorm(nn.GroupNorm):
    """Group normalization with the statistics of the visible places."""

    visible: VisiblePatches

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the visible places; the others become zero."""
        if self.visible.mask is None:
            return super().forward(x)
        normed = super().forward(self.visible.gather(x).mT).mT
        return self.visible.scatter(normed, *x.shape[-2:])


class VisibleStandardize(Standardize):
    """Standardization of an image by the mean and spread of its visible places."""

    visible: VisiblePatches

    def forward(self, x: Tensor) -> Tensor:
        """Standardize the visible places; the others become zero."""
        if self.visible.mask is None:
            return super().forward(x)
        places = self.visible.gather(x).mT[..., None]
        return self.visible.scatter(standardize(places)[..., 0].mT, *x.shape[-2:])


VISIBLE_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    GlobalResponseNorm: VisibleGRN,
    nn.BatchNorm2d: VisibleBatchNorm,
    nn.GroupNorm: VisibleGroupNorm,
    Standardize: VisibleStandardize,
}
READS_NEIGHBORS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def restrict_to_visible(net: nn.Module, visible: VisiblePatches) -> nn.Module:
    """Let a network see only the visible patches; names and shapes of its weights stay.

    Parameters
    ----------
    net : Module
        Changed in place. Made of convolutions, pooling, the norms above and pointwise layers.
    visible : VisiblePatches
        Shared by all its layers.
    """
    for module in list(net.modules()):
        if type(module) in VISIBLE_NORMS:
            module.__class__ = VISIBLE_NORMS[type(module)]
            module.visible = visible  # type: ignore[assignment]
        elif isinstance(module, READS_NEIGHBORS) and module.kernel_size not in (1, (1, 1)):
            module.register_forward_pre_hook(visible.hide_input)
    return net


def sparse_block(
    block: ConvNeXtBlock, tokens: Tensor, visible: VisiblePatches, side: int
) -> Tensor:
    """Apply a ConvNeXt block to the visible places only: the same result for less work.

    Nearly all work of a block is pointwise; only its first convolution needs the map.

    Parameters
    ----------
    block : ConvNeXtBlock
    tokens : Tensor (n, places, c)
    visible : VisiblePatches
        Inside :meth:`VisiblePatches.only`.
    side : int
        Side of the map.
    """
    x = visible.gather(block.conv_dw(visible.scatter(tokens, side, side)))
    mlp = block.mlp
    x = F.layer_norm(x, x.shape[-1:], block.norm.weight, block.norm.bias, block.norm.eps)
    x = mlp.act(F.linear(x, mlp.fc1.weight.flatten(1), mlp.fc1.bias))
    # written out, because torch's norm is several times slower along this axis; in float32,
    # because squares of more than 255 overflow float16
    norm = (x.float().square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    response = norm / (norm.mean(dim=-1, keepdim=True) + mlp.grn.eps)
    x = x + torch.addcmul(mlp.grn.bias, mlp.grn.weight, x * response.to(x.dtype))
    x = F.linear(x, mlp.fc2.weight.flatten(1), mlp.fc2.bias)
    if block.gamma is not None:
        x = x * block.gamma
    return tokens + block.drop_path(x)
