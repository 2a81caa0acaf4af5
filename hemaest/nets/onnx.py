"""Networks as ONNX files, for programs without Python or torch.

The ``to_onnx`` methods of :mod:`hemaest.pretrained` and :mod:`hemaest.deep` call
:func:`write_onnx`; it needs the extra ``hemaest[onnx]``.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Embedder", "write_onnx"]

TOLERANCE = 1e-4


def write_onnx(
    module: nn.Module,
    image_size: int,
    path: str | Path,
    outputs: Sequence[str] = ("logits",),
    numbers: Sequence[str] = (),
) -> Path:
    """Write a network to an ONNX file and compare it with onnxruntime.

    Parameters
    ----------
    module : Module
        In evaluation mode; it returns one tensor for each of ``outputs``.
    image_size : int
        Side of the images; the file takes any number of them.
    path : path
        Ends in ``.onnx``.
    outputs : sequence of str
        Names of what is returned.
    numbers : sequence of str
        Names of what the module takes beside the images, each one number an image.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    RuntimeError
        Where onnxruntime's numbers differ from torch's by more than 1e-4 of their size.
    """
    runtime = _runtime()
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"{path}: let the name of an ONNX file end in .onnx.")
    weight = next(module.parameters())
    random = torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    example = random.to(weight.device, weight.dtype)
    more = [torch.linspace(10, 20, 2).to(example) for _ in numbers]
    inputs = ("image", *numbers)
    module = module.eval()
    n = torch.export.Dim("n", min=1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about its own insides
        torch.onnx.export(
            module, (example, *more), str(path), input_names=inputs, output_names=list(outputs),
            dynamic_shapes=tuple({0: n} for _ in inputs), dynamo=True, external_data=False,
            verbose=False,
        )  # fmt: skip
        wanted = module(example, *more)
    wanted = [wanted] if isinstance(wanted, Tensor) else list(wanted)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = (value.cpu().numpy() for value in (example, *more))
    found = session.run(None, dict(zip(inputs, given, strict=True)))
    for name, a, b in zip(outputs, wanted, found, strict=True):
        gap = float((a.cpu() - torch.from_numpy(b)).abs().max())
        if gap > TOLERANCE * max(1.0, float(a.abs().max())):
            path.unlink()
            raise RuntimeError(f"{name} of {path} differs by {gap:.2g} from the network's.")
    return path


class Embedder(nn.Module):
    """The part of a network before its last layer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return one vector for each image."""
        return self.net.embed(x)


def _runtime() -> Any:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ImportError(
            'ONNX export needs onnx, onnxscript and onnxruntime: pip install "hemaest[onnx]".'
        ) from error
    return onnxruntime
