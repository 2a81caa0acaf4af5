"""Grad-CAM for convolutional networks, attention maps for transformers."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hemaest import deep, nets
from hemaest._docs import fill_doc
from hemaest.inspection._heat import HeatDisplay
from hemaest.inspection.drawing import DISPLAY_DOCS

if TYPE_CHECKING:
    from torch import Tensor, nn

# a coarser map says little about where
SMALLEST_MAP = 7


@fill_doc(**DISPLAY_DOCS)
class GradCAM(HeatDisplay):
    """Show which parts of an image are evidence for a class, to a convolutional network.

    Gradient times activation, summed over channels, positive part only. At the last feature map
    of a network that ends in average pooling this is Grad-CAM. There a small image has only 2 x 2
    places; so the deepest map with at least 7 x 7 is taken, where the product is taken at each
    place (the gradient is not averaged, since it differs from place to place).

    Draw with :meth:`from_estimator`, whose ``layer=`` names another module of the network;
    :meth:`compute` returns the maps without drawing.

    Parameters
    ----------
    images, maps, titles : lists
        What :meth:`compute` returns.

    Attributes
    ----------
    shares_ : DataFrame
        How much of the heat lies on nucleus, cytoplasm and surround, where there is a cell map.
    %(drawn)s

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.deep import ImageClassifier
    >>> from hemaest.inspection import GradCAM
    >>> X = np.random.default_rng(0).integers(0, 255, (4, 48, 48, 3)).astype(np.uint8)
    >>> model = ImageClassifier("cellnet", image_size=64, max_epochs=1, random_state=0)
    >>> cam = GradCAM.from_estimator(model.fit(X, ["a", "b", "a", "b"]), X)
    >>> len(cam.maps), cam.maps[0].shape, float(cam.maps[0].max())
    (4, (48, 48), 1.0)
    """

    _options: ClassVar[tuple[str, ...]] = ("layer",)
    _scale_label: ClassVar[str] = "evidence, relative to the image's maximum"

    @staticmethod
    def _coarse(
        classifier: Any,
        images: NDArray[Any],
        wanted: NDArray[np.intp],
        layer: str | None = None,
        **_: Any,
    ) -> NDArray[np.floating]:
        import torch

        net = classifier.net_
        size = classifier.image_size
        squares = deep.batches.LetterboxedImages(images, size).take(np.arange(len(images)))
        x = net.prepare(torch.from_numpy(squares))
        module = net.module_.eval()
        with torch.enable_grad():
            features, logits = watch(module, chosen_layer(module.backbone, layer, size), x)
            score = logits[torch.arange(len(x)), torch.from_numpy(wanted).to(x.device)].sum()
            (gradient,) = torch.autograd.grad(score, features)
        heat = channels_first(features * gradient, module.num_features)
        return heat.sum(dim=1).clamp(min=0).detach().float().cpu().numpy()


def chosen_layer(backbone: "nn.Module", layer: str | None, size: int) -> str:
    """Return the name of the module to watch."""
    names = dict(backbone.named_modules())
    if layer is not None:
        if layer not in names:
            raise ValueError(
                f"layer={layer!r} is no module of {type(backbone).__name__}; it has "
                f"{', '.join([n for n in names if n.count('.') <= 1 and n][:20])}, ..."
            )
        return layer
    info = list(getattr(backbone, "feature_info", []))
    places = [i for i in info if i["module"] in names and size // i["reduction"] >= SMALLEST_MAP]
    if getattr(backbone, "num_prefix_tokens", None) is not None or not info:
        raise TypeError(
            f"GradCAM needs feature maps, and {type(backbone).__name__} has none; use "
            "AttentionMap for a transformer, or name a module with layer=."
        )
    return (places or info[:1])[-1]["module"]


def watch(module: "nn.Module", name: str, x: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return what a module inside the backbone gives out, and the logits."""
    seen: list[Tensor] = []
    inner = dict(module.backbone.named_modules())[name]  # type: ignore[union-attr,operator]
    handle = inner.register_forward_hook(lambda _, __, output: seen.append(output))
    try:
        logits = module(x)
    finally:
        handle.remove()
    return seen[0], logits


def channels_first(features: "Tensor", channels: int) -> "Tensor":
    """Return maps as (n, c, h, w); some transformers keep channels last."""
    if features.ndim != 4:
        raise TypeError(
            f"that layer gives {tuple(features.shape)}, which is no feature map (n, c, h, w)."
        )
    last = features.shape[-1] == channels and features.shape[1] != channels
    return features.permute(0, 3, 1, 2) if last else features


@fill_doc(**DISPLAY_DOCS)
class AttentionMap(HeatDisplay):
    """Show from which parts of an image a transformer gathers its prediction.

    Attention roll-out: the attention of all blocks multiplied through, half of each block passing
    by unchanged (the residual path), averaged over heads. Of a windowed transformer
    (:class:`hemaest.deep.WPATClassifier`) the map shows how much each place counts in its attention
    pooling, over all scales. It shows where the prediction is gathered, not for which class; for
    that see :class:`GradCAM` on a convolutional network.

    Draw with :meth:`from_estimator`; :meth:`compute` returns the maps without drawing.

    Parameters
    ----------
    images, maps, titles : lists
        What :meth:`compute` returns.

    Attributes
    ----------
    shares_ : DataFrame
        How much of the heat lies on nucleus, cytoplasm and surround, where there is a cell map.
    %(drawn)s

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

    _scale_label: ClassVar[str] = "attention, relative to the image's maximum"

    @staticmethod
    def _coarse(
        classifier: Any, images: NDArray[Any], wanted: NDArray[np.intp], **_: Any
    ) -> NDArray[np.floating]:
        import torch

        net = classifier.net_
        squares = deep.batches.LetterboxedImages(images, classifier.image_size).take(
            np.arange(len(images))
        )
        x = net.prepare(torch.from_numpy(squares))
        backbone = net.module_.backbone
        with torch.inference_mode():
            if isinstance(backbone, nets.WPAT):
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
    """Return the attention (n, heads, tokens, tokens) of every block, first to last.

    Examples
    --------
    >>> import timm, torch
    >>> small = {"depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 64}
    >>> module = timm.create_model("vit_tiny_patch16_224", num_classes=2, **small).eval()
    >>> with torch.no_grad():
    ...     attentions = attention_matrices(module, torch.rand(2, 3, 64, 64))
    >>> [tuple(a.shape) for a in attentions]
    [(2, 2, 17, 17), (2, 2, 17, 17)]
    >>> bool(torch.allclose(attentions[0].sum(-1), torch.ones(2, 2, 17)))
    True
    """
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
            "this network has no attention over the whole image that could be shown; use GradCAM "
            "for a network with feature maps."
        )
    return found


def roll_out(attentions: "list[Tensor]", prefix: int) -> "Tensor":
    """Multiply the attention of all blocks; return the part on image patches (n, side, side).

    Parameters
    ----------
    attentions : list of Tensor (n, heads, tokens, tokens)
        First block first; rows sum to one.
    prefix : int
        Tokens before the patches. The first of them gathers the prediction; without any, all
        patches together do.

    Examples
    --------
    >>> import torch
    >>> even = torch.full((1, 2, 4, 4), 0.25)
    >>> roll_out([even, even], prefix=0)
    tensor([[[0.2500, 0.2500],
             [0.2500, 0.2500]]])

    The first token looks at patch 2 in the last block, which looked at patch 3 in the first:

    >>> first, last = torch.eye(5)[None, None].clone(), torch.eye(5)[None, None].clone()
    >>> first[0, 0, 3], last[0, 0, 0] = torch.eye(5)[4], torch.eye(5)[3]
    >>> roll_out([first, last], prefix=1)
    tensor([[[0.0000, 0.0000],
             [0.2500, 0.2500]]])
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
