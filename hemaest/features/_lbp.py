"""Local binary patterns, uniform and rotation invariant: inside a region, and of a whole image.

The neighbours on the circle are interpolated as scikit-image does, with coordinates of five
decimals, but in whole numbers: the weights are integers over 10^10, so that no comparison with the
centre falls the wrong way by rounding, least of all where the neighbourhood is flat.
"""

from numbers import Integral
from typing import ClassVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hemaest.base import FeatureExtractor
from hemaest.images import Channels, rgb

CIRCLES = ((8, 1), (16, 2))
PAD = 3


def definitions(circles=CIRCLES[:1]) -> dict[str, str]:
    """Return the name and one-line definition of the features of a region, in order."""
    lines = {}
    for points, radius in circles:
        where = f"{points} points at radius {radius}"
        for bits in range(points + 1):
            lines[f"lbp_{points}_{bits}"] = (
                f"share of pixels with a uniform pattern of {bits} points >= centre, {where}"
            )
        lines[f"lbp_{points}_other"] = f"share of pixels whose pattern is not uniform, {where}"
    return lines


SIZE = len(definitions())


def _circle(points: int, radius: int):
    """Return integer corners (y, x) and the four integer weights of each neighbour."""
    angles = 2 * np.pi * np.arange(points) / points
    ys = np.rint(-radius * np.sin(angles) * 1e5).astype(np.int64)
    xs = np.rint(radius * np.cos(angles) * 1e5).astype(np.int64)
    y0, x0 = ys // 100_000, xs // 100_000
    fy, fx = ys - y0 * 100_000, xs - x0 * 100_000
    gy, gx = 100_000 - fy, 100_000 - fx
    weights = np.stack([gy * gx, gy * fx, fy * gx, fy * fx], axis=1).astype(float)
    return np.stack([y0, x0], axis=1), weights


def _bins(points: int):
    """Return the bin of each pattern: its number of ones if uniform, else points + 1."""
    codes = np.arange(1 << points)
    bits = codes[:, None] >> np.arange(points) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), points + 1).astype(np.uint8)


TABLES = tuple((*_circle(points, radius), _bins(points)) for points, radius in CIRCLES)


@njit(cache=True, nogil=True, error_model="numpy")
def patterns(grey, corners, weights):
    """Return the pattern of each pixel of a float picture with a frame of PAD."""
    height, width = grey.shape
    codes = np.zeros((height, width), np.uint16)
    for p in range(len(corners)):
        dy, dx = corners[p]
        a, b, c, d = weights[p]
        bit = np.uint16(1 << p)
        for y in range(3, height - 3):
            above = grey[y + dy]
            below = grey[y + dy + 1]
            centre = grey[y]
            line = codes[y]
            if a == 1e10:  # straight above, below or beside: no mean of four pixels
                for x in range(3, width - 3):
                    if above[x + dx] >= centre[x]:
                        line[x] |= bit
                continue
            for x in range(3, width - 3):
                value = (
                    a * above[x + dx]
                    + b * above[x + dx + 1]
                    + c * below[x + dx]
                    + d * below[x + dx + 1]
                )
                if value >= centre[x] * 1e10:
                    line[x] |= bit
    return codes


@njit(cache=True, nogil=True, error_model="numpy")
def _shares(codes, regions, bins, out):
    """Write the share of each bin among the pixels of cytoplasm and nucleus."""
    counts = np.zeros((2, out.shape[1]), np.int64)
    for y in range(regions.shape[0]):
        for x in range(regions.shape[1]):
            region = regions[y, x]
            if region:
                counts[region - 1, bins[codes[y + 3, x + 3]]] += 1
    for region in range(2):
        n = counts[region].sum()
        for k in range(out.shape[1]):
            out[region, k] = counts[region, k] / n if n else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def measure_lbp(framed, regions, circle, out):
    """Write the shares of cytoplasm (region 1) and nucleus (region 2) for one circle.

    ``framed`` is the grey picture as floats with a frame of PAD pixels of what lies around it.
    """
    codes = patterns(framed, circle[0], circle[1])
    _shares(codes, regions, circle[2], out)


class PatternHistogram(FeatureExtractor):
    """Histograms of uniform local binary patterns of the green channel, 8 and 16 points.

    Parameters
    ----------
    n_jobs : int, optional
        Threads; None means all that are available.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.features import PatternHistogram
    >>> X = np.full((1, 12, 12, 3), 80, np.uint8)
    >>> histogram = PatternHistogram().fit_transform(X)
    >>> histogram.shape, histogram.sum().round(6)
    ((1, 28), np.float64(2.0))
    """

    _channels: ClassVar[Channels] = "any"
    _parameter_constraints: ClassVar = {"n_jobs": [Integral, None]}

    def __init__(self, *, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def _feature_names(self) -> list[str]:
        return [f"image_{name}" for name in definitions(CIRCLES)]

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.floating]:
        grey = rgb(image)[..., 1]
        framed = np.pad(grey.astype(float), PAD, mode="edge")
        everywhere = np.ones(grey.shape, np.uint8)
        rows = []
        for (points, _), circle in zip(CIRCLES, TABLES, strict=True):
            out = np.empty((2, points + 2))
            measure_lbp(framed, everywhere, circle, out)
            rows.append(out[0])
        return np.concatenate(rows)
