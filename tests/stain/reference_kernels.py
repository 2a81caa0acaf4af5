"""The kernels of stain normalization in NumPy: the reference of the compiled ones.

See ``hemaest.stain._kernels`` for what each does and how pixels are addressed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._color import (
    F_TO_LAB,
    LAB_TO_F,
    LINEAR,
    OPTICAL_DENSITY,
    RGB_TO_XYZ,
    lab_to_rgb,
    rgb_to_lab,
)

OFFSET = np.array([16.0, 0.0, 0.0])


def _pixels(flat: NDArray[np.uint8], step: int, n: int) -> NDArray[np.uint8]:
    return flat[: n * step].reshape(n, step)[:, :3]


def _moments(x: NDArray[Any]) -> NDArray[np.float64]:
    if not len(x):
        return np.zeros(10)
    x = x.astype(np.float64)
    products = (x.T @ x)[np.triu_indices(3)]
    return np.concatenate([[len(x)], x.sum(axis=0), products])


def _emit(
    flat: NDArray[np.uint8],
    step: int,
    new: NDArray[Any],
    depth: NDArray[Any],
    near: float,
    far: float,
    out: NDArray[np.uint8],
) -> None:
    old, new = flat.reshape(-1, step), new.astype(np.float64)
    if far > near:
        weight = np.clip((depth - near) / (far - near), 0, 1)[:, None]
        new = old[:, :3] + weight * (new - old[:, :3])
    out = out.reshape(-1, step)
    out[:] = old
    out[:, :3] = np.rint(new)


def _f(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    return (rgb_to_lab(rgb) + OFFSET) @ LAB_TO_F.T


def bright_levels(
    flat: NDArray[np.uint8], step: int, width: int, stride: int, share: int
) -> NDArray[np.int64]:
    """Return the level of each channel that one in ``share`` pixels reaches."""
    some = flat.reshape(-1, width, step)[::stride, ::stride, :3].reshape(-1, 3)
    at = len(some) - 1 - len(some) // share
    return np.partition(some, at, axis=0)[at].astype(np.int64)


def foreground(flat: NDArray[np.uint8], step: int, n: int, by_light: bool, limit: float) -> Any:
    """Return the pixels that are dark enough, 4 bytes each, and how many there are."""
    rgb = _pixels(flat, step, n)
    light = LINEAR[rgb] @ RGB_TO_XYZ[1] if by_light else (rgb + 1.0).prod(axis=1)
    kept = rgb[light <= limit]
    return np.pad(kept, ((0, 0), (0, 1))).reshape(-1), len(kept)


def density_moments(flat: NDArray[np.uint8], step: int, n: int, light: NDArray[Any]) -> Any:
    """Return count, sums and products of the optical densities less those of the glass."""
    return _moments(OPTICAL_DENSITY[_pixels(flat, step, n)] - light)


def angle_counts(
    flat: NDArray[np.uint8],
    step: int,
    n: int,
    frame: NDArray[Any],
    move: NDArray[Any],
    bins: int,
) -> Any:
    """Return the histogram of the pixels' diamond angle in the plane of two rows."""
    p, q = (OPTICAL_DENSITY[_pixels(flat, step, n)] @ frame[:2].T + move[:2]).T
    t = q / (np.abs(p) + np.abs(q) + 1e-30)
    t = np.where(p >= 0, t, np.where(q >= 0, 2 - t, -2 - t))
    return np.bincount(((t + 2) * (bins / 4)).astype(int), minlength=bins + 1)


def concentration_counts(
    flat: NDArray[np.uint8],
    step: int,
    n: int,
    unmix: NDArray[Any],
    move: NDArray[Any],
    low: np.float32,
    shift: int,
    bins: int,
) -> Any:
    """Return the histograms of two concentrations, with bins of equal ratio from low on."""
    x = OPTICAL_DENSITY[_pixels(flat, step, n)] @ unmix[:2].T + move[:2]
    bits = np.maximum(x, low).astype(np.float32).view(np.int32) >> shift
    place = np.minimum(bits - (np.float32(low).view(np.int32) >> shift), bins - 1)
    return np.stack([np.bincount(place[:, k], minlength=bins) for k in range(2)])


def at_ranks(counts: NDArray[Any], ranks: NDArray[np.float64]) -> Any:
    """Return the bins that hold the values below and above each of the ascending ranks."""
    total = np.cumsum(counts)
    return [np.searchsorted(total, r, side="right") for r in (np.floor(ranks), np.ceil(ranks))]


def apply_density(
    flat: NDArray[np.uint8],
    step: int,
    matrix: NDArray[Any],
    move: NDArray[Any],
    near: float,
    far: float,
    out: NDArray[np.uint8],
) -> None:
    """Write the pixels whose densities went through ``matrix @ density + move``."""
    density = OPTICAL_DENSITY[_pixels(flat, step, flat.size // step)]
    new = np.clip(256 * np.exp(-(density @ matrix.T + move)) - 1, 0, 255)
    _emit(flat, step, new, density.mean(axis=1), near, far, out)


def lab_moments(flat: NDArray[np.uint8], step: int, n: int) -> Any:
    """Return count, sums and products of f(X), f(Y), f(Z), in which CIELAB is linear."""
    return _moments(_f(_pixels(flat, step, n)))


def apply_lab(
    flat: NDArray[np.uint8],
    step: int,
    matrix: NDArray[Any],
    move: NDArray[Any],
    near: float,
    far: float,
    out: NDArray[np.uint8],
) -> None:
    """Write the pixels whose f(X), f(Y), f(Z) went through ``matrix @ f + move``."""
    f = _f(_pixels(flat, step, flat.size // step))
    new = lab_to_rgb((f @ matrix.T + move) @ F_TO_LAB.T - OFFSET)
    _emit(flat, step, new, 1 - f[:, 1], near, far, out)


def spread_densities(
    flat: NDArray[np.uint8], step: int, n: int, first: int, total: int, size: int
) -> Any:
    """Return three planes of densities of some pixels of one image, spread evenly."""
    k = np.arange(min(size, total))
    turn = k * ((5**0.5 - 1) / 2)
    at = ((k + turn - np.floor(turn)) * (total / size)).astype(np.int64) if total > size else k
    at = at[(at >= first) & (at < first + n)] - first
    return OPTICAL_DENSITY[_pixels(flat, step, n)[at]].T.astype(np.float32)


def sparse_basis(
    density: NDArray[np.float32],
    basis: NDArray[np.float64],
    sparsity: float,
    max_iter: int,
    tolerance: float,
) -> Any:
    """Return two non-negative unit rows that factor the densities sparsely."""
    V, W = density.T.astype(np.float64), basis.copy()
    for _ in range(max_iter):
        c, like = V @ W.T - sparsity, float(W[0] @ W[1])
        both = (c - like * c[:, ::-1]) / max(1 - like**2, 1e-6)
        alone = np.where(both[:, ::-1] < 0, c, both)
        H = np.maximum(alone, 0)
        A, B, before = H.T @ H, H.T @ V, W.copy()
        for j in range(2):
            if A[j, j] > 0:
                row = np.maximum(W[j] + (B[j] - A[j] @ W) / A[j, j], 0)
                if row.any():
                    W[j] = row / np.linalg.norm(row)
        if np.abs(W - before).max() < tolerance:
            break
    return W
