"""The base of all estimators that train a network: build it, train it, keep it, show its history.

Importing this module loads no torch; the methods do.
"""

import copy
from abc import ABCMeta, abstractmethod
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hemaest import deep, nets
from hemaest._progress import watching
from hemaest._seeds import seed_of
from hemaest.base import HasMethods, ImageEstimator, Interval, StrOptions
from hemaest.deep._initial_weights import InitialWeights

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor, nn

    from hemaest.deep._inference import Step
    from hemaest.deep.batches import TrainingSet
    from hemaest.deep.optimization import Objective
    from hemaest.deep.training import TrainingNetwork, TrainingOptions

HISTORY_COLUMNS = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    "valid_loss": "valid_loss",
    "valid_balanced_accuracy": "valid_balanced_accuracy",
    "valid_best": "best",
    "lr": "lr",
    "images_per_second": "images_per_second",
    "dur": "seconds",
}


class BaseDeepEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ImageEstimator, metaclass=ABCMeta
):
    """Base of the trained networks: each owns a skorch network, ``net_``, and inherits from none.

    A leaf writes ``_build_module`` and ``_objective``, and calls ``_build_network`` and ``_train``
    in its ``fit``.
    """

    backbone: str
    image_size: int
    max_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    augment: Any
    warmup: float
    clip_norm: float | None
    checkpoint_dir: str | Path | None
    device: str
    precision: str
    callbacks: list[Any] | None
    backbone_options: dict[str, Any] | None
    random_state: Any
    verbose: bool | None

    net_: "TrainingNetwork"
    _architecture: dict[str, Any]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "image_size": [Interval(Integral, 8, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "augment": [StrOptions({"standard", "strong"}), HasMethods("draw"), callable, None],
        "drop_path": [Interval(Real, 0, 1, closed="left")],
        "warmup": [Interval(Real, 0, 1, closed="both")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "checkpoint_dir": [str, Path, None],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "callbacks": [list, None],
        "backbone_options": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["boolean", None],
    }

    @abstractmethod
    def _build_module(
        self, n_outputs: int, initial: InitialWeights, *, load: bool
    ) -> "tuple[nn.Module, dict[str, list[str]] | None]":
        """Return the network, and the report on its initial weights if they are to be loaded."""

    @abstractmethod
    def _objective(self, n_outputs: int) -> "Objective":
        """Return what the network is trained for."""

    @abstractmethod
    def _as_initial_weights(self) -> InitialWeights:
        """Return what another estimator starts from, given this one as ``pretrained``."""

    def _adjust_options(self, options: "TrainingOptions") -> "TrainingOptions":
        """Return the options of training with those that only some estimators have."""
        return options

    def _n_outputs(self) -> int:
        """Return the number of outputs of the fitted network."""
        return 0

    def _build_network(
        self,
        n_outputs: int,
        seed: int,
        *,
        initial: InitialWeights | None = None,
        weights: "dict[str, Tensor] | None" = None,
    ) -> "tuple[TrainingNetwork, dict[str, list[str]] | None]":
        """Return an initialized network and the report on its initial weights.

        With ``weights`` (of the whole network) the initial ones only determine the architecture.
        """
        from hemaest.deep._distributed import current_world, local_device

        device = nets.devices.resolve_device(self.device, strict=weights is None)
        if weights is None:
            device = local_device(device, current_world())
        with nets.devices.seeded(seed, device):
            module, report = self._build_module(
                n_outputs, initial or InitialWeights(), load=weights is None
            )
        if weights is not None:
            module.load_state_dict(weights)
        options = deep.training.TrainingOptions(
            precision=nets.devices.resolve_precision(
                self.precision, device, train_at=self.image_size
            ),
            predict_precision=nets.devices.resolve_precision(self.precision, device),
            augment=deep.augmentation.resolve_augment(self.augment),
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            clip_norm=self.clip_norm,
            seed=seed,
        )
        net = deep.training.TrainingNetwork(
            module,
            self._objective(n_outputs),
            self._adjust_options(options),
            device,
            lr=self.lr,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
        )
        net.initialize()
        return net, report

    def _draw_seed(self) -> int:
        """Return the seed of a fit, the same in all processes of a distributed one."""
        from hemaest.deep._distributed import current_world

        return current_world().agree(seed_of(self.random_state))

    def _train(
        self,
        net: "TrainingNetwork",
        training_set: "TrainingSet",
        validation_set: "TrainingSet | None" = None,
        *,
        epochs: int,
        checkpoint: str | None = None,
        patience: int = 10,
        stream: bool = False,
    ) -> None:
        """Train a network, with callbacks in the order in which they must be called."""
        from hemaest.deep._callbacks import BestWeights, EarlyStopping, ProgressBar
        from hemaest.deep._distributed import current_world

        best = BestWeights(patience) if validation_set is not None else None
        show = watching() if self.verbose is None else self.verbose
        bar = ProgressBar() if show and current_world().is_first else None
        given = [
            callback if isinstance(callback, tuple) else (f"given_{i}", callback)
            for i, callback in enumerate(self.callbacks or [])
        ]
        callbacks = [
            ("best", best),
            (
                "checkpoint",
                deep.checkpoints.Checkpoint(checkpoint, best) if checkpoint is not None else None,
            ),
            ("progress", bar),
            *given,
            ("stop", EarlyStopping(best) if best is not None else None),
        ]
        net.callbacks = [(name, callback) for name, callback in callbacks if callback is not None]
        net.initialize_callbacks()
        try:
            pixels = self.batch_size * self.image_size**2
            with nets.devices.seeded(net.seed, net.torch_device), nets.devices.threads_for(pixels):
                net.train(training_set, validation_set, epochs, stream=stream)
        finally:
            if bar is not None:
                bar.close()
            net.callbacks = []
            net.initialize_callbacks()

    def _infer(self, X: Any, step: "Step") -> NDArray[Any]:
        """Apply a step of the fitted network to images."""
        from hemaest.deep._inference import infer

        net = self.net_
        return infer(
            net.module_,
            self._check_images(X),
            self.image_size,
            step,
            device=net.torch_device,
            precision=net.options.predict_precision,
            # prediction needs far less memory than training
            batch_size=2 * net.batch_size,
        )

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Return the embedding of each image: what the last layer sees, without a mask.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        embeddings : float array of shape (n, n_features)
        """
        check_is_fitted(self, "net_")
        from hemaest.deep._inference import embeddings

        return self._infer(X, embeddings)

    def adapt_batchnorm(self, X: Any) -> Self:
        """Return a copy whose batch norm statistics are those of other images, without labels.

        A network trained at one microscope normalizes the images of another by the wrong mean and
        variance; this takes the right ones.

        Parameters
        ----------
        X : images
            A few hundred images of the new laboratory, of all kinds.

        Returns
        -------
        adapted : object
            A fitted estimator of the same class.
        """
        check_is_fitted(self, "net_")
        from hemaest.deep._inference import adapt_batch_norms

        adapted = copy.deepcopy(self)
        net = adapted.net_
        adapt_batch_norms(
            net.module_,
            self._check_images(X),
            self.image_size,
            device=net.torch_device,
            batch_size=net.batch_size,
        )
        return adapted

    @property
    def history_(self) -> "pd.DataFrame":
        """One row for each epoch."""
        check_is_fitted(self, "net_")
        import pandas as pd

        history = self.net_.history
        known = [name for name in HISTORY_COLUMNS if any(name in row for row in history)]
        rows = [[row.get(name) for name in known] for row in history]
        return pd.DataFrame(rows, columns=[HISTORY_COLUMNS[name] for name in known])

    def plot_history(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the learning curve: losses, and the validation score on a second axis.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default on a new figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        import matplotlib.pyplot as plt

        table = self.history_
        if ax is None:
            _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
        ax.plot(table["epoch"], table["train_loss"], color="C0", label="training loss")
        if "valid_loss" in table:
            ax.plot(table["epoch"], table["valid_loss"], color="C1", label="validation loss")
            best = table[table["best"].astype(bool)]
            if len(best):
                ax.axvline(best["epoch"].iloc[-1], color="0.7", lw=1, ls="--", label="best epoch")
        ax.set(xlabel="epoch", ylabel="loss")
        ax.spines[["top", "right"]].set_visible(False)
        lines, labels = ax.get_legend_handles_labels()
        if "valid_balanced_accuracy" in table:
            right = ax.twinx()
            right.plot(table["epoch"], table["valid_balanced_accuracy"], color="C2", ls=":")
            right.set_ylabel("validation balanced accuracy", color="C2")
            right.set_ylim(0, 1.02)
            right.spines["top"].set_visible(False)
            lines.append(right.lines[0])
            labels.append("validation score")
        ax.legend(lines, labels, frameon=False)
        return ax

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the weights as plain arrays, which load on any machine."""
        state = dict(super().__getstate__())
        net: TrainingNetwork | None = state.pop("net_", None)
        if net is not None:
            state["_weights"] = nets.weights.to_arrays(net.module_)
            state["_history"] = [dict(row) for row in net.history]
            state["_seed"] = net.seed
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the network again around the weights; the optimizer starts anew."""
        state = dict(state)
        weights = state.pop("_weights", None)
        history, seed = state.pop("_history", None), state.pop("_seed", 0)
        super().__setstate__(state)
        if weights is None:
            return
        from skorch.history import History

        initial = InitialWeights(**self._architecture)
        self.net_, _ = self._build_network(
            self._n_outputs(), seed, initial=initial, weights=nets.weights.to_tensors(weights)
        )
        self.net_.history = History(history)
