"""Sketches of images: few numbers that a copy keeps and another cell does not.

A sketch is unmoved by the 8 turns and mirrors, since it is made of rings around the center, sorted
values and orbit means of the spectrum. What crops, recompression and brightness still change is
learned from the images themselves: copies are made of a sample, and a linear discriminant finds
the directions in which images differ and copies do not. Distances are in units of copy noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Array = NDArray[np.float32]

SIZE = 48  # side that sketches are made from
CUT = 54  # side that parts are cut from, so that they need no resizing
TOP = 9  # highest frequency looked at
RINGS = 8
QUANTILES = np.linspace(0.01, 0.99, 12)
DIMENSIONS = 20
# scale and place of the parts of an image that are searched for as well, for copies that were cut
VIEWS = ((1.0, 0.5, 0.5), (SIZE / CUT, 0.5, 0.5)) + tuple(
    (SIZE / CUT, top, left) for top in (0.1, 0.9) for left in (0.1, 0.9)
)


def view(image: NDArray[Any], scale: float, top: float, left: float) -> NDArray[Any]:
    """Cut a part of `scale` times the sides; `top` and `left` say where, from 0 to 1."""
    height, width = image.shape[:2]
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    y, x = round((height - h) * top), round((width - w) * left)
    return image[y : y + h, x : x + w]


def shrink(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize to a square, each pixel the mean of what it covers."""
    import cv2

    return cv2.resize(
        np.ascontiguousarray(image[..., :3]), (size, size), interpolation=cv2.INTER_AREA
    )


@cache
def _masks() -> tuple[Array, Array, NDArray[np.intp], Array]:
    """Return ring means as a matrix, the window, and the orbits of the spectrum."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    ring = np.minimum((np.hypot(y, x) / (SIZE / 2) * (RINGS - 1)).astype(int), RINGS - 1).ravel()
    rings = np.eye(RINGS)[ring]
    window = np.hanning(SIZE + 2)[1:-1]
    v, u = np.meshgrid(
        np.fft.fftfreq(SIZE, 1 / SIZE).astype(int), np.arange(SIZE // 2 + 1), indexing="ij"
    )
    # each frequency once: where u is 0, those with negative v are mirror images
    wanted = (abs(v) <= TOP) & (u <= TOP) & ((u > 0) | (v >= 0))
    low = np.flatnonzero(wanted.ravel())
    pairs = np.sort(np.column_stack([abs(v).ravel()[low], u.ravel()[low]]), axis=1)
    orbit = np.unique(pairs, axis=0, return_inverse=True)[1]
    return (
        (rings / rings.sum(0)).astype(np.float32),
        np.outer(window, window).astype(np.float32),
        low,
        (np.eye(orbit.max() + 1)[orbit] / np.bincount(orbit)).astype(np.float32),
    )


def raw_sketch(views: list[NDArray[np.uint8]]) -> Array:
    """Return one row of features for each view (uint8, SIZE x SIZE x 3)."""
    rings, window, low, orbits = _masks()
    light = np.log(np.stack(views).astype(np.float32) + 8)
    green = light[..., 1]
    planes = np.stack([green, light[..., 0] - green, light[..., 2] - green], 1)
    n = len(planes)
    flat = planes.reshape(n * 3, -1)
    at = (QUANTILES * (flat.shape[1] - 1)).astype(int)
    ranked = np.sort(flat, axis=1)[:, at]  # faster than partition at several places
    mean = flat @ rings
    spread = np.sqrt(np.maximum((flat**2) @ rings - mean**2, 0))
    centered = (planes - planes.mean((2, 3), keepdims=True)) * window
    power = np.abs(np.fft.rfft2(centered).reshape(n * 3, -1)[:, low]) ** 2
    spectrum = np.log(power @ orbits + 1e-2)[:, 1:]
    return np.hstack([ranked, mean, spread, spectrum]).reshape(n, -1).astype(np.float32)


def raw_views(image: NDArray[np.uint8]) -> Array:
    """Return a row of features for each of ``VIEWS``, the whole image first."""
    parts = shrink(image, CUT)
    return raw_sketch([shrink(image, SIZE), *(view(parts, *where) for where in VIEWS[1:])])


def copy_of(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a turned, mirrored, slightly cut, brightened and recompressed copy."""
    import cv2

    copy = np.rot90(image, int(rng.integers(4)))
    if rng.random() < 0.5:
        copy = copy[:, ::-1]
    copy = view(copy, rng.uniform(0.93, 1), *rng.random(2))
    copy = np.clip(copy * rng.uniform(0.88, 1.12), 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 90))]
    return cv2.imdecode(cv2.imencode(".jpg", np.ascontiguousarray(copy), quality)[1], 1)


@dataclass
class CopyMetric:
    """Projection in which the copies of one image lie about one unit apart in each direction."""

    mean: Array
    axes: Array

    @classmethod
    def learn(cls, images: Iterable[NDArray[np.uint8]], rng: np.random.Generator) -> CopyMetric:
        """Learn from a sample of images and copies made of them."""
        small = [shrink(image, 2 * SIZE) for image in images]
        own = raw_sketch([shrink(image, SIZE) for image in small])
        times = -(-500 // len(small))
        noise = np.concatenate(
            [
                raw_sketch([shrink(copy_of(image, rng), SIZE) for image in small]) - own
                for _ in range(times)
            ]
        ).astype(float)
        within = noise.T @ noise / len(noise)
        within += np.eye(len(within)) * np.trace(within) / len(within) * 1e-2
        mean = own.mean(0)
        spread = (own - mean).T.astype(float) @ (own - mean) / max(len(own) - 1, 1)
        _, vectors = eigh(spread + 1e-6 * within, within)
        return cls(mean, vectors[:, : -DIMENSIONS - 1 : -1].astype(np.float32))

    def points(self, raw: Array) -> Array:
        """Return the places of rows of :func:`raw_sketch`."""
        return ((raw - self.mean) @ self.axes).astype(np.float32)
