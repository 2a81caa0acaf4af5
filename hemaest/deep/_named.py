"""The named classifiers: ImageClassifier with the defaults that suit one network.

Each is a dataclass that overrides fields of :class:`ImageClassifier`, so that its constructor has
all parameters, with its own defaults, for ``clone``, ``help()`` and type checkers.
"""

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, fields
from inspect import cleandoc
from numbers import Integral
from textwrap import indent
from typing import Any, ClassVar, Literal, TypeVar

from hemaest.base import Interval, StrOptions
from hemaest.deep._classifier import ImageClassifier

Class = TypeVar("Class", bound=type)


def fill_doc(parent: type) -> Callable[[Class], Class]:
    """Return a decorator that adds the parameters of a parent class to a docstring.

    Parameters that the docstring describes itself are kept; all are put in the order of the
    signature.

    Examples
    --------
    >>> "checkpoint_dir : path or None" in (ResNet50Classifier.__doc__ or "")
    True
    """

    def decorate(cls: Class) -> Class:
        if cls.__doc__ is None or parent.__doc__ is None:  # python -OO
            return cls
        documented = _parameters(parent.__doc__) | _parameters(cls.__doc__)
        listed = []
        for field in fields(cls):
            # one entry may describe several parameters: "mixup, cutmix : float"
            entry = next(text for names, text in documented.items() if field.name in names)
            listed += [entry] if entry not in listed else []
        before, _, after = _sections(cls.__doc__)
        cls.__doc__ = f"{before}Parameters\n----------\n" + "\n".join(listed) + f"\n\n{after}"
        cls.__doc__ = indent(cls.__doc__, "    ").strip() + "\n    "
        return cls

    return decorate


def _sections(doc: str) -> tuple[str, str, str]:
    """Split a docstring into what comes before the parameters, the parameters, and the rest."""
    before, rest = cleandoc(doc).split("Parameters\n----------\n")
    match = re.search(r"^\w+\n-{4,}\n", rest, flags=re.M)
    end = match.start() if match else len(rest)
    return before, rest[:end], rest[end:]


def _parameters(doc: str) -> dict[tuple[str, ...], str]:
    """Return the entry of each parameter, by its names."""
    entries = re.split(r"\n(?=\S)", _sections(doc)[1].strip())
    return {tuple(e.split(" : ")[0].split(", ")): e.rstrip() for e in entries}


@fill_doc(ImageClassifier)
@dataclass(eq=False, repr=False, match_args=False)
class ResNet50Classifier(ImageClassifier):
    """Classify images of cells with a ResNet-50.

    An :class:`ImageClassifier` with its own defaults.

    Parameters
    ----------
    backbone : str, default="resnet50"
        A residual network that timm knows.
    image_size : int, default=224
        Side of the squares that the network sees.
    lr : float, default=5e-4
        Highest learning rate (AdamW), reached after a warm-up and followed by a cosine decay.

    Examples
    --------
    >>> from hemaest.deep import ResNet50Classifier
    >>> ResNet50Classifier(pretrained="weights.safetensors", max_epochs=10).image_size
    224
    """

    backbone: str = "resnet50"
    _: KW_ONLY
    image_size: int = 224
    lr: float = 5e-4


@fill_doc(ImageClassifier)
@dataclass(eq=False, repr=False, match_args=False)
class ResNet24Classifier(ImageClassifier):
    """Classify images of cells with the residual network of 24 weighted layers.

    An :class:`ImageClassifier` with its own defaults.

    Parameters
    ----------
    image_size : int, default=128
        Side of the squares that the network sees.
    max_epochs : int, default=40
        Passes over the training images.
    norm : {"batch", "group"}, default="batch"
        Batch norm is trained faster within one laboratory. Group norm keeps no statistics of the
        training images, and so loses less at another microscope; see also
        :meth:`adapt_batchnorm`.

    Examples
    --------
    >>> from hemaest.deep import ResNet24Classifier
    >>> ResNet24Classifier(norm="group").norm
    'group'
    """

    backbone: str = "resnet24"
    _: KW_ONLY
    image_size: int = 128
    max_epochs: int = 40
    norm: Literal["batch", "group"] = "batch"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageClassifier._parameter_constraints,
        "norm": [StrOptions({"batch", "group"})],
    }

    def _network_options(self) -> dict[str, Any]:
        return {"norm": self.norm, **super()._network_options()}


@fill_doc(ImageClassifier)
@dataclass(eq=False, repr=False, match_args=False)
class ViTClassifier(ImageClassifier):
    """Classify images of cells with a vision transformer.

    An :class:`ImageClassifier` with its own defaults. Position embeddings of pretrained weights are
    resized to any image size. From random weights a transformer needs far more images than a
    convolutional network.

    Parameters
    ----------
    backbone : str, default="vit_small_patch16_224"
        Any transformer that timm knows.
    image_size : int, default=224
        Side of the squares that the network sees; a multiple of the patch size.
    max_epochs : int, default=50
        Passes over the training images.
    lr : float, default=3e-4
        Highest learning rate (AdamW), reached after a warm-up and followed by a cosine decay.
    drop_path : float, default=0.1
        Probability to skip the last block in training, lower for earlier blocks.
    layer_decay : float, "auto" or None, default="auto"
        Factor on the learning rate from one layer to the one before, for fine-tuning; ``"auto"``
        is 0.75 for pretrained weights and none for random ones.
    warmup : float, default=0.1
        Proportion of the run in which the learning rate rises.

    Examples
    --------
    >>> from hemaest.deep import ViTClassifier
    >>> ViTClassifier("vit_tiny_patch16_224", image_size=96).layer_decay
    'auto'
    """

    backbone: str = "vit_small_patch16_224"
    _: KW_ONLY
    image_size: int = 224
    max_epochs: int = 50
    lr: float = 3e-4
    drop_path: float = 0.1
    layer_decay: float | Literal["auto"] | None = "auto"
    warmup: float = 0.1


@fill_doc(ImageClassifier)
@dataclass(eq=False, repr=False, match_args=False)
class WPATClassifier(ImageClassifier):
    """Classify images of cells with windowed attention over the maps of a convolutional network.

    An :class:`ImageClassifier` with its own defaults. Maps of two scales are cut into windows of at
    most 7 x 7 places, in which each place attends to the others; every second block shifts the
    windows. A learned query weights the places (see :class:`hemaest.inspection.AttentionMap`), and
    the result is concatenated with the average of the convolutional network's last map.

    With pretrained weights, the new layers are trained alone in the first tenth of the epochs, then
    all layers, the lower ones of the convolutional network with a lower rate.

    Parameters
    ----------
    backbone : {"wpat"}, default="wpat"
        The network; ``convnet`` names the network that it is built around.
    pretrained : bool, "synthetic", path, FCMAEPretrainer or FrozenEstimator, default=False
        For the convolutional network: ``"synthetic"`` is the ``"cellnet"`` that ships with the
        package, an unfitted :class:`FCMAEPretrainer` is first fitted on the training images,
        ``FrozenEstimator(pretrainer)`` is fitted already, a path is what its ``save`` wrote.
    max_epochs : int, default=50
        Passes over the training images.
    drop_path : float, default=0.1
        Probability to skip the last block in training, lower for earlier blocks.
    layer_decay : float, "auto" or None, default="auto"
        Factor on the learning rate from one layer to the one before, for fine-tuning; ``"auto"``
        is 0.75 for pretrained weights and none for random ones.
    freeze_epochs : int or "auto", default="auto"
        Epochs at the start of each fit in which the convolutional network is not trained.
        ``"auto"``: a tenth of all epochs for pretrained weights, but never all; none for random
        weights, and none where ``warm_start`` continues.
    warmup : float, default=0.1
        Proportion of the run in which the learning rate rises.
    convnet : str or None, default=None
        Name of the convolutional network: ``"cellnet"``, ``"resnet24"`` or a ConvNeXt of timm.
        None takes that of ``pretrained``, else ``"convnextv2_atto"``.
    window_size : int, default=7
        Largest side of a window; on small maps windows are smaller.
    depth : int, default=2
        Blocks of attention at each scale.

    Examples
    --------
    >>> from hemaest.deep import FCMAEPretrainer, WPATClassifier
    >>> model = WPATClassifier(pretrained=FCMAEPretrainer(image_size=64), image_size=64)
    >>> model.pretrained.max_epochs, model.freeze_epochs
    (100, 'auto')
    """

    backbone: str = "wpat"
    _: KW_ONLY
    max_epochs: int = 50
    drop_path: float = 0.1
    layer_decay: float | Literal["auto"] | None = "auto"
    freeze_epochs: int | Literal["auto"] = "auto"
    warmup: float = 0.1
    convnet: str | None = None
    window_size: int = 7
    depth: int = 2

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageClassifier._parameter_constraints,
        "convnet": [str, None],
        "window_size": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 0, None, closed="left")],
    }

    def _network_options(self) -> dict[str, Any]:
        if self.backbone != "wpat":
            raise ValueError(
                f"backbone={self.backbone!r}, but the network of a {type(self).__name__} is always "
                f"'wpat'; give convnet={self.backbone!r} to build it around that, or take "
                f"ImageClassifier({self.backbone!r})."
            )
        own = {"convnet": self.convnet, "window_size": self.window_size, "depth": self.depth}
        return {**own, **super()._network_options()}
