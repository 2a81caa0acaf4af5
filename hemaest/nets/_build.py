"""Build a net by name: our own, or any of timm's, behind one way of calling.

Every net has what timm's have: ``forward_features``, ``forward_head(x, pre_logits=)``,
``num_features``, ``get_classifier`` and, for layer-wise learning rates, ``group_matcher``.
"""

import difflib
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from hemaest.nets._cellnet import cellnet
from hemaest.nets._resnet24 import ResNet24
from hemaest.nets._stride import fitting_stride, lower_stride
from hemaest.nets._weights import put_weights, read_weights
from hemaest.nets.wpat import WPAT

OWN: dict[str, Callable[..., nn.Module]] = {"cellnet": cellnet, "resnet24": ResNet24}

WPAT_NAME = "wpat"
ENCODER = "convnextv2_atto"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NormalizedNet(nn.Module):
    """A net that takes RGB from 0 to 1: the normalization it was trained with is part of it.

    Parameters
    ----------
    backbone : Module
        A net with timm's way of calling.
    mean, std : sequences of 3 floats
        Of the RGB channels, on the scale 0 to 1.
    """

    def __init__(self, backbone: nn.Module, mean: Any, std: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def num_features(self) -> int:
        """Length of an embedding."""
        return int(getattr(self.backbone, "head_hidden_size", None) or self.backbone.num_features)

    def normalize(self, x: Tensor) -> Tensor:
        """Return the image as the backbone expects it."""
        return (x - self.mean) / self.std

    def features(self, x: Tensor) -> Tensor:
        """Return the last feature map (n, c, h, w), or tokens (n, t, c) of a transformer."""
        return self.backbone.forward_features(self.normalize(x))

    def head(self, features: Tensor) -> Tensor:
        """Return the logits that follow from ``features``."""
        return self.backbone.forward_head(features)

    def embed(self, x: Tensor) -> Tensor:
        """Return what the last layer sees: one vector for each image."""
        return self.backbone.forward_head(self.features(x), pre_logits=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.backbone(self.normalize(x))


def check_name(name: str) -> str:
    """Return the name if a net is called so, else suggest one."""
    if name in OWN or name == WPAT_NAME or timm.is_model(name):
        return name
    known = [*OWN, WPAT_NAME, *timm.list_models()]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"no net is called {name!r}; allowed are {', '.join([*OWN, WPAT_NAME])} and every name in "
        f"timm.list_models().{hint}"
    )


def build_net(
    name: str,
    num_classes: int,
    *,
    image_size: int | None = None,
    pretrained: bool | str | dict[str, Tensor] = False,
    drop_path: float = 0.0,
    stride: int | None = None,
    **options: Any,
) -> tuple[NormalizedNet, dict[str, list[str]] | None]:
    """Build a net, ready for images of one size, with or without trained weights.

    Parameters
    ----------
    name : str
        ``"resnet24"``, ``"cellnet"``, ``"wpat"`` or any name that timm knows.
    num_classes : int
        Outputs; 0 for a net without a last layer.
    image_size : int, optional
        Side of the images; a transformer's position embeddings are resized to it.
    pretrained : bool, path or dict of Tensors, default=False
        True takes timm's own weights from the hub; a ``.safetensors`` or ``.pth`` file works
        without a network; weights by name are taken as they are. For ``"wpat"`` they may be
        those of its encoder.
    drop_path : float, default=0.0
        Stochastic depth.
    stride : int, optional
        Total stride of the last feature map, where it is to be lower than the net's own: for a
        ConvNeXt, ``"resnet24"``, and the encoder of ``"wpat"``, which by itself takes one that
        fits ``image_size``.
    **options : dict
        Handed to the net. For ``"wpat"`` also ``encoder``, a name, and ``encoder_options``.

    Returns
    -------
    net : NormalizedNet
    report : dict or None
        What of the file was loaded and what was not, see :func:`load_weights`.

    Examples
    --------
    >>> net, _ = build_net("resnet24", 4, image_size=64, width=8)
    >>> net.num_features
    256
    """
    check_name(name)
    if drop_path:
        options["drop_path_rate"] = drop_path
    if name == WPAT_NAME:
        stride = stride or (fitting_stride(image_size) if image_size else None)
        backbone, mean, std = _create_wpat(num_classes, pretrained is True, stride, options)
    elif name in OWN:
        backbone = OWN[name](num_classes=num_classes, **options)
        if pretrained is True:
            raise ValueError(
                f"{name!r} has no published weights: give pretrained=False, or the path of a "
                ".safetensors or .pth file."
            )
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    else:
        config = timm.get_pretrained_cfg(name)
        if getattr(config, "fixed_input_size", False) and image_size is not None:
            options["img_size"] = image_size
        backbone = _create_timm(name, num_classes, pretrained is True, options)
        _check_patches(backbone, image_size)
        mean, std = backbone.pretrained_cfg["mean"], backbone.pretrained_cfg["std"]
    if stride is not None and name != WPAT_NAME:
        lower_stride(backbone, stride)
    report = None
    if not isinstance(pretrained, bool):
        if isinstance(pretrained, dict):
            weights, source = pretrained, "the given weights"
        else:
            weights, source = read_weights(pretrained), str(pretrained)
        target = backbone
        if name == WPAT_NAME and not any(key.startswith("branches.") for key in weights):
            target = backbone.encoder
        report = put_weights(target, weights, source)
    return NormalizedNet(backbone, mean, std), report


def _create_wpat(
    num_classes: int, pretrained: bool, stride: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Any, Any]:
    """Return the transformer around an encoder, and the mean and spread of its images."""
    inner = {"stride": stride, **(options.pop("encoder_options", None) or {})}
    name = check_name(options.pop("encoder", None) or ENCODER)
    if name != "resnet24" and "convnext" not in name:
        raise ValueError(
            f"encoder={name!r}: windowed attention is built around 'resnet24' or a ConvNeXt of "
            "timm ('convnextv2_atto', 'convnext_tiny', ...)."
        )
    encoder, _ = build_net(
        name,
        0,
        pretrained=pretrained,
        drop_path=options.get("drop_path_rate", 0.0),
        **inner,
    )
    net = WPAT(num_classes, encoder=encoder.backbone, **options)
    return net, encoder.mean.flatten().tolist(), encoder.std.flatten().tolist()


def _check_patches(backbone: nn.Module, image_size: int | None) -> None:
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and image_size is not None and image_size % patch[0]:
        lower = image_size // patch[0] * patch[0]
        raise ValueError(
            f"image_size={image_size} is no multiple of the {patch[0]} pixels of a patch of "
            f"{type(backbone).__name__}; take {lower or patch[0]} or {lower + patch[0]}."
        )


def _create_timm(name: str, num_classes: int, pretrained: bool, options: Any) -> nn.Module:
    if not pretrained:
        return timm.create_model(name, num_classes=num_classes, **options)
    try:
        return timm.create_model(name, pretrained=True, num_classes=num_classes, **options)
    except Exception as error:
        if isinstance(error, TypeError):
            raise
        raise RuntimeError(
            f"the published weights of {name!r} could not be had "
            f"({type(error).__name__}: {error}). "
            "Without a network, download them elsewhere and give the file: "
            "pretrained='path/to/model.safetensors' (or .pth); or train from scratch with "
            "pretrained=False."
        ) from error
