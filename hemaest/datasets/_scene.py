"""What lies around a cell."""

import numpy as np

from ._kernels import paint_grains, settle

__all__ = ["place_red_cells", "sprinkle"]

ROULEAUX = 0.12  # share of films whose red cells lie in rolls


def place_red_cells(
    height: int,
    width: int,
    scale: float,
    rng: np.random.Generator,
    ring: float,
    blockers: np.ndarray,
) -> np.ndarray:
    """Return the red cells of a film, rows for ``paint_red_cells``.

    How dense, pale and overlapping they are is drawn once for the film.
    """
    margin = 5.0 * scale
    area = (height + 2 * margin) * (width + 2 * margin) / scale**2
    cover = rng.uniform(0.2, 0.75)
    size = rng.uniform(3.4, 3.9)
    number = max(int(cover * area / (np.pi * size**2)), 1)
    u = rng.random((3 * number, 4), dtype=np.float32)
    darts = np.empty_like(u)
    darts[:, 0] = u[:, 0] * (width + 2 * margin) - margin
    darts[:, 1] = u[:, 1] * (height + 2 * margin) - margin
    darts[:, 2] = size * (0.92 + 0.16 * u[:, 2]) * scale
    clumping = rng.uniform(0.0, 0.5)
    darts[:, 3] = np.where(u[:, 3] < clumping, 0.62, 0.97)
    blockers = blockers.astype(np.float32).reshape(-1, 4)
    rolls = rng.random() < ROULEAUX
    if rolls:
        darts = _stack(darts[: settle(darts, blockers, number // 4)], rng)
        kept = len(darts)
    else:
        kept = settle(darts, blockers, number)
    crenated = rng.random() < 0.08 and not rolls
    pallor = rng.uniform(0.1, 1.0)
    depth = np.exp(0.2 * rng.standard_normal())
    v = rng.random((kept, 8), dtype=np.float32)
    cells = np.empty((kept, 12), np.float32)
    cells[:, :2] = darts[:kept, :2]
    cells[:, 2] = darts[:kept, 2] / scale
    cells[:, 3] = 1.0 + 0.16 * v[:, 0] ** 2
    cells[:, 4] = v[:, 1] * np.pi
    cells[:, 5] = pallor * (0.6 + 0.5 * v[:, 2])
    cells[:, 6] = 0.4 + 0.24 * v[:, 3]
    cells[:, 7] = depth * (0.85 + 0.3 * v[:, 4])
    cells[:, 8] = ring
    cells[:, 9] = np.where((v[:, 5] < 0.5) & crenated, 0.06, 0.0)
    cells[:, 10] = 9 + np.floor(6 * v[:, 6])
    cells[:, 11] = 1000.0 * v[:, 7]
    return cells


def _stack(darts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let each red cell begin a rouleau: a row of cells lying half over one another."""
    n = len(darts)
    steps = rng.integers(1, 7, n)
    heading = rng.uniform(0, 2 * np.pi, n)
    rows, place = [darts], darts[:, :2].copy()
    for step in range(1, 7):
        heading = heading + 0.25 * rng.standard_normal(n)
        stride = darts[:, 2] * rng.uniform(0.6, 1.3, n)
        place = place + stride[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
        going = steps >= step
        rows.append(np.column_stack([place, darts[:, 2:]])[going])
    return np.concatenate(rows).astype(np.float32)


def sprinkle(canvas: np.ndarray, scale: float, rng: np.random.Generator) -> None:
    """Add stain precipitate and dust: few, small, dark."""
    height, width, _ = canvas.shape
    number = int(rng.exponential(0.8) * height * width / scale**2 / 900)
    if number == 0:
        return
    grains = np.empty((number, 3), np.float32)
    grains[:, 0] = rng.uniform(0, width, number) / scale
    grains[:, 1] = rng.uniform(0, height, number) / scale
    grains[:, 2] = rng.uniform(0.12, 0.4, number)
    dyes = np.array([1.1, 0.3, 0.0, 0.0], np.float32)
    paint_grains(canvas, 0.0, 0.0, scale, grains, dyes, 0.8, 0.0, 0.12)
