"""Let a convolutional net see only some patches: the others are absent, not black.

What reads its neighbours (convolution, pooling) reads zeros at hidden places, as beyond the edge of
an image; what sums over a map (batch, group and global response normalization) sums over the
visible places alone. So the visible places get what they would if the rest did not exist.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional as F


class Visible:
    """Which patches are seen; all of them unless inside :meth:`only`."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        self._found: dict[Any, Tensor] = {}

    @contextmanager
    def only(self, mask: Tensor) -> Iterator[None]:
        """Hide patches for a while.

        Parameters
        ----------
        mask : bool Tensor (n, g, g)
            True where a patch is seen; as many in every image.
        """
        self.mask, self._found = mask, {}
        try:
            yield
        finally:
            self.mask, self._found = None, {}

    def at(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return the mask (n, 1, height, width) at the resolution of a map."""
        key = ("mask", height, width)
        if key not in self._found:
            self._found[key] = enlarge(self.mask, height, width)[:, None].to(device)
        return self._found[key]

    def rows(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return where the visible places lie among the n * height * width of a batch."""
        key = ("rows", height, width)
        if key not in self._found:
            # where the mask is made, so that a GPU need not stop and tell how many there are
            places = enlarge(self.mask, height, width).flatten().nonzero()[:, 0]
            self._found[key] = places.to(device, non_blocking=True)
        return self._found[key]

    def hide(self, x: Tensor) -> Tensor:
        """Return a map (n, c, h, w) with zeros at hidden places."""
        if self.mask is None:
            return x
        return x * self.at(x.shape[-2], x.shape[-1], x.device)

    def hide_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Hide what a module is about to read; a hook."""
        return (self.hide(inputs[0]), *inputs[1:])

    def gather(self, x: Tensor) -> Tensor:
        """Return the visible places of a map (n, c, h, w) as (n, places, c)."""
        n, c, height, width = x.shape
        flat = x.permute(0, 2, 3, 1).reshape(-1, c)
        return flat[self.rows(height, width, x.device)].view(n, -1, c)

    def scatter(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Return the map (n, c, h, w) of visible places, zero at the others."""
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

    visible: Visible

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; zeros add nothing to a norm."""
        last = self.channel_dim == -1
        hidden = self.visible.hide(x.permute(0, 3, 1, 2) if last else x)
        return super().forward(hidden.permute(0, 2, 3, 1) if last else hidden)


class VisibleBatchNorm(nn.BatchNorm2d):
    """Batch normalization with the statistics of the visible places."""

    visible: Visible

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the visible places; the others become zero."""
        if self.visible.mask is None:
            return super().forward(x)
        tokens = self.visible.gather(x)
        normed = super().forward(tokens.flatten(0, 1)[..., None, None]).view(tokens.shape)
        return self.visible.scatter(normed, *x.shape[-2:])


class VisibleGroupNorm(nn.GroupNorm):
    """Group normalization with the statistics of the visible places."""

    visible: Visible

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the visible places; the others become zero."""
        if self.visible.mask is None:
            return super().forward(x)
        normed = super().forward(self.visible.gather(x).mT).mT
        return self.visible.scatter(normed, *x.shape[-2:])


SEEING: dict[type[nn.Module], type[nn.Module]] = {
    GlobalResponseNorm: VisibleGRN,
    nn.BatchNorm2d: VisibleBatchNorm,
    nn.GroupNorm: VisibleGroupNorm,
}
READS_NEIGHBOURS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def see_only(net: nn.Module, visible: Visible) -> nn.Module:
    """Make a net obey ``visible``, in place; names and shapes of its weights stay.

    Parameters
    ----------
    net : Module
        Of convolutions, pooling and the norms above; per-place layers need nothing.
    visible : Visible
        Shared by all its layers.
    """
    for module in list(net.modules()):
        if type(module) in SEEING:
            module.__class__ = SEEING[type(module)]
            module.visible = visible  # type: ignore[assignment]
        elif isinstance(module, READS_NEIGHBOURS) and module.kernel_size not in (1, (1, 1)):
            module.register_forward_pre_hook(visible.hide_input)
    return net


def visible_block(block: ConvNeXtBlock, tokens: Tensor, visible: Visible, side: int) -> Tensor:
    """Apply a ConvNeXt block to the visible places alone: the same answer for less work.

    Nearly all of a block's work is done place by place; only its first convolution needs the map.

    Parameters
    ----------
    block : ConvNeXtBlock
    tokens : Tensor (n, places, c)
    visible : Visible
        Inside its :meth:`Visible.only`.
    side : int
        Of the map.
    """
    x = visible.gather(block.conv_dw(visible.scatter(tokens, side, side)))
    mlp = block.mlp
    x = F.layer_norm(x, x.shape[-1:], block.norm.weight, block.norm.bias, block.norm.eps)
    x = mlp.act(F.linear(x, mlp.fc1.weight.flatten(1), mlp.fc1.bias))
    # the L2 norm, written out: torch's own takes several times as long along this axis; squares
    # of more than 255 are too large for float16
    norm = (x.float().square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    response = norm / (norm.mean(dim=-1, keepdim=True) + mlp.grn.eps)
    x = x + torch.addcmul(mlp.grn.bias, mlp.grn.weight, x * response.to(x.dtype))
    x = F.linear(x, mlp.fc2.weight.flatten(1), mlp.fc2.bias)
    if block.gamma is not None:
        x = x * block.gamma
    return tokens + block.drop_path(x)
