"""The training network: how one step, one epoch and one run go, whatever the objective.

A skorch ``NeuralNet`` that every deep estimator owns as ``net_``. The estimators build it in
``hemaest.deep._base``; what it minimizes is an objective of ``hemaest.deep.optimization``.
"""

import copy
import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from hemaest.deep._distributed import Forward, World, current_world
from hemaest.deep.augmentation import Augment
from hemaest.deep.batches import TrainingSet, ordered, prefetch, shuffled, to_floats
from hemaest.deep.optimization import (
    BatchTooLarge,
    Classification,
    Objective,
    is_out_of_memory,
    largest_batch,
    parameter_groups,
    warmup_cosine,
)
from hemaest.nets.devices import autocast
from hemaest.nets.weights import batch_norms, measure_batch_norms

# images for batch norm statistics: enough for a mean and a variance; more after long training
SETTLE_IMAGES = 256
SETTLE_MOST = 2048

Batch = tuple[Tensor, tuple[Tensor, Tensor]]


class StopTraining(Exception):
    """Raised by a callback to end training early."""


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the estimator keeps the weights of the epoch before."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Settings of a training network; see the parameters of the estimators.

    Parameters
    ----------
    precision, predict_precision : torch.dtype
        Number types of training and of prediction.
    augment : callable or None
        Random changes of a batch.
    weight_decay, layer_decay, warmup, freeze_epochs, clip_norm, ema
        As in :class:`hemaest.deep.ImageClassifier`; ``warmup=None`` keeps the rate constant.
    seed : int
        Decides everything random.
    """

    precision: torch.dtype = torch.float32
    predict_precision: torch.dtype = torch.float32
    augment: Augment | None = None
    weight_decay: float = 0.05
    layer_decay: float | None = None
    warmup: float | None = 0.05
    freeze_epochs: int = 0
    clip_norm: float | None = 1.0
    ema: bool = False
    seed: int = 0


@dataclass(slots=True)
class RunState:
    """State of one training run: all that changes from step to step, beside weights and optimizer.

    Parameters
    ----------
    training_set : TrainingSet
    objective : Objective
        With what it takes from the training set.
    epochs, total_steps : int
        Length of the run.
    first_epoch : int
        Length of the history when the run started.
    scaler : torch.amp.GradScaler
        Scales the loss for float16.
    average : ModelEmaV3 or None
        Moving average of the weights.
    last_good : dict of Tensors
        Weights before the current epoch.
    forward : Module
        The forward pass, averaged over processes in a distributed fit.
    generator : torch.Generator
        For augmentation and masks; seeded anew each epoch.
    step, epochs_done : int
        Steps and epochs that are done.
    """

    training_set: TrainingSet
    objective: Objective
    epochs: int
    total_steps: int
    first_epoch: int
    scaler: Any
    average: ModelEmaV3 | None
    last_good: dict[str, Tensor]
    forward: nn.Module
    generator: torch.Generator = field(default_factory=torch.Generator)
    step: int = 0
    epochs_done: int = 0


class EpochBatches:
    """The iterator that skorch expects: each pass yields the batches of the current epoch."""

    def __init__(self, net: "TrainingNetwork", data: TrainingSet, training: bool) -> None:
        self.net = net
        self.data = data
        self.training = training

    def rows(self) -> list[np.ndarray]:
        """Return the rows of each batch of the current epoch."""
        n = len(self.data)
        if not self.training:
            return ordered(n, self.net.batch_size)
        rng = np.random.default_rng([self.net.seed, self.net.epoch])
        size = self.net.world.size
        batches = shuffled(n, self.net.batch_size * size, rng, self.data.sampling_weight)
        # every process needs two images of each batch, for batch norm
        whole = [rows for rows in batches if size == 1 or len(rows) >= 2 * size]
        if not whole:
            raise ValueError(f"{n} images are too few for {size} processes; give more images.")
        return whole

    def __len__(self) -> int:
        return len(self.rows())

    def __iter__(self) -> Iterator[Batch]:
        pin = self.net.torch_device.type == "cuda"
        batches, world = self.rows(), self.net.world if self.training else World()
        # parts differ by an image: weights that make the mean of their losses that of the batch
        scales = iter([world.size * len(world.share(rows)) / len(rows) for rows in batches])
        shares = [world.share(rows) for rows in batches]
        for rows, images in prefetch(self.data.images, shares, pin=pin):
            scale = next(scales)
            weight = self.data.weight[rows]
            yield images, (self.data.target[rows], weight if scale == 1 else weight * scale)


class TrainingNetwork(NeuralNet):
    """A skorch network for uint8 squares, with an objective.

    :class:`TrainingSet` takes the place of X. Randomness is seeded anew for each epoch from the
    seed and the number of the epoch, so a resumed run continues as if it had never stopped.

    Parameters
    ----------
    module : Module
        The network that is trained.
    objective : Objective
        What it is trained for.
    options : TrainingOptions
        How it is trained.
    torch_device : torch.device
        Where it is trained.
    **kwargs
        ``lr``, ``batch_size`` and ``max_epochs``, for skorch.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        options: TrainingOptions,
        torch_device: torch.device,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=nn.CrossEntropyLoss,
            criterion__reduction="none",
            train_split=None,
            device=str(torch_device),
            callbacks__train_loss=None,
            callbacks__valid_loss=None,
            callbacks__print_log=None,
            verbose=0,
            **kwargs,
        )
        self.objective = objective
        self.options = options
        self.torch_device = torch_device
        self.active_run: RunState | None = None
        self.world = World()

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return self.options.seed

    @property
    def run(self) -> RunState:
        """State of the current run; an error outside of one."""
        if self.active_run is None:
            raise RuntimeError("no training run is active.")
        return self.active_run

    @property
    def epoch(self) -> int:
        """Number of the current epoch, from 0."""
        return max(0, len(self.history) - 1)

    def initialize_module(self) -> "TrainingNetwork":
        """Store the weights in the memory layout of fast convolutions."""
        super().initialize_module()
        self.module_.to(memory_format=torch.channels_last)
        return self

    def initialize_optimizer(self, triggered_directly: Any = None) -> "TrainingNetwork":
        """Make AdamW over groups of parameters."""
        trained = self.objective.trained_part(self.module_)
        groups = parameter_groups(trained, self.options.weight_decay, self.options.layer_decay)
        for group in groups:
            group.setdefault("lr_scale", 1.0)
        fused = self.torch_device.type in ("cpu", "cuda")
        self.optimizer_ = torch.optim.AdamW(groups, lr=self.lr, fused=fused)
        return self

    def get_split_datasets(self, X: Any, y: Any = None, **_: Any) -> Any:
        """Return training and validation set as given: they were split by group before."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> EpochBatches:
        """Return the batches of a set."""
        return EpochBatches(self, dataset, training)

    def prepare(self, images: Tensor) -> Tensor:
        """Bring uint8 (n, h, w, 3) to the device as floats 0 to 1, (n, 3, h, w)."""
        return to_floats(images, self.torch_device)

    def current_module(self) -> nn.Module:
        """Return the module that would predict now: the moving average, if there is one."""
        average = None if self.active_run is None else self.active_run.average
        return self.module_ if average is None else average.module

    # one step

    def train_step(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Do one step of the optimizer."""
        images, (target, weight) = batch
        run = self.run
        self._set_learning_rate()
        loss, outputs = self.training_loss(images, target, weight)
        self.optimizer_.zero_grad(set_to_none=True)
        run.scaler.scale(loss).backward()
        if self.options.clip_norm is not None:
            run.scaler.unscale_(self.optimizer_)
            nn.utils.clip_grad_norm_(self.module_.parameters(), self.options.clip_norm)
        self.notify(
            "on_grad_computed", named_parameters=self.module_.named_parameters(), batch=batch
        )
        run.scaler.step(self.optimizer_)
        run.scaler.update()
        run.step += 1
        if run.average is not None:
            run.average.update(self.module_, run.step)
        return {"loss": self.world.mean(loss.detach()), "y_pred": outputs.detach()}

    def training_loss(
        self, images: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch after augmentation, and the outputs of the module."""
        objective, generator = self.run.objective, self.run.generator
        target = target.to(self.torch_device, non_blocking=True)
        weight = weight.to(self.torch_device, non_blocking=True)
        x = self.prepare(images)
        with torch.no_grad():
            if self.options.augment is not None:
                x = self.options.augment(x, generator)
            x, target = objective.prepare(self.module_, x, target, generator)
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast(self.torch_device, self.options.precision):
            outputs = self.run.forward(x, target)
        return (objective.losses(outputs, target) * weight).mean(), outputs

    def validation_step(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Return loss and logits of one batch, computed as in prediction."""
        images, (target, weight) = batch
        objective = self.run.objective
        assert isinstance(objective, Classification)
        with torch.inference_mode(), autocast(self.torch_device, self.options.predict_precision):
            logits = self.current_module()(self.prepare(images)).float()
            each = objective.validation_losses(logits, target.to(self.torch_device))
            loss = (each * weight.to(self.torch_device)).mean()
        return {"loss": self.world.mean(loss), "y_pred": logits}

    def _set_learning_rate(self) -> None:
        factor = 1.0
        if self.options.warmup is not None:
            factor = warmup_cosine(self.run.step, self.run.total_steps, self.options.warmup)
        for group in self.optimizer_.param_groups:
            group["lr"] = self.lr * group["lr_scale"] * factor

    # one epoch

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **_: Any
    ) -> None:
        """Run over the batches once; read the loss seldom, because that makes a GPU wait."""
        if iterator is None:
            return
        if training:
            self._start_epoch()
            self._set_training(True)
            if self.frozen:
                self.module_.eval()
        else:
            self.settle(self.run.training_set)
            self._set_training(False)
        start = time.perf_counter()
        losses: list[Tensor] = []
        sizes: list[int] = []
        logits: list[Tensor] = []
        check_every = 20 if self.torch_device.type == "cuda" else 1
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            losses.append(step["loss"])
            sizes.append(len(batch[0]))
            if training and len(losses) % check_every == 0:
                self._check_finite(losses[-1])
            if not training:
                logits.append(step["y_pred"])
            self.notify("on_batch_end", batch=batch, training=training, **step)
        each = torch.stack(losses).double().cpu().numpy()
        loss = float(np.average(each, weights=sizes))
        self.history.record(f"{prefix}_loss", loss)
        self.history.record(f"{prefix}_batch_count", len(sizes))
        if training:
            self._check_finite(losses[-1])
            self.history.record("lr", self.optimizer_.param_groups[-1]["lr"])
            self.history.record("images_per_second", sum(sizes) / (time.perf_counter() - start))
        else:
            objective = self.run.objective
            assert isinstance(objective, Classification)
            score = objective.validation_score(torch.cat(logits), iterator.data.target)
            self.history.record("valid_balanced_accuracy", score)

    def _start_epoch(self) -> None:
        # each process draws its own changes; the first as a single one would
        rank = [self.world.rank] if self.world.rank else []
        for stream, seed_generator in ((1, torch.manual_seed), (2, self.run.generator.manual_seed)):
            rng = np.random.default_rng([self.seed, self.epoch, stream, *rank])
            seed_generator(int(rng.integers(2**31)))
        if self.options.freeze_epochs:
            frozen_part(self.module_).requires_grad_(not self.frozen)
            self.module_.backbone.get_classifier().requires_grad_(True)
        # anew for each epoch, because it looks only once at what is frozen
        forward = Forward(self.module_, self.run.objective)
        self.run.forward = self.world.parallel(forward, self.torch_device)
        self.run.last_good = weights_of(self.current_module())

    @property
    def frozen(self) -> bool:
        """Whether only new layers are trained: in the first ``freeze_epochs`` of a run."""
        return self.epoch - self.run.first_epoch < self.options.freeze_epochs

    def _check_finite(self, loss: Tensor) -> None:
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss became {value} in epoch {self.epoch + 1}; the weights from before that "
                f"epoch are kept. Try a lower lr (now {self.lr:g}), a longer warm-up, "
                "clip_norm=1.0, or precision='float32' (bfloat16 and float16 overflow sooner)."
            )

    def settle(self, training_set: TrainingSet, n_images: int = SETTLE_IMAGES) -> None:
        """Measure the batch norm statistics of the weights that would predict now.

        Running statistics lag behind, and those of averaged weights were never measured. Frozen
        layers keep theirs: the trained layers saw the images through them. So does a module with
        ``fixed_norms``.
        """
        module = self.current_module()
        if getattr(module, "fixed_norms", False):
            return
        kept = batch_norms(frozen_part(module)) if self.frozen else []
        trained = self.objective.trained_part(module)
        norms = [norm for norm in batch_norms(trained) if norm not in kept]
        rng = np.random.default_rng([self.seed, 0, 3])
        batches = shuffled(len(training_set), self.batch_size, rng)
        batches = batches[: max(1, n_images // self.batch_size)]
        images = (self.prepare(x) for _, x in prefetch(training_set.images, batches))
        with autocast(self.torch_device, self.options.predict_precision):
            measure_batch_norms(module, images, norms)

    # one run

    def start_run(self, training_set: TrainingSet, epochs: int, *, first_epoch: int) -> None:
        """Set up the state of a run, whose epochs are those of the history from ``first_epoch``."""
        steps = len(EpochBatches(self, training_set, True))
        fp16 = self.options.precision == torch.float16
        average = None
        if self.options.ema:
            # a memory of about two epochs
            decay = 1 - 1 / max(10, 2 * steps)
            average = ModelEmaV3(self.module_, decay=decay, use_warmup=True, warmup_power=0.75)
        objective = self.objective.for_training_set(training_set, self.torch_device)
        self.active_run = RunState(
            training_set=training_set,
            objective=objective,
            epochs=epochs,
            total_steps=steps * epochs,
            first_epoch=first_epoch,
            scaler=torch.amp.GradScaler(self.torch_device.type, enabled=fp16),
            average=average,
            last_good=weights_of(self.module_),
            forward=Forward(self.module_, objective),
        )

    def train(
        self,
        training_set: TrainingSet,
        validation_set: TrainingSet | None,
        epochs: int,
        *,
        stream: bool = False,
    ) -> None:
        """Train for some epochs, then leave the weights for prediction in the module.

        In a ``stream`` the images are a small part of all, and all parts are one run: their
        statistics are not measured. Where such a part ends in an error or an interrupt, weights,
        optimizer and history are those from before it.

        Raises
        ------
        TrainingDiverged
            When the loss is no longer finite. The module has the weights of the epoch before.
        KeyboardInterrupt
            When a person interrupts. Checkpoints stay; the module is half-trained.
        """
        self.world = current_world()
        before = self._snapshot() if stream else None
        self.start_run(training_set, epochs, first_epoch=0 if stream else len(self.history))
        sets = (training_set, validation_set)
        diverged: TrainingDiverged | None = None
        try:
            # callbacks may resume an earlier run here, and set how many epochs are done
            self.notify("on_train_begin", X=sets)
            # all batches have one size: it pays to search for the fastest convolution
            with torch.backends.cudnn.flags(benchmark=True, deterministic=False):
                self.fit_loop(sets, epochs=epochs - self.run.epochs_done)
        except StopTraining:
            pass
        except TrainingDiverged as error:
            diverged = error
        except BaseException as error:
            message = self._explain_memory(error) if is_out_of_memory(error) else None
            self.active_run = None
            if before is not None:
                self._restore(before)
            if message is not None:
                raise BatchTooLarge(message) from error
            if isinstance(error, RuntimeError):
                raise self.world.explain(error) from error
            raise
        self._finish_run(training_set, stream, diverged is not None, validation_set is not None)
        self.notify("on_train_end", X=sets)
        self.active_run = None
        if diverged:
            raise diverged

    def _finish_run(
        self, training_set: TrainingSet, stream: bool, diverged: bool, validated: bool
    ) -> None:
        run = self.run
        self.module_.requires_grad_(True)
        if not (diverged or stream or validated) and run.step:
            # a fiftieth of the images seen: costs little even after a short training
            seen = run.step * self.batch_size
            self.settle(training_set, min(SETTLE_MOST, max(SETTLE_IMAGES, seen // 50)))
        kept = run.last_good if diverged else self.current_module().state_dict()
        self.module_.load_state_dict(kept)
        self.module_.eval()
        if len(self.history) and "train_batch_count" not in self.history[-1]:
            self.history.pop()

    def _snapshot(self) -> tuple[Any, Any, Any]:
        optimizer = copy.deepcopy(self.optimizer_.state_dict())
        return weights_of(self.module_), optimizer, copy.deepcopy(self.history)

    def _restore(self, snapshot: tuple[Any, Any, Any]) -> None:
        weights, optimizer, self.history = snapshot
        self.module_.load_state_dict(weights)
        self.optimizer_.load_state_dict(optimizer)
        self.module_.requires_grad_(True)
        self.module_.eval()

    def _explain_memory(self, error: BaseException) -> str:
        """Return a message with the batch size that fits, tried out on this device."""
        side = self.run.training_set.images.size
        # the frames of the failed step still hold its tensors
        traceback.clear_frames(error.__traceback__)

        def attempt(size: int) -> None:
            self.optimizer_.zero_grad(set_to_none=True)
            if self.torch_device.type == "cuda":
                torch.cuda.empty_cache()
            images = torch.zeros(size, side, side, 3, dtype=torch.uint8)
            target = torch.zeros(size, dtype=torch.long)
            loss, _ = self.training_loss(images, target, torch.ones(size))
            loss.backward()
            self.optimizer_.zero_grad(set_to_none=True)

        fits = largest_batch(attempt, self.batch_size) if self.world.size == 1 else None
        advice = (
            f"batch_size={fits} fits"
            if fits
            else "take a smaller batch_size, image_size or backbone"
            if self.world.size > 1
            else "not even one image fits: take a smaller image_size or backbone"
        )
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return (
            f"batch_size={self.batch_size} does not fit into the memory of {self.torch_device} "
            f"({reason}); {advice}."
        )


def frozen_part(module: nn.Module) -> nn.Module:
    """Return what freezing holds fixed: the encoder inside the backbone, else everything."""
    return getattr(module.backbone, "encoder", module)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights in main memory."""
    return {k: v.detach().to("cpu", copy=True) for k, v in module.state_dict().items()}
