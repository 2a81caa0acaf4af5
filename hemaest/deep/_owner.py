"""What every estimator with a trainable net inside has: building it, keeping it, looking at it."""

import copy
import threading
import warnings
from typing import TYPE_CHECKING, Any, Self

from sklearn.utils.validation import check_is_fitted

from hemaest.base import ImageEstimator
from hemaest.deep._arrays import to_arrays, to_tensors
from hemaest.deep._start import Start

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

    from hemaest.deep._net import ClassifierNet


# torch's global generators are one for the process: fits in threads take turns
TURN = threading.RLock()


class OwnsNet(ImageEstimator):
    """Base of the trained nets: each owns a skorch net, ``net_``, and inherits from none."""

    net_: "ClassifierNet"
    classes_: Any

    def _weights(self) -> "dict[str, Tensor]":
        return to_tensors(to_arrays(self.net_.module_))

    def _as_start(self) -> Start:
        """Return what another net begins with: all but the last layer, whose classes were ours."""
        from hemaest.nets.weights import without_head

        options = Start(**self._structure).fitting(self.backbone, self._net_options())
        backbone = self.net_.module_.backbone
        weights = without_head(backbone, to_tensors(to_arrays(backbone)))
        return Start(weights, backbone=self.backbone, options=options)

    def _net_options(self) -> dict[str, Any]:
        """Return what the net is built with; a subclass with its own switches adds them."""
        return dict(self.backbone_options or {})

    def _layer_decay(self) -> float | None:
        if self.layer_decay == "auto":
            return None if self.pretrained is False else 0.75
        return self.layer_decay

    def _freeze_epochs(self) -> int:
        return self.freeze_epochs

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _build(
        self, n_classes: int, seed: int, *, weights: Any = None, start: Start | None = None
    ) -> tuple[Any, Any]:
        """Build an initialized skorch net; with given weights nothing is fetched.

        ``start`` is what it begins with, or what it began with once.
        """
        from hemaest.deep._augment import resolve_augment
        from hemaest.deep._net import ClassifierNet, seeded
        from hemaest.nets.build import build_net
        from hemaest.nets.devices import resolve_device, resolve_precision

        device = resolve_device(self.device, strict=weights is None)
        start = start or Start()
        with seeded(seed, device):
            module, report = build_net(
                self.backbone,
                n_classes,
                image_size=self.image_size,
                pretrained=start.pretrained if weights is None else False,
                drop_path=self.drop_path,
                **start.fitting(self.backbone, self._net_options()),
            )
        if weights is not None:
            module.load_state_dict(weights)
        net = ClassifierNet(
            module,
            n_classes=n_classes,
            torch_device=device,
            precision=resolve_precision(self.precision, device, train_at=self.image_size),
            predict_precision=resolve_precision(self.precision, device),
            augment=resolve_augment(self.augment),
            mixup=self.mixup,
            cutmix=self.cutmix,
            label_smoothing=self.label_smoothing,
            loss=self.loss,
            weight_decay=self.weight_decay,
            layer_decay=self._layer_decay(),
            warmup=self.warmup,
            freeze_epochs=self._freeze_epochs(),
            clip_norm=self.clip_norm,
            ema=self.ema,
            seed=seed,
            lr=self.lr,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
        )
        net.initialize()
        return net, report

    def _run(
        self,
        net: Any,
        train: Any,
        valid: Any,
        checkpoint: str | None,
        epochs: int,
        stream: bool = False,
    ) -> None:
        from hemaest.deep._run import run_callbacks
        from hemaest.nets.devices import threads_for

        net.callbacks = run_callbacks(self, valid is not None, checkpoint)
        net.initialize_callbacks()
        first = len(net.history)
        try:
            with threads_for(self.batch_size * self.image_size**2):
                interrupted = net.train(train, valid, epochs, stream=stream)
        finally:
            net.callbacks = []
            net.initialize_callbacks()
        if interrupted:
            kept = "the best" if valid is not None else "the last"
            warnings.warn(
                f"{type(self).__name__} was interrupted after {len(net.history) - first} of "
                f"{epochs} epochs; {kept} weights so far are kept.",
                stacklevel=4,
            )

    def adapt_batchnorm(self, X: Any) -> Self:
        """Return a copy whose batch-norm statistics are those of other images, without labels.

        A net that learnt at one microscope sees another's colours through the first one's mean
        and spread; this takes the new ones.

        Parameters
        ----------
        X : images
            A few hundred of the new laboratory, of all kinds.

        Returns
        -------
        adapted : object
            A fitted estimator of the same kind.
        """
        check_is_fitted(self, "net_")
        from hemaest.deep._run import adapt_batchnorm

        adapted = copy.deepcopy(self)
        adapt_batchnorm(adapted.net_, self._check_images(X), self.image_size)
        return adapted

    @property
    def history_(self) -> "pd.DataFrame":
        """What happened in each epoch."""
        check_is_fitted(self, "net_")
        from hemaest.deep._history import history_frame

        return history_frame(self.net_.history)

    def plot_history(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the learning curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default on a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        from hemaest.deep._history import plot_history

        return plot_history(self.history_, ax)

    def __getstate__(self) -> dict[str, Any]:
        """Carry the weights as plain arrays, so that a file loads on any machine."""
        state = dict(super().__getstate__())
        net: ClassifierNet | None = state.pop("net_", None)
        if net is not None:
            state["_weights"] = to_arrays(net.module_)
            state["_history"] = [dict(row) for row in net.history]
            state["_seed"] = net.seed
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the net again around the weights; the optimizer begins anew."""
        state = dict(state)
        weights = state.pop("_weights", None)
        history, seed = state.pop("_history", None), state.pop("_seed", 0)
        super().__setstate__(state)
        if weights is None:
            return
        from skorch.history import History

        start = Start(**getattr(self, "_structure", {}))
        self.net_, _ = self._build(
            self._n_outputs(), seed, weights=to_tensors(weights), start=start
        )
        self.net_.history = History(history)
