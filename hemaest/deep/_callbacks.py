"""Callbacks of a training run: best weights and early stopping, and the progress bar."""

import time
from typing import Any

from skorch.callbacks import Callback

from hemaest.deep.training import StopTraining, TrainingNetwork, weights_of

# steps from which the time of a training is estimated
TIMED_STEPS = 6


def duration(seconds: float) -> str:
    """Return a time in words, no more exact than it is known.

    Examples
    --------
    >>> duration(7.2), duration(100), duration(6000)
    ('10 s', '2 min', '1.7 h')
    """
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class BestWeights(Callback):
    """Keep the weights of the epoch with the lowest validation loss.

    Parameters
    ----------
    patience : int
        Number of epochs without improvement after which training stops.
    """

    def __init__(self, patience: int = 10) -> None:
        self.patience = patience

    def initialize(self) -> "BestWeights":
        """Forget the last run."""
        self.loss_ = float("inf")
        self.epoch_ = 0
        self.weights_: dict[str, Any] | None = None
        return self

    def on_train_begin(self, net: TrainingNetwork, **_: Any) -> None:
        """Start a new run."""
        self.initialize()

    def on_epoch_end(self, net: TrainingNetwork, **_: Any) -> None:
        """Compare this epoch with the best."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.loss_:
            self.loss_, self.epoch_ = loss, net.history[-1, "epoch"]
            self.weights_ = weights_of(net.current_module())
        net.history.record("valid_best", self.epoch_ == net.history[-1, "epoch"])

    def exhausted(self, net: TrainingNetwork) -> bool:
        """Return whether the best epoch is too long ago."""
        return net.history[-1, "epoch"] - self.epoch_ >= self.patience

    def on_train_end(self, net: TrainingNetwork, **_: Any) -> None:
        """Load the best weights."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"loss": self.loss_, "epoch": self.epoch_, "weights": self.weights_}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self.loss_, self.epoch_, self.weights_ = state["loss"], state["epoch"], state["weights"]


class EarlyStopping(Callback):
    """Stop when the best epoch is too long ago; comes after the checkpoint is written.

    Parameters
    ----------
    best : BestWeights
        The callback that knows the best epoch.
    """

    def __init__(self, best: BestWeights) -> None:
        self.best = best

    def on_epoch_end(self, net: TrainingNetwork, **_: Any) -> None:
        """Stop if the patience is exhausted."""
        if self.best.exhausted(net):
            raise StopTraining


class ProgressBar(Callback):
    """A bar on the terminal: epoch, loss, validation score, images a second, time left.

    After the first steps a line that stays says how long the whole training will take.
    """

    bar_: Any = None

    def on_train_begin(self, net: TrainingNetwork, **_: Any) -> None:
        """Draw the bar."""
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError:
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.bar_ = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task_ = self.bar_.add_task(
            "", total=net.run.total_steps, epoch=1, epochs=net.run.epochs, text=""
        )
        self.bar_.start()
        self.images_, self.since_, self.text_ = 0, time.perf_counter(), ""
        self.steps_, self.said_ = 0, False

    def on_batch_end(
        self, net: TrainingNetwork, batch: Any = None, training: bool = False, **_: Any
    ) -> None:
        """Advance by a batch."""
        if self.bar_ is None or not training:
            return
        self.images_ += len(batch[0])
        speed = self.images_ / max(time.perf_counter() - self.since_, 1e-9)
        text = f"{self.text_} {speed:,.0f} images/s"
        run = net.run
        self.steps_ += 1
        self._say_how_long(run)
        epoch = 1 + (run.step - 1) * run.epochs // run.total_steps
        self.bar_.update(self.task_, completed=run.step, epoch=epoch, text=text)

    def _say_how_long(self, run: Any) -> None:
        """Print the expected time once, measured after the first step, which is slower."""
        if self.steps_ == 1:
            self.timed_ = time.perf_counter()
        elif not self.said_ and self.steps_ == TIMED_STEPS:
            self.said_ = True
            each = (time.perf_counter() - self.timed_) / (TIMED_STEPS - 1)
            n, left = len(run.training_set), (run.total_steps - run.step) * each
            self.bar_.console.print(
                f"training on {n:,} images, {run.epochs} epochs: about {duration(left)}",
                highlight=False,
            )

    def on_epoch_end(self, net: TrainingNetwork, **_: Any) -> None:
        """Show the results of the epoch."""
        if self.bar_ is None:
            return
        row = net.history[-1]
        self.text_ = f"loss {row['train_loss']:.3f}"
        if "valid_balanced_accuracy" in row:
            self.text_ += f", validation {row['valid_balanced_accuracy']:.3f}"
        self.images_, self.since_ = 0, time.perf_counter()

    def close(self) -> None:
        """Remove the bar, also after an error."""
        if self.bar_ is not None:
            self.bar_.stop()
            self.bar_ = None
