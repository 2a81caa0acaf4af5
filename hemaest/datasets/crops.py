"""Crops of single cells as any laboratory might cut them out, to train networks with.

:func:`make_cells` draws the sets that users study; here the aim is breadth: every recipe beyond
its textbook range, the forms of sick patients, any stain, any microscope, and any framing: loose
or tight, off center, at any magnification, alone, among red cells or pressed against other
leukocytes. ``hemaest.pretrained.train_cells`` trains the shipped network with these crops.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hemaest._seeds import seed_of

from ._anatomy import Cell, build_cell, paint_cell
from ._glass import draw_glass, paint_red, place_precipitate, place_red_cells, sprinkle
from ._kernels import paint_veil
from ._microscope import draw_microscope, new_canvas, photograph
from ._plan import pick
from ._recipes import load_recipes
from ._stains import Stain, load_stains, restain, shift

__all__ = ["TRAITS", "Crop", "draw_crop"]

# what an observer would note of a cell, each brought to about -1 to 1
TRAITS = (
    "diameter", "share_of_width", "nc_ratio", "lobes", "bend", "offset", "density", "contrast",
    "nucleoli", "azure", "eosin", "hemoglobin", "violet_granules", "eosin_granules", "vacuoles",
)  # fmt: skip

NOTHING = "nothing"  # a crop about no leukocyte: red cells, platelets on them, bare glass


@dataclass(frozen=True)
class Crop:
    """One crop and its truth.

    Attributes
    ----------
    image : uint8 array (size, size, 3)
    cell_map : uint8 array (size, size)
        1 cytoplasm and 2 nucleus of the cell that the crop is about, larger numbers for others.
    cell_type : str
        The recipe, or ``"nothing"``.
    traits : float32 array
        See ``TRAITS``; NaN where there is no cell.
    micrometers_per_pixel : float
    """

    image: np.ndarray
    cell_map: np.ndarray
    cell_type: str
    traits: np.ndarray
    micrometers_per_pixel: float


def draw_crop(
    cell_type: str,
    size: int = 96,
    *,
    severity: float = 1.0,
    random_state: int | np.random.Generator = 0,
) -> Crop:
    """Draw a crop about one cell, in a laboratory and a framing of its own.

    Parameters
    ----------
    cell_type : str
        A recipe of ``recipes.toml``, or ``"nothing"``.
    size : int, default=96
        Side in pixels, to which the crop is scaled from the camera's own resolution.
    severity : float, default=1.0
        How far from a well-kept laboratory: 0 is one, 1 covers webcams and poor stains.
    random_state : int or Generator
        The same seed gives the same bytes.

    Returns
    -------
    crop : Crop

    Examples
    --------
    >>> crop = draw_crop("monocyte", 64, random_state=0)
    >>> crop.image.shape, crop.cell_map.shape, crop.cell_type
    ((64, 64, 3), (64, 64), 'monocyte')
    """
    if cell_type != NOTHING:
        pick("cell type", cell_type, load_recipes())
    if isinstance(random_state, np.random.Generator):
        rng = random_state
    else:
        rng = np.random.default_rng(seed_of(random_state))
    cell = None
    if cell_type != NOTHING:
        sick = rng.random() < 0.7
        wide = rng.uniform(0.9, 1.5) if sick else 1.0
        cell = build_cell(load_recipes()[cell_type], rng, wide=wide, sick=sick)
    width, x, y = _framing(cell, rng)
    pixels = _resolution(size, width, rng)
    scale = pixels / width
    stain = _any_stain(rng, severity)
    canvas = new_canvas(pixels, pixels)
    cell_map = np.zeros((pixels, pixels), np.uint8)
    cells = [] if cell is None else [(cell, x * scale, y * scale), *_others(cell, x, y, scale, rng)]
    _surroundings(canvas, scale, stain, cells, severity, rng)
    for number in range(len(cells), 0, -1):
        paint_cell(canvas, cell_map, number, *cells[number - 1], scale)
    if cell_type == "platelet" and rng.random() < 0.15:
        _clump(canvas, x * scale, y * scale, scale, rng)
    if rng.random() < 0.5:
        _roughen(canvas, scale, rng)
    microscope = draw_microscope(rng, stain.blur, 1.0, severity * rng.uniform(0.0, 1.3))
    if microscope.eyepiece is not None and width < 60:
        microscope = replace(microscope, eyepiece=None)
    if rng.random() < 0.4:  # scanners sharpen: every edge and grain gains contrast
        sharpen, halo = rng.uniform(0.5, 2.5), rng.uniform(0.12, 0.6)
        microscope = replace(microscope, sharpen=microscope.sharpen + sharpen, halo=halo)
    image = photograph(canvas, scale, stain, microscope, rng, focus=rng.uniform(0.7, 1.6))
    image, cell_map = _scaled(image, cell_map, size)
    if rng.random() < 0.06:
        _cut_by_the_field(image, cell_map, rng)
    traits = _traits(cell, cell_map)
    return Crop(image, cell_map, cell_type, traits, width / size)


def _framing(cell: Cell | None, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the width of the crop and the place of the cell in it, in micrometers."""
    extent = 2 * cell.radius if cell is not None else rng.uniform(6, 18)
    kind = rng.random()
    if kind < 0.5:  # as a detector cuts
        width, off = extent * rng.uniform(1.02, 1.8), 0.07
    elif kind < 0.92:  # as a scanner does, whatever the cell: red cells all around
        width = max(1.25 * extent, np.exp(rng.uniform(np.log(16), np.log(50))))
        off = 0.05 if rng.random() < 0.7 else 0.14
    else:  # cut short
        width, off = extent * rng.uniform(0.85, 1.02), 0.05
    x, y = width * (0.5 + rng.uniform(-off, off, 2))
    return float(width), float(x), float(y)


def _resolution(size: int, width: float, rng: np.random.Generator) -> int:
    """Return how many pixels wide the camera sees the crop."""
    if rng.random() < 0.25:  # a weak camera or objective
        return int(np.clip(width / rng.uniform(0.15, 0.45), 0.45 * size, 1.5 * size))
    return int(size * (1.0 if width < 28 else rng.uniform(1.0, 1.5)))


def _any_stain(rng: np.random.Generator, severity: float) -> Stain:
    """Return a stain between two styles, shifted as far as laboratories differ, and farther."""
    styles = list(load_stains().values())
    a, b = (styles[k] for k in rng.integers(len(styles), size=2))
    t = np.float32(rng.random() if rng.random() < 0.6 else 0.0)
    density = a.density ** (1 - t) * b.density**t
    if rng.random() < 0.4 * severity:  # granules and cytoplasm turn with the pH of the buffer
        density[2] = density[2] * np.exp(0.25 * rng.standard_normal(3))
        density[1] = density[1] * np.exp(0.25 * rng.standard_normal(3))
    mixed = replace(
        a,
        density=density.astype(np.float32),
        light=(a.light * (1 - t) + b.light * t).astype(np.float32),
        ring=float(a.ring * (1 - t) + b.ring * t),
    )
    if rng.random() < 0.5:
        return shift(mixed, rng, 0.8 + 0.7 * severity)
    return restain(mixed, rng, severity)


def _others(
    cell: Cell, x: float, y: float, scale: float, rng: np.random.Generator
) -> list[tuple[Cell, float, float]]:
    """Return other leukocytes beside the cell: none in blood, many in marrow."""
    number = 0
    if (u := rng.random()) > 0.62:
        number = 1 if u < 0.84 else int(rng.integers(2, 6))
    known = [n for n in load_recipes() if n not in ("artefact", "unidentifiable", "platelet")]
    placed: list[tuple[Cell, float, float]] = [(cell, x, y)]
    for _ in range(number):
        other = build_cell(load_recipes()[known[rng.integers(len(known))]], rng, sick=True)
        for _ in range(6):
            way = rng.uniform(0, 2 * np.pi)
            apart = (_mean_radius(cell) + _mean_radius(other)) * rng.uniform(0.92, 1.6)
            at = x + apart * np.cos(way), y + apart * np.sin(way)
            if all(
                np.hypot(at[0] - px, at[1] - py) > 0.85 * (_mean_radius(p) + _mean_radius(other))
                for p, px, py in placed
            ):
                placed.append((other, *at))
                break
    return [(c, px * scale, py * scale) for c, px, py in placed[1:]]


def _mean_radius(cell: Cell) -> float:
    return float(np.sqrt(np.mean(cell.outline**2)))


def _surroundings(
    canvas: np.ndarray,
    scale: float,
    stain: Stain,
    cells: Sequence[tuple[Cell, float, float]],
    severity: float,
    rng: np.random.Generator,
) -> None:
    """Paint red cells, dried plasma, platelets and dirt around the cells."""
    pixels = len(canvas)
    near = rng.uniform(0.2, 1.0)
    clear = np.array(
        [[cx, cy, 0.9 * _mean_radius(c) * scale, near] for c, cx, cy in cells], np.float32
    ).reshape(-1, 4)
    glass = draw_glass(rng, severity)
    if rng.random() < 0.92:
        red = place_red_cells(pixels, pixels, scale, rng, stain.ring, clear, glass)
        paint_red(canvas, scale, red, glass.sheet)
    veil = stain.veil * rng.exponential() * (4.0 if rng.random() < 0.1 else 1.0)
    paint_veil(canvas, scale, veil, 0.0, 0.0, int(rng.integers(2**30)))
    nothing = np.zeros(canvas.shape[:2], np.uint8)
    for _ in range(rng.poisson(1.2 * (pixels / scale / 30) ** 2)):
        platelet = build_cell(load_recipes()["platelet"], rng)
        px, py = rng.uniform(0, pixels, 2)
        if len(clear) == 0 or np.all(
            np.hypot(clear[:, 0] - px, clear[:, 1] - py) > clear[:, 2] * 1.2 + 2 * scale
        ):
            paint_cell(canvas, nothing, 0, platelet, px, py, scale)
    sprinkle(canvas, scale, place_precipitate(pixels, pixels, scale, rng, glass))


def _roughen(canvas: np.ndarray, scale: float, rng: np.random.Generator) -> None:
    """Lay a fine grain over all dye, whatever the cell: only granules identify a granulocyte.

    Films are never as smooth as paint. Without this a network takes any texture for granules.
    """
    import cv2

    for dyes, most in ((slice(0, 1), 0.6), (slice(1, 3), 0.6), (slice(3, 4), 0.15)):
        amount = most * rng.random() ** 2
        noise = rng.standard_normal(canvas.shape[:2], dtype=np.float32)
        width = max(rng.uniform(0.08, 0.4) * scale, 0.3)
        noise = cv2.GaussianBlur(noise, (0, 0), width)
        noise *= amount / max(float(noise.std()), 1e-4)
        canvas[..., dyes] *= np.clip(1.0 + noise, 0.2, 2.2)[..., None]


def _clump(canvas: np.ndarray, x: float, y: float, scale: float, rng: np.random.Generator) -> None:
    """Paint more platelets against the one in the middle."""
    nothing = np.zeros(canvas.shape[:2], np.uint8)
    for _ in range(rng.integers(1, 6)):
        way, apart = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 4.0) * scale
        other = build_cell(load_recipes()["platelet"], rng, sick=True)
        paint_cell(
            canvas, nothing, 0, other, x + apart * np.cos(way), y + apart * np.sin(way), scale
        )


def _scaled(image: np.ndarray, cell_map: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    if len(image) == size:
        return np.ascontiguousarray(image), cell_map
    way = cv2.INTER_AREA if len(image) > size else cv2.INTER_LINEAR
    return (
        cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=way),
        cv2.resize(cell_map, (size, size), interpolation=cv2.INTER_NEAREST),
    )


def _cut_by_the_field(image: np.ndarray, cell_map: np.ndarray, rng: np.random.Generator) -> None:
    """Let the field end inside the crop: what lies beyond is filled as cropping tools do."""
    size = len(image)
    width = int(size * rng.uniform(0.03, 0.25))
    turns = int(rng.integers(4))
    turned, turned_map = np.rot90(image, turns), np.rot90(cell_map, turns)  # views
    fill = rng.integers(4)
    if fill == 3:
        turned[:, :width] = turned[:, width : width + 1]
    else:
        turned[:, :width] = (0, 255, np.median(image, axis=(0, 1)))[fill]
    turned_map[:, :width] = 0


def _traits(cell: Cell | None, cell_map: np.ndarray) -> np.ndarray:
    """Return what is seen of the cell, in the order of ``TRAITS``."""
    if cell is None:
        return np.full(len(TRAITS), np.nan, np.float32)
    t = cell.traits
    area = np.pi * np.mean(cell.outline**2)
    granules = np.zeros(2)
    for grains, dyes, cover, _ in cell.granules:
        covered = cover * np.pi * np.sum(grains[:, 2] ** 2) / area
        granules += covered * np.array([dyes[0], dyes[2] if dyes[0] < dyes[2] else 0.0])
    diameter = 2 * _mean_radius(cell)
    nucleus, whole = (cell_map == 2).sum(), ((cell_map == 1) | (cell_map == 2)).sum()
    values = (
        np.log(diameter / 12),
        np.log(np.sqrt(max(whole, 1)) / len(cell_map)) + 1,
        2 * nucleus / max(whole, 1) - 1,
        (min(cell.n_lobes, 5) - 1.5) / 2,
        t["nucleus.bend"] / 120 - 1,
        2 * t["nucleus.offset"] - 1,
        3 * (t["chromatin.density"] - 0.8),
        4 * (t["chromatin.contrast"] - 0.25),
        t["chromatin.nucleoli"] / 2 - 0.5,
        2 * t["cytoplasm.azure"] - 1,
        4 * t["cytoplasm.eosin"] - 0.5,
        2 * t["cytoplasm.hemoglobin"] - 0.5,
        np.log(granules[0] + 0.02) / 2 + 1,
        np.log(granules[1] + 0.02) / 2 + 1,
        np.log1p(t["vacuoles.number"]) - 1,
    )
    return np.clip(np.array(values, np.float32), -2.5, 2.5)
