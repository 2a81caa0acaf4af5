"""The microscope and its camera: from dye on glass to a photograph.

``make_cells`` and ``make_smear`` draw dye on a canvas; :func:`photograph` turns it into an image.
:func:`draw_microscope` draws one laboratory's instrument. Its ``severity`` says how far from a
well-kept scanner: 0 is one, 1 covers telephones held to an eyepiece, webcams, uneven lamps and old
lenses. Every effect depends on the place in the whole image, so tiles of a large one fit together.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from hemaest._numba import kernel

from ._kernels import N_DYES
from ._stains import Stain

__all__ = ["Microscope", "draw_microscope", "new_canvas", "photograph", "view"]

LEVELS = 1024  # steps of the camera's tone curve
WHITE = 1.25  # light above this share of white is clipped


@dataclass(frozen=True)
class Microscope:
    """One instrument. Lengths are in micrometers unless said otherwise.

    Attributes
    ----------
    blur, blur_pixels : float
        Spread of the lens, and of the sensor in pixels.
    defocus, tilt : float and (float, float, float)
        The further spread where focus is lost; across which direction (x, y) it is lost, and
        where it holds. 0 = the field is flat.
    vignette, slope : float and array (3, 2)
        Loss of light at the edge, and for each color across x and y.
    haze : float
        Share of stray light, which lifts dark places.
    gain, mix, gamma, contrast : array (3,), array (3, 3) or None, array (3,), float
        The camera's white balance, color matrix (None = none) and tone curve.
    sharpen, halo : float
        Unsharp masking: its strength and its radius (0 = 0.3 micrometers).
    noise, chroma, grain : float
        Noise in gray levels, that of color alone, and how many pixels wide its grain is.
    fringe : float
        By how many pixels red and blue are parted at the edge of the image.
    median : bool
        Noise is removed, and detail with it.
    jpeg : int
        Quality; 100 = none.
    eyepiece : (float, float, float, float) or None
        A round view in a black frame: center (x, y) and radius in shares of half the shorter
        side, and the softness of its edge.
    tube : (float, float, float, float, float)
        What is seen of the tube around a round view: light in R, G, B at its brightest place, the
        direction of that place, and how far it reaches in shares of the radius.
    """

    blur: float
    sharpen: float
    noise: float
    vignette: float
    jpeg: int
    blur_pixels: float = 0.0
    defocus: float = 0.0
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    slope: np.ndarray | None = None
    haze: float = 0.0
    gain: np.ndarray | None = None
    mix: np.ndarray | None = None
    gamma: np.ndarray | None = None
    contrast: float = 0.0
    halo: float = 0.0
    chroma: float = 0.0
    grain: float = 0.0
    fringe: float = 0.0
    median: bool = False
    eyepiece: tuple[float, float, float, float] | None = None
    tube: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 1.0)

    def reach(self, scale: float, focus: float = 1.0) -> int:
        """Return how many pixels beyond a tile must be drawn, a multiple of a block of JPEG."""
        far = 3 * math.hypot((self.blur * focus + self.defocus) * scale, self.blur_pixels)
        return 16 * max(1, math.ceil((far + abs(self.fringe) + 2) / 16))


def draw_microscope(
    rng: np.random.Generator, blur: float, strength: float, severity: float = 0.0
) -> Microscope:
    """Draw the microscope and camera of one laboratory.

    ``blur`` is that of the stain style, ``strength`` how much good laboratories differ.
    """
    good = Microscope(
        blur=blur * float(np.exp(0.3 * strength * rng.standard_normal())),
        sharpen=float(rng.uniform(0.0, 0.9)),
        noise=float(rng.uniform(0.8, 2.5)),
        vignette=float(rng.uniform(0.0, 0.1) * strength),
        jpeg=int(rng.integers(88, 98)),
    )
    return _worse(good, rng, severity) if severity > 0 else good


def _worse(good: Microscope, rng: np.random.Generator, severity: float) -> Microscope:
    """Add to a good microscope what real ones suffer from, each effect by its own chance."""

    def some(share: float) -> float:
        return severity * float(rng.random() < share * min(severity, 1.0))

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    saturation = np.clip(np.exp(some(0.8) * 0.4 * rng.standard_normal()), 0.25, 2.4)
    mix = saturation * np.eye(3) + (1 - saturation) / 3 + some(0.7) * 0.1 * normal(3, 3)
    mix /= mix.sum(axis=1, keepdims=True)
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(-1.2, 1.2)
    round_view = rng.random() < 0.3 * severity
    glow = rng.uniform(0, 110) * rng.random() * rng.uniform(0.4, 1.0, 3)
    return Microscope(
        blur=good.blur + some(0.5) * 0.25 * abs(float(rng.standard_normal())),
        blur_pixels=some(0.7) * float(rng.uniform(0.2, 1.2)),
        defocus=some(0.35) * float(rng.uniform(0.1, 0.7)),
        tilt=(float(np.cos(angle)), float(np.sin(angle)), float(away)),
        vignette=good.vignette + some(0.4) * float(rng.uniform(0.0, 0.7)),
        slope=(some(0.7) * (0.12 * normal(1, 2) + 0.05 * normal(3, 2))).astype(np.float32),
        haze=some(0.5) * float(rng.uniform(0.0, 0.35)),
        gain=np.exp(some(0.8) * (0.13 * normal(1) + 0.07 * normal(3))).astype(np.float32),
        mix=mix.astype(np.float32),
        gamma=np.exp(some(0.8) * (0.3 * normal(1) + 0.06 * normal(3))).astype(np.float32),
        contrast=some(0.5) * float(rng.uniform(0.0, 0.7)),
        sharpen=good.sharpen + some(0.4) * float(rng.uniform(0.3, 3.0)),
        halo=some(0.5) * float(rng.uniform(0.1, 0.8)),
        noise=good.noise + some(0.5) * float(rng.exponential(4.0)),
        chroma=some(0.4) * float(rng.uniform(0.0, 8.0)),
        grain=some(0.5) * float(rng.uniform(0.3, 1.3)),
        fringe=some(0.3) * float(rng.standard_normal()),
        median=bool(some(0.15)),
        jpeg=int(np.clip(good.jpeg - some(0.6) * rng.uniform(3, 65), 18, 100)),
        eyepiece=(
            float(0.15 * normal(1)[0]),
            float(0.15 * normal(1)[0]),
            float(rng.uniform(0.85, 1.35)),
            float(rng.uniform(0.002, 0.1)),
        )
        if round_view
        else None,
        tube=(*glow.tolist(), float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.02, 0.4))),
    )


def new_canvas(height: int, width: int) -> np.ndarray:
    """Return clean glass."""
    return np.zeros((height, width, N_DYES), np.float32)


def photograph(
    canvas: np.ndarray,
    scale: float,
    stain: Stain,
    microscope: Microscope,
    rng: np.random.Generator,
    *,
    focus: float = 1.0,
    window: tuple[int, int, int, int] | None = None,
    margin: int = 0,
    grain: int = 4099,
    over: np.ndarray | None = None,
) -> np.ndarray:
    """Turn dye into an image: light, lens, sensor, JPEG.

    Parameters
    ----------
    canvas : float32 array (height, width, 4)
        Dye.
    scale : float
        Pixels per micrometer.
    stain, microscope
        Of the laboratory.
    rng : Generator
        For the noise.
    focus : float
        How many times wider than usual the lens spreads.
    window : (top, left, height, width), optional
        Which part of an image of height and width the canvas is.
    margin : int
        So many pixels are cut off on each side.
    grain : int
        How many random numbers the noise is made of.
    over : float32 array (height, width, 3), optional
        Optical density of what lies on the film beside dye.

    Returns
    -------
    image : uint8 array
    """
    import cv2

    m = microscope
    window = (0, 0, *canvas.shape[:2]) if window is None else window
    slope = np.zeros((3, 2), np.float32) if m.slope is None else m.slope
    light = develop(canvas, stain.density, stain.light, stain.glow, m.vignette, slope, window)
    if over is not None:
        light *= np.exp(-over)
    light = _through_lens(light, scale, m, focus, window)
    if m.eyepiece is not None:
        # the edge of the view is colored: blue light is bent more than red
        for channel, wider in enumerate((-0.25, 0.0, 0.3)):
            x, y, radius, soft = m.eyepiece
            eyepiece = (x, y, radius + wider * soft, soft)
            light[..., channel] *= view(replace(m, eyepiece=eyepiece), light.shape, window)
        if max(m.tube[:3]) > 0:
            light += _tube(m, light.shape, window)
    if m.mix is not None and m.gain is not None:
        haze = m.haze * stain.light * m.gain
        light = respond(light, (1 - m.haze) * m.gain, haze.astype(np.float32), m.mix, _curves(m))
    if m.sharpen > 0:  # as cameras do: edges gain a dark line inside and a halo outside
        wide = cv2.GaussianBlur(light, (0, 0), max((m.halo or 0.3) * scale, 0.5))
        light = cv2.addWeighted(light, 1 + m.sharpen, wide, -m.sharpen, 0)
    if m.chroma > 0:
        light += _blotches(light.shape, m, rng)
    if m.grain > 0:
        light += _grain(light.shape, m, rng)
        image = np.clip(light + 0.5, 0, 255).astype(np.uint8)
    else:
        image = expose(light, rng.standard_normal(grain, dtype=np.float32), m.noise)
    if m.median:
        image = cv2.medianBlur(image, 3)
    if m.jpeg < 100:
        blue_first = np.ascontiguousarray(image[..., ::-1])
        blob = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, m.jpeg])[1]
        image = np.asarray(cv2.imdecode(blob, cv2.IMREAD_COLOR))[..., ::-1]
    return image[margin:-margin, margin:-margin] if margin else image


def _tube(m: Microscope, shape: tuple[int, ...], window: tuple[int, int, int, int]) -> np.ndarray:
    """Return the light that the tube around the round view reflects."""
    red, green, blue, way, reach = m.tube
    gap, rows, columns = _beyond(m, shape, window)
    side = 0.5 + 0.5 * np.cos(np.arctan2(rows, columns) - way)
    glow = np.where(gap < 0, np.exp(np.minimum(gap, 0) / reach) * side, 0.0)
    return glow[..., None] * np.array([red, green, blue], np.float32)


def view(
    microscope: Microscope, shape: tuple[int, ...], window: tuple[int, int, int, int]
) -> np.ndarray:
    """Return how much of the light of each pixel passes the eyepiece, float32 from 0 to 1."""
    if microscope.eyepiece is None:
        return np.ones(shape[:2], np.float32)
    gap, _, _ = _beyond(microscope, shape, window)
    soft = max(microscope.eyepiece[3], 2 / min(window[2:]))
    return np.clip(gap / soft + 0.5, 0.015, 1.0)


def _beyond(
    m: Microscope, shape: tuple[int, ...], window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far inside the round view each pixel lies, and where it is from the center."""
    x, y, radius, _ = m.eyepiece or (0.0, 0.0, np.inf, 0.0)
    top, left, height, width = window
    half = min(height, width) / 2
    rows = (np.arange(shape[0], dtype=np.float32)[:, None] + top - height / 2) / half - y
    columns = (np.arange(shape[1], dtype=np.float32)[None] + left - width / 2) / half - x
    return radius - np.sqrt(rows**2 + columns**2), rows, columns


def _through_lens(
    light: np.ndarray, scale: float, m: Microscope, focus: float, window: tuple[int, int, int, int]
) -> np.ndarray:
    """Blur: everywhere by the lens, more where the film leaves the plane of focus."""
    import cv2

    sigma = math.hypot(m.blur * scale * focus, m.blur_pixels)
    sharp = cv2.GaussianBlur(light, (0, 0), sigma) if sigma > 0.25 else light
    if m.defocus * scale > 0.3:
        far = cv2.GaussianBlur(light, (0, 0), math.hypot(sigma, m.defocus * scale))
        top, left, height, width = window
        v = 2.0 * (np.arange(light.shape[0], dtype=np.float32)[:, None] + top) / height - 1.0
        u = 2.0 * (np.arange(light.shape[1], dtype=np.float32)[None] + left) / width - 1.0
        lost = np.clip(np.abs(m.tilt[0] * u + m.tilt[1] * v - m.tilt[2]), 0, 1)[..., None]
        sharp = sharp + lost * (far - sharp)
    if abs(m.fringe) > 0.05:
        for channel, sign in ((0, 1.0), (2, -1.0)):
            sharp = _stretched(sharp, channel, sign * m.fringe, window)
    return sharp


def _stretched(
    light: np.ndarray, channel: int, pixels: float, window: tuple[int, int, int, int]
) -> np.ndarray:
    """Magnify one color by so many pixels at the edge of the image, about the image's center."""
    import cv2

    top, left, height, width = window
    zoom = 1.0 + 2.0 * pixels / max(height, width)
    x, y = width / 2 - left, height / 2 - top
    matrix = np.array([[zoom, 0, x * (1 - zoom)], [0, zoom, y * (1 - zoom)]])
    plane = cv2.warpAffine(
        np.ascontiguousarray(light[..., channel]), matrix, light.shape[1::-1],
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    light = light.copy()
    light[..., channel] = plane
    return light


def _curves(m: Microscope) -> np.ndarray:
    """Return the tone curve of each color, (3, LEVELS + 2)."""
    x = np.linspace(0, WHITE, LEVELS + 1)[None].repeat(3, axis=0)
    y = np.clip(x, 0, 1) ** (1.0 if m.gamma is None else m.gamma[:, None])
    y = y + m.contrast * (y * y * (3 - 2 * y) - y)
    return (255 * np.pad(y, ((0, 0), (0, 1)), mode="edge")).astype(np.float32)


def _blotches(shape: tuple[int, ...], m: Microscope, rng: np.random.Generator) -> np.ndarray:
    """Return the colored noise of a small sensor, a few pixels wide."""
    import cv2

    small = rng.standard_normal((shape[0] // 3 + 1, shape[1] // 3 + 1, 3), dtype=np.float32)
    return m.chroma * cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _grain(shape: tuple[int, ...], m: Microscope, rng: np.random.Generator) -> np.ndarray:
    """Return gray noise as wide as ``grain``."""
    import cv2

    fine = rng.standard_normal(shape[:2], dtype=np.float32)
    wide = cv2.GaussianBlur(fine, (0, 0), max(m.grain, 0.3))
    return (m.noise / max(float(wide.std()), 1e-3) * wide)[..., None]


@kernel
def develop(canvas, density, light, glow, vignette, slope, window):
    """Turn dye into light: Beer-Lambert for three channels under an uneven lamp.

    ``window`` (top, left, height, width) says which part of the whole image this canvas is.
    """
    height, width, _ = canvas.shape
    out = np.empty((height, width, 3), np.float32)
    for row in range(height):
        v = 2.0 * (row + window[0]) / window[2] - 1.0
        for col in range(width):
            u = 2.0 * (col + window[1]) / window[3] - 1.0
            shade = 1.0 - vignette * (u * u + v * v) * 0.5
            for c in range(3):
                od = np.float32(0.0)
                for d in range(N_DYES):
                    od += canvas[row, col, d] * density[d, c]
                lamp = light[c] * max(shade + slope[c, 0] * u + slope[c, 1] * v, 0.1)
                # stray light keeps the darkest places from being black
                out[row, col, c] = lamp * (glow + (1.0 - glow) * math.exp(-od))
    return out


@kernel
def respond(light, gain, haze, mix, curves):
    """Turn light into the camera's own numbers: gain, stray light, color matrix, tone curve."""
    height, width, _ = light.shape
    out = np.empty((height, width, 3), np.float32)
    steps = np.float32(LEVELS / WHITE / 255.0)
    for row in range(height):
        for col in range(width):
            r = light[row, col, 0] * gain[0] + haze[0]
            g = light[row, col, 1] * gain[1] + haze[1]
            b = light[row, col, 2] * gain[2] + haze[2]
            for c in range(3):
                x = (mix[c, 0] * r + mix[c, 1] * g + mix[c, 2] * b) * steps
                x = min(max(x, np.float32(0.0)), np.float32(LEVELS))
                k = int(x)
                low = curves[c, k]
                out[row, col, c] = low + (curves[c, k + 1] - low) * (x - k)
    return out


@kernel
def expose(image, grain, strength):
    """Add shot-like noise from a pool of normal numbers and round to bytes."""
    height, width, channels = image.shape
    out = np.empty((height, width, channels), np.uint8)
    size = grain.shape[0]
    for row in range(height):
        at = (row * 2503) % size
        for col in range(width):
            for c in range(channels):
                value = image[row, col, c]
                spread = strength * (0.4 + 0.6 * math.sqrt(max(value, 0.0) / 255.0))
                value += spread * grain[at]
                at += 1
                if at == size:
                    at = 0
                out[row, col, c] = np.uint8(min(max(value + 0.5, 0.0), 255.0))
    return out
