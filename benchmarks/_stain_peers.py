"""The peers of the stain steps: each function yields (task, name, how to build the step).

A peer that is not installed, or whose import fails, is named and left out.
"""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

Step = Callable[[np.ndarray], Any]


def torch_image(image: np.ndarray) -> Any:
    """Return an image as peers on torch take it."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1)


def torchstain_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield torchstain's, on NumPy and on torch."""
    from torchstain import normalizers

    def make(name: str, backend: str, more: dict[str, Any]) -> Callable[[], Step]:
        def build() -> Step:
            convert = torch_image if backend == "torch" else np.asarray
            normalizer = getattr(normalizers, name)(backend=backend)
            normalizer.fit(convert(target))
            return lambda image: normalizer.normalize(convert(image), **more)

        return build

    for backend in ("numpy", "torch"):
        yield "Reinhard", f"torchstain ({backend})", make("ReinhardNormalizer", backend, {})
        yield (
            "Macenko",
            f"torchstain ({backend})",
            make("MacenkoNormalizer", backend, {"stains": False}),
        )


def staintools_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield staintools'."""
    import staintools

    def make(method: str) -> Callable[[], Step]:
        def build() -> Step:
            if method == "reinhard":
                normalizer = staintools.ReinhardColorNormalizer()
            else:
                normalizer = staintools.StainNormalizer(method=method)
            normalizer.fit(target.copy())
            return lambda image: normalizer.transform(image)

        return build

    for method in ("reinhard", "macenko", "vahadane"):
        yield method.capitalize(), "staintools", make(method)


def stainx_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield stainx's."""
    import stainx

    def make(name: str) -> Callable[[], Step]:
        def build() -> Step:
            normalizer = getattr(stainx, name)(device="cpu")
            normalizer.fit(torch_image(target)[None])
            return lambda image: normalizer.transform(torch_image(image)[None])

        return build

    for name in ("Reinhard", "Macenko"):
        yield name, "stainx", make(name)


def torch_staintools_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield torch-staintools'."""
    from torch_staintools.normalizer import NormalizerBuilder

    def make(name: str) -> Callable[[], Step]:
        def build() -> Step:
            normalizer = NormalizerBuilder.build(name)
            normalizer.fit(torch_image(target)[None].float() / 255)
            return lambda image: normalizer(torch_image(image)[None].float() / 255)

        return build

    for name in ("reinhard", "macenko", "vahadane"):
        yield name.capitalize(), "torch-staintools", make(name)


def tiatoolbox_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield tiatoolbox's."""
    from tiatoolbox.tools.stainnorm import get_normalizer

    def make(name: str) -> Callable[[], Step]:
        def build() -> Step:
            normalizer = get_normalizer(name)
            normalizer.fit(target.copy())
            return lambda image: normalizer.transform(image.copy())

        return build

    for name in ("Reinhard", "Macenko", "Vahadane"):
        yield name, "tiatoolbox", make(name)


def albumentations_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield the ways of AlbumentationsX's HEStain."""
    import albumentations

    def make(method: str) -> Callable[[], Step]:
        def build() -> Step:
            step = albumentations.HEStain(
                method=method, preset="standard" if method == "preset" else None, p=1
            )
            return lambda image: step(image=image)["image"]

        return build

    for method in ("preset", "random_preset", "macenko", "vahadane"):
        yield "augmentation", f"HEStain ({method})", make(method)


def opencv_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield OpenCV's CLAHE on the lightness of LAB."""
    clahe = cv2.createCLAHE(2.0, (8, 8))

    def step(image: np.ndarray) -> np.ndarray:
        lightness, a, b = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
        return cv2.cvtColor(cv2.merge([clahe.apply(lightness), a, b]), cv2.COLOR_LAB2RGB)

    yield "ALHE", "OpenCV CLAHE on LAB", lambda: step


PEERS = [
    torchstain_steps,
    staintools_steps,
    stainx_steps,
    tiatoolbox_steps,
    albumentations_steps,
    opencv_steps,
    torch_staintools_steps,
]


def peer_steps(target: np.ndarray) -> Iterator[tuple[str, str, Callable[[], Step]]]:
    """Yield every peer that can be imported; say which cannot."""
    for steps in PEERS:
        try:
            yield from steps(target)
        except Exception as error:  # an import of a peer can fail in any way
            print(f"  {steps.__name__}: {type(error).__name__}: {str(error)[:90]}", flush=True)
