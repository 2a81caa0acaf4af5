"""The device a network runs on, the precision that suits it, and the seed of its random numbers."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from hemaest._library_threads import library_threads
from hemaest._parallel import free_threads

# networks reduce the side 32 times; two pixels are left
SMALLEST_IN_BFLOAT16 = 64
# 16 small squares: with fewer, threads wait for each other longer than they work
PIXELS_A_THREAD = 2**16

# torch's global generators belong to the process, so that fits in threads take turns
_generators = threading.RLock()


def resolve_device(device: str | torch.device, *, strict: bool = True) -> torch.device:
    """Return the device for ``"auto"`` (cuda, then cpu) or a name; raise if it is absent.

    With ``strict=False`` an absent GPU becomes the CPU, so that a trained network loads anywhere.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device; allowed are 'auto', 'cpu', 'cuda', 'cuda:1'."
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        if not strict:
            return torch.device("cpu")
        raise ValueError(f"device={device!r}, but torch finds no GPU; give device='auto' or 'cpu'.")
    return found


def multiplies_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16."""
    # absent in older versions of torch
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def resolve_precision(precision: str, device: torch.device, *, train_at: int = 0) -> torch.dtype:
    """Return the number type to compute in; ``"auto"`` is the fastest of the device.

    On a CPU that is bfloat16 for training where the processor has instructions for it (up to
    twice as fast), and always float32 for prediction, so that every computer gives the same
    predictions.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        The parameter of the estimator.
    device : torch.device
        The device.
    train_at : int, default=0
        Side of the training images; 0 for prediction.

    Examples
    --------
    >>> resolve_precision("auto", torch.device("cpu"))
    torch.float32
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
            precision
        ]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    # on maps of one pixel, gradients of weights that meet only padding are left unset
    large = train_at >= SMALLEST_IN_BFLOAT16
    return torch.bfloat16 if large and multiplies_bfloat16() else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context in which the forward pass runs."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def threads_for(pixels: int) -> AbstractContextManager[None]:
    """Return the context in which a batch of so many pixels is computed, on the free cores.

    Measured with ``deep-small``: two threads instead of one save a tenth of the time on an idle
    machine, and take three times as long beside other work.
    """
    wanted = pixels // PIXELS_A_THREAD
    # a small batch needs no look at the load of the machine
    return library_threads(min(wanted, free_threads()) if wanted > 1 else 1)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run with torch's global generators at a seed, and restore them afterwards.

    Examples
    --------
    >>> with seeded(0, torch.device("cpu")):
    ...     first = torch.rand(2)
    >>> with seeded(0, torch.device("cpu")):
    ...     print(torch.equal(first, torch.rand(2)))
    True
    """
    cuda = [device] if device.type == "cuda" else []
    with _generators, torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
