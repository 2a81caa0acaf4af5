"""Measure the statistics that batch norm subtracts and divides by."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """Return the batch norms that keep statistics."""
    return [m for m in module.modules() if isinstance(m, BatchNorm) and m.track_running_stats]


def measure_norms(
    module: nn.Module, batches: Iterable[Tensor], norms: list[BatchNorm] | None = None
) -> None:
    """Set the statistics of batch norms to their plain mean over some batches, in place.

    Parameters
    ----------
    module : Module
        Left in evaluation mode.
    batches : iterable of Tensor
        Prepared images.
    norms : list of batch norms, optional
        Those of the module that are measured; by default all.

    Examples
    --------
    >>> norm = nn.BatchNorm2d(1)
    >>> measure_norms(norm, [torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)])
    >>> norm.running_mean
    tensor([2.])
    """
    module.eval()
    norms = batch_norms(module) if norms is None else norms
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # None: the plain mean over all batches
        norm.momentum, norm.training = None, True
    try:
        with torch.no_grad():
            for images in batches:
                module(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False
