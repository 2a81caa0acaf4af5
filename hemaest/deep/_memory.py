"""When memory runs out: find out which batch size would have fitted, and say so."""

import traceback
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from hemaest.deep._net import ClassifierNet


class BatchTooLarge(MemoryError):
    """A batch did not fit into memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a GPU or not."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def largest_batch(attempt: Any, batch_size: int) -> int | None:
    """Return the largest half, quarter, ... of a batch for which ``attempt(size)`` has memory.

    Examples
    --------
    >>> def attempt(size):
    ...     if size > 10:
    ...         raise MemoryError
    >>> largest_batch(attempt, 64)
    8
    """
    size = batch_size // 2
    while size >= 1:
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size //= 2
        else:
            return size
    return None


def explain_memory(net: "ClassifierNet", error: BaseException) -> BatchTooLarge:
    """Return the error that names the batch size that does fit, tried out on this device."""
    side = net.run.get("side", 0)
    # the frames of the failed step still hold its tensors
    traceback.clear_frames(error.__traceback__)

    def attempt(size: int) -> None:
        net.optimizer_.zero_grad(set_to_none=True)
        if net.torch_device.type == "cuda":
            torch.cuda.empty_cache()
        images = torch.zeros(size, side, side, 3, dtype=torch.uint8)
        loss, _ = net.training_loss(images, torch.zeros(size, dtype=torch.long), torch.ones(size))
        loss.backward()
        net.optimizer_.zero_grad(set_to_none=True)

    fits = largest_batch(attempt, net.batch_size) if side else None
    advice = (
        f"batch_size={fits} fits"
        if fits
        else "not even one image fits: take a smaller image_size or backbone"
    )
    return BatchTooLarge(
        f"batch_size={net.batch_size} does not fit into the memory of {net.torch_device} "
        f"({str(error).splitlines()[0][:120] if str(error) else type(error).__name__}); {advice}."
    )
