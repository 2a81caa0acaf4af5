"""ALHE, adaptive local histogram enhancement: local contrast where there is something to see.

OpenCV's CLAHE takes one clip limit for all tiles and wants a conversion to LAB and back, which
costs more than the equalization; here both passes over the pixels work on the RGB bytes.
"""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hemaest._numba import kernel
from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, Interval
from hemaest.images import pack

SMALLEST_TILE = 8  # pixels
CONTRAST = 32.0  # a standard deviation of luma that needs no more contrast
F32, I32 = np.float32, np.int32


def enhancement_curves(
    counts: NDArray[Any], clip_limit: float, noise: float
) -> NDArray[np.float32]:
    """Return a curve 0..255 -> 0..255 for each histogram of 256 bins.

    Each is a mix of the identity and of a histogram equalization with clipped counts. A tile of
    low contrast and high entropy gets the whole clip limit, a tile that is contrasty or plain
    gets less; a tile whose variance is no more than noise keeps the identity.

    Parameters
    ----------
    counts : array of shape (..., 256)
    clip_limit : float
        The largest limit, in multiples of the mean count of a bin.
    noise : float
        Standard deviation of luma that is noise.

    Examples
    --------
    >>> constant = np.zeros(256)
    >>> constant[200] = 50
    >>> bool(np.allclose(enhancement_curves(constant, 3.0, 4.0), np.arange(256)))
    True
    """
    levels = np.arange(256, dtype=np.float32)
    share = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1).astype(np.float32)
    share = share.astype(np.float32)
    mean = share @ levels
    variance = np.maximum(share @ levels**2 - mean**2, 0)
    entropy = -(share * np.log2(np.maximum(share, 1e-9))).sum(axis=-1) / 8
    limit = 1 + (clip_limit - 1) * entropy / (1 + np.sqrt(variance) / CONTRAST)
    clipped = np.minimum(share, limit[..., None] / 256)
    clipped += (1 - clipped.sum(axis=-1, keepdims=True)) / 256
    # the middle of each bin, so that an even histogram is the identity
    equalized = 256 * (np.cumsum(clipped, axis=-1) - clipped / 2) - 0.5
    weight = (variance / (variance + noise**2))[..., None]
    return (levels + weight * (np.clip(equalized, 0, 255) - levels)).astype(np.float32)


def added(counts: list[NDArray[Any]]) -> NDArray[np.int64]:
    """Return the sum of counts of 32 bits, which those of a whole slide exceed.

    Examples
    --------
    >>> int(added([np.array([2**30], np.int32)] * 3)[0]) == 3 * 2**30
    True
    """
    return np.sum(counts, axis=0, dtype=np.int64)


def tile_edges(length: int, tiles: int) -> NDArray[np.int64]:
    """Return the ``tiles + 1`` edges of tiles along a side, fewer where they would get too small.

    Examples
    --------
    >>> tile_edges(100, 4).tolist(), tile_edges(20, 8).tolist(), tile_edges(3, 8).tolist()
    ([0, 25, 50, 75, 100], [0, 10, 20], [0, 3])
    """
    tiles = max(1, min(tiles, length // SMALLEST_TILE))
    return np.arange(tiles + 1) * length // tiles


def between(edges: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each pixel the tile whose middle lies before it, and the share of the next.

    Examples
    --------
    >>> first, share = between(np.array([0, 2, 4]))
    >>> first.tolist(), share.tolist()
    ([0, 0, 0, 0], [0.0, 0.25, 0.75, 1.0])
    """
    middles = (edges[:-1] + edges[1:]) / 2
    pixels = np.arange(edges[-1]) + 0.5
    first = np.clip(np.searchsorted(middles, pixels, side="right") - 1, 0, len(middles) - 1)
    first = np.minimum(first, max(len(middles) - 2, 0))
    if len(middles) == 1:
        return first, np.zeros(len(pixels), np.float32)
    share = (pixels - middles[first]) / (middles[first + 1] - middles[first])
    return first, np.clip(share, 0, 1).astype(np.float32)


class AdaptiveLocalHistogramEnhancer(ImageTransformer):
    """Raise local contrast where there is structure, and leave plain regions plain (ALHE).

    The image is cut into tiles. Each gets a curve for the lightness from its own histogram, with a
    clip limit from its own contrast and entropy, mixed with the identity by its own variance;
    between the middles of tiles the curves are interpolated. Only lightness changes: the
    channels of a pixel are multiplied by one number, so hue and saturation are kept.

    Parameters
    ----------
    tiles : int, default=8
        Tiles along each side; small images get fewer. 1 is the whole image as one.
    clip_limit : float, default=3
        The largest clip limit: how much steeper than the identity a curve can become, about.
    noise : float, default=6
        A standard deviation, in levels, that is noise: tiles of such a variance are mixed half
        and half, calmer tiles hardly change.
    n_jobs : int, optional
        Threads.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer
    >>> rng = np.random.default_rng(0)
    >>> dull = rng.normal(150, 12, (1, 64, 64, 1)).repeat(3, axis=3).astype(np.uint8)
    >>> bright = AdaptiveLocalHistogramEnhancer().fit_transform(dull)
    >>> bool(bright.std() > 1.3 * dull.std())
    True
    """

    _min_pixels = 1
    _stateless = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "tiles": [Interval(Integral, 1, None, closed="left")],
        "clip_limit": [Interval(Real, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        tiles: int = 8,
        clip_limit: float = 3.0,
        noise: float = 6.0,
        n_jobs: int | None = None,
    ):
        self.tiles = tiles
        self.clip_limit = clip_limit
        self.noise = noise
        self.n_jobs = n_jobs

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        tops, lefts = (tile_edges(length, self.tiles) for length in image.shape[:2])
        image = np.ascontiguousarray(image)
        counts = tile_counts(image, tops, lefts)
        return self._apply(image, self._curves(counts), tops, lefts)

    def _curves(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        return enhancement_curves(counts, self.clip_limit, self.noise)

    def _apply(
        self,
        image: NDArray[np.uint8],
        curves: NDArray[np.float32],
        tops: NDArray[np.int64],
        lefts: NDArray[np.int64],
    ) -> NDArray[np.uint8]:
        out = np.empty_like(image)
        apply_curves(image, curves, *between(tops), *between(lefts), out)
        return out

    def enhance_together(self, images: Any) -> NDArray[Any]:
        """Enhance the tiles or fields of one slide by one curve, from all their pixels.

        Equal pixels stay equal from tile to tile. The result of one image depends on the others,
        so this is no step of a pipeline.

        Parameters
        ----------
        images : images
            As :func:`hemaest.images.check_images` takes them: all from one slide.

        Returns
        -------
        images : uint8 array (n, H, W, C) or 1-D object array
        """
        self._validate_params()
        X = self._check_images(images)

        def whole(image: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
            return [np.array([0, length]) for length in image.shape[:2]]

        def count(image: NDArray[np.uint8]) -> NDArray[Any]:
            return tile_counts(np.ascontiguousarray(image), *whole(image))

        curves = self._curves(added(map_images(count, X, n_jobs=self.n_jobs)))

        def enhance(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return self._apply(np.ascontiguousarray(image), curves, *whole(image))

        return pack(map_images(enhance, X, n_jobs=self.n_jobs), dense=X.dtype != object)


@kernel
def tile_counts(image, tops, lefts):
    """Return the histogram of the luma of each tile."""
    counts = np.zeros((len(tops) - 1, len(lefts) - 1, 256), np.int32)
    columns = image.shape[1]
    luma = np.empty(columns, I32)
    for i in range(len(tops) - 1):
        for y in range(tops[i], tops[i + 1]):
            _to_luma(image[y], luma)
            for j in range(len(lefts) - 1):
                count = counts[i, j]
                for x in range(lefts[j], lefts[j + 1]):
                    count[luma[x]] += 1
    return counts


@kernel
def apply_curves(image, curves, upper, down, left, right, out):
    """Write the image with each pixel's luma taken through the curves of the tiles around it.

    ``upper[y]`` is the tile row above and ``down[y]`` the share of the next one; ``left`` and
    ``right`` say the same of columns. All channels of a pixel are multiplied by one ratio, no
    larger than what makes its brightest channel 255, so hue and saturation stay.
    """
    rows, columns, channels = image.shape
    tile_columns = curves.shape[1]
    mixed = np.empty((tile_columns, 256), F32)
    flat = mixed.reshape(-1)
    luma, new = np.empty(columns, I32), np.empty(columns, F32)
    for y in range(rows):
        above = curves[upper[y]].reshape(-1)
        below = curves[min(upper[y] + 1, curves.shape[0] - 1)].reshape(-1)
        share = down[y]
        for k in range(flat.size):
            flat[k] = above[k] + share * (below[k] - above[k])
        row, target = image[y], out[y]
        _to_luma(row, luma)
        for x in range(columns):
            at, v = 256 * left[x], luma[x]
            a = flat[at + v]
            b = flat[min(at + 256, flat.size - 256) + v]
            new[x] = a + right[x] * (b - a)
        if channels == 3:
            _scale(row.reshape(-1), 3, luma, new, target.reshape(-1))
        else:
            _scale(row.reshape(-1), 4, luma, new, target.reshape(-1))
            for x in range(columns):
                target[x, 3] = row[x, 3]


@kernel
def _to_luma(row, luma):
    """Write the luma of a row of pixels; 32-bit sums, since 64-bit ones are twice the work."""
    step = 4 if row.shape[1] == 4 else 3
    flat = row.reshape(-1)
    for x in range(len(luma)):
        r, g, b = I32(flat[step * x]), I32(flat[step * x + 1]), I32(flat[step * x + 2])
        luma[x] = (I32(77) * r + I32(150) * g + I32(29) * b + I32(128)) >> I32(8)


@kernel
def _scale(row, step, luma, new, target):
    """Multiply all channels of a pixel by new luma / luma, as far as none exceeds 255."""
    for x in range(len(luma)):
        r, g, b = F32(row[step * x]), F32(row[step * x + 1]), F32(row[step * x + 2])
        room = F32(255) / max(max(r, g), max(b, F32(1)))
        factor = min(new[x] / F32(max(luma[x], I32(1))), room)
        target[step * x] = np.uint8(I32(r * factor + F32(0.5)))
        target[step * x + 1] = np.uint8(I32(g * factor + F32(0.5)))
        target[step * x + 2] = np.uint8(I32(b * factor + F32(0.5)))
