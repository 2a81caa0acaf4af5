"""Learning rates: over the run, and over the layers."""

import math
from typing import Any

from torch import nn


def warmup_cosine(step: int, total: int, warmup: float = 0.05, floor: float = 0.01) -> float:
    """Return the factor on the learning rate: up in a line, down in a cosine.

    Parameters
    ----------
    step, total : int
        Steps done, and steps of the whole run.
    warmup : float, default=0.05
        Share of the run in which the rate rises.
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
    """Return groups of parameters: no weight decay on norms and biases, lower rates further down.

    Parameters
    ----------
    net : Module
        With ``group_matcher`` where it has layers.
    weight_decay : float
        For matrices.
    layer_decay : float or None
        Factor on the learning rate from one layer to the one below it.
    """
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    keep: set[str] = getattr(net, "no_weight_decay", set)()
    if layer_decay is None or layer_decay == 1:
        return param_groups_weight_decay(net, weight_decay, no_weight_decay_list=keep)
    return param_groups_layer_decay(
        net, weight_decay, no_weight_decay_list=keep, layer_decay=layer_decay
    )
