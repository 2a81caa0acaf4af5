"""Pretraining without labels as an estimator."""

from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hemaest._seeds import seed_of
from hemaest.base import HasMethods, Interval, StrOptions, checked_fit
from hemaest.deep._arrays import to_arrays, to_tensors
from hemaest.deep._owner import TURN, OwnsNet
from hemaest.deep._start import Start, write_encoder
from hemaest.images import check_images, to_object_array

if TYPE_CHECKING:
    from torch import nn


class FCMAEPretrainer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, OwnsNet):
    """Learn what cells look like from images without labels, by painting in hidden patches.

    A fully convolutional masked autoencoder: of every image most patches are hidden, the encoder
    sees the rest and nothing of the hidden ones, and a small decoder paints them in. The encoder
    then starts a classifier that has few labels (``ImageClassifier(pretrained=...)``), or its
    embeddings go to a simple model.

    Inside a classifier or a Pipeline it learns from the training fold alone.

    Parameters
    ----------
    backbone : str, default="convnextv2_atto"
        Any ConvNeXt V2 that timm knows, or ``"resnet24"``.
    image_size : int, default=96
        Side of the squares that the net sees; a multiple of the patch.
    mask_ratio : float, default=0.6
        Share of the patches that are hidden.
    patch_size : int or None, default=None
        Side of the patches. None takes the encoder's total stride, which is lowered on small
        images until there are 6 x 6 patches; a multiple of it is allowed, since anything finer
        would leak.
    max_epochs : int, default=100
        Passes over the images; 0 leaves the encoder untrained.
    batch_size : int, default=64
        Images in one step.
    lr : float, default=1e-3
        Highest learning rate (AdamW), reached after a warm-up and left along a cosine.
    weight_decay : float, default=0.05
        Not applied to norms and biases.
    augment : {"standard", "strong"}, None or callable, default="standard"
        Random changes of the images, as in :class:`ImageClassifier`.
    drop_path : float, default=0.0
        Chance to skip the last block in training, less for those before.
    warmup : float, default=0.1
        Share of the run in which the learning rate rises.
    clip_norm : float or None, default=1.0
        Longest gradient.
    decoder_dim : int, default=256
        Width of the decoder, which is thrown away in the end.
    extra_images : images or None, default=None
        An unlabelled pool to learn from beside the images of ``fit``. It is the same for every
        fold, so no test image may be in it.
    checkpoint_dir : path or None, default=None
        Where to leave the state after each epoch. The same fit started again goes on from there
        and ends with the same weights.
    device : str, default="auto"
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is the best half precision on a GPU; on a CPU training at 64 pixels or more
        runs in bfloat16 where the processor has instructions for it, prediction in float32.
    callbacks : list of skorch callbacks or None, default=None
        Told of every batch and epoch.
    backbone_options : dict or None, default=None
        Handed to the net, for instance ``{"stride": 8}``.
    random_state : int, RandomState or None, default=None
        With a seed two fits on a CPU agree bit for bit.
    verbose : bool or None, default=None
        Whether to show a progress bar; None does when a person is watching.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the autoencoder.
    encoder_ : torch.nn.Module
        What is kept: the encoder.
    structure_ : dict
        How the encoder is built.
    history_ : DataFrame
        One row for each epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from hemaest.deep import FCMAEPretrainer, ImageClassifier
    >>> X = np.random.default_rng(0).integers(0, 255, (8, 40, 40, 3)).astype(np.uint8)
    >>> small = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
    >>> pretrainer = FCMAEPretrainer(image_size=32, max_epochs=1, backbone_options=small,
    ...                              random_state=0).fit(X)
    >>> pretrainer.transform(X).shape, pretrainer.reconstruct(X).shape
    ((8, 16), (8, 3, 32, 32, 3))
    >>> model = ImageClassifier("wpat", pretrained=FrozenEstimator(pretrainer), image_size=32,
    ...                         max_epochs=1, random_state=0)
    >>> model.fit(X, ["a", "b"] * 4).predict_proba(X).shape
    (8, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "image_size": [Interval(Integral, 8, None, closed="left")],
        "mask_ratio": [Interval(Real, 0, 1, closed="neither")],
        "patch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({"standard", "strong"}), HasMethods("draw"), callable, None],
        "drop_path": [Interval(Real, 0, 1, closed="left")],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "decoder_dim": [Interval(Integral, 1, None, closed="left")],
        "extra_images": ["array-like", None],
        "checkpoint_dir": [str, Path, None],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "callbacks": [list, None],
        "backbone_options": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["boolean", None],
    }

    def __init__(
        self,
        backbone: str = "convnextv2_atto",
        *,
        image_size: int = 96,
        mask_ratio: float = 0.6,
        patch_size: int | None = None,
        max_epochs: int = 100,
        batch_size: int = 64,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        augment: Any = "standard",
        drop_path: float = 0.0,
        warmup: float = 0.1,
        clip_norm: float | None = 1.0,
        decoder_dim: int = 256,
        extra_images: Any = None,
        checkpoint_dir: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        callbacks: list[Any] | None = None,
        backbone_options: dict[str, Any] | None = None,
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        self.backbone = backbone
        self.image_size = image_size
        self.mask_ratio = mask_ratio
        self.patch_size = patch_size
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.augment = augment
        self.drop_path = drop_path
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.decoder_dim = decoder_dim
        self.extra_images = extra_images
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.backbone_options = backbone_options
        self.random_state = random_state
        self.verbose = verbose

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from images; labels are not looked at.

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
        X = self._check_images(X)
        if self.extra_images is not None:
            X = together(X, check_images(self.extra_images, estimator=self))
        with TURN:
            self._fit_all(X)
        return self

    def _fit_all(self, X: NDArray[Any]) -> None:
        from hemaest.deep._net import TrainingDiverged, seeded
        from hemaest.deep._run import checkpoint_file, make_examples, seed_in

        seed, checkpoint = seed_of(self.random_state), None
        if self.checkpoint_dir is not None:
            checkpoint = checkpoint_file(self, X, None, None, None, None)
            seed = seed_in(checkpoint, default=seed)
        nothing = np.zeros(len(X), dtype=np.int64)
        examples = make_examples(X, nothing, np.ones(len(X)), self.image_size)
        net, _ = self._build(0, seed)
        try:
            with seeded(seed, net.torch_device):
                self._run(net, examples, None, checkpoint, self.max_epochs)
        except TrainingDiverged:
            # the weights from before are worth having
            self._adopt(net)
            raise
        self._adopt(net)

    def _adopt(self, net: Any) -> None:
        self.net_ = net
        self._n_features_out = net.module_.num_features

    @property
    def encoder_(self) -> "nn.Module":
        """The encoder, without its normalization."""
        check_is_fitted(self, "net_")
        return self.net_.module_.encoder.backbone

    @property
    def structure_(self) -> dict[str, Any]:
        """How the encoder is built."""
        check_is_fitted(self, "net_")
        options = {**(self.backbone_options or {}), "stride": self.net_.module_.stride}
        return {"backbone": self.backbone, "options": options}

    def _as_start(self) -> Start:
        return Start(to_tensors(to_arrays(self.encoder_)), **self.structure_)

    def _n_outputs(self) -> int:
        return 0

    def _build(
        self, n_classes: int, seed: int, *, weights: Any = None, start: Any = None
    ) -> tuple[Any, Any]:
        from hemaest.deep._augment import resolve_augment
        from hemaest.deep._net import seeded
        from hemaest.deep._pretrain_net import PretrainNet
        from hemaest.nets.devices import resolve_device, resolve_precision
        from hemaest.nets.fcmae import build_fcmae

        device = resolve_device(self.device, strict=weights is None)
        with seeded(seed, device):
            module = build_fcmae(
                self.backbone,
                image_size=self.image_size,
                patch_size=self.patch_size,
                mask_ratio=self.mask_ratio,
                decoder_dim=self.decoder_dim,
                drop_path=self.drop_path,
                **self._net_options(),
            )
        if weights is not None:
            module.load_state_dict(weights)
        net = PretrainNet(
            module,
            n_classes=0,
            torch_device=device,
            precision=resolve_precision(self.precision, device, train_at=self.image_size),
            predict_precision=resolve_precision(self.precision, device),
            augment=resolve_augment(self.augment),
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            clip_norm=self.clip_norm,
            ema=False,
            seed=seed,
            lr=self.lr,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
        )
        net.initialize()
        return net, None

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the embedding of each whole image: the mean over the encoder's last map.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        embeddings : float array of shape (n, n_features)
        """
        check_is_fitted(self, "net_")
        from hemaest.deep._run import embeddings, infer_with

        return infer_with(self.net_, self._check_images(X), self.image_size, embeddings)

    def reconstruct(self, X: Any) -> NDArray[np.uint8]:
        """Return pictures to look at: original, what the encoder saw, what was painted in.

        The same patches are hidden in all images. Structure is the decoder's guess; the
        brightness and contrast of each hidden patch, which it is not asked for, are the true ones.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        pictures : uint8 array of shape (n, 3, image_size, image_size, 3)
            For each image the original, the masked one (hidden patches grey) and the reconstructed.
        """
        check_is_fitted(self, "net_")
        from hemaest.deep._run import infer_with, painted

        net = self.net_
        found = infer_with(net, self._check_images(X), self.image_size, painted(net.seed))
        return (found * 255).round().astype(np.uint8).transpose(0, 1, 3, 4, 2)

    def save(self, path: str | Path) -> Path:
        """Write the encoder's weights, to begin a classifier with: ``pretrained=path``.

        The file also says how the encoder is built. (To keep the whole estimator, use
        :func:`hemaest.persistence.save`.)

        Parameters
        ----------
        path : str or path
            Ends in ``.safetensors``.

        Returns
        -------
        path : Path
        """
        check_is_fitted(self, "net_")
        return write_encoder(path, self.encoder_, self.structure_)


def together(X: NDArray[Any], extra: NDArray[Any]) -> NDArray[Any]:
    """Return two sets of checked images as one.

    Examples
    --------
    >>> together(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((1, 5, 5, 3), np.uint8)).shape
    (3,)
    """
    if X.dtype != object and extra.dtype != object and X.shape[1:] == extra.shape[1:]:
        return np.concatenate([X, extra])
    return to_object_array([*X, *extra])
