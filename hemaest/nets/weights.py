"""Weights of networks: read from files without running code, loaded, folded; norm statistics."""

import copy
import itertools
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hemaest._words import some

Net = TypeVar("Net", bound=nn.Module)

# keys of the weights inside a checkpoint; averaged weights first
CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "student")
# prefixes that wrappers add to every name
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name from a ``.safetensors`` or torch file, on the CPU.

    A torch file is read with ``weights_only``. A file that holds anything but tensors and plain
    containers is refused, because unpickling it could run code.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    weights : dict of str to Tensor

    Examples
    --------
    >>> import tempfile, torch
    >>> from safetensors.torch import save_file
    >>> path = tempfile.mkdtemp() + "/w.safetensors"
    >>> save_file({"fc.bias": torch.zeros(3)}, path)
    >>> read_weights(path)
    {'fc.bias': tensor([0., 0., 0.])}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path}; pretrained takes True, False or the path of a "
            ".safetensors or .pth file."
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors and is not loaded, because that could run code. "
            "Save the weights alone: safetensors.torch.save_file(net.state_dict(), ...)."
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a file of weights: {error}") from error
    for name in CONTAINERS:
        inner = content.get(name) if isinstance(content, Mapping) else None
        if isinstance(inner, Mapping):
            content = inner
            break
    weights = {k: v for k, v in dict(content).items() if isinstance(v, Tensor)}
    if not weights:
        raise ValueError(f"{path} holds no named tensors.")
    return weights


def _adapt(weights: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Strip the prefixes of wrappers, then let timm convert names and resize embeddings."""
    wanted = set(net.state_dict())
    for prefix in PREFIXES:
        if not wanted & set(weights) and all(k.startswith(prefix) for k in weights):
            weights = {k.removeprefix(prefix): v for k, v in weights.items()}
    stripped = [p for p in PREFIXES if wanted & {k.removeprefix(p) for k in weights}]
    if stripped and not wanted & set(weights):
        weights = {k.removeprefix(stripped[0]): v for k, v in weights.items()}
    convert = _timm_filter(net)
    return convert(weights, net) if convert else weights


def _timm_filter(net: nn.Module) -> Any:
    """Return timm's converter for the weights of a network, if it has one."""
    import sys

    if not type(net).__module__.startswith("timm."):
        return None
    return getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)


def load_weights(net: nn.Module, path: str | Path) -> dict[str, list[str]]:
    """Load the tensors of a file that fit a network, and report the others.

    The last layer is expected to differ (other classes). Anything else that is left out is named
    in a warning. It is an error if nothing fits.

    Parameters
    ----------
    net : Module
        Changed in place.
    path : str or path
        As :func:`read_weights` takes it.

    Returns
    -------
    report : dict of lists of names
        ``loaded``, ``missing`` (in the network, not in the file), ``unexpected`` (in the file, not
        in the network), ``mismatched`` (another shape).

    Examples
    --------
    >>> import tempfile, torch
    >>> from hemaest.nets import ResNet24
    >>> path = tempfile.mkdtemp() + "/w.pth"
    >>> torch.save(ResNet24(1000, width=8).state_dict(), path)
    >>> load_weights(ResNet24(4, width=8), path)["mismatched"]
    ['fc.weight', 'fc.bias']
    """
    return copy_weights(net, read_weights(path), str(path))


def copy_weights(net: nn.Module, weights: dict[str, Tensor], source: str) -> dict[str, list[str]]:
    """Copy the weights that fit into a network; return the report of :func:`load_weights`.

    ``source`` names the origin of the weights in messages.
    """
    weights = _adapt(weights, net)
    own = net.state_dict()
    fits = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}
    report = {
        "loaded": list(fits),
        "missing": [k for k in own if k not in weights],
        "unexpected": [k for k in weights if k not in own],
        "mismatched": [k for k in weights if k in own and k not in fits],
    }
    parameters = {name for name, _ in net.named_parameters()}
    if not parameters & set(fits):
        raise ValueError(
            f"nothing in {source} fits {type(net).__name__}: the file has "
            f"{some(list(weights))}, the network {some(list(own))}. Is it the same backbone?"
        )
    net.load_state_dict(fits, strict=False)
    reported = {
        kind: list(without_head(net, dict.fromkeys(report[kind])))
        for kind in ("missing", "unexpected", "mismatched")
    }
    reported["missing"] = [n for n in reported["missing"] if not n.endswith("num_batches_tracked")]
    if any(reported.values()):
        parts = "; ".join(f"{kind}: {some(names)}" for kind, names in reported.items() if names)
        warnings.warn(
            f"{source} matches only a part of {type(net).__name__} ({len(fits)} tensors loaded); "
            f"{parts}.",
            stacklevel=2,
        )
    return report


def without_head(net: nn.Module, named: dict[str, Any]) -> dict[str, Any]:
    """Return a dict keyed by the names of a network's tensors, without those of its last layer.

    Examples
    --------
    >>> from hemaest.nets import ResNet24
    >>> net = ResNet24(4, width=8)
    >>> sorted(set(net.state_dict()) - set(without_head(net, net.state_dict())))
    ['fc.bias', 'fc.weight']
    """
    get = getattr(net, "get_classifier", None)
    last = get() if get else None
    head = next((name for name, m in net.named_modules() if m is last and name), None)
    return {k: v for k, v in named.items() if not (head and k.startswith(f"{head}."))}


def to_arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Return all weights and statistics of a module by name, as numpy arrays.

    A pickle of them holds no torch object, and so loads on any machine.
    """
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def to_tensors(weights: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Return arrays as tensors, copied."""
    return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}


def fold_norms(net: Net) -> Net:
    """Return a copy to predict with: each batch norm is folded into the convolution before it.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    >>> x = torch.rand(2, 3, 8, 8)
    >>> torch.allclose(fold_norms(net)(x), net(x), atol=1e-5)
    True
    """
    net = copy.deepcopy(net).eval()
    for part in net.modules():
        children = list(part.named_children())
        for (name, conv), (after, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, name, fuse_conv_bn_eval(conv, norm))
                setattr(part, after, nn.Identity())
    return net.to(memory_format=torch.channels_last).requires_grad_(False)


def batch_norms(module: nn.Module) -> list[BatchNorm]:
    """Return the batch norms that keep statistics."""
    return [m for m in module.modules() if isinstance(m, BatchNorm) and m.track_running_stats]


def measure_batch_norms(
    module: nn.Module,
    batches: Iterable[Tensor | tuple[Tensor, ...]],
    norms: list[BatchNorm] | None = None,
) -> None:
    """Set the statistics of batch norms to their mean over some batches, in place.

    Parameters
    ----------
    module : Module
        Left in evaluation mode.
    batches : iterable of Tensor or of tuples of Tensor
        Images (n, 3, h, w) from 0 to 1, and what the module takes beside them.
    norms : list of batch norms, optional
        Those that are measured; by default all of the module.

    Examples
    --------
    >>> norm = nn.BatchNorm2d(1)
    >>> measure_batch_norms(norm, [torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)])
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
            for batch in batches:
                module(*batch) if isinstance(batch, tuple) else module(batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False
