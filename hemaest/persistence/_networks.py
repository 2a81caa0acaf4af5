"""Networks as a configuration and weights, built again within the size of the file.

A file says how a network is built: a name, some numbers. Numbers can describe a network that fills
all memory, so it is first built without any memory (on torch's "meta" device), and refused as soon
as it has more numbers than the file holds weights.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hemaest.persistence._registry import Registry
from hemaest.persistence._values import Decoder, Encoder, UnsafeFileError

__all__ = ["build_within", "decode_network", "encode_torch", "is_torch"]

# a network may register a layer twice while it is built, and tables of positions beside weights
SLACK, TABLES, PARTS = 4, 1 << 23, 500


def is_torch(item: Any) -> bool:
    """Return whether an object is a tensor or network of torch, or a network of ours."""
    module = type(item).__module__
    return module.startswith("torch") or (
        module.startswith("hemaest.nets") and hasattr(item, "state_dict")
    )


def encode_torch(item: Any, encoder: Encoder) -> list[Any] | None:
    """Return the node of a tensor or a network, None for what may not be saved."""
    import torch

    if type(item) is torch.Tensor and not item.is_sparse:
        return ["tensor", encoder.add(item.detach().cpu().numpy())]
    if type(item) is torch.Size:
        return ["size", list(item)]
    if type(item) is torch.device:
        return ["device", item.type, item.index]
    config = getattr(item, "config", None)
    if not isinstance(item, torch.nn.Module) or not isinstance(config, dict):
        return None
    state = item.state_dict()
    weights = {name: value.detach().cpu().numpy() for name, value in state.items()}
    channels_last = any(v.ndim == 4 and not v.is_contiguous() for v in state.values())
    return [
        "network",
        type(item).__name__,
        encoder.add(config),
        encoder.add(weights, "weights"),
        channels_last,
    ]


def decode_network(
    registry: Registry, decoder: Decoder, name: Any, config: Any, weights: Any, last: Any
) -> Any:
    """Return a network of ours in evaluation mode."""
    import torch

    cls, options, arrays = registry.network_of(name), decoder.value(config), decoder.value(weights)
    net = build_within(lambda: cls(**options), arrays)
    net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    return net.eval().to(memory_format=torch.channels_last) if last else net.eval()


def build_within(build: Callable[[], Any], weights: dict[Any, Any]) -> Any:
    """Return what `build` makes, unless its networks are larger than the weights of a file."""
    import torch

    with warnings.catch_warnings(), _limited(weights), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            build()
        except UnsafeFileError:
            raise
        except Exception:  # noqa: S110 - what cannot be done without memory comes after the building
            pass
    with _limited(weights):
        return build()


@contextmanager
def _limited(weights: dict[Any, Any]) -> Iterator[None]:
    """Refuse networks of this thread that register more numbers, or parts, than allowed."""
    from torch.nn.modules import module as torch_module

    thread, numbers, parts = threading.get_ident(), 0, 0
    most_numbers = SLACK * sum(values.size for values in weights.values()) + TABLES
    most_parts = 10 * SLACK * len(weights) + PARTS

    def count(module: Any, name: str, value: Any) -> None:
        nonlocal numbers, parts
        if value is None or threading.get_ident() != thread:
            return
        parts += 1
        numbers += getattr(value, "numel", int)()
        if numbers > most_numbers or parts > most_parts:
            raise UnsafeFileError("it describes a network that is larger than its weights.")

    hooks = [
        torch_module.register_module_parameter_registration_hook(count),
        torch_module.register_module_buffer_registration_hook(count),
        torch_module.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def decode_tensor(decoder: Decoder, values: Any) -> Any:
    """Return a tensor of its own memory."""
    import torch

    return torch.from_numpy(np.array(decoder.value(values)))


def decode_size(decoder: Decoder, sizes: Any) -> Any:
    """Return the shape of a tensor."""
    import torch

    return torch.Size(sizes)


def decode_device(decoder: Decoder, kind: Any, index: Any) -> Any:
    """Return a device."""
    import torch

    if kind not in ("cpu", "cuda", "mps") or not (index is None or 0 <= index < 64):
        raise UnsafeFileError(f"{kind!r:.80} is no device.")
    return torch.device(kind) if index is None else torch.device(kind, index)
