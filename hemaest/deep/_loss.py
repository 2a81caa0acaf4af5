"""Losses for classes of unequal size, as cheap as cross-entropy."""

import torch
from torch import Tensor
from torch.nn import functional as F

LOSSES = ("cross-entropy", "focal", "logit-adjusted")
# how much less a confident answer counts
FOCUS = 2.0


def log_prior(target: Tensor, weight: Tensor, n_classes: int) -> Tensor:
    """Return the logarithm of each class's share; one that is absent counts as half an image.

    Examples
    --------
    >>> log_prior(torch.tensor([0, 0, 0, 1]), torch.ones(4), 2).exp()
    tensor([0.7500, 0.2500])
    """
    share = torch.zeros(n_classes).index_add_(0, target, weight.float()).clamp_(min=0.5)
    return (share / share.sum()).log()


def spread(target: Tensor, n_classes: int, label_smoothing: float) -> Tensor:
    """Return targets as shares of classes, a part of them spread over all.

    Examples
    --------
    >>> spread(torch.tensor([1]), 2, 0.2)
    tensor([[0.1000, 0.9000]])
    """
    shares = F.one_hot(target, n_classes).float() if target.ndim == 1 else target
    return shares * (1 - label_smoothing) + label_smoothing / n_classes


def loss_of_each(
    logits: Tensor,
    target: Tensor,
    *,
    loss: str = "cross-entropy",
    prior: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of each image.

    Parameters
    ----------
    logits : Tensor (n, n_classes)
    target : integer Tensor (n,) or shares (n, n_classes)
    loss : {"cross-entropy", "focal", "logit-adjusted"}
        Focal: what is already right with confidence counts little. Logit-adjusted: the logarithm
        of the class's share is added while the net learns, so that without it, at prediction,
        every class is as likely beforehand.
    prior : Tensor (n_classes,), optional
        The logarithm of the shares.
    label_smoothing : float
        Share of a target that is spread over all classes.

    Examples
    --------
    >>> logits = torch.tensor([[2.0, 0.0]])
    >>> easy, hard = (loss_of_each(logits, torch.tensor([c]), loss="focal") for c in (0, 1))
    >>> bool(easy < hard / 100)
    True
    """
    if loss == "logit-adjusted" and prior is not None:
        logits = logits + prior
    if loss != "focal":
        return F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)
    log_share = logits.log_softmax(dim=1)
    wanted = spread(target, logits.shape[1], label_smoothing)
    return -(wanted * (1 - log_share.exp()) ** FOCUS * log_share).sum(dim=1)
