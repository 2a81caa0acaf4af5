"""A frozen net as a transformer: images to vectors."""

from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hemaest._seeds import seed_of
from hemaest.base import ImageEstimator, Interval, StrOptions, checked_fit
from hemaest.deep._arrays import to_arrays, to_tensors
from hemaest.deep._start import Start, start_from


class DeepEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ImageEstimator):
    """Describe each image by what a trained net sees in it, without training the net.

    Parameters
    ----------
    backbone : str, default="resnet50"
        ``"resnet24"``, ``"cellnet"`` or any name that timm knows.
    pretrained : bool or path, default=True
        True takes timm's published weights from the hub, which needs a network once. The path of
        a ``.safetensors`` or ``.pth`` file works without one, also that of
        :meth:`FCMAEPretrainer.save`. False leaves random weights: a baseline.
    image_size : int, default=224
        Side of the squares that the net sees.
    batch_size : int, default=64
        Images at a time.
    device : str, default="auto"
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is float32 on a CPU and the best half precision on a GPU.
    backbone_options : dict or None, default=None
        Handed to the net.
    random_state : int, RandomState or None, default=None
        Seed of weights that come from no file.

    Attributes
    ----------
    module_ : torch.nn.Module
        The net.
    pretrained_report_ : dict or None
        What was loaded from the file of weights, and what was not.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((2, 40, 40, 3), np.uint8)
    >>> DeepEmbedding("cellnet", pretrained=False, image_size=32).fit_transform(X).shape
    (2, 256)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "pretrained": ["boolean", str, Path],
        "image_size": [Interval(Integral, 8, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "backbone_options": [dict, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        pretrained: bool | str | Path = True,
        image_size: int = 224,
        batch_size: int = 64,
        device: str = "auto",
        precision: str = "auto",
        backbone_options: dict[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.pretrained = pretrained
        self.image_size = image_size
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.backbone_options = backbone_options
        self.random_state = random_state

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the net; nothing is learnt from the images.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : ignored
            For pipelines.

        Returns
        -------
        self : object
        """
        self._check_images(X)
        start = start_from(self.pretrained)
        self.module_, self.pretrained_report_ = self._build(start)
        self._structure = start.structure()
        self._n_features_out = self.module_.num_features
        return self

    def _build(self, start: Start, weights: Any = None) -> tuple[Any, Any]:
        from hemaest.deep._net import seeded
        from hemaest.nets.build import build_net
        from hemaest.nets.devices import resolve_device

        device = resolve_device(self.device, strict=weights is None)
        with seeded(seed_of(self.random_state), device):
            module, report = build_net(
                self.backbone,
                0,
                image_size=self.image_size,
                pretrained=start.pretrained if weights is None else False,
                **start.fitting(self.backbone, dict(self.backbone_options or {})),
            )
        if weights is not None:
            module.load_state_dict(weights)
        return module.to(device).eval(), report

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return one vector for each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        embeddings : float array of shape (n, n_features)
        """
        check_is_fitted(self, "module_")
        from hemaest.deep._run import embeddings, infer
        from hemaest.nets.devices import resolve_precision

        device = self.module_.mean.device
        return infer(
            self.module_,
            self._check_images(X),
            self.image_size,
            embeddings,
            device=device,
            precision=resolve_precision(self.precision, device),
            batch_size=self.batch_size,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Carry the weights as plain arrays, so that a file loads on any machine."""
        state = dict(super().__getstate__())
        module = state.pop("module_", None)
        if module is not None:
            state["_weights"] = to_arrays(module)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the net again around the weights."""
        state = dict(state)
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is not None:
            start = Start(**getattr(self, "_structure", {}))
            self.module_, _ = self._build(start, to_tensors(weights))
