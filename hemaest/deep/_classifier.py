"""A scikit-learn classifier of images over any net, with a skorch net inside."""

import copy
import warnings
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from hemaest._seeds import seed_of
from hemaest.base import HasMethods, Interval, StrOptions, TakesGroups, checked_fit
from hemaest.deep._arrays import to_arrays
from hemaest.deep._correction import correct_once, weight_of_classes
from hemaest.deep._owner import TURN, OwnsNet
from hemaest.deep._split import hold_out
from hemaest.deep._start import Start, check_pretrained, refuse_fitted, start_from
from hemaest.deep._stream import LearnsInParts
from hemaest.groups import check_labels, check_weights, encode

if TYPE_CHECKING:
    from hemaest.deep._batches import Examples


class ImageClassifier(
    TakesGroups,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClassifierMixin,
    LearnsInParts,
    OwnsNet,
):
    """Classify images of cells with a deep net.

    Images of any size and shape are brought to a square: scaled without stretching, and filled
    with the median colour of their border. Files are read while the net trains, never all at once.
    A cell map in a fourth channel is not looked at.

    Nothing is held out unless ``early_stopping`` asks for it; then it is split off by group before
    anything is resampled or augmented.

    Parameters
    ----------
    backbone : str, default="resnet24"
        ``"resnet24"``, ``"cellnet"`` (small, for CPUs), ``"wpat"`` (windowed attention around an
        encoder, see :class:`WPATClassifier`) or any name that timm knows.
    pretrained : bool, path, FCMAEPretrainer or FrozenEstimator, default=False
        True takes timm's published weights from the hub. The path of a ``.safetensors`` or
        ``.pth`` file works without a network; what of it does not fit is told and kept in
        ``pretrained_report_``. An unfitted :class:`FCMAEPretrainer` first learns from the training
        images, without their labels; a fitted one is given as ``FrozenEstimator(pretrainer)``, or
        as the path that its ``save`` wrote. A classifier that learnt from other images, given as
        ``FrozenEstimator(classifier)``, is begun with too; only its last layer is left behind.
    image_size : int, default=96
        Side of the squares that the net sees.
    max_epochs : int, default=30
        Passes over the training images.
    batch_size : int, default=32
        Images in one step.
    lr : float, default=1e-3
        Highest learning rate (AdamW), reached after a warm-up and left along a cosine.
    weight_decay : float, default=0.05
        Not applied to norms and biases.
    augment : {"standard", "strong"}, None or callable, default="standard"
        Random changes of training images: turned by any angle, mirrored, shifted, scaled, stain
        amounts varied; ``"strong"`` also blurs and hides parts. A callable takes (float images
        from 0 to 1, torch generator); a StainAugmenter is taken too. Validation and prediction
        never see any.
    resampler : "balanced", sampler or None, default=None
        Applied to the training part only: ``"balanced"`` draws every class as often; an object
        with ``fit_resample`` makes its own set.
    class_weight : "balanced", dict or None, default=None
        Weights in the loss. Together with a resampler it would correct twice, so that is an error.
    loss : {"cross-entropy", "focal", "logit-adjusted"}, default="cross-entropy"
        ``"focal"`` counts little what is already right with confidence; ``"logit-adjusted"`` makes
        every class as likely beforehand, and so corrects the class balance as well.
    label_smoothing : float, default=0.1
        Share of a target that is spread over all classes.
    mixup, cutmix : float, default=0.0
        Strength of mixing two images of a batch.
    drop_path : float, default=0.0
        Chance to skip the last block in training, less for those before.
    layer_decay : float, "auto" or None, default=None
        Factor on the learning rate from one layer to the one below, for fine-tuning; ``"auto"``
        is 0.75 for pretrained weights and none for random ones.
    freeze_epochs : int, default=0
        Epochs in which only the last layer learns; around an encoder, all but the encoder. They
        are counted from the beginning of each fit, and of a stream.
    warmup : float, default=0.05
        Share of the run in which the learning rate rises.
    clip_norm : float or None, default=1.0
        Longest gradient.
    ema : bool, default=True
        Keep the moving average of the weights (over about two epochs) instead of the last ones.
    tta : bool, default=False
        Average the predictions of the 8 turned and mirrored views of an image.
    early_stopping : bool, default=False
        Hold out a part of the training images by group, stop when its loss has not fallen for
        ``patience`` epochs, and keep the weights of the best epoch.
    validation_fraction : float, default=0.1
        How much is held out, if at all.
    patience : int, default=10
        See ``early_stopping``.
    warm_start : bool, default=False
        Let ``fit`` go on from the weights of the last fit.
    checkpoint_dir : path or None, default=None
        Where to leave the state after each epoch. The same fit started again goes on from there
        and ends with the same weights. It is the same if images, labels and all that decides the
        result are: of functions what they do, of files of weights what they hold.
    device : str, default="auto"
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        ``"auto"`` is the best half precision on a GPU; on a CPU training at 64 pixels or more
        runs in bfloat16 where the processor has instructions for it, prediction in float32.
    callbacks : list of skorch callbacks or None, default=None
        Told of every batch and epoch.
    backbone_options : dict or None, default=None
        Handed to the net, for instance ``{"norm": "group"}`` for ``"resnet24"``.
    random_state : int, RandomState or None, default=None
        With a seed two fits on a CPU agree bit for bit.
    verbose : bool or None, default=None
        Whether to show a progress bar; None does when a person is watching.

    Attributes
    ----------
    classes_ : array
        The labels, sorted.
    net_ : skorch.NeuralNet
        The trained net; ``net_.module_`` is the torch module.
    history_ : DataFrame
        One row for each epoch.
    pretrained_report_ : dict or None
        What was loaded from the file of weights, and what was not.
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "pretrained": ["boolean", str, Path, HasMethods(["fit", "transform"])],
        "image_size": [Interval(Integral, 8, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({"standard", "strong"}), HasMethods("draw"), callable, None],
        "resampler": [StrOptions({"balanced"}), HasMethods("fit_resample"), None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "loss": [StrOptions({"cross-entropy", "focal", "logit-adjusted"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "cutmix": [Interval(Real, 0, None, closed="left")],
        "drop_path": [Interval(Real, 0, 1, closed="left")],
        "layer_decay": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"}), None],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left")],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "ema": ["boolean"],
        "tta": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
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
        backbone: str = "resnet24",
        *,
        pretrained: Any = False,
        image_size: int = 96,
        max_epochs: int = 30,
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
        self.backbone = backbone
        self.pretrained = pretrained
        self.image_size = image_size
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.augment = augment
        self.resampler = resampler
        self.class_weight = class_weight
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.cutmix = cutmix
        self.drop_path = drop_path
        self.layer_decay = layer_decay
        self.freeze_epochs = freeze_epochs
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.ema = ema
        self.tta = tta
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.warm_start = warm_start
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.backbone_options = backbone_options
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_clone__(self) -> Self:
        """Make an unfitted copy; what a bare fitted pretrainer knows would be lost in it."""
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
        """Train the net.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,)
            Labels of any kind.
        groups : array-like of shape (n,), optional
            What must not be torn apart when a part is held out: patients, smears.
        sample_weight : array-like of shape (n,), optional
            How much each image counts in the loss.
        sample_indices : array-like of shape (n,), optional
            Given by an ImagePipeline when a sampler ran before; then nothing is held out, because
            copies would lie on both sides.

        Returns
        -------
        self : object
        """
        check_pretrained(self.pretrained)
        X, y, weight = self._check_examples(X, y, sample_weight)
        correct_once(self.resampler, self.class_weight, self.loss)
        warm = self.warm_start and hasattr(self, "net_")
        if warm and set(y.tolist()) - set(self.classes_.tolist()):
            raise ValueError(
                "warm_start=True, but y has labels that the last fit did not have: "
                f"{sorted(set(y.tolist()) - set(self.classes_.tolist()))[:5]}; set "
                "warm_start=False to train anew."
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
        with TURN:
            self._fit_parts(X, y, groups, weight, classes, warm, holds_out)
        return self

    def _check_examples(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        X = self._check_images(X)
        y = check_labels(y, len(X), self)
        weight = check_weights(sample_weight, len(X))
        if len(X) < 2:
            raise ValueError("n_samples=1: a net cannot learn from 1 sample; give at least 2.")
        return X, y, weight

    def _fit_parts(
        self,
        X: Any,
        y: Any,
        groups: Any,
        weight: Any,
        classes: NDArray[Any],
        warm: bool,
        holds_out: bool,
    ) -> None:
        from hemaest.deep._net import TrainingDiverged, seeded
        from hemaest.deep._run import checkpoint_file, make_examples, resample, seed_in

        checkpoint = None
        seed = seed_of(self.random_state)
        if self.checkpoint_dir is not None:
            old = to_arrays(self.net_.module_) if warm else None
            checkpoint = checkpoint_file(self, X, y, groups, weight, old)
            seed = seed_in(checkpoint, default=seed)
        held_out = None
        train: tuple[Any, ...] = (X, y, weight, groups)
        valid: Examples | None = None
        if holds_out:
            keep, held_out = hold_out(X, y, groups, self.validation_fraction, seed)
            target = encode(y[held_out], classes)
            valid = make_examples(X[held_out], target, weight[held_out], self.image_size)
            kept_groups = None if groups is None else np.asarray(groups)[keep]
            train = (X[keep], y[keep], weight[keep], kept_groups)
        train_X, train_y, train_weight = resample(self.resampler, *train, seed=seed)
        if self.class_weight is not None:
            train_weight = train_weight * compute_sample_weight(self.class_weight, train_y)
        examples = make_examples(
            train_X,
            encode(train_y, classes),
            train_weight,
            self.image_size,
            balanced=isinstance(self.resampler, str),
        )
        if warm:
            # the parameters may have changed since: a new net around the old weights
            start = Start(**self._structure)
            net, _ = self._build(len(classes), seed, weights=self._weights(), start=start)
            # a copy: the old net stays as it is if this fit fails
            net.history = copy.deepcopy(self.net_.history)
            report = self.pretrained_report_
        else:
            # what was held out is not looked at even without its labels
            start = start_from(self.pretrained, train[0], device=self.device, seed=seed)
            net, report = self._build(len(classes), seed, start=start)
        try:
            with seeded(seed, net.torch_device):
                self._run(net, examples, valid, checkpoint, self.max_epochs)
        except TrainingDiverged:
            # the weights from before are worth having
            self._adopt(net, classes, held_out, report, start)
            raise
        self._adopt(net, classes, held_out, report, start)

    def _adopt(
        self, net: Any, classes: NDArray[Any], held_out: Any, report: Any, start: Start
    ) -> None:
        self.net_ = net
        self._structure = start.structure()
        self.classes_ = classes
        self.held_out_ = held_out
        self.pretrained_report_ = report
        self._n_features_out = net.module_.num_features

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
        from hemaest.deep._run import infer_with, probabilities

        return infer_with(
            self.net_, self._check_images(X), self.image_size, probabilities(self.tta)
        )

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label for each image.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        labels : array of shape (n,)
        """
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the embedding of each image: what the last layer sees.

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
