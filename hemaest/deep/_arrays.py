"""Weights as plain arrays, so that a pickle holds no torch object and loads on any machine."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn


def to_arrays(module: "nn.Module") -> dict[str, NDArray[Any]]:
    """Return all weights and statistics of a module by name."""
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def to_tensors(weights: dict[str, NDArray[Any]]) -> "dict[str, Tensor]":
    """Return arrays as tensors of their own memory."""
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
