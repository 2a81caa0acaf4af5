"""What lies on the glass around the leukocytes: red cells, precipitate, and all that disturbs.

``_draw`` (single cells) and ``_film`` (whole fields) call it. How a film looks is drawn once, as a
:class:`Glass`; ``severity`` 0 is a well-made film, 1 reaches from anaemic to crowded ones, with
odd, crenated and refractile red cells, stain clumps, fibers, bubbles, water marks and ink.
"""

from dataclasses import dataclass, replace

import numpy as np

from ._kernels import paint_grains, paint_red_cells, paint_sheet, settle

__all__ = [
    "Glass",
    "Mark",
    "draw_glass",
    "draw_marks",
    "lay_over",
    "paint_red",
    "place_precipitate",
    "place_red_cells",
    "sprinkle",
]

ROULEAUX = 0.12  # share of films whose red cells lie in rolls


@dataclass(frozen=True)
class Glass:
    """How one film came out.

    Attributes
    ----------
    cover : float
        Area of all red cells, as a share of the film.
    size : float
        Radius of a red cell in micrometers.
    clumping, overlap : float
        Share of the red cells that may lie over others, and how near their centers may be.
    rolls : bool
        Red cells lie in rouleaux.
    holes : float
        How much of the film red cells leave free: 0 none of it, 1 most.
    crenated, spikes : float
        Share of red cells with spikes, and their height.
    odd : float
        How far the shapes of red cells are from round.
    pallor, depth : float
        How pale their middle is, and how much hemoglobin they hold.
    refractile : float
        Share of red cells with a bright spot, as badly dried films have.
    platelets : float
        Platelets, in units of one in 1,200 square micrometers.
    giant : float
        Share of platelets as large as a red cell or larger.
    grains, clumps : float
        Precipitate: grains in units of 0.9 in 1,000 square micrometers, and clumps of them.
    parasites : float
        Share of red cells with a small ring or dot of nuclear dye inside.
    crowd : float
        Share of leukocytes that touch another.
    packs : float
        Clumps of platelets, for each 4,000 square micrometers.
    dense : float
        Share of red cells without a pallor, as dark as the others or up to twice.
    sheet : tuple of float
        Red cells are pressed against one another, as where a film is thick; how that looks, for
        ``paint_sheet``. Empty where they are not.
    """

    cover: float
    size: float
    clumping: float
    rolls: bool
    crenated: float
    pallor: float
    depth: float
    grains: float
    overlap: float = 0.62
    holes: float = 0.0
    spikes: float = 0.06
    odd: float = 0.0
    refractile: float = 0.0
    platelets: float = 1.0
    giant: float = 0.0
    clumps: float = 0.0
    parasites: float = 0.0
    crowd: float = 0.0
    packs: float = 0.0
    dense: float = 0.0
    sheet: tuple[float, ...] = ()


def draw_glass(rng: np.random.Generator, severity: float = 0.0) -> Glass:
    """Draw how a film came out."""
    rolls = bool(rng.random() < ROULEAUX)
    good = Glass(
        cover=float(rng.uniform(0.2, 0.75)),
        size=float(rng.uniform(3.4, 3.9)),
        clumping=float(rng.uniform(0.0, 0.5)),
        rolls=rolls,
        crenated=0.5 * float(rng.random() < 0.08 and not rolls),
        pallor=float(rng.uniform(0.1, 1.0)),
        depth=float(np.exp(0.2 * rng.standard_normal())),
        grains=float(rng.exponential(0.8)),
    )
    return _worse(good, rng, severity) if severity > 0 else good


def _worse(good: Glass, rng: np.random.Generator, severity: float) -> Glass:
    """Add what badly made films and sick patients show, each by its own chance."""

    def some(share: float) -> float:
        return severity * float(rng.random() < share * min(severity, 1.0))

    cover = good.cover
    if some(0.4):  # from hardly any red cell to several layers
        cover = float(np.exp(rng.uniform(np.log(0.02), np.log(1.5))))
    flat = bool(some(0.25))  # sheets of red cells without a pale middle, side by side
    if flat:
        cover = max(cover, float(rng.uniform(0.4, 1.1)))
    worse = Glass(
        cover=cover,
        size=float(np.clip(good.size * np.exp(0.1 * severity * rng.standard_normal()), 2.3, 4.6)),
        clumping=1.0
        if flat
        else float(np.clip(good.clumping + some(0.3) * rng.uniform(0, 0.6), 0, 1)),
        overlap=float(rng.uniform(0.75, 0.97) if flat else rng.uniform(0.3, 0.7)),
        rolls=good.rolls,
        holes=min(some(0.25) * float(rng.uniform(0.2, 0.8)), 0.8),
        crenated=max(good.crenated, min(some(0.2) * float(rng.uniform(0.1, 1.0)), 1.0)),
        spikes=float(rng.uniform(0.04, 0.16)),
        odd=some(0.5) * float(rng.exponential(0.35)),
        pallor=float(np.clip(good.pallor + some(0.3) * rng.normal(0, 0.4), 0, 1.25))
        * (float(rng.uniform(0, 0.4)) if flat else 1.0),
        depth=good.depth * float(np.exp(0.15 * severity * rng.standard_normal())),
        refractile=some(0.2) * float(rng.uniform(0.05, 0.8)),
        platelets=float(np.exp(0.8 * severity * rng.standard_normal())),
        giant=some(0.4) * float(rng.uniform(0, 0.25)),
        grains=good.grains * float(np.exp(0.8 * severity * rng.standard_normal())),
        clumps=some(0.35) * float(rng.exponential(1.2)),
        parasites=some(0.15) * float(rng.uniform(0.01, 0.25)),
        crowd=min(some(0.6) * float(rng.uniform(0.1, 1.0)), 0.9),
        packs=some(0.3) * float(rng.exponential(0.7)),
        dense=min(some(0.3) * float(rng.uniform(0.02, 0.35)), 0.5),
    )
    return _pressed(worse, rng) if some(0.4) else worse


def _pressed(glass: Glass, rng: np.random.Generator) -> Glass:
    """Press the red cells into sheets, often with large holes, as thick films dry."""
    look = rng.uniform(1.05, 1.6), rng.uniform(-0.7, 1.0), rng.uniform(0.15, 0.6)
    return replace(
        glass,
        cover=1.0,
        clumping=1.0,
        overlap=float(rng.uniform(0.66, 0.8)),
        rolls=False,
        holes=float(rng.uniform(0.15, 0.75)) if rng.random() < 0.7 else 0.0,
        pallor=float(rng.uniform(0, 0.6)) * glass.pallor,
        depth=glass.depth * float(np.exp(rng.uniform(-1.1, 0.2))),
        refractile=0.0,
        sheet=(*look, float(rng.uniform(0, 0.5) * rng.integers(2))),
    )


def place_red_cells(
    height: int,
    width: int,
    scale: float,
    rng: np.random.Generator,
    ring: float,
    blockers: np.ndarray,
    glass: Glass,
) -> np.ndarray:
    """Return the red cells of a film, rows for ``paint_red_cells``."""
    margin = 5.0 * scale
    area = (height + 2 * margin) * (width + 2 * margin) / scale**2
    number = max(int(glass.cover * area / (np.pi * glass.size**2)), 1)
    # in a sheet hardly any place is left, and it takes many darts to find it
    u = rng.random(((10 if glass.sheet else 3) * number, 4), dtype=np.float32)
    darts = np.empty_like(u)
    darts[:, 0] = u[:, 0] * (width + 2 * margin) - margin
    darts[:, 1] = u[:, 1] * (height + 2 * margin) - margin
    darts[:, 2] = glass.size * (0.92 + (0.16 + 0.3 * glass.odd) * u[:, 2]) * scale
    darts[:, 3] = np.where(u[:, 3] < glass.clumping, glass.overlap, 0.97)
    if glass.holes > 0:
        darts = darts[_apart_from_holes(darts, scale, glass.holes, rng)]
    blockers = blockers.astype(np.float32).reshape(-1, 4)
    if glass.sheet:  # it closes around the leukocytes too
        blockers = blockers * np.array([1, 1, 1, 0.4], np.float32)
    if glass.rolls:
        darts = _stack(darts[: settle(darts, blockers, number // 4)], rng)
    else:
        darts = darts[: settle(darts, blockers, number)]
    return _formed(darts, scale, rng, ring, glass)


def paint_red(
    canvas: np.ndarray,
    scale: float,
    cells: np.ndarray,
    sheet: tuple[float, ...] = (),
    left: float = 0.0,
    top: float = 0.0,
    numbers: np.ndarray | None = None,
    names: np.ndarray | None = None,
) -> None:
    """Paint red cells, clear discs that lie over one another or a sheet."""
    if sheet:
        look = np.array(sheet)
        paint_sheet(canvas, scale, cells, look, left, top, numbers, names)
    else:
        paint_red_cells(canvas, scale, cells, left, top, numbers, names)


def _formed(
    darts: np.ndarray, scale: float, rng: np.random.Generator, ring: float, glass: Glass
) -> np.ndarray:
    """Give each red cell that has a place its shape and filling."""
    v = rng.random((len(darts), 8), dtype=np.float32)
    cells = np.zeros((len(darts), 15), np.float32)
    cells[:, :2] = darts[:, :2]
    cells[:, 2] = darts[:, 2] / scale
    cells[:, 3] = 1.0 + 0.16 * v[:, 0] ** 2
    cells[:, 4] = v[:, 1] * np.pi
    cells[:, 5] = glass.pallor * (0.6 + 0.5 * v[:, 2])
    cells[:, 6] = 0.4 + 0.24 * v[:, 3]
    cells[:, 7] = glass.depth * (0.85 + 0.3 * v[:, 4])
    cells[:, 8] = ring
    cells[:, 9] = np.where(v[:, 5] < glass.crenated, glass.spikes, 0.0)
    cells[:, 10] = 9 + np.floor(6 * v[:, 6])
    cells[:, 11] = 1000.0 * v[:, 7]
    cells[:, 12] = 0.05
    if glass.odd > 0:
        w = rng.random((len(darts), 4), dtype=np.float32)
        cells[:, 3] += glass.odd * w[:, 0] ** 3
        cells[:, 12] += 0.25 * glass.odd * w[:, 1] ** 2
        cells[:, 13] = np.where(w[:, 2] < 0.15 * min(glass.odd, 1.5), 0.2 + 0.7 * w[:, 3], 0.0)
        cells[:, 5] *= np.where(w[:, 3] < 0.2 * min(glass.odd, 1.5), 0.1, 1.0)  # spherocytes
    if (share := 0.08 * min(glass.odd, 1.5) + glass.dense) > 0:
        x = rng.random((len(darts), 2), dtype=np.float32)
        dense = x[:, 0] < share
        cells[:, 5] *= np.where(dense, 0.1, 1.0)
        cells[:, 7] *= np.where(dense, 1.0 + 1.2 * x[:, 1] ** 1.5, 1.0)
    if glass.refractile > 0:
        bright = rng.random(len(darts), dtype=np.float32)
        cells[:, 14] = np.where(bright < glass.refractile, 0.5 + 2.0 * bright, 0.0)
    return cells


def _apart_from_holes(
    darts: np.ndarray, scale: float, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Return which places lie outside of the holes that drying leaves, 15 to 80 um wide."""
    wide = np.exp(rng.uniform(np.log(15.0), np.log(80.0))) * scale
    angle = rng.uniform(0, 2 * np.pi, (6, 1))
    wave = np.exp(0.3 * rng.standard_normal((6, 1))) * 2 * np.pi / (2 * wide)
    phase = rng.uniform(0, 2 * np.pi, (6, 1))
    x, y = darts[None, :, 0], darts[None, :, 1]
    level = np.cos((np.cos(angle) * x + np.sin(angle) * y) * wave + phase).sum(axis=0)
    return level > np.quantile(level, share) if len(level) else np.zeros(0, bool)


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


def sprinkle(
    canvas: np.ndarray, scale: float, grains: np.ndarray, left: float = 0.0, top: float = 0.0
) -> None:
    """Paint grains of stain (x and y in px, radius in um) on a canvas that begins at a pixel."""
    dyes = np.array([1.1, 0.3, 0.0, 0.0], np.float32)
    grains = grains * np.array([1 / scale, 1 / scale, 1], np.float32)
    paint_grains(canvas, -left, -top, scale, grains, dyes, 0.8, 0.0, 0.12)


def place_precipitate(
    height: int, width: int, scale: float, rng: np.random.Generator, glass: Glass
) -> np.ndarray:
    """Return grains of stain: x, y (px) and radius (um), strewn and in clumps."""
    area = height * width / scale**2
    number = rng.poisson(glass.grains * area / 900)
    rows = [
        np.column_stack(
            [
                rng.uniform(0, width, number),
                rng.uniform(0, height, number),
                rng.uniform(0.12, 0.4, number),
            ]
        )
    ]
    for _ in range(rng.poisson(glass.clumps * area / 4000)):
        center = rng.uniform(0, 1, 2) * [width, height]
        wide = np.exp(rng.uniform(np.log(0.8), np.log(10.0))) * scale
        many = int(np.exp(rng.uniform(np.log(15), np.log(500))))
        way = rng.standard_normal((many, 2)) * wide
        way[:, 0] *= rng.uniform(0.4, 1.6)
        size = rng.uniform(0.15, rng.uniform(0.3, 1.3), many)
        rows.append(np.column_stack([center + way, size]))
    return np.concatenate(rows).astype(np.float32)


@dataclass(frozen=True)
class Mark:
    """Something on the film that is no cell: a line or an area, in pixels of the whole image.

    ``width`` is that of the line, 0 for a filled area; ``density`` is optical density in R, G, B,
    below 0 where it lets more light through than the film; ``soft`` the blur of its edge.
    """

    points: np.ndarray
    width: float
    density: np.ndarray
    soft: float
    closed: bool = False
    opaque: bool = False


def draw_marks(
    height: int, width: int, scale: float, rng: np.random.Generator, severity: float
) -> list[Mark]:
    """Draw fibers, scratches, bubbles, water marks, dust out of focus, spilled stain and ink."""
    if severity == 0:
        return []
    area = min(height * width / scale**2 / 20_000, 20.0)
    marks: list[Mark] = []

    def number(share: float) -> int:
        return int(rng.poisson(share * severity * area)) if rng.random() < 0.35 else 0

    def place() -> np.ndarray:
        return rng.uniform(0, 1, 2) * [width, height]

    for _ in range(number(0.5)):  # a fiber, or a scratch that lets light through
        dark = rng.random() < 0.7
        line = _wander(place(), rng.uniform(10, 90) * scale, 0.3, rng)
        level = rng.uniform(0.1, 0.7) if dark else -rng.uniform(0.05, 0.25)
        marks.append(
            Mark(line, rng.uniform(0.3, 2.0) * scale, np.full(3, level), rng.uniform(0.1, 0.8))
        )
    for _ in range(number(0.4)):  # a bubble: dark outside, bright inside
        size = np.exp(rng.uniform(np.log(3.0), np.log(40.0))) * scale
        ring = _blob(place(), size, rng.uniform(0, 0.04), rng)
        thick = rng.uniform(0.6, 2.5) * scale
        marks.append(Mark(ring, thick, np.full(3, rng.uniform(0.2, 1.0)), 0.3, closed=True))
        inner = ring.mean(axis=0) + (ring - ring.mean(axis=0)) * (1 - 1.2 * thick / size)
        marks.append(Mark(inner, thick, np.full(3, -rng.uniform(0.05, 0.25)), 0.5, closed=True))
    for _ in range(number(0.5)):  # the rim of a dried drop
        rim = _blob(place(), rng.uniform(8, 50) * scale, rng.uniform(0.05, 0.2), rng)
        tint = rng.uniform(-0.1, 0.25) * rng.uniform(0.6, 1.4, 3)
        marks.append(Mark(rim, rng.uniform(0.5, 3.0) * scale, tint, 0.6, closed=True))
    for _ in range(number(4.0)):  # dust far from the plane of focus
        speck = _blob(place(), rng.uniform(0.4, 2.5) * scale, 0.1, rng)
        marks.append(Mark(speck, 0.0, np.full(3, rng.uniform(0.1, 0.8)), rng.uniform(0.2, 1.2)))
    for _ in range(number(0.2)):  # spilled stain: violet to blue, blurred, without structure
        spill = _blob(place(), rng.uniform(2, 16) * scale, rng.uniform(0.1, 0.35), rng)
        tint = rng.uniform(0.05, 0.45) * np.array([rng.uniform(0.7, 1.6), 1.0, 0.2])
        marks.append(Mark(spill, 0.0, tint, rng.uniform(0.5, 3.0)))
    if rng.random() < 0.04 * severity:  # a stroke of a felt pen
        line = _wander(place(), 2.0 * max(height, width), 0.1, rng)
        ink = rng.uniform(0.2, 2.0) * rng.dirichlet(np.ones(3)) * 3
        marks.append(Mark(line, rng.uniform(10, 60) * scale, ink, 1.5, opaque=ink.mean() > 1.0))
    return marks


def _wander(start: np.ndarray, length: float, bend: float, rng: np.random.Generator) -> np.ndarray:
    """Return a line that begins half its length away and passes near ``start``."""
    steps = 24
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(bend * rng.standard_normal(steps))
    way = np.column_stack([np.cos(heading), np.sin(heading)]) * length / steps
    line = np.cumsum(way, axis=0)
    return start + line - line[steps // 2]


def _blob(center: np.ndarray, radius: float, rough: float, rng: np.random.Generator) -> np.ndarray:
    """Return a closed outline, rounder the smaller ``rough``."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    wave = np.arange(2, 7)[:, None]
    part = rng.standard_normal((2, 5, 1)) * 2 / wave
    r = radius * (
        1 + rough * (part[0] * np.cos(wave * angle) + part[1] * np.sin(wave * angle)).sum(0)
    )
    return center + np.column_stack([np.cos(angle), np.sin(angle)]) * r[:, None]


def lay_over(
    marks: list[Mark], top: int, left: int, height: int, width: int, scale: float
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the optical density of the marks over a window, and where they hide what is below."""
    import cv2

    over = hidden = None
    for mark in marks:
        soft = mark.soft * scale
        reach = mark.width / 2 + 3 * soft + 2
        points = mark.points - [left, top]
        low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
        if (low >= [width, height]).any() or (high <= 0).any():
            continue
        x0, y0 = np.maximum(np.floor(low), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(high), [width, height]).astype(int)
        # painted beyond the window too, so the blur at a tile's edge is that of the whole
        beyond = int(3 * soft) + 2
        plane = np.zeros((y1 - y0 + 2 * beyond, x1 - x0 + 2 * beyond), np.float32)
        at = np.round((points - [x0 - beyond, y0 - beyond]) * 8).astype(np.int32)[:, None]
        if mark.width > 0:
            thick = max(1, round(mark.width))
            cv2.polylines(plane, [at], mark.closed, 1.0, thick, cv2.LINE_8, 3)
        else:
            cv2.fillPoly(plane, [at], 1.0, cv2.LINE_8, 3)
        if soft > 0.3:
            plane = cv2.GaussianBlur(plane, (0, 0), soft)
        plane = plane[beyond : beyond + y1 - y0, beyond : beyond + x1 - x0]
        if over is None:
            over = np.zeros((height, width, 3), np.float32)
        over[y0:y1, x0:x1] += plane[..., None] * mark.density.astype(np.float32)
        if mark.opaque:
            hidden = np.zeros((height, width), bool) if hidden is None else hidden
            hidden[y0:y1, x0:x1] |= plane > 0.5
    return over, hidden
