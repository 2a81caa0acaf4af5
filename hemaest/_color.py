"""Color spaces, computed once for the whole library: optical density, CIELAB, stain bases, plasma.

Optical density here is ``log(256 / (value + 1))``, so that white is exactly 0, black is finite
(5.55) and the way back is exact. CIELAB is that of sRGB under D65, with the white point taken from
the matrix itself, so that every gray has ``a = b = 0``; nothing is rounded to 8 bits on the way.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LOG",
    "OPTICAL_DENSITY",
    "STAIN_BASES",
    "density_over_plasma",
    "from_optical_density",
    "lab_to_rgb",
    "lightness",
    "optical_density",
    "plasma_color",
    "quantile_of_levels",
    "rgb_to_lab",
    "stain_basis",
    "with_normal",
]

# ln(value + 1) of 8-bit values
LOG: NDArray[np.float32] = np.log(np.arange(256, dtype=np.float32) + 1)
OPTICAL_DENSITY: NDArray[np.float64] = np.log(256.0 / (np.arange(256) + 1.0))

_LEVELS = np.arange(256) / 255.0
LINEAR: NDArray[np.float64] = np.where(
    _LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4
)
RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# rows scaled by the white point: a gray has X = Y = Z
RGB_TO_XYZ /= RGB_TO_XYZ.sum(axis=1, keepdims=True)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ)

# CIELAB is linear in f(X), f(Y), f(Z): (L + 16, a, b) = F_TO_LAB @ f
F_TO_LAB = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
LAB_TO_F = np.linalg.inv(F_TO_LAB)
DELTA = 6.0 / 29.0

# optical densities of the pure stains in R, G, B; the nuclear stain first, eosin second
STAIN_BASES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    # methylene blue and eosin, the vectors of the common color deconvolution plug-ins
    "giemsa": ((0.834750233, 0.513556283, 0.196330403), (0.092789, 0.954111, 0.283111)),
    # polychromed: azure B takes up more green than methylene blue does
    "wright": ((0.74, 0.63, 0.24), (0.092789, 0.954111, 0.283111)),
    # haematoxylin and eosin after Ruifrok and Johnston
    "he": ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)),
}


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the optical density of uint8 values, from 0 (white) to 5.55 (black).

    Examples
    --------
    >>> optical_density(np.array([255, 127, 0], np.uint8)).round(3).tolist()
    [0.0, 0.693..., 5.545...]
    """
    return OPTICAL_DENSITY.astype(np.float32)[image]


def from_optical_density(density: ArrayLike) -> NDArray[np.uint8]:
    """Return the uint8 values of optical densities; what is out of range is clipped.

    Examples
    --------
    >>> values = np.arange(256, dtype=np.uint8)
    >>> bool((from_optical_density(optical_density(values)) == values).all())
    True
    """
    values = 256.0 * np.exp(-np.asarray(density)) - 1.0
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def rgb_to_lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return CIELAB of uint8 sRGB, exact but for the rounding of float32.

    Parameters
    ----------
    image : uint8 array of shape (..., 3)

    Returns
    -------
    lab : float32 array of shape (..., 3)
        L from 0 to 100, a and b around 0.

    Examples
    --------
    >>> gray_and_red = np.array([[119, 119, 119], [255, 0, 0]], np.uint8)
    >>> [[float(round(v, 1)) + 0.0 for v in row] for row in rgb_to_lab(gray_and_red).tolist()]
    [[50.0, 0.0, 0.0], [53.2, 80.1, 67.2]]
    """
    xyz = LINEAR.astype(np.float32)[image] @ RGB_TO_XYZ.T.astype(np.float32)
    lab = _f(xyz) @ F_TO_LAB.T.astype(np.float32)
    lab[..., 0] -= 16
    return lab


def lightness(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the L of CIELAB alone, from 0 to 100, of uint8 sRGB.

    Examples
    --------
    >>> lightness(np.array([[255, 255, 255], [0, 0, 0]], np.uint8)).round(3).tolist()
    [100.0, 0.0]
    """
    y = LINEAR.astype(np.float32)[image] @ RGB_TO_XYZ[1].astype(np.float32)
    return 116 * _f(y) - 16


def lab_to_rgb(lab: ArrayLike) -> NDArray[np.uint8]:
    """Return uint8 sRGB of CIELAB; colors that sRGB has not are clipped.

    Examples
    --------
    >>> colors = np.random.default_rng(0).integers(0, 256, (500, 3)).astype(np.uint8)
    >>> bool((lab_to_rgb(rgb_to_lab(colors)) == colors).all())
    True
    """
    lab = np.asarray(lab, dtype=np.float32)
    f = (lab + np.array([16, 0, 0], np.float32)) @ LAB_TO_F.T.astype(np.float32)
    xyz = np.where(f > DELTA, f**3, 3 * DELTA**2 * (f - 4 / 29))
    linear = np.clip(xyz @ XYZ_TO_RGB.T.astype(np.float32), 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve).astype(np.uint8)


def _f(t: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the compressed values of CIELAB: a cube root, and a line near black."""
    line = t / np.float32(3 * DELTA**2) + np.float32(4 / 29)
    return np.where(t > DELTA**3, np.cbrt(t), line)


def stain_basis(basis: str | ArrayLike) -> NDArray[np.float64]:
    """Return three unit stain vectors as rows: nuclear stain, eosin, and what is neither.

    The optical density of a pixel is ``concentrations @ basis``, hence
    ``concentrations = optical_density(image) @ np.linalg.inv(basis)``.

    Parameters
    ----------
    basis : {"giemsa", "wright", "he"} or array of shape (2, 3) or (3, 3)
        A named pair of stains, or the optical densities of your own stains in R, G, B. The third
        row, where it is not given, is perpendicular to both.

    Examples
    --------
    >>> basis = stain_basis("giemsa")
    >>> basis.shape, bool(np.allclose(np.linalg.norm(basis, axis=1), 1))
    ((3, 3), True)
    """
    return _named_basis(basis).copy() if isinstance(basis, str) else _unit_rows(basis)


@cache
def _named_basis(name: str) -> NDArray[np.float64]:
    if name not in STAIN_BASES:
        names = ", ".join(repr(known) for known in STAIN_BASES)
        raise ValueError(f"There is no stain basis {name!r}; use {names}, or an array (2, 3).")
    return _unit_rows(STAIN_BASES[name])


def _unit_rows(basis: ArrayLike) -> NDArray[np.float64]:
    rows = np.array(basis, dtype=np.float64)
    if rows.shape not in {(2, 3), (3, 3)} or not np.isfinite(rows).all():
        raise ValueError(
            f"A stain basis is 2 or 3 rows of finite R, G, B optical densities; got shape "
            f"{rows.shape}."
        )
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(norms > 0, norms, 1)
    if len(rows) == 2:
        rows = with_normal(rows)
    if abs(np.linalg.det(rows)) < 1e-6:
        raise ValueError("The stains of a basis must differ in color; these lie in one plane.")
    return rows


def with_normal(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return two rows and the unit vector perpendicular to both (nothing is checked).

    Examples
    --------
    >>> with_normal(np.array([[1.0, 0, 0], [0, 1, 0]])).tolist()[2]
    [0.0, 0.0, 1.0]
    """
    (a, b, c), (d, e, f) = rows.tolist()
    normal = [b * f - c * e, c * d - a * f, a * e - b * d]
    length = max(sum(v * v for v in normal) ** 0.5, 1e-12)
    return np.array([[a, b, c], [d, e, f], [v / length for v in normal]])


def plasma_color(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the color of the empty glass: the median of the pixels with the most green.

    Examples
    --------
    >>> pixels = np.array([[250, 240, 220]] * 30 + [[90, 40, 130]] * 70, np.uint8)
    >>> plasma_color(pixels)
    array([250., 240., 220.], dtype=float32)
    """
    import cv2

    column = np.ascontiguousarray(pixels).reshape(-1, 1, 3)

    def quantile(channel: int, share: float, of: Any = None) -> float:
        counts = cv2.calcHist([column], [channel], of, [256], [0, 256]).ravel()
        return quantile_of_levels(counts, share)

    green = np.ascontiguousarray(column[..., 1])
    bright = (green >= quantile(1, 0.9) - 8.0).astype(np.uint8)
    return np.array([quantile(c, 0.5, bright) for c in range(3)], np.float32)


def quantile_of_levels(counts: NDArray[np.floating], share: float) -> float:
    """Return a quantile of whole numbers from how often each occurs, much faster than by sorting.

    Examples
    --------
    >>> levels = np.array([3, 5, 5, 9])
    >>> bool(quantile_of_levels(np.bincount(levels), 0.9) == np.quantile(levels, 0.9))
    True
    """
    # float64: a float32 running sum would stop counting at 16 million pixels
    running = np.cumsum(counts, dtype=np.float64)
    rank = share * (running[-1] - 1)
    below, above = np.searchsorted(running, [np.floor(rank), np.ceil(rank)], side="right")
    return float(below + (above - below) * (rank - np.floor(rank)))


def density_over_plasma(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return optical density of an RGB image against its plasma, in natural logarithms."""
    white = np.log(plasma_color(image.reshape(-1, 3)) + 1)
    return white - LOG[image]
