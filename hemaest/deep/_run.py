"""The steps around a net: examples from arrays, callbacks, checkpoints, prediction."""

import os
from collections.abc import Callable
from inspect import signature
from numbers import Integral
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import compute_sample_weight
from torch import Tensor, nn

from hemaest._progress import watching
from hemaest.deep._augment import dihedral
from hemaest.deep._batches import (
    Examples,
    Squares,
    ordered,
    prefetch,
    shuffled,
    to_floats,
)
from hemaest.deep._callbacks import BestWeights, Checkpoint, Progress, Stop
from hemaest.deep._fingerprint import fingerprint_of_settings
from hemaest.deep._net import ClassifierNet
from hemaest.deep._norms import batch_norms, measure_norms
from hemaest.images import rgb, to_object_array
from hemaest.nets.devices import autocast, threads_for
from hemaest.nets.fcmae import enlarge

if TYPE_CHECKING:
    from hemaest.deep._owner import OwnsNet

Step = Callable[[nn.Module, Tensor], Tensor]


def make_examples(
    X: NDArray[Any],
    target: NDArray[np.int64],
    weight: NDArray[np.float64],
    size: int,
    *,
    balanced: bool = False,
    per_class: NDArray[np.float64] | None = None,
) -> Examples:
    """Put together what the net trains on; weights are scaled to a mean of one.

    What is given ``per_class`` comes on top, unscaled: a part of a stream may hold one class alone.
    """
    if not weight.any():
        raise ValueError(
            "every image to learn from has a weight of 0, so none would count; give larger "
            "sample_weight or class_weight."
        )
    weight = weight / weight.mean()
    if per_class is not None:
        weight = weight * per_class[target]
    return Examples(
        Squares(X, size, keep=True),
        torch.from_numpy(target),
        torch.from_numpy(weight).float(),
        compute_sample_weight("balanced", target) if balanced else None,
    )


def resample(
    resampler: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    weight: NDArray[np.float64],
    groups: Any = None,
    *,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Apply a sampler to the training part; weights go along, made-up images get the mean.

    A sampler that splits inside gets the groups. Cell maps, which no net reads, stay behind.
    """
    if resampler is None or isinstance(resampler, str):
        return X, y, weight
    sampler = clone(resampler)
    params = sampler.get_params(deep=False)
    if "random_state" in params and params["random_state"] is None:
        sampler.set_params(random_state=seed)
    splits = groups is not None and "groups" in signature(sampler.fit_resample).parameters
    colours = without_maps(X)
    new_X, new_y = sampler.fit_resample(colours, y, **({"groups": groups} if splits else {}))
    if isinstance(new_X, list):
        new_X = to_object_array(new_X)
    if np.ptp(weight) == 0:
        return new_X, np.asarray(new_y), np.full(len(new_y), weight[0])
    rows = getattr(sampler, "sample_indices_", None)
    if rows is None or len(rows) != len(new_y):
        raise ValueError(
            f"sample_weight cannot be carried through {type(sampler).__name__}, which does not say "
            "where its images come from (sample_indices_); leave out one of the two."
        )
    rows = np.asarray(rows)
    return new_X, np.asarray(new_y), np.where(rows >= 0, weight[rows], weight.mean())


def without_maps(X: NDArray[Any]) -> NDArray[Any]:
    """Return checked images without their cell maps; files have none."""
    if X.dtype != object:
        return X[..., :3]
    return to_object_array([rgb(x) if isinstance(x, np.ndarray) else x for x in X])


def run_callbacks(
    estimator: "OwnsNet", validates: bool, checkpoint: str | None
) -> list[tuple[str, Any]]:
    """Return the callbacks of one run, in the order in which they must be told."""
    callbacks: list[tuple[str, Any]] = []
    best = BestWeights(estimator.patience) if validates else None
    if best is not None:
        callbacks.append(("best", best))
    if checkpoint is not None:
        callbacks.append(("checkpoint", Checkpoint(checkpoint, best)))
    if watching() if estimator.verbose is None else estimator.verbose:
        callbacks.append(("progress", Progress()))
    for i, callback in enumerate(estimator.callbacks or []):
        callbacks.append(callback if isinstance(callback, tuple) else (f"given_{i}", callback))
    if best is not None:
        callbacks.append(("stop", Stop(best)))
    return callbacks


def checkpoint_file(
    estimator: "OwnsNet", X: Any, y: Any, groups: Any, weight: Any, start: Any
) -> str:
    """Return the file of a run, named by all that decides its result, so that folds keep apart."""
    given = estimator.get_params(deep=False)
    if not isinstance(estimator.random_state, Integral):
        # the seed that was drawn is in the file
        given.pop("random_state")
    settings = fingerprint_of_settings(given)
    run = (type(estimator).__name__, settings, X, y, groups, weight, start)
    folder = str(estimator.checkpoint_dir)
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f"{joblib.hash(run)}.ckpt")


def seed_in(path: str, default: int) -> int:
    """Return the seed of a run that was begun, else the default."""
    if not os.path.exists(path):
        return default
    return int(torch.load(path, map_location="cpu", weights_only=True)["seed"])


def infer(
    module: nn.Module,
    X: NDArray[Any],
    size: int,
    step: Step,
    *,
    device: torch.device,
    precision: torch.dtype,
    batch_size: int,
) -> NDArray[np.float64]:
    """Apply a step of a net to all images in batches."""
    module.eval()
    found: list[Tensor] = []
    batches = ordered(len(X), batch_size)
    with threads_for(batch_size * size**2 // 2), torch.inference_mode():
        for _, images in prefetch(Squares(X, size), batches, pin=device.type == "cuda"):
            with autocast(device, precision):
                found.append(step(module, to_floats(images, device)))
    return torch.cat(found).double().cpu().numpy()


def infer_with(net: ClassifierNet, X: NDArray[Any], size: int, step: Step) -> NDArray[np.float64]:
    """Apply a step of the module that a skorch net holds."""
    return infer(
        net.module_,
        X,
        size,
        step,
        device=net.torch_device,
        precision=net.predict_precision,
        # what is not trained on needs far less memory
        batch_size=2 * net.batch_size,
    )


def probabilities(views: bool) -> Step:
    """Return the step that gives probabilities, averaged over 8 views if asked."""

    def step(module: nn.Module, x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        n_views = 8 if views else 1
        for view in range(n_views):
            total = total + module(dihedral(x, view)).double().softmax(dim=1)
        return total / n_views

    return step


def embeddings(module: nn.Module, x: Tensor) -> Tensor:
    """Return what the last layer sees."""
    return module.embed(x).float()


def painted(seed: int) -> Step:
    """Return the step that gives the original, the masked and the painted-in images (n, 3, ...)."""

    def step(module: nn.Module, x: Tensor) -> Tensor:
        mask = module.draw_mask(1, x.shape[-1], torch.Generator().manual_seed(seed))
        mask = mask.expand(len(x), -1, -1)
        seen = enlarge(mask, *x.shape[-2:])[:, None].to(x.device)
        masked = torch.where(seen, x, torch.full_like(x, 0.5))
        return torch.stack([x, masked, module.reconstruct(x, mask)], dim=1)

    return step


def adapt_batchnorm(net: ClassifierNet, X: NDArray[Any], size: int) -> None:
    """Replace the running statistics of batch norm by those of X, in place."""
    if not batch_norms(net.module_):
        raise ValueError(
            "this net has no batch norm, so there is nothing to adapt (and less need to)."
        )
    rows = shuffled(len(X), net.batch_size, np.random.default_rng(0))
    measure_norms(net.module_, (net.prepare(x) for _, x in prefetch(Squares(X, size), rows)))
