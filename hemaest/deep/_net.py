"""The skorch net that every deep classifier owns: how one batch, one epoch and one run go."""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from skorch import NeuralNet
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from hemaest.deep._augment import Augment
from hemaest.deep._batches import Examples, ordered, prefetch, shuffled, to_floats
from hemaest.deep._loss import log_prior, loss_of_each
from hemaest.deep._memory import explain_memory, is_out_of_memory
from hemaest.deep._mix import mix_batch
from hemaest.deep._norms import batch_norms, measure_norms
from hemaest.deep._schedule import parameter_groups, warmup_cosine
from hemaest.nets.devices import autocast

# enough to know a mean and a spread by, and after a long training enough to know them well
SETTLE_IMAGES = 256
SETTLE_MOST = 2048

Batch = tuple[Tensor, tuple[Tensor, Tensor]]


class StopTraining(Exception):
    """Raised by a callback when more epochs would bring nothing."""


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the estimator keeps the weights from before."""


class Batches:
    """What skorch iterates over: each pass is the next epoch's batches."""

    def __init__(self, net: "ClassifierNet", examples: Examples, training: bool) -> None:
        self.net = net
        self.examples = examples
        self.training = training

    def rows(self) -> list[np.ndarray]:
        """Return the rows of each batch of the epoch that is on."""
        n = len(self.examples)
        if not self.training:
            return ordered(n, self.net.batch_size)
        rng = np.random.default_rng([self.net.seed, self.net.epoch])
        return shuffled(n, self.net.batch_size, rng, self.examples.chance)

    def __len__(self) -> int:
        return len(self.rows())

    def __iter__(self) -> Iterator[Batch]:
        pin = self.net.torch_device.type == "cuda"
        for rows, images in prefetch(self.examples.squares, self.rows(), pin=pin):
            yield images, (self.examples.target[rows], self.examples.weight[rows])


class ClassifierNet(NeuralNet):
    """A skorch net for uint8 squares: it adds what training on cells needs to skorch's loop.

    The batches come from :class:`Batches`, two :class:`Examples` take the place of X. Randomness
    is drawn afresh for each epoch from ``seed`` and the epoch's number, so a run that is taken up
    again goes on as if it had never stopped.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        n_classes: int,
        torch_device: torch.device,
        precision: torch.dtype = torch.float32,
        predict_precision: torch.dtype = torch.float32,
        augment: Augment | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        loss: str = "cross-entropy",
        weight_decay: float = 0.05,
        layer_decay: float | None = None,
        warmup: float | None = 0.05,
        freeze_epochs: int = 0,
        clip_norm: float | None = 1.0,
        ema: bool = True,
        seed: int = 0,
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
        self.n_classes = n_classes
        self.torch_device = torch_device
        self.precision = precision
        self.predict_precision = predict_precision
        self.augment = augment
        self.mixup = mixup
        self.cutmix = cutmix
        self.label_smoothing = label_smoothing
        self.loss = loss
        self.weight_decay = weight_decay
        self.layer_decay = layer_decay
        self.warmup = warmup
        self.freeze_epochs = freeze_epochs
        self.clip_norm = clip_norm
        self.ema = ema
        self.seed = seed
        # state of one run
        self.run: dict[str, Any] = {}

    def initialize_module(self) -> "ClassifierNet":
        """Lay the weights out as convolutions like them."""
        super().initialize_module()
        self.module_.to(memory_format=torch.channels_last)
        return self

    @property
    def learner(self) -> nn.Module:
        """What the optimizer trains."""
        return self.module_.backbone

    def initialize_optimizer(self, triggered_directly: Any = None) -> "ClassifierNet":
        """Make AdamW over groups of parameters."""
        groups = parameter_groups(self.learner, self.weight_decay, self.layer_decay)
        for group in groups:
            group.setdefault("lr_scale", 1.0)
        fused = self.torch_device.type in ("cpu", "cuda")
        self.optimizer_ = torch.optim.AdamW(groups, lr=self.lr, fused=fused)
        return self

    @property
    def epoch(self) -> int:
        """Number of the epoch that is on, from 0."""
        return max(0, len(self.history) - 1)

    def get_split_datasets(self, X: Any, y: Any = None, **_: Any) -> Any:
        """Return the two sets as they come: what is held out was split off by group before."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Batches:
        """Return the batches of a set of examples."""
        return Batches(self, dataset, training)

    def prepare(self, images: Tensor) -> Tensor:
        """Bring uint8 (n, h, w, 3) to the device as floats 0 to 1, (n, 3, h, w)."""
        return to_floats(images, self.torch_device)

    def train_step(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Do one step of the optimizer."""
        images, (target, weight) = batch
        run = self.run
        self._set_rate()
        loss, logits = self.training_loss(images, target, weight)
        self.optimizer_.zero_grad(set_to_none=True)
        run["scaler"].scale(loss).backward()
        if self.clip_norm is not None:
            run["scaler"].unscale_(self.optimizer_)
            nn.utils.clip_grad_norm_(self.module_.parameters(), self.clip_norm)
        self.notify(
            "on_grad_computed", named_parameters=self.module_.named_parameters(), batch=batch
        )
        run["scaler"].step(self.optimizer_)
        run["scaler"].update()
        run["step"] += 1
        if run["average"] is not None:
            run["average"].update(self.module_, run["step"])
        return {"loss": loss.detach(), "y_pred": logits.detach()}

    def training_loss(
        self, images: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch after augmentation and mixing, and the logits."""
        target = target.to(self.torch_device, non_blocking=True)
        weight = weight.to(self.torch_device, non_blocking=True)
        x = self.prepare(images)
        with torch.no_grad():
            if self.augment is not None:
                x = self.augment(x, self.run["generator"])
            if self.mixup or self.cutmix:
                x, target = mix_batch(
                    x,
                    target,
                    self.n_classes,
                    self.run["generator"],
                    mixup=self.mixup,
                    cutmix=self.cutmix,
                )
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast(self.torch_device, self.precision):
            logits = self.module_(x)
        each = loss_of_each(
            logits.float(),
            target,
            loss=self.loss,
            prior=self.run["prior"],
            label_smoothing=self.label_smoothing,
        )
        return (each * weight).mean(), logits

    def _set_rate(self) -> None:
        factor = 1.0
        if self.warmup is not None:
            factor = warmup_cosine(self.run["step"], self.run["total_steps"], self.warmup)
        for group in self.optimizer_.param_groups:
            group["lr"] = self.lr * group["lr_scale"] * factor

    @property
    def frozen(self) -> bool:
        """Whether only what is new learns: in the first epochs of a run, if so asked."""
        return self.epoch - self.run["first"] < self.freeze_epochs

    def _set_frozen(self) -> None:
        if not self.freeze_epochs:
            return
        known_part(self.module_).requires_grad_(not self.frozen)
        self.module_.backbone.get_classifier().requires_grad_(True)

    def validation_step(self, batch: Batch, **_: Any) -> dict[str, Tensor]:
        """Return loss and logits of one batch as prediction will see it."""
        images, (target, weight) = batch
        with torch.inference_mode(), autocast(self.torch_device, self.predict_precision):
            logits = self.current()(self.prepare(images)).float()
            target = target.to(self.torch_device)
            # as the images come: a focal loss says little of how sure an answer may be
            loss = "cross-entropy" if self.loss == "focal" else self.loss
            each = loss_of_each(logits, target, loss=loss, prior=self.run["prior"])
            loss = (each * weight.to(self.torch_device)).mean()
        return {"loss": loss, "y_pred": logits}

    def current(self) -> nn.Module:
        """Return the weights that would predict now: the averaged ones where there are any."""
        average = self.run.get("average")
        return self.module_ if average is None else average.module

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **_: Any
    ) -> None:
        """Run over the batches once, and look at the loss seldom enough not to hold up a GPU."""
        if iterator is None:
            return
        if training:
            self._begin_epoch()
            self._set_training(True)
            if self.frozen:
                self.module_.eval()
        else:
            self.settle(self.run["train"])
            self._set_training(False)
        start = time.perf_counter()
        losses: list[Tensor] = []
        sizes: list[int] = []
        predicted: list[Tensor] = []
        look_every = 20 if self.torch_device.type == "cuda" else 1
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch)
            losses.append(step["loss"])
            sizes.append(len(batch[0]))
            if training and len(losses) % look_every == 0:
                self._check_finite(losses[-1])
            if not training:
                predicted.append(step["y_pred"].argmax(1))
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
            guess = torch.cat(predicted).cpu().numpy()
            truth = iterator.examples.target.numpy()
            with warnings.catch_warnings():
                # a class that is guessed but not held out says nothing here
                warnings.simplefilter("ignore", UserWarning)
                score = balanced_accuracy_score(truth, guess)
            self.history.record("valid_balanced_accuracy", float(score))

    def _begin_epoch(self) -> None:
        torch.manual_seed(int(np.random.default_rng([self.seed, self.epoch, 1]).integers(2**31)))
        self.run["generator"].manual_seed(
            int(np.random.default_rng([self.seed, self.epoch, 2]).integers(2**31))
        )
        self._set_frozen()
        self.run["good"] = weights_of(self.current())

    def _check_finite(self, loss: Tensor) -> None:
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss became {value} in epoch {self.epoch + 1}; the weights from before that "
                f"epoch are kept. Try a lower lr (now {self.lr:g}), a longer warm-up, "
                "clip_norm=1.0, or precision='float32' (bfloat16 and float16 overflow sooner)."
            )

    def settle(self, train: Examples, n_images: int = SETTLE_IMAGES) -> None:
        """Give the weights that would predict now the batch-norm statistics that are theirs.

        Running statistics lag behind, and those of averaged weights were never measured at all.
        What is still frozen keeps its own: by them it was seen by all that learns.
        """
        module = self.current()
        kept = batch_norms(known_part(module)) if self.frozen else []
        norms = [norm for norm in batch_norms(module) if norm not in kept]
        rng = np.random.default_rng([self.seed, 0, 3])
        batches = shuffled(len(train), self.batch_size, rng)
        batches = batches[: max(1, n_images // self.batch_size)]
        images = (self.prepare(x) for _, x in prefetch(train.squares, batches))
        with autocast(self.torch_device, self.predict_precision):
            measure_norms(module, images, norms)

    def _prior(self, train: Examples) -> Tensor | None:
        if self.loss != "logit-adjusted":
            return None
        return log_prior(train.target, train.weight, self.n_classes).to(self.torch_device)

    def begin_run(self, train: Examples, epochs: int, *, first: int) -> None:
        """Set up what one run needs: counters, generators, averaged weights.

        Its epochs are those of the history from ``first`` on.
        """
        steps = len(Batches(self, train, True))
        fp16 = self.precision == torch.float16
        average = None
        if self.ema:
            # the average looks back over about two epochs
            decay = 1 - 1 / max(10, 2 * steps)
            average = ModelEmaV3(self.module_, decay=decay, use_warmup=True, warmup_power=0.75)
        self.run = {
            "step": 0,
            "total_steps": steps * epochs,
            "generator": torch.Generator(),
            "scaler": torch.amp.GradScaler(self.torch_device.type, enabled=fp16),
            "average": average,
            "train": train,
            "prior": self._prior(train),
            "side": train.squares.size,
            "epochs": epochs,
            "done": 0,
            "first": first,
            "good": weights_of(self.module_),
        }

    def train(
        self, train: Examples, valid: Examples | None, epochs: int, *, stream: bool = False
    ) -> bool:
        """Train for some epochs; whatever ends it, the module then holds the weights to keep.

        In a ``stream`` these images are a small part of all, and no measure of their statistics.

        Returns whether a person interrupted it (Ctrl-C); what was reached until then is kept, or
        the best weights where a callback watches for them.
        """
        # all parts of a stream are one run
        self.begin_run(train, epochs, first=0 if stream else len(self.history))
        interrupted = False
        diverged: TrainingDiverged | None = None
        try:
            # callbacks may take up an earlier run here, and say how much of it is done
            self.notify("on_train_begin", X=(train, valid))
            # all batches have one size, so the fastest way to convolve is worth looking for
            with torch.backends.cudnn.flags(benchmark=True, deterministic=False):
                self.fit_loop((train, valid), epochs=epochs - self.run["done"])
        except StopTraining:
            pass
        except KeyboardInterrupt:
            interrupted = True
        except TrainingDiverged as error:
            diverged = error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise explain_memory(self, error) from error
        self.module_.requires_grad_(True)
        if not (diverged or stream) and valid is None and self.run["step"]:
            # two in a hundred of the images seen: a short training is not held up by it
            seen = self.run["step"] * self.batch_size
            self.settle(train, min(SETTLE_MOST, max(SETTLE_IMAGES, seen // 50)))
        kept = self.run["good"] if diverged else self.current().state_dict()
        self.module_.load_state_dict(kept)
        self.module_.eval()
        if len(self.history) and "train_batch_count" not in self.history[-1]:
            self.history.pop()
        self.notify("on_train_end", X=(train, valid))
        self.run = {}
        if diverged:
            raise diverged
        return interrupted


def known_part(module: nn.Module) -> nn.Module:
    """Return what stands still while a net is frozen: the encoder it is built around, else all."""
    return getattr(module.backbone, "encoder", module)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights in main memory."""
    return {k: v.detach().to("cpu", copy=True) for k, v in module.state_dict().items()}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run with torch's global generators at a seed, and put them back after."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
