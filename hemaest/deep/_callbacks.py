"""What watches a run: best weights and early stopping, checkpoints, a progress bar."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from skorch.callbacks import Callback
from skorch.history import History

from hemaest.deep._net import ClassifierNet, StopTraining, weights_of


class BestWeights(Callback):
    """Keep the weights of the epoch with the lowest validation loss; stop when it rises for long.

    Parameters
    ----------
    patience : int
        Epochs without a better one after which training stops.
    """

    def __init__(self, patience: int = 10) -> None:
        self.patience = patience

    def initialize(self) -> "BestWeights":
        """Forget the last run."""
        self.loss_ = float("inf")
        self.epoch_ = 0
        self.weights_: dict[str, Any] | None = None
        return self

    def on_train_begin(self, net: ClassifierNet, **_: Any) -> None:
        """Begin anew."""
        self.initialize()

    def on_epoch_end(self, net: ClassifierNet, **_: Any) -> None:
        """Compare this epoch with the best."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.loss_:
            self.loss_, self.epoch_ = loss, net.history[-1, "epoch"]
            self.weights_ = weights_of(net.current())
        net.history.record("valid_best", self.epoch_ == net.history[-1, "epoch"])

    def exhausted(self, net: ClassifierNet) -> bool:
        """Return whether the best epoch is too long ago."""
        return net.history[-1, "epoch"] - self.epoch_ >= self.patience

    def on_train_end(self, net: ClassifierNet, **_: Any) -> None:
        """Put the best weights back."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"loss": self.loss_, "epoch": self.epoch_, "weights": self.weights_}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.loss_, self.epoch_, self.weights_ = state["loss"], state["epoch"], state["weights"]


class Checkpoint(Callback):
    """Write all that a run needs to go on, after every epoch; take it up when it is there.

    The file is replaced in one step, so a run that is killed at any moment leaves a whole one.

    Parameters
    ----------
    path : str
        The file. Its name says which run it belongs to.
    best : BestWeights, optional
        Whose state goes along.
    """

    def __init__(self, path: str, best: BestWeights | None = None) -> None:
        self.path = path
        self.best = best

    def on_train_begin(self, net: ClassifierNet, **_: Any) -> None:
        """Take up what is there."""
        if not os.path.exists(self.path):
            return
        state = torch.load(self.path, map_location=net.torch_device, weights_only=True)
        net.module_.load_state_dict(state["module"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.run["scaler"].load_state_dict(state["scaler"])
        if net.run["average"] is not None:
            net.run["average"].module.load_state_dict(state["average"])
        net.run["step"] = state["step"]
        net.run["done"] = len(state["history"]) - state["first"]
        net.run["good"] = weights_of(net.current())
        net.history = History(state["history"])
        if self.best is not None:
            self.best.restore(state["best"])
            if self.best.exhausted(net):
                net.run["done"] = net.run["epochs"]

    def on_epoch_end(self, net: ClassifierNet, **_: Any) -> None:
        """Write the state after this epoch."""
        average = net.run["average"]
        write_whole(
            {
                "module": net.module_.state_dict(),
                "optimizer": net.optimizer_.state_dict(),
                "scaler": net.run["scaler"].state_dict(),
                "average": None if average is None else average.module.state_dict(),
                "step": net.run["step"],
                "history": [
                    {k: v for k, v in dict(row).items() if k != "batches"} | {"batches": []}
                    for row in net.history
                ],
                "best": None if self.best is None else self.best.state(),
                "first": net.run["first"],
                "seed": net.seed,
            },
            self.path,
        )


def write_whole(state: dict[str, Any], path: str | Path) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one."""
    partial = f"{path}.{os.getpid()}.partial"
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


class Stop(Callback):
    """Ask the watcher of the best weights whether to stop, after the checkpoint is written.

    Parameters
    ----------
    best : BestWeights
        Who knows.
    """

    def __init__(self, best: BestWeights) -> None:
        self.best = best

    def on_epoch_end(self, net: ClassifierNet, **_: Any) -> None:
        """Stop, perhaps."""
        if self.best.exhausted(net):
            raise StopTraining


class Progress(Callback):
    """A bar on the terminal: epoch, loss, validation score, images a second, time left."""

    def on_train_begin(self, net: ClassifierNet, X: Any = None, **_: Any) -> None:
        """Draw the bar."""
        try:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                Progress as Bar,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError:
            self.bar_ = None
            return
        columns = (
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.bar_ = Bar(*columns, console=Console(stderr=True), transient=True)
        self.task_ = self.bar_.add_task(
            "", total=net.run["total_steps"], epoch=1, epochs=net.run["epochs"], text=""
        )
        self.bar_.start()
        self.seen_, self.since_, self.text_ = 0, time.perf_counter(), ""

    def on_batch_end(
        self, net: ClassifierNet, batch: Any = None, training: bool = False, **_: Any
    ) -> None:
        """Move on by a batch."""
        if self.bar_ is None or not training:
            return
        self.seen_ += len(batch[0])
        now = time.perf_counter()
        speed = self.seen_ / max(now - self.since_, 1e-9)
        text = f"{self.text_} {speed:,.0f} images/s"
        done, total = net.run["step"], net.run["total_steps"]
        epoch = 1 + (done - 1) * net.run["epochs"] // total
        self.bar_.update(self.task_, completed=done, epoch=epoch, text=text)

    def on_epoch_end(self, net: ClassifierNet, **_: Any) -> None:
        """Show the figures of the epoch."""
        if self.bar_ is None:
            return
        row = net.history[-1]
        self.text_ = f"loss {row['train_loss']:.3f}"
        if "valid_balanced_accuracy" in row:
            self.text_ += f", validation {row['valid_balanced_accuracy']:.3f}"
        self.seen_, self.since_ = 0, time.perf_counter()

    def on_train_end(self, net: ClassifierNet, **_: Any) -> None:
        """Take the bar away."""
        if self.bar_ is not None:
            self.bar_.stop()
            self.bar_ = None
