"""Where a convolutional net finds the evidence for a class."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hemaest.inspection._heat import HeatDisplay

if TYPE_CHECKING:
    from torch import Tensor, nn

# a coarser map says little about where
SMALLEST_MAP = 7


class GradCAM(HeatDisplay):
    """Show which parts of an image speak for a class, in the eyes of a convolutional net.

    Gradient times activation, summed over channels, positive part only. At the last feature map
    of a net that ends in average pooling this is Grad-CAM. There a small image has only 2 x 2
    places; so the deepest map with at least 7 x 7 is taken, where the product is taken at each
    place (the gradient is not averaged, since it differs from place to place).

    Make one with :meth:`from_estimator`, whose ``layer=`` names another module of the net.

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
    >>> from hemaest.deep import ImageClassifier
    >>> from hemaest.inspection import GradCAM
    >>> X = np.random.default_rng(0).integers(0, 255, (4, 48, 48, 3)).astype(np.uint8)
    >>> model = ImageClassifier("cellnet", image_size=64, max_epochs=1, random_state=0)
    >>> cam = GradCAM.from_estimator(model.fit(X, ["a", "b", "a", "b"]), X)
    >>> len(cam.maps), cam.maps[0].shape, float(cam.maps[0].max())
    (4, (48, 48), 1.0)
    """

    _options: ClassVar[tuple[str, ...]] = ("layer",)

    @staticmethod
    def _coarse(
        classifier: Any,
        images: NDArray[Any],
        wanted: NDArray[np.intp],
        layer: str | None = None,
        **_: Any,
    ) -> NDArray[np.floating]:
        import torch

        from hemaest.deep._batches import Squares

        net = classifier.net_
        size = classifier.image_size
        squares = Squares(images, size).take(np.arange(len(images)))
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
            f"GradCAM needs feature maps, and {type(backbone).__name__} says of none; use "
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
