"""Which device, and which precision it does best."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def resolve_device(device: str | torch.device, *, strict: bool = True) -> torch.device:
    """Return the device for ``"auto"`` (cuda, then cpu) or a name; say when there is none.

    Not ``strict``, a GPU that is absent becomes the CPU: a trained net loads anywhere.

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
            f"device={device!r} is no device; allowed are 'auto', 'cpu', 'cuda', 'cuda:1'."
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        if not strict:
            return torch.device("cpu")
        raise ValueError(
            f"device={device!r}, but torch sees no GPU here; give device='auto' or 'cpu'."
        )
    return found


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in: bf16 or fp16 on a GPU that has it, else float32."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        precision
    ]


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context in which the forward pass runs."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)
