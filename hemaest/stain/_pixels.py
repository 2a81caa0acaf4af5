"""Which pixels of an image are stained, and where new images are written; normalizers call it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hemaest._color import LINEAR, OPTICAL_DENSITY, RGB_TO_XYZ, lightness
from hemaest._frame import beside_frame
from hemaest.stain import _kernels

Mask = str | Callable[[NDArray[np.uint8]], NDArray[np.bool_]] | None

# a stained pixel has at least this mean optical density, or at most this lightness
DENSITY = 0.15
LIGHTNESS = 80.0
LIMITS = {
    "od": (False, np.float32(256**3 * np.exp(-3 * DENSITY))),
    "luminosity": (True, np.float32(((LIGHTNESS + 16) / 116) ** 3)),
}


def _gray(density: float) -> NDArray[np.uint8]:
    return np.full(3, np.rint(256 * np.exp(-density) - 1), np.uint8)


# the same two limits as a density, and as 1 - f(Y): beyond them a kernel fades to the background
DENSITY_LIMITS = {"od": DENSITY, "luminosity": float(np.log(256 / (255 * 0.7758 + 1)))}
LAB_LIMITS = {
    "od": float(1 - (lightness(_gray(DENSITY)) + 16) / 116),
    "luminosity": 1 - (LIGHTNESS + 16) / 116,
}


# the density of the glass: nothing, as the textbooks have it
WHITE = np.zeros(3, np.float32)
DARKEST_GLASS = 0.7
SAMPLE, BRIGHTEST = 4096, 50  # of so many pixels, one in 50


class Pixels(NamedTuple):
    """Some pixels of one image: channel c of pixel i is ``flat[i * step + c]``."""

    flat: NDArray[np.uint8]
    step: int
    n: int
    light: NDArray[np.float32] = WHITE

    @property
    def where(self) -> tuple[NDArray[np.uint8], int, int]:
        """What the kernels take."""
        return self.flat, self.step, self.n


def flatten(image: NDArray[np.uint8]) -> Pixels:
    """Return all pixels of an image."""
    step = image.shape[-1]
    return Pixels(np.ascontiguousarray(image).reshape(-1), step, image.size // step)


def room_for(X: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """Return where to put as many new images: the whole, and the place of each to write into.

    Writing into one dense array spares a copy of everything.
    """
    if X.dtype == object:
        places = np.empty(len(X), dtype=object)
        return places, places
    whole = np.empty(X.shape, np.uint8)
    return whole, whole


def new_like(image: NDArray[np.uint8], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return an array to write into."""
    return np.empty(image.shape, np.uint8) if out is None else out


def glass(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the density of the lightest places, channel by channel: the color of the light.

    From a few thousand pixels, evenly chosen; no more than what glass can be.
    """
    flat, step, n = flatten(image).where
    stride = max(1, int((n / SAMPLE) ** 0.5))
    levels = _kernels.bright_levels(flat, step, image.shape[1], stride, BRIGHTEST)
    return np.minimum(OPTICAL_DENSITY[levels], DARKEST_GLASS).astype(np.float32)


def select(image: NDArray[np.uint8], mask: Mask, *, find_light: bool = False) -> Pixels:
    """Return the pixels of an image that the mask keeps, and their light; never a black frame."""
    beside = beside_frame(image)
    reference = image if beside is None else image[beside][None]
    light = glass(reference) if find_light else WHITE
    if callable(mask):
        kept = call_mask(mask, image)
        chosen = np.ascontiguousarray(image[..., :3][kept if beside is None else kept & beside])
        return Pixels(chosen.reshape(-1), 3, len(chosen), light)
    whole = flatten(reference)._replace(light=light)
    if mask is None:
        return whole
    by_light, limit = LIMITS[mask]
    if light is not WHITE:
        # darker glass, darker limit
        limit = limit * np.float32(_luminance(light) if by_light else np.exp(-light.sum()))
    packed, n = _kernels.foreground(*whole.where, by_light, limit)
    return Pixels(packed, 4, int(n), light)


def _luminance(light: NDArray[np.float32]) -> float:
    """Return the Y of CIE 1931 of glass of these densities."""
    linear = np.interp(256 * np.exp(-light) - 1, np.arange(256), LINEAR)
    return float(RGB_TO_XYZ[1] @ linear)


def call_mask(mask: Callable[..., Any], image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return what the user's mask function says, or say what is wrong with it."""
    chosen = np.asarray(mask(image[..., :3]))
    if chosen.dtype != bool or chosen.shape != image.shape[:2]:
        raise ValueError(
            f"The mask function returned {chosen.dtype} of shape {chosen.shape}; it must return "
            f"booleans of the image's height and width, {image.shape[:2]}, True where stained."
        )
    return chosen


def limits(mask: Mask, preserve: bool, table: dict[str, float]) -> tuple[np.float32, np.float32]:
    """Return where a kernel starts and ends to fade; twice 0 where it should not."""
    far = table[mask] if preserve and isinstance(mask, str) else 0.0
    return np.float32(far / 2), np.float32(far)
