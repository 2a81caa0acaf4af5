"""FCMAEPretrainer: pretraining without labels as a scikit-learn transformer."""

from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hemaest import deep, nets
from hemaest._parallel import map_items
from hemaest.base import Interval, StrOptions, checked_fit
from hemaest.datasets import list_cell_types
from hemaest.datasets.crops import draw_crop
from hemaest.deep._base import BaseDeepEstimator
from hemaest.deep._initial_weights import (
    SYNTHETIC,
    InitialWeights,
    resolve_pretrained,
    write_encoder,
)
from hemaest.images import check_images, to_object_array

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hemaest.deep.optimization import Objective
    from hemaest.deep.training import TrainingNetwork, TrainingOptions

# patches along a side that are hidden from the student
SMALLEST_GRID = 6


@dataclass(eq=False, repr=False, match_args=False)
class FCMAEPretrainer(BaseDeepEstimator):
    """Learn features of cells from images without labels, a part of which is hidden.

    From random weights it is a fully convolutional masked autoencoder: most patches of every image
    are hidden, the encoder sees only the others, and a small decoder reconstructs the hidden ones.
    From trained weights (``pretrained="synthetic"``) it adapts them: the encoder predicts from a
    part of an image, in other colors, what the moving average of its weights sees in all of it,
    while on rendered cells it has to see what it saw before. What is seen are features, or with
    ``target="types"`` the type of the cell.

    The encoder then initializes a classifier that has few labels
    (``ImageClassifier(pretrained=...)``), or its embeddings are the features of a simple model.

    Inside a classifier or a Pipeline it is fitted on the training fold only.

    Parameters
    ----------
    backbone : str, default="convnextv2_atto"
        Any ConvNeXt V2 that timm knows, ``"cellnet"`` or ``"resnet24"``.
    pretrained : bool, "synthetic" or path, default=False
        Weights that the encoder starts from. ``"synthetic"`` is the ``"cellnet"`` that ships with
        the package; it saw rendered cells at ``image_size=96``. A path is that of a
        ``.safetensors`` or ``.pth`` file; True downloads timm's published weights.
    image_size : int, default=96
        Side of the squares that the network sees; a multiple of the patch size.
    target : {"auto", "pixels", "features", "types"}, default="auto"
        What is predicted: hidden pixels, or the features or the type of the cell that a teacher
        sees in the whole image. ``"auto"`` is features where the encoder starts from trained
        weights, else pixels. Types need ``pretrained="synthetic"``, images of every type in
        similar numbers, and a laboratory in which the network that ships is mostly right: there
        they help more than features, elsewhere they do harm.
    rendered : int, default=2048
        With features or types as target: rendered cells that must be seen as before, so that what
        was learned from them is not forgotten; 0 for none.
    mask_ratio : float, default=0.6
        Proportion of hidden patches; with features or types as target the largest one.
    patch_size : int or None, default=None
        Side of the patches, a multiple of the total stride of the encoder: a finer mask would leak.
        None takes the total stride, which is lowered on small images until there are 6 x 6
        patches. With features or types as target any size will do; None takes a sixth of the image.
    max_epochs : int, default=100
        Passes over the images; 0 leaves the encoder untrained.
    batch_size : int, default=64
        Images in one step.
    lr : float, default=1e-3
        Highest learning rate (AdamW), reached after a warm-up and followed by a cosine decay.
    weight_decay : float, default=0.05
        Not applied to norms and biases.
    augment : {"standard", "strong"}, None or callable, default="standard"
        Random changes of the images, as in :class:`ImageClassifier`.
    drop_path : float, default=0.0
        Probability to skip the last block in training, lower for earlier blocks.
    warmup : float, default=0.1
        Proportion of the run in which the learning rate rises.
    clip_norm : float or None, default=1.0
        Largest norm of the gradient.
    decoder_dim : int, default=256
        Width of the decoder, which is only used in training.
    extra_images : images or None, default=None
        A pool of unlabeled images to train on beside those of ``fit``. It is the same for every
        fold, so it must not contain test images.
    checkpoint_dir : path or None, default=None
        Where to store the state after each epoch. The same fit, started again after an interrupt
        or a crash, continues from there and ends with the same weights.
    device : str, default="auto"
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is the best half precision on a GPU; on a CPU training at 64 pixels or more
        runs in bfloat16 where the processor has instructions for it, prediction in float32.
    callbacks : list of skorch callbacks or None, default=None
        Called at every batch and epoch.
    backbone_options : dict or None, default=None
        Passed to the network, for instance ``{"stride": 8}``.
    random_state : int, RandomState or None, default=None
        With a seed two fits on a CPU agree bit for bit.
    verbose : bool or None, default=None
        Whether to show a progress bar; None does so on a terminal.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained network; ``net_.module_`` is the autoencoder.
    encoder_ : torch.nn.Module
        The encoder, without its normalization.
    architecture_ : dict
        Name and options of the encoder.
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

    backbone: str = "convnextv2_atto"
    _: KW_ONLY
    pretrained: bool | str | Path = False
    image_size: int = 96
    target: Literal["auto", "pixels", "features", "types"] = "auto"
    rendered: int = 2048
    mask_ratio: float = 0.6
    patch_size: int | None = None
    max_epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    augment: Any = "standard"
    drop_path: float = 0.0
    warmup: float = 0.1
    clip_norm: float | None = 1.0
    decoder_dim: int = 256
    extra_images: Any = None
    checkpoint_dir: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    callbacks: list[Any] | None = None
    backbone_options: dict[str, Any] | None = None
    random_state: Any = None
    verbose: bool | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDeepEstimator._parameter_constraints,
        "pretrained": ["boolean", str, Path],
        "target": [StrOptions({"auto", "pixels", "features", "types"})],
        "rendered": [Interval(Integral, 0, None, closed="left")],
        "mask_ratio": [Interval(Real, 0, 1, closed="neither")],
        "patch_size": [Interval(Integral, 1, None, closed="left"), None],
        "decoder_dim": [Interval(Integral, 1, None, closed="left")],
        "extra_images": ["array-like", None],
    }

    @checked_fit
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images; labels are ignored.

        An interrupt (Ctrl-C) stops the training: the ``KeyboardInterrupt`` is raised, and the
        estimator stays as it was before. With ``checkpoint_dir`` the same fit continues later.

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
            X = concatenate_images(X, check_images(self.extra_images, estimator=self))
        seed, checkpoint = self._draw_seed(), None
        if self.checkpoint_dir is not None:
            checkpoint = deep.checkpoints.checkpoint_path(self, X)
            seed = deep.checkpoints.stored_seed(checkpoint, default=seed)
        no_target = np.zeros(len(X), dtype=np.int64)
        training_set = deep.batches.make_training_set(
            X, no_target, np.ones(len(X)), self.image_size
        )
        initial = resolve_pretrained(self.pretrained)
        net, _ = self._build_network(0, seed, initial=initial)
        if self._has_a_teacher() and self.rendered and self.max_epochs:
            drawn = rendered_cells(self.rendered, self.image_size, seed)
            net.objective = deep.optimization.TeacherPrediction(drawn)
        try:
            self._train(net, training_set, epochs=self.max_epochs, checkpoint=checkpoint)
        except deep.training.TrainingDiverged:
            # the weights of the epoch before are usable
            self._adopt(net, initial)
            raise
        self._adopt(net, initial)
        return self

    def _adopt(self, net: "TrainingNetwork", initial: InitialWeights) -> None:
        self.net_ = net
        self._architecture = initial.architecture()
        self._n_features_out = net.module_.num_features

    def _build_module(
        self, n_outputs: int, initial: InitialWeights, *, load: bool
    ) -> "tuple[nn.Module, None]":
        options = initial.options_for(self.backbone, dict(self.backbone_options or {}))
        patch = self.patch_size or max(1, self.image_size // SMALLEST_GRID)
        if self._target() == "types":
            if self.pretrained != SYNTHETIC:
                raise ValueError(
                    "target='types' needs pretrained='synthetic': only the network that ships "
                    "knows types. For other weights take target='features'."
                )
            net = nets.cellnet.shipped_net()
            return nets.distill.TypeMatching(
                net, patch_size=patch, mask_ratio=self.mask_ratio / 2
            ), None
        if self._target() == "features":
            encoder, _ = nets.build_net(
                self.backbone,
                0,
                image_size=self.image_size,
                drop_path=self.drop_path,
                pretrained=initial.weights if load else False,
                **options,
            )
            return nets.distill.SelfDistillation(
                encoder, patch_size=patch, mask_ratio=self.mask_ratio / 2
            ), None
        module = nets.fcmae.build_fcmae(
            self.backbone,
            image_size=self.image_size,
            patch_size=self.patch_size,
            mask_ratio=self.mask_ratio,
            decoder_dim=self.decoder_dim,
            drop_path=self.drop_path,
            pretrained=initial.weights if load else False,
            **options,
        )
        return module, None

    def _target(self) -> str:
        if self.target != "auto":
            return self.target
        return "features" if self.pretrained else "pixels"

    def _has_a_teacher(self) -> bool:
        return self._target() != "pixels"

    def _objective(self, n_outputs: int) -> "Objective":
        if not self._has_a_teacher():
            return deep.optimization.MaskedReconstruction()
        return deep.optimization.TeacherPrediction()

    def _adjust_options(self, options: "TrainingOptions") -> "TrainingOptions":
        # what is kept is the mean of the weights, as the teacher is
        return replace(options, ema=self._has_a_teacher())

    def _as_initial_weights(self) -> InitialWeights:
        return InitialWeights(
            nets.weights.to_tensors(nets.weights.to_arrays(self.encoder_)), **self.architecture_
        )

    @property
    def encoder_(self) -> "nn.Module":
        """The encoder, without its normalization."""
        check_is_fitted(self, "net_")
        return self.net_.module_.encoder.backbone

    @property
    def architecture_(self) -> dict[str, Any]:
        """Name and options of the encoder."""
        check_is_fitted(self, "net_")
        initial = InitialWeights(**self._architecture)
        options = initial.options_for(self.backbone, dict(self.backbone_options or {}))
        return {
            "backbone": self.backbone,
            "options": {**options, "stride": self.net_.module_.stride},
        }

    def reconstruct(self, X: Any) -> NDArray[np.uint8]:
        """Return images to look at: original, masked and reconstructed.

        The same patches are hidden in all images. The decoder predicts their structure; their
        brightness and contrast, which it does not predict, are the true ones.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        images : uint8 array of shape (n, 3, image_size, image_size, 3)
            For each image the original, the masked one (hidden patches gray) and the
            reconstruction.
        """
        check_is_fitted(self, "net_")
        if self._has_a_teacher():
            raise ValueError(
                f"this pretrainer predicts {self._target()}, not pixels, so there is nothing to "
                "look at; for reconstructions set target='pixels'."
            )
        from hemaest.deep._inference import reconstructions

        images = self._infer(X, reconstructions(self.net_.seed))
        return (images * 255).round().astype(np.uint8).transpose(0, 1, 3, 4, 2)

    def save(self, path: str | Path) -> Path:
        """Write the weights of the encoder, to initialize a classifier: ``pretrained=path``.

        The file also describes the architecture of the encoder. (To keep the whole estimator, use
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
        return write_encoder(path, self.encoder_, self.architecture_)


def concatenate_images(X: NDArray[Any], extra: NDArray[Any]) -> NDArray[Any]:
    """Return two sets of checked images as one.

    Examples
    --------
    >>> concatenate_images(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((1, 5, 5, 3), np.uint8)).shape
    (3,)
    """
    if X.dtype != object and extra.dtype != object and X.shape[1:] == extra.shape[1:]:
        return np.concatenate([X, extra])
    return to_object_array([*X, *extra])


def rendered_cells(n: int, size: int, seed: int) -> "Tensor":
    """Return n rendered crops of every type, in laboratories and framings of all kinds.

    Examples
    --------
    >>> rendered_cells(2, 32, 0).shape
    torch.Size([2, 32, 32, 3])
    """
    import torch

    types = list_cell_types()

    def draw(i: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([seed, i])
        return draw_crop(types[i % len(types)], size, random_state=rng).image

    return torch.from_numpy(np.stack(list(map_items(draw, range(n)))))
