"""Where a transformer looks."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hemaest.inspection._heat import HeatDisplay

if TYPE_CHECKING:
    from torch import Tensor, nn


class AttentionMap(HeatDisplay):
    """Show from which parts of an image a transformer's answer is gathered.

    Attention roll-out: the attention of all blocks multiplied through, half of each block passing
    by unchanged (the residual path), averaged over heads. Of a windowed transformer
    (:class:`hemaest.deep.WPATClassifier`) the map shows how much each place counts in its attention
    pooling, over all scales. It tells where the answer is gathered, not for which class; for that
    see :class:`GradCAM` on a convolutional net.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    images, maps, titles : lists
        What :meth:`from_estimator` finds.

    Attributes
    ----------
    shares_ : DataFrame
        How much of the heat lies on nucleus, cytoplasm and surround, where there is a cell map.
    figure_ : matplotlib Figure
        After :meth:`plot`.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.deep import ViTClassifier
    >>> from hemaest.inspection import AttentionMap
    >>> X = np.random.default_rng(0).integers(0, 255, (4, 48, 40, 3)).astype(np.uint8)
    >>> small = {"depth": 2, "embed_dim": 32, "num_heads": 2}
    >>> model = ViTClassifier("vit_tiny_patch16_224", image_size=64, max_epochs=1,
    ...                       backbone_options=small, random_state=0)
    >>> AttentionMap.from_estimator(model.fit(X, ["a", "b", "a", "b"]), X).maps[0].shape
    (48, 40)
    """

    @staticmethod
    def _coarse(
        classifier: Any, images: NDArray[Any], wanted: NDArray[np.intp], **_: Any
    ) -> NDArray[np.floating]:
        import torch

        from hemaest.deep._batches import Squares
        from hemaest.nets import WPAT

        net = classifier.net_
        squares = Squares(images, classifier.image_size).take(np.arange(len(images)))
        x = net.prepare(torch.from_numpy(squares))
        backbone = net.module_.backbone
        with torch.inference_mode():
            if isinstance(backbone, WPAT):
                weights = backbone.attention_weights(net.module_.eval().features(x))
                return on_one_map(weights).cpu().numpy()
            attentions = attention_matrices(net.module_.eval(), x)
            heat = roll_out(attentions, getattr(backbone, "num_prefix_tokens", 0))
        return heat.float().cpu().numpy()


def on_one_map(weights: "list[Tensor]") -> "Tensor":
    """Return the shares of places at several scales as one map (n, h, w) at the finest.

    Examples
    --------
    >>> import torch
    >>> on_one_map([torch.full((1, 2, 2), 0.125), torch.full((1, 1, 1), 0.5)])
    tensor([[[0.2500, 0.2500],
             [0.2500, 0.2500]]])
    """
    import torch
    from torch.nn import functional as F

    height, width = max(tuple(weight.shape[1:]) for weight in weights)
    whole = [
        # a coarse place shares its part out among the finer ones it covers
        F.interpolate(weight[:, None].float(), (height, width)) * weight[0].numel()
        for weight in weights
    ]
    return torch.cat(whole, dim=1).sum(dim=1) / (height * width)


def attention_matrices(module: "nn.Module", x: "Tensor") -> "list[Tensor]":
    """Return the attention (n, heads, tokens, tokens) of every block, first to last."""
    found: list[Tensor] = []
    blocks = [m for m in module.modules() if hasattr(m, "fused_attn") and hasattr(m, "attn_drop")]
    fused = [block.fused_attn for block in blocks]
    handles = [b.attn_drop.register_forward_hook(lambda _, __, a: found.append(a)) for b in blocks]
    try:
        for block in blocks:
            block.fused_attn = False  # the fused kernel never shows its matrix
        module(x)
    finally:
        for block, state, handle in zip(blocks, fused, handles, strict=True):
            block.fused_attn = state
            handle.remove()
    sizes = {tuple(a.shape[-2:]) for a in found}
    if not found or len(sizes) > 1 or any(len(a) != len(x) for a in found):
        raise TypeError(
            "this net has no attention over the whole image that could be shown; use GradCAM for "
            "a net with feature maps."
        )
    return found


def roll_out(attentions: "list[Tensor]", prefix: int) -> "Tensor":
    """Multiply the attention of all blocks; return the part on image patches (n, side, side).

    Parameters
    ----------
    attentions : list of Tensor (n, heads, tokens, tokens)
        First block first; rows sum to one.
    prefix : int
        Tokens before the patches. The first of them gathers the answer; without any, all patches
        together do.

    Examples
    --------
    >>> import torch
    >>> even = torch.full((1, 1, 5, 5), 0.2)
    >>> roll_out([even, even], prefix=1).shape
    torch.Size([1, 2, 2])
    """
    import torch

    eye = torch.eye(attentions[0].shape[-1], device=attentions[0].device)
    flow = eye.expand(len(attentions[0]), -1, -1)
    for attention in attentions:
        flow = (0.5 * attention.float().mean(dim=1) + 0.5 * eye) @ flow
    gathered = flow[:, 0] if prefix else flow.mean(dim=1)
    patches = gathered[:, prefix:]
    side = round(patches.shape[1] ** 0.5)
    return patches.reshape(len(patches), side, side)
