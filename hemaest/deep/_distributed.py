"""Training on several devices or machines: one fit under ``torchrun``.

``torchrun --nproc-per-node=2 script.py`` starts processes that run the same script. Each calls the
same ``fit`` on the same data, trains on its part of every batch (``batch_size`` images a process)
by DistributedDataParallel, and ends with the same ordinary estimator. The training network calls
this module; without torchrun, and without a process group of the caller, nothing here has an
effect.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class ProcessLostError(RuntimeError):
    """Another process of a distributed fit has ended, so that this one cannot continue."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a distributed fit.

    Parameters
    ----------
    rank : int
        Number of this process; process 0 writes checkpoints and shows progress.
    size : int
        Number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the part of a batch that belongs to this process.

        Examples
        --------
        >>> World(1, 2).share(np.arange(5))
        array([1, 3])
        """
        return rows[self.rank :: self.size]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        if self.size == 1:
            return value
        value = value.clone()
        distributed.all_reduce(value)
        return value / self.size

    def agree(self, number: int) -> int:
        """Return the number that the first process has."""
        if self.size == 1:
            return number
        shared = [number]
        distributed.broadcast_object_list(shared)
        return int(shared[0])

    def parallel(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return a module whose gradients are averaged over all processes."""
        if self.size == 1:
            return module
        ids = [device.index] if device.type == "cuda" else None
        # a masked autoencoder leaves parts of the network without a gradient
        return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)

    def explain(self, error: RuntimeError) -> RuntimeError:
        """Return the error to raise where the connection to another process broke."""
        text = str(error).lower()
        if self.size == 1 or not any(
            w in text for w in ("gloo", "nccl", "connection", "timed out")
        ):
            return error
        return ProcessLostError(
            f"process {self.rank} of {self.size} lost another process of this fit, which ended or "
            f"does not answer ({str(error).splitlines()[0][:120]}). Look for its own error; with "
            "checkpoint_dir the same fit, started again, continues after the last whole epoch."
        )


def current_world() -> World:
    """Return the processes that train together; under torchrun, connect them first."""
    if not distributed.is_available():
        return World()
    if not distributed.is_initialized():
        if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
            return World()
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size())


def local_device(device: torch.device, world: World) -> torch.device:
    """Return the GPU of this process where each has one of its own."""
    if world.size == 1 or device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", world.rank)))


class Forward(nn.Module):
    """The forward pass of training as a module, which DistributedDataParallel can wrap."""

    def __init__(self, module: nn.Module, objective: Any) -> None:
        super().__init__()
        self.module = module
        self.objective = objective

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the outputs of the objective."""
        return self.objective.outputs(self.module, x, target)
