"""The named classifiers: ImageClassifier with the defaults that suit one net."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from hemaest.base import StrOptions
from hemaest.deep._classifier import ImageClassifier


class ResNet50Classifier(ImageClassifier):
    """Classify images of cells with a ResNet-50.

    An :class:`ImageClassifier` with its own defaults; what is not listed here is said there.

    Parameters
    ----------
    pretrained : bool or path, default=False
        Published weights, or a file of them.
    image_size : int, default=224
        Side of the squares that the net sees.
    max_epochs : int, default=30
        Passes over the training images.
    batch_size : int, default=32
        Images in one step.
    lr : float, default=5e-4
        Highest learning rate.
    **options
        All other parameters of :class:`ImageClassifier`.

    Examples
    --------
    >>> from hemaest.deep import ResNet50Classifier
    >>> ResNet50Classifier(pretrained="weights.safetensors", max_epochs=10).image_size
    224
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        pretrained: Any = False,
        image_size: int = 224,
        max_epochs: int = 30,
        batch_size: int = 32,
        lr: float = 5e-4,
        weight_decay: float = 0.05,
        augment: Any = "standard",
        resampler: Any = None,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        loss: Literal["cross-entropy", "focal", "logit-adjusted"] = "cross-entropy",
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        drop_path: float = 0.0,
        layer_decay: float | Literal["auto"] | None = None,
        freeze_epochs: int = 0,
        warmup: float = 0.05,
        clip_norm: float | None = 1.0,
        ema: bool = True,
        tta: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        checkpoint_dir: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        callbacks: list[Any] | None = None,
        backbone_options: dict[str, Any] | None = None,
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        super().__init__(**given)


class ResNet24Classifier(ImageClassifier):
    """Classify images of cells with the residual network of 24 weighted layers.

    An :class:`ImageClassifier` with its own defaults; what is not listed here is said there.

    Parameters
    ----------
    norm : {"batch", "group"}, default="batch"
        Batch norm learns faster within one laboratory. Group norm keeps no statistics of the
        training images, and so survives another microscope better; see also
        :meth:`adapt_batchnorm`.
    image_size : int, default=128
        Side of the squares that the net sees.
    max_epochs : int, default=40
        Passes over the training images.
    batch_size : int, default=32
        Images in one step.
    lr : float, default=1e-3
        Highest learning rate.
    **options
        All other parameters of :class:`ImageClassifier`.

    Examples
    --------
    >>> from hemaest.deep import ResNet24Classifier
    >>> ResNet24Classifier(norm="group").norm
    'group'
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageClassifier._parameter_constraints,
        "norm": [StrOptions({"batch", "group"})],
    }

    def __init__(
        self,
        backbone: str = "resnet24",
        *,
        norm: Literal["batch", "group"] = "batch",
        pretrained: Any = False,
        image_size: int = 128,
        max_epochs: int = 40,
        batch_size: int = 32,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        augment: Any = "standard",
        resampler: Any = None,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        loss: Literal["cross-entropy", "focal", "logit-adjusted"] = "cross-entropy",
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        drop_path: float = 0.0,
        layer_decay: float | Literal["auto"] | None = None,
        freeze_epochs: int = 0,
        warmup: float = 0.05,
        clip_norm: float | None = 1.0,
        ema: bool = True,
        tta: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        checkpoint_dir: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        callbacks: list[Any] | None = None,
        backbone_options: dict[str, Any] | None = None,
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in {"self", "__class__", "norm"}}
        super().__init__(**given)
        self.norm = norm

    def _net_options(self) -> dict[str, Any]:
        return {"norm": self.norm, **super()._net_options()}


class ViTClassifier(ImageClassifier):
    """Classify images of cells with a vision transformer.

    An :class:`ImageClassifier` with its own defaults; what is not listed here is said there.
    Position embeddings of pretrained weights are resized to any image size.

    Parameters
    ----------
    backbone : str, default="vit_small_patch16_224"
        Any transformer that timm knows.
    pretrained : bool or path, default=False
        Published weights, or a file of them. From random weights a transformer needs far more
        images than a convolutional net.
    image_size : int, default=224
        Side of the squares that the net sees; a multiple of its patch.
    max_epochs : int, default=50
        Passes over the training images.
    batch_size : int, default=32
        Images in one step.
    lr : float, default=3e-4
        Highest learning rate.
    drop_path : float, default=0.1
        Chance to skip the last block in training, less for those before.
    layer_decay : float, "auto" or None, default="auto"
        Lower learning rates further down, for pretrained weights only.
    warmup : float, default=0.1
        Share of the run in which the learning rate rises.
    **options
        All other parameters of :class:`ImageClassifier`.

    Examples
    --------
    >>> from hemaest.deep import ViTClassifier
    >>> ViTClassifier("vit_tiny_patch16_224", image_size=96).layer_decay
    'auto'
    """

    def __init__(
        self,
        backbone: str = "vit_small_patch16_224",
        *,
        pretrained: Any = False,
        image_size: int = 224,
        max_epochs: int = 50,
        batch_size: int = 32,
        lr: float = 3e-4,
        weight_decay: float = 0.05,
        augment: Any = "standard",
        resampler: Any = None,
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        loss: Literal["cross-entropy", "focal", "logit-adjusted"] = "cross-entropy",
        label_smoothing: float = 0.1,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        drop_path: float = 0.1,
        layer_decay: float | Literal["auto"] | None = "auto",
        freeze_epochs: int = 0,
        warmup: float = 0.1,
        clip_norm: float | None = 1.0,
        ema: bool = True,
        tta: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        warm_start: bool = False,
        checkpoint_dir: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        callbacks: list[Any] | None = None,
        backbone_options: dict[str, Any] | None = None,
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        super().__init__(**given)
