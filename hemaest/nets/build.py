"""Build a network by name: one of hemaest or any of timm, behind one interface.

Every network has timm's interface: ``forward_features``, ``forward_head(x, pre_logits=)``,
``num_features``, ``get_classifier`` and, for layer-wise learning rates, ``group_matcher``. The
estimators of ``hemaest.deep`` and ``hemaest.balance`` call :func:`build_net`.
"""

import difflib
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from hemaest.nets.cellnet import CellEncoder
from hemaest.nets.convnets import ResNet24, default_stride, lower_stride
from hemaest.nets.weights import copy_weights, read_weights
from hemaest.nets.wpat import WPAT

OWN_NETWORKS: dict[str, Callable[..., nn.Module]] = {"cellnet": CellEncoder, "resnet24": ResNet24}

WPAT_NAME = "wpat"
DEFAULT_CONVNET = "convnextv2_atto"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class NormalizedNet(nn.Module):
    """A network that takes RGB values from 0 to 1 and normalizes them itself.

    Parameters
    ----------
    backbone : Module
        A network with timm's interface.
    mean, std : sequences of 3 floats
        Mean and standard deviation of the RGB channels in the data the backbone was trained on, on
        the scale 0 to 1.
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
        """Return the last feature map (n, c, h, w), or the tokens (n, t, c) of a transformer."""
        return self.backbone.forward_features(self.normalize(x))

    def head(self, features: Tensor) -> Tensor:
        """Return the logits that follow from ``features``."""
        return self.backbone.forward_head(features)

    def embed(self, x: Tensor) -> Tensor:
        """Return the input of the last layer: one vector for each image."""
        return self.backbone.forward_head(self.features(x), pre_logits=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.backbone(self.normalize(x))


def check_name(name: str) -> str:
    """Return the name if a network has it; else raise an error that suggests one."""
    if name in OWN_NETWORKS or name == WPAT_NAME or timm.is_model(name):
        return name
    known = [*OWN_NETWORKS, WPAT_NAME, *timm.list_models()]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"there is no network {name!r}; allowed are {', '.join([*OWN_NETWORKS, WPAT_NAME])} and "
        f"every name in timm.list_models().{hint}"
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
    """Build a network for images of one size, with or without trained weights.

    Parameters
    ----------
    name : str
        ``"resnet24"``, ``"cellnet"``, ``"wpat"`` or any name that timm knows.
    num_classes : int
        Number of outputs; 0 leaves out the last layer.
    image_size : int, optional
        Side of the images. The position embeddings of a transformer are resized to it.
    pretrained : bool, path or dict of Tensors, default=False
        True downloads timm's weights from the hub. A ``.safetensors`` or ``.pth`` file needs no
        internet. A dict of tensors is loaded as it is. For ``"wpat"`` the weights may be those
        of its convolutional network.
    drop_path : float, default=0.0
        Stochastic depth.
    stride : int, optional
        Total stride of the last feature map, at most the network's own. For a ConvNeXt,
        ``"resnet24"``, ``"cellnet"`` and the ``convnet`` of ``"wpat"``, whose default fits
        ``image_size``.
    **options : dict
        Passed to the network. For ``"wpat"`` also ``convnet``, a name, and ``convnet_options``.

    Returns
    -------
    net : NormalizedNet
    report : dict or None
        Which tensors of the file were loaded and which were not, see :func:`load_weights`.

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
        encoder = options.pop("convnet", None) or DEFAULT_CONVNET
        stride = stride or default_stride(check_name(encoder), image_size)
        backbone, mean, std = _create_wpat(
            encoder, num_classes, pretrained is True, stride, options
        )
    elif name in OWN_NETWORKS:
        backbone = OWN_NETWORKS[name](num_classes=num_classes, **options)
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
        report = copy_weights(target, weights, source)
    return NormalizedNet(backbone, mean, std), report


def _create_wpat(
    name: str, num_classes: int, pretrained: bool, stride: int | None, options: dict[str, Any]
) -> tuple[nn.Module, Any, Any]:
    """Return the transformer around a convolutional network, with the mean and std of that."""
    inner = {"stride": stride, **(options.pop("convnet_options", None) or {})}
    if name not in OWN_NETWORKS and "convnext" not in name:
        raise ValueError(
            f"convnet={name!r}: windowed attention needs 'cellnet', 'resnet24' or a ConvNeXt of "
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
            f"image_size={image_size} is not a multiple of {patch[0]}, the patch size of "
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
            f"the published weights of {name!r} could not be downloaded "
            f"({type(error).__name__}: {error}). "
            "Without internet, download them elsewhere and give the file: "
            "pretrained='path/to/model.safetensors' (or .pth); or train from scratch with "
            "pretrained=False."
        ) from error
