"""Prediction with trained networks, and the batch norm statistics that it needs.

The estimators call :func:`infer` with a step: what to compute from a batch.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hemaest.deep.augmentation import dihedral
from hemaest.deep.batches import LetterboxedImages, ordered, prefetch, shuffled, to_floats
from hemaest.nets.devices import autocast, threads_for
from hemaest.nets.fcmae import enlarge
from hemaest.nets.weights import batch_norms, measure_batch_norms

Step = Callable[[nn.Module, Tensor], Tensor]


def infer(
    module: nn.Module,
    X: NDArray,
    size: int,
    step: Step,
    *,
    device: torch.device,
    precision: torch.dtype,
    batch_size: int,
) -> NDArray[np.float64]:
    """Apply a step of a network to all images, in batches.

    Parameters
    ----------
    module : Module
        The network; left in evaluation mode.
    X : array
        Checked images.
    size : int
        Side of the squares that the network sees.
    step : callable
        Takes the module and images (n, 3, size, size) from 0 to 1.
    device, precision, batch_size
        Where and how to compute.
    """
    module.eval()
    results: list[Tensor] = []
    batches = ordered(len(X), batch_size)
    images = LetterboxedImages(X, size)
    with threads_for(batch_size * size**2 // 2), torch.inference_mode():
        for _, batch in prefetch(images, batches, pin=device.type == "cuda"):
            with autocast(device, precision):
                results.append(step(module, to_floats(batch, device)))
    return torch.cat(results).double().cpu().numpy()


def probabilities(all_views: bool) -> Step:
    """Return the step that gives probabilities, of an image or averaged over its 8 views."""

    def step(module: nn.Module, x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        n_views = 8 if all_views else 1
        for view in range(n_views):
            total = total + module(dihedral(x, view)).double().softmax(dim=1)
        return total / n_views

    return step


def embeddings(module: nn.Module, x: Tensor) -> Tensor:
    """Return the input of the last layer."""
    return module.embed(x).float()  # type: ignore[operator]


def reconstructions(seed: int) -> Step:
    """Return the step that gives original, masked and reconstructed images (n, 3, 3, h, w)."""

    def step(module: nn.Module, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        mask = module.draw_mask(1, x.shape[-1], generator)  # type: ignore[operator]
        mask = mask.expand(len(x), -1, -1)
        visible = enlarge(mask, *x.shape[-2:])[:, None].to(x.device)
        masked = torch.where(visible, x, torch.full_like(x, 0.5))
        return torch.stack([x, masked, module.reconstruct(x, mask)], dim=1)  # type: ignore[operator]

    return step


def adapt_batch_norms(
    module: nn.Module, X: NDArray, size: int, *, device: torch.device, batch_size: int
) -> None:
    """Replace the batch norm statistics of a network by those of X, in place."""
    if not batch_norms(module):
        raise ValueError("this network has no batch norm, so there are no statistics to adapt.")
    batches = shuffled(len(X), batch_size, np.random.default_rng(0))
    images = prefetch(LetterboxedImages(X, size), batches)
    measure_batch_norms(module, (to_floats(batch, device) for _, batch in images))
