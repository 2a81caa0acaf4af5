"""The windowed patch attention transformer as a classifier."""

from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal

from hemaest.base import Interval, StrOptions
from hemaest.deep._classifier import ImageClassifier

OWN = ("encoder", "window_size", "depth")


class WPATClassifier(ImageClassifier):
    """Classify images of cells with attention in windows over a convolutional encoder's maps.

    An :class:`ImageClassifier` with its own defaults; what is not listed here is said there. Maps
    of two scales are cut into windows of at most 7 x 7 places, in which each place looks at the
    others; every second block shifts the windows. A learned question weighs the places (see
    :class:`hemaest.inspection.AttentionMap`), and what it gathers is joined to the encoder's own
    average.

    With pretrained weights, the new part learns alone in the first tenth of the epochs; then all
    learns, the encoder's lower layers more slowly.

    Parameters
    ----------
    encoder : str or None, default=None
        ``"resnet24"`` or a ConvNeXt of timm. None takes that of a given pretrainer or its file,
        else ``"convnextv2_atto"``.
    window_size : int, default=7
        Largest side of a window; on small maps they are smaller.
    depth : int, default=2
        Blocks of attention at each scale.
    pretrained : bool, path or FCMAEPretrainer, default=False
        For the encoder: an unfitted :class:`FCMAEPretrainer` learns from the training images
        first, ``FrozenEstimator(pretrainer)`` has learnt already, a path is what its ``save``
        wrote.
    image_size : int, default=96
        Side of the squares that the net sees.
    max_epochs : int, default=50
        Passes over the training images.
    drop_path : float, default=0.1
        Chance to skip the last block in training, less for those before.
    layer_decay : float, "auto" or None, default="auto"
        Lower learning rates further down, for pretrained weights only.
    freeze_epochs : int or "auto", default="auto"
        Epochs in which the encoder does not learn, from the beginning of each fit. ``"auto"``:
        a tenth of all for pretrained weights, but never all; none for random weights, and none
        where ``warm_start`` goes on.
    warmup : float, default=0.1
        Share of the run in which the learning rate rises.
    **options
        All other parameters of :class:`ImageClassifier`.

    Examples
    --------
    >>> from hemaest.deep import FCMAEPretrainer, WPATClassifier
    >>> model = WPATClassifier(pretrained=FCMAEPretrainer(image_size=64), image_size=64)
    >>> model.pretrained.max_epochs, model.freeze_epochs
    (100, 'auto')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageClassifier._parameter_constraints,
        "encoder": [str, None],
        "window_size": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 0, None, closed="left")],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
    }

    def __init__(
        self,
        backbone: str = "wpat",
        *,
        encoder: str | None = None,
        window_size: int = 7,
        depth: int = 2,
        pretrained: Any = False,
        image_size: int = 96,
        max_epochs: int = 50,
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
        drop_path: float = 0.1,
        layer_decay: float | Literal["auto"] | None = "auto",
        freeze_epochs: int | Literal["auto"] = "auto",
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
        given = {k: v for k, v in locals().items() if k not in {"self", "__class__", *OWN}}
        super().__init__(**given)
        self.encoder = encoder
        self.window_size = window_size
        self.depth = depth

    def _net_options(self) -> dict[str, Any]:
        if self.backbone != "wpat":
            raise ValueError(
                f"backbone={self.backbone!r}, but the net of a {type(self).__name__} is always "
                f"'wpat'; give encoder={self.backbone!r} to build it around that, or take "
                f"ImageClassifier({self.backbone!r})."
            )
        mine = {name: getattr(self, name) for name in OWN}
        return {**mine, **super()._net_options()}

    def _freeze_epochs(self) -> int:
        if self.freeze_epochs != "auto":
            return int(self.freeze_epochs)
        goes_on = self.warm_start and hasattr(self, "net_")
        if self.pretrained is False or goes_on:
            return 0
        return min(max(1, self.max_epochs // 10), max(0, self.max_epochs - 1))
