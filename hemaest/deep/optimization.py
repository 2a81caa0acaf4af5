"""What training minimizes and how: losses, objectives, learning rates, and the limit of memory.

An objective is what distinguishes classification from masked pretraining; the training network is
the same for both.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional as F

from hemaest.deep.augmentation import STANDARD, Strength, augment_batch, mix_batch
from hemaest.deep.batches import TrainingSet, to_floats

# exponent of the focal loss: how much less a confident prediction counts
FOCUS = 2.0


class Objective(Protocol):
    """What a network is trained for."""

    def for_training_set(self, training_set: TrainingSet, device: torch.device) -> "Objective":
        """Return the objective with what it takes from the training set."""

    def trained_part(self, module: nn.Module) -> nn.Module:
        """Return the part of the module that the optimizer trains."""

    def prepare(
        self, module: nn.Module, x: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return images and targets of a training batch after random changes."""

    def outputs(self, module: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Return the outputs of the module; runs under autocast."""

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the training loss of each image."""


@dataclass(frozen=True, slots=True)
class Classification:
    """Predict the class of an image.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    loss : {"cross-entropy", "focal", "logit-adjusted"}
        See :func:`classification_losses`.
    label_smoothing : float
        Proportion of a target that is distributed over all classes.
    mixup, cutmix : float
        See :func:`hemaest.deep.augmentation.mix_batch`.
    log_prior : Tensor, optional
        Log frequencies of the classes, see :meth:`for_training_set`.
    """

    n_classes: int
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    log_prior: Tensor | None = None

    def for_training_set(self, training_set: TrainingSet, device: torch.device) -> "Classification":
        """Return the objective with the class frequencies of a training set, where it uses them."""
        if self.loss != "logit-adjusted":
            return self
        prior = log_prior(training_set.target, training_set.weight, self.n_classes)
        return replace(self, log_prior=prior.to(device))

    def trained_part(self, module: nn.Module) -> nn.Module:
        """Return the backbone; the normalization around it has no parameters."""
        return module.backbone  # type: ignore[return-value]

    def prepare(
        self, module: nn.Module, x: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mix the images of a batch, if wanted."""
        if not (self.mixup or self.cutmix):
            return x, target
        return mix_batch(x, target, self.n_classes, generator, mixup=self.mixup, cutmix=self.cutmix)

    def outputs(self, module: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Return the logits."""
        return module(x)

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the training loss of each image."""
        return classification_losses(
            outputs.float(),
            target,
            loss=self.loss,
            log_prior=self.log_prior,
            label_smoothing=self.label_smoothing,
        )

    def validation_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each held-out image, without smoothing."""
        # the focal loss hardly penalizes overconfidence
        loss = "cross-entropy" if self.loss == "focal" else self.loss
        return classification_losses(logits, target, loss=loss, log_prior=self.log_prior)

    def validation_score(self, logits: Tensor, target: Tensor) -> float:
        """Return the balanced accuracy."""
        with warnings.catch_warnings():
            # a predicted class may be absent from the held-out images
            warnings.simplefilter("ignore", UserWarning)
            predicted = logits.argmax(1).cpu().numpy()
            return float(balanced_accuracy_score(target.numpy(), predicted))


@dataclass(frozen=True, slots=True)
class MaskedReconstruction:
    """Reconstruct hidden patches with an :class:`hemaest.nets.FCMAE`; targets are ignored."""

    def for_training_set(
        self, training_set: TrainingSet, device: torch.device
    ) -> "MaskedReconstruction":
        """Return itself: it takes nothing from the training set."""
        return self

    def trained_part(self, module: nn.Module) -> nn.Module:
        """Return the whole module, encoder and decoder."""
        return module

    def prepare(
        self, module: nn.Module, x: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw the visible patches of each image; they take the place of the target."""
        return x, module.draw_mask(len(x), x.shape[-1], generator)  # type: ignore[operator]

    def outputs(self, module: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Return the reconstruction error of each image."""
        return module.loss(x, target)  # type: ignore[operator]

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the reconstruction error of each image."""
        return outputs


# of the student's view: colors as another laboratory would stain them, another scale
STUDENT = Strength(
    shift=0.08, scale=0.30, stain=0.30, tilt=6.0, background=0.03, blur=0.3, erase=0.0
)
# rendered cells beside each image of a batch
RENDERED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class TeacherPrediction:
    """Predict what the teacher of a network of :mod:`hemaest.nets.distill` sees.

    Parameters
    ----------
    rendered : uint8 Tensor (m, size, size, 3) or None
        Rendered cells that the student must go on to see as before.
    """

    rendered: Tensor | None = None

    def for_training_set(
        self, training_set: TrainingSet, device: torch.device
    ) -> "TeacherPrediction":
        """Return itself: it takes nothing from the training set."""
        return self

    def trained_part(self, module: nn.Module) -> nn.Module:
        """Return the student, and its predictor where it has one."""
        if hasattr(module, "student"):
            return module.student  # type: ignore[return-value]
        return nn.ModuleList([module.encoder, module.predictor])

    def n_rendered(self, n: int) -> int:
        """Return how many rendered cells go with n images."""
        return 0 if self.rendered is None else max(2, round(RENDERED_SHARE * n))

    def prepare(
        self, module: nn.Module, x: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the student's views, then rendered cells, and what the teacher sees."""
        net: Any = module
        net.follow()
        seen = net.targets(x)
        views = net.hide(augment_batch(x, STUDENT, generator), generator)
        if self.rendered is not None:
            chosen = torch.randint(
                len(self.rendered), (self.n_rendered(len(x)),), generator=generator
            )
            drawn = augment_batch(to_floats(self.rendered[chosen], x.device), STANDARD, generator)
            if hasattr(net, "recolored"):
                half = len(drawn) // 2
                drawn = torch.cat([net.recolored(drawn[:half]), drawn[half:]])
            views = torch.cat([views, drawn])
        return views, seen

    def outputs(self, module: nn.Module, x: Tensor, target: Tensor) -> Tensor:
        """Return the error of each image, with that of the rendered cells added."""
        net: Any = module
        n = len(target)
        losses = net.losses(x[:n], target)
        return losses if len(x) == n else losses + net.forgotten(x[n:])

    def losses(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the error of each image."""
        return outputs


def log_prior(target: Tensor, weight: Tensor, n_classes: int) -> Tensor:
    """Return the logarithm of the frequency of each class; an absent one counts as half an image.

    Examples
    --------
    >>> log_prior(torch.tensor([0, 0, 0, 1]), torch.ones(4), 2).exp()
    tensor([0.7500, 0.2500])
    """
    frequency = torch.zeros(n_classes).index_add_(0, target, weight.float()).clamp_(min=0.5)
    return (frequency / frequency.sum()).log()


def smoothed_targets(target: Tensor, n_classes: int, label_smoothing: float) -> Tensor:
    """Return targets as class probabilities, smoothed.

    Examples
    --------
    >>> smoothed_targets(torch.tensor([1]), 2, 0.2)
    tensor([[0.1000, 0.9000]])
    """
    probability = F.one_hot(target, n_classes).float() if target.ndim == 1 else target
    return probability * (1 - label_smoothing) + label_smoothing / n_classes


def classification_losses(
    logits: Tensor,
    target: Tensor,
    *,
    loss: str = "cross-entropy",
    log_prior: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of each image.

    Parameters
    ----------
    logits : Tensor (n, n_classes)
    target : integer Tensor (n,) or probabilities (n, n_classes)
    loss : {"cross-entropy", "focal", "logit-adjusted"}
        Focal: confident correct predictions count little. Logit-adjusted: the log frequency of
        each class is added in training, so that without it, at prediction, all classes have the
        same prior probability.
    log_prior : Tensor (n_classes,), optional
        The log frequencies.
    label_smoothing : float
        Proportion of a target that is distributed over all classes.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> correct, wrong = torch.tensor([0]), torch.tensor([1])
    >>> easy = classification_losses(logits, correct, loss="focal")
    >>> bool(easy < classification_losses(logits, wrong, loss="focal") / 100)
    True
    """
    if loss == "logit-adjusted" and log_prior is not None:
        logits = logits + log_prior
    if loss != "focal":
        return F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    log_probability = logits.log_softmax(dim=1)
    wanted = smoothed_targets(target, logits.shape[1], label_smoothing)
    return -(wanted * (1 - log_probability.exp()) ** FOCUS * log_probability).sum(dim=1)


def warmup_cosine(step: int, total: int, warmup: float = 0.05, floor: float = 0.01) -> float:
    """Return the factor on the learning rate: a linear rise, then a cosine decay.

    Parameters
    ----------
    step, total : int
        Steps done, and steps of the whole run.
    warmup : float, default=0.05
        Proportion of the run in which the rate rises.
    floor : float, default=0.01
        Factor at the end.

    Examples
    --------
    >>> [round(warmup_cosine(s, 100, warmup=0.1), 2) for s in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.51, 0.01]
    """
    rise = max(1, round(total * warmup))
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, total - rise))
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def parameter_groups(
    net: nn.Module, weight_decay: float, layer_decay: float | None
) -> list[dict[str, Any]]:
    """Return groups of parameters: norms and biases do not decay, early layers have lower rates.

    Parameters
    ----------
    net : Module
        With ``group_matcher`` where it has layers.
    weight_decay : float
        For matrices and kernels.
    layer_decay : float or None
        Factor on the learning rate from one layer to the one before it.
    """
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    keep: set[str] = getattr(net, "no_weight_decay", set)()
    if layer_decay is None or layer_decay == 1:
        return param_groups_weight_decay(net, weight_decay, no_weight_decay_list=keep)
    return param_groups_layer_decay(
        net, weight_decay, no_weight_decay_list=keep, layer_decay=layer_decay
    )


class BatchTooLarge(MemoryError):
    """A batch did not fit into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or not."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def largest_batch(attempt: Callable[[int], None], batch_size: int) -> int | None:
    """Return the largest half, quarter, ... of a batch for which ``attempt(size)`` has memory.

    Examples
    --------
    >>> def attempt(size):
    ...     if size > 10:
    ...         raise MemoryError
    >>> largest_batch(attempt, 64)
    8
    """
    size = batch_size // 2
    while size >= 1:
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            return size
    return None
