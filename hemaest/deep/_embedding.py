"""DeepEmbedding: a fixed network as a transformer, from images to vectors."""

from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hemaest import nets
from hemaest._seeds import seed_of
from hemaest.base import ImageEstimator, Interval, StrOptions, checked_fit
from hemaest.deep._initial_weights import InitialWeights, resolve_pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(eq=False, repr=False, match_args=False)
class DeepEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ImageEstimator):
    """Compute features of images with a trained network, which stays as it is.

    Parameters
    ----------
    backbone : str, default="resnet50"
        ``"resnet24"``, ``"cellnet"`` or any name that timm knows.
    pretrained : bool, "synthetic" or path, default=True
        True downloads timm's published weights. ``"synthetic"`` is the ``"cellnet"`` that ships
        with the package; it saw rendered cells at ``image_size=96``. The path of a
        ``.safetensors`` or ``.pth`` file
        needs no internet, for instance that of :meth:`FCMAEPretrainer.save`. False leaves random
        weights: a baseline.
    image_size : int, default=224
        Side of the squares that the network sees.
    batch_size : int, default=64
        Images in one batch.
    device : str, default="auto"
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is float32 on a CPU and the best half precision on a GPU.
    backbone_options : dict or None, default=None
        Passed to the network.
    random_state : int, RandomState or None, default=None
        Seed of random weights.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network.
    pretrained_report_ : dict or None
        Which tensors of the file of weights were loaded and which were not.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((2, 40, 40, 3), np.uint8)
    >>> DeepEmbedding("cellnet", pretrained=False, image_size=32).fit_transform(X).shape
    (2, 256)
    """

    backbone: str = "resnet50"
    _: KW_ONLY
    pretrained: bool | str | Path = True
    image_size: int = 224
    batch_size: int = 64
    device: str = "auto"
    precision: str = "auto"
    backbone_options: dict[str, Any] | None = None
    random_state: Any = None

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

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network; nothing is learned from the images.

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
        initial = resolve_pretrained(self.pretrained)
        self.module_, self.pretrained_report_ = self._build(initial)
        self._architecture = initial.architecture()
        self._n_features_out = self.module_.num_features
        return self

    def _build(
        self, initial: InitialWeights, weights: "dict[str, Tensor] | None" = None
    ) -> "tuple[nn.Module, dict[str, list[str]] | None]":
        device = nets.devices.resolve_device(self.device, strict=weights is None)
        with nets.devices.seeded(seed_of(self.random_state), device):
            module, report = nets.build.build_net(
                self.backbone,
                0,
                image_size=self.image_size,
                pretrained=initial.weights if weights is None else False,
                **initial.options_for(self.backbone, dict(self.backbone_options or {})),
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
        from hemaest.deep._inference import embeddings, infer

        device = self.module_.mean.device
        return infer(
            self.module_,
            self._check_images(X),
            self.image_size,
            embeddings,
            device=device,
            precision=nets.devices.resolve_precision(self.precision, device),
            batch_size=self.batch_size,
        )

    def to_onnx(self, path: str | Path) -> Path:
        """Write the network to an ONNX file, compared with onnxruntime.

        Parameters
        ----------
        path : str or path
            Ends in ``.onnx``.

        Returns
        -------
        path : Path
            Input ``image``: (n, 3, side, side), RGB from 0 to 1; output ``embedding``.
        """
        check_is_fitted(self, "module_")

        return nets.onnx.write_onnx(
            nets.onnx.Embedder(self.module_), self.image_size, path, ("embedding",)
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the weights as plain arrays, which load on any machine."""
        state = dict(super().__getstate__())
        module = state.pop("module_", None)
        if module is not None:
            state["_weights"] = nets.weights.to_arrays(module)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the network again around the weights."""
        state = dict(state)
        weights = state.pop("_weights", None)
        super().__setstate__(state)
        if weights is not None:
            initial = InitialWeights(**self._architecture)
            self.module_, _ = self._build(initial, nets.weights.to_tensors(weights))
