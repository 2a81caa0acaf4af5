"""ImageClassifier: a scikit-learn classifier of images with any network inside."""

import copy
import warnings
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from hemaest import deep, nets
from hemaest.base import (
    HasMethods,
    Interval,
    NamesTheLikeliest,
    StrOptions,
    TakesGroups,
    checked_fit,
)
from hemaest.deep._base import BaseDeepEstimator
from hemaest.deep._initial_weights import (
    InitialWeights,
    check_pretrained,
    refuse_fitted,
    resolve_pretrained,
)
from hemaest.deep._targets import (
    hold_out,
    refuse_balance_in_stream,
    refuse_double_balance,
    resample,
    weight_of_classes,
)
from hemaest.groups import check_labels, check_weights, encode

if TYPE_CHECKING:
    from torch import nn

    from hemaest.deep.optimization import Classification
    from hemaest.deep.training import TrainingNetwork, TrainingOptions

Report = dict[str, list[str]] | None


@dataclass(eq=False, repr=False, match_args=False)
class ImageClassifier(TakesGroups, NamesTheLikeliest, ClassifierMixin, BaseDeepEstimator):
    """Classify images of cells with a deep network.

    Images of any size and shape are brought to a square: scaled without stretching, and padded
    with the median color of their border. Files are read while the network trains, never all at
    once. A cell map in a fourth channel is ignored.

    Nothing is held out unless ``early_stopping=True``. Then the held-out part is split off by
    group, before anything is resampled or augmented.

    Parameters
    ----------
    backbone : str, default="resnet24"
        ``"resnet24"``, ``"cellnet"`` (small, for CPUs), ``"wpat"`` (windowed attention around an
        encoder, see :class:`WPATClassifier`) or any name that timm knows.
    pretrained : bool, "synthetic", path, FCMAEPretrainer or FrozenEstimator, default=False
        True downloads timm's published weights. ``"synthetic"`` is the encoder that ships with the
        package, a ``"cellnet"`` that saw rendered cells alone (at ``image_size=96``). The path of a
        ``.safetensors`` or ``.pth`` file
        needs no internet; tensors that do not fit are named in a warning and listed in
        ``pretrained_report_``. An unfitted :class:`FCMAEPretrainer` is first fitted on the
        training images, without their labels. A fitted one is given as
        ``FrozenEstimator(pretrainer)``, or as the path that its ``save`` wrote. A classifier
        fitted on other images, given as ``FrozenEstimator(classifier)``, hands over all but its
        last layer.
    image_size : int, default=96
        Side of the squares that the network sees.
    max_epochs : int, default=30
        Passes over the training images.
    batch_size : int, default=32
        Images in one step.
    lr : float, default=1e-3
        Highest learning rate (AdamW), reached after a warm-up and followed by a cosine decay.
    weight_decay : float, default=0.05
        Not applied to norms and biases.
    augment : {"standard", "strong"}, None or callable, default="standard"
        Random changes of training images: rotation by any angle, mirroring, shift, scale, amounts
        of stain; ``"strong"`` also blurs and hides parts. A callable takes (float images from 0
        to 1, torch generator); a StainAugmenter is accepted too. Validation and prediction are
        not augmented.
    resampler : "balanced", sampler or None, default=None
        Applied to the training part only: ``"balanced"`` draws every class equally often; an
        object with ``fit_resample`` makes its own training set.
    class_weight : "balanced", dict or None, default=None
        Weights in the loss. Together with a resampler it would correct twice, so that is an error.
    loss : {"cross-entropy", "focal", "logit-adjusted"}, default="cross-entropy"
        ``"focal"`` gives confident correct predictions little weight; ``"logit-adjusted"`` gives
        all classes the same prior probability, and so corrects the class balance as well.
    label_smoothing : float, default=0.1
        Proportion of a target that is distributed over all classes.
    mixup, cutmix : float, default=0.0
        Strength of mixing two images of a batch.
    drop_path : float, default=0.0
        Probability to skip the last block in training, lower for earlier blocks.
    layer_decay : float, "auto" or None, default=None
        Factor on the learning rate from one layer to the one before, for fine-tuning; ``"auto"``
        is 0.75 for pretrained weights and none for random ones.
    freeze_epochs : int or "auto", default=0
        Epochs at the start of each fit (or stream) in which only the last layer is trained; of
        ``"wpat"`` all but its convolutional network. ``"auto"``: a tenth of all epochs for
        pretrained weights, but never all; none for random weights, and none where ``warm_start``
        continues.
    warmup : float, default=0.05
        Proportion of the run in which the learning rate rises.
    clip_norm : float or None, default=1.0
        Largest norm of the gradient.
    ema : bool, default=True
        Use the moving average of the weights (over about two epochs) instead of the last ones.
    tta : bool, default=False
        Average the predictions of the 8 rotated and mirrored views of an image.
    early_stopping : bool, default=False
        Hold out a part of the training images by group, stop when its loss has not fallen for
        ``patience`` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        Proportion that is held out for early stopping.
    patience : int, default=10
        See ``early_stopping``.
    warm_start : bool, default=False
        Let ``fit`` continue from the weights of the last fit.
    checkpoint_dir : path or None, default=None
        Where to store the state after each epoch. The same fit, started again after an interrupt
        or a crash, continues from there and ends with the same weights. Fits are the same if
        images, labels and all settings that decide the result are: functions by what they do,
        files of weights by their content.
    device : str, default="auto"
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is the best half precision on a GPU; on a CPU training at 64 pixels or more
        runs in bfloat16 where the processor has instructions for it, prediction in float32.
    callbacks : list of skorch callbacks or None, default=None
        Called at every batch and epoch.
    backbone_options : dict or None, default=None
        Passed to the network, for instance ``{"norm": "group"}`` for ``"resnet24"``.
    random_state : int, RandomState or None, default=None
        With a seed two fits on a CPU agree bit for bit.
    verbose : bool or None, default=None
        Whether to show a progress bar; None does so on a terminal.

    Attributes
    ----------
    classes_ : array
        The labels, sorted.
    net_ : skorch.NeuralNet
        The trained network; ``net_.module_`` is its torch module.
    history_ : DataFrame
        One row for each epoch.
    pretrained_report_ : dict or None
        Which tensors of a file of weights were loaded and which were not.
    held_out_ : int array or None
        Rows that were held out for early stopping.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.deep import ImageClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 60, (16, 32, 32, 3)).astype(np.uint8)
    >>> X[8:] += 150
    >>> y = ["dark"] * 8 + ["pale"] * 8
    >>> model = ImageClassifier("cellnet", image_size=32, max_epochs=6, batch_size=4, lr=3e-3,
    ...                         augment=None, random_state=0)
    >>> model.fit(X, y).predict(X[[0, 15]])
    array(['dark', 'pale'], dtype='<U4')
    """

    backbone: str = "resnet24"
    _: KW_ONLY
    pretrained: Any = False
    image_size: int = 96
    max_epochs: int = 30
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    augment: Any = "standard"
    resampler: Any = None
    class_weight: Literal["balanced"] | dict[Any, float] | None = None
    loss: Literal["cross-entropy", "focal", "logit-adjusted"] = "cross-entropy"
    label_smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_path: float = 0.0
    layer_decay: float | Literal["auto"] | None = None
    freeze_epochs: int | Literal["auto"] = 0
    warmup: float = 0.05
    clip_norm: float | None = 1.0
    ema: bool = True
    tta: bool = False
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10
    warm_start: bool = False
    checkpoint_dir: str | Path | None = None
    device: str = "auto"
    precision: str = "auto"
    callbacks: list[Any] | None = None
    backbone_options: dict[str, Any] | None = None
    random_state: Any = None
    verbose: bool | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseDeepEstimator._parameter_constraints,
        "pretrained": ["boolean", str, Path, HasMethods(["fit", "transform"])],
        "resampler": [StrOptions({"balanced"}), HasMethods("fit_resample"), None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "loss": [StrOptions({"cross-entropy", "focal", "logit-adjusted"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "cutmix": [Interval(Real, 0, None, closed="left")],
        "layer_decay": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"}), None],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "ema": ["boolean"],
        "tta": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __sklearn_clone__(self) -> Self:
        """Make an unfitted copy; refuse a bare fitted pretrainer, which would be emptied."""
        refuse_fitted(self.pretrained)
        return super().__sklearn_clone__()

    @checked_fit
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        sample_indices: ArrayLike | None = None,
    ) -> Self:
        """Train the network.

        An interrupt (Ctrl-C) stops the training: the ``KeyboardInterrupt`` is raised, and the
        estimator stays as it was before. With ``checkpoint_dir`` the same fit continues later.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels of any kind.
        groups : array-like of shape (n,), optional
            What must stay together when a part is held out: patients, smears.
        sample_weight : array-like of shape (n,), optional
            Weight of each image in the loss.
        sample_indices : array-like of shape (n,), optional
            Given by an ImagePipeline when a sampler ran before; then nothing is held out, because
            copies would lie on both sides.

        Returns
        -------
        self : object
        """
        check_pretrained(self.pretrained)
        warm = self.warm_start and hasattr(self, "net_")
        X, y, weight = self._check_examples(X, y, sample_weight, min_classes=1 if warm else 2)
        refuse_double_balance(self.resampler, self.class_weight, self.loss)
        unknown = set(y.tolist()) - set(self.classes_.tolist()) if warm else set()
        if unknown:
            raise ValueError(
                "warm_start=True, but y has labels that the last fit did not have: "
                f"{sorted(unknown)[:5]}; set warm_start=False to train from scratch."
            )
        classes = self.classes_ if warm else np.unique(y)
        if isinstance(self.class_weight, dict):
            weight_of_classes(self.class_weight, classes)
        holds_out = self.early_stopping
        if holds_out and sample_indices is not None:
            warnings.warn(
                f"{type(self).__name__} stands behind a sampler, whose copies would lie on both "
                "sides of a hold-out: early stopping is off. To have both, leave the sampler out "
                "of the pipeline and give it here as resampler=.",
                stacklevel=2,
            )
            holds_out = False
        self._fit_network(X, y, groups, weight, classes, warm, holds_out)
        return self

    def _check_examples(
        self, X: Any, y: Any, sample_weight: Any, min_classes: int
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        X = self._check_images(X)
        if len(X) < 2:
            raise ValueError("n_samples=1: a network cannot be trained on 1 sample; give more.")
        y = check_labels(y, len(X), self, min_classes=min_classes)
        weight = check_weights(sample_weight, len(X))
        return X, y, weight

    def _fit_network(
        self,
        X: Any,
        y: Any,
        groups: Any,
        weight: Any,
        classes: NDArray[Any],
        warm: bool,
        holds_out: bool,
    ) -> None:
        seed, checkpoint = self._draw_seed(), None
        old = nets.weights.to_arrays(self.net_.module_) if warm else None
        if self.checkpoint_dir is not None:
            checkpoint = deep.checkpoints.checkpoint_path(self, X, y, groups, weight, old)
            seed = deep.checkpoints.stored_seed(checkpoint, default=seed)
        held_out, validation_set = None, None
        train: tuple[Any, ...] = (X, y, weight, groups)
        if holds_out:
            keep, held_out = hold_out(X, y, groups, self.validation_fraction, seed)
            target = encode(y[held_out], classes)
            validation_set = deep.batches.make_training_set(
                X[held_out], target, weight[held_out], self.image_size
            )
            kept_groups = None if groups is None else np.asarray(groups)[keep]
            train = (X[keep], y[keep], weight[keep], kept_groups)
        train_X, train_y, train_weight = resample(self.resampler, *train, seed=seed)
        if self.class_weight is not None:
            train_weight = train_weight * compute_sample_weight(self.class_weight, train_y)
        training_set = deep.batches.make_training_set(
            train_X,
            encode(train_y, classes),
            train_weight,
            self.image_size,
            balanced=isinstance(self.resampler, str),
        )
        if old is not None:
            # parameters may have changed since the last fit: a new network with the old weights
            initial, report = InitialWeights(**self._architecture), self.pretrained_report_
            net, _ = self._build_network(
                len(classes), seed, initial=initial, weights=nets.weights.to_tensors(old)
            )
            # a copy: the old network stays as it is if this fit fails
            net.history = copy.deepcopy(self.net_.history)
        else:
            # a pretrainer must not see the held-out images, even without labels
            initial = resolve_pretrained(self.pretrained, train[0], device=self.device, seed=seed)
            net, report = self._build_network(len(classes), seed, initial=initial)
        try:
            self._train(
                net,
                training_set,
                validation_set,
                epochs=self.max_epochs,
                checkpoint=checkpoint,
                patience=self.patience,
            )
        except deep.training.TrainingDiverged:
            # the weights of the epoch before are usable
            self._adopt(net, classes, initial, report, held_out)
            raise
        self._adopt(net, classes, initial, report, held_out)

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one pass over some images, at a constant learning rate.

        The only correction of the class balance is ``class_weight`` as a dict: the others need the
        frequencies of all classes. An error or an interrupt leaves the estimator as it was.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels.
        classes : array-like, optional
            All labels that will ever come; needed at the first call.
        sample_weight : array-like of shape (n,), optional
            Weight of each image.

        Returns
        -------
        self : object
        """
        self._validate_params()
        refuse_balance_in_stream(self.resampler, self.class_weight, self.loss)
        X, y, weight = self._check_examples(X, y, sample_weight, min_classes=1)
        first = not hasattr(self, "net_")
        if first and classes is None:
            raise ValueError("the first call of partial_fit needs classes=, all labels.")
        known = np.unique(np.asarray(classes)) if first else self.classes_
        if len(known) < 2:
            raise ValueError(f"classes={known.tolist()} holds one class only; give at least 2.")
        target = encode(y, known)
        class_weight: Any = self.class_weight
        per_class = weight_of_classes(class_weight, known)
        training_set = deep.batches.make_training_set(
            X, target, weight, self.image_size, per_class=per_class / per_class.mean()
        )
        if first:
            seed = self._draw_seed()
            initial = resolve_pretrained(self.pretrained, X, device=self.device, seed=seed)
            net, report = self._build_network(len(known), seed, initial=initial)
        else:
            net = self.net_
        # a stream has no end to decay towards, and no epochs to average over
        options = net.options
        net.lr, net.options = self.lr, replace(options, warmup=None, ema=False)
        try:
            self._train(net, training_set, epochs=1, stream=True)
        finally:
            net.options = options
        if first:
            self._adopt(net, known, initial, report, None)
        return self

    def _adopt(
        self,
        net: "TrainingNetwork",
        classes: NDArray[Any],
        initial: InitialWeights,
        report: Report,
        held_out: Any,
    ) -> None:
        self.net_ = net
        self._architecture = initial.architecture()
        self.classes_ = classes
        self.held_out_ = held_out
        self.pretrained_report_ = report
        self._n_features_out = net.module_.num_features

    def to_onnx(self, path: str | Path) -> Path:
        """Write the network to an ONNX file, compared with onnxruntime.

        Parameters
        ----------
        path : str or path
            Ends in ``.onnx``.

        Returns
        -------
        path : Path
            Input ``image``: (n, 3, side, side), RGB from 0 to 1; output ``logits``, in the order of
            ``classes_``.
        """
        check_is_fitted(self, "net_")

        return nets.onnx.write_onnx(self.net_.module_, self.image_size, path)

    def _build_module(
        self, n_outputs: int, initial: InitialWeights, *, load: bool
    ) -> "tuple[nn.Module, Report]":
        return nets.build.build_net(
            self.backbone,
            n_outputs,
            image_size=self.image_size,
            pretrained=initial.weights if load else False,
            drop_path=self.drop_path,
            **initial.options_for(self.backbone, self._network_options()),
        )

    def _network_options(self) -> dict[str, Any]:
        """Return the options of the network; a subclass with parameters of its own adds them."""
        return dict(self.backbone_options or {})

    def _objective(self, n_outputs: int) -> "Classification":
        return deep.optimization.Classification(
            n_outputs, self.loss, self.label_smoothing, self.mixup, self.cutmix
        )

    def _adjust_options(self, options: "TrainingOptions") -> "TrainingOptions":
        return replace(
            options,
            layer_decay=self._layer_decay(),
            freeze_epochs=self._freeze_epochs(),
            ema=self.ema,
        )

    def _layer_decay(self) -> float | None:
        if self.layer_decay == "auto":
            return None if self.pretrained is False else 0.75
        return self.layer_decay

    def _freeze_epochs(self) -> int:
        if self.freeze_epochs != "auto":
            return int(self.freeze_epochs)
        continues = self.warm_start and hasattr(self, "net_")
        if self.pretrained is False or continues:
            return 0
        return min(max(1, self.max_epochs // 10), max(0, self.max_epochs - 1))

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _as_initial_weights(self) -> InitialWeights:
        architecture = InitialWeights(**self._architecture)
        options = architecture.options_for(self.backbone, self._network_options())
        backbone = self.net_.module_.backbone
        # the last layer belongs to the classes of this classifier
        weights = nets.weights.without_head(
            backbone, nets.weights.to_tensors(nets.weights.to_arrays(backbone))
        )
        return InitialWeights(weights, backbone=self.backbone, options=options)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class for each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        proba : float array of shape (n, n_classes)
            Columns in the order of ``classes_``; each row sums to one.
        """
        check_is_fitted(self, "net_")
        from hemaest.deep._inference import probabilities

        return self._infer(X, probabilities(self.tta))
