"""What lies on the glass of a synthetic smear, and how a tile of it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hemaest import cellmap

from ._anatomy import Cell, build_cell, paint_cell
from ._kernels import paint_grains, paint_red_cells, paint_veil
from ._microscope import Microscope, draw_microscope, new_canvas, photograph
from ._plan import pick, trait_bias
from ._recipes import load_recipes
from ._scene import place_red_cells
from ._stains import Stain, load_stains, shift

__all__ = ["TILE", "Film", "draw_tile", "lay_out", "measure"]

AREA_PER_LEUKOCYTE = 6400.0  # square micrometres of film, where one film differs from another
AREA_PER_PLATELET = 1200.0
TILE = 1024  # fixed, since the sensor noise is drawn by tile; divisible by the blocks of JPEG
MARGIN = 16

# what a random stream is for
FILM, CELL, PLATELET, SENSOR, LAB, PATIENT = range(20, 26)


@dataclass(frozen=True)
class Film:
    """All that lies on the glass, and the camera above it."""

    root: int
    height: int
    width: int
    scale: float
    leukocytes: list[tuple[Cell, float, float]]
    red_cells: np.ndarray
    platelets: np.ndarray
    grains: np.ndarray
    stain: Stain
    camera: Microscope
    focus: float
    veil: float


def lay_out(
    root: int,
    height: int,
    width: int,
    n_cells: int | None,
    shares: Mapping[str, float],
    scale: float,
    stain: str,
    lab_effect: float,
    patient_effect: float,
    patient: int,
) -> tuple[Film, Sequence[str]]:
    """Place everything on the glass before any of it is drawn."""
    recipes = load_recipes()
    kinds = [pick("cell type", name, recipes) for name in shares]
    weights = np.array([float(v) for v in shares.values()])
    if len(weights) == 0 or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"differential must hold shares >= 0 that are not all 0; got {shares}.")
    rng = np.random.default_rng([root, FILM, patient])
    area = height * width / scale**2
    number = int(rng.poisson(area / AREA_PER_LEUKOCYTE)) if n_cells is None else n_cells
    bias = trait_bias([root, PATIENT, patient], patient_effect)
    names = _deal(kinds, weights / weights.sum(), number, rng)
    cells = [
        build_cell(recipes[name], np.random.default_rng([root, CELL, patient, k]), bias)
        for k, name in enumerate(names)
    ]
    places = _settle_leukocytes(cells, height, width, scale, rng)
    leukocytes = [(cells[k], x, y) for k, x, y in places]
    names = [names[k] for k, _, _ in places]
    style = load_stains()[pick("stain", stain, load_stains())]
    style = shift(style, np.random.default_rng([root, LAB]), lab_effect)
    style = shift(style, np.random.default_rng([root, PATIENT, patient, 1]), 0.4 * patient_effect)
    near = rng.uniform(0.3, 1.0)
    keep_clear = np.array(
        [[x, y, 0.9 * cell.radius * scale, near] for cell, x, y in leukocytes], np.float32
    ).reshape(-1, 4)
    platelets = rng.uniform(0, 1, (rng.poisson(area / AREA_PER_PLATELET), 2)) * [width, height]
    dirt = rng.poisson(rng.exponential(0.8) * area / 900)
    grains = np.column_stack(
        [rng.uniform(0, width, dirt), rng.uniform(0, height, dirt), rng.uniform(0.12, 0.4, dirt)]
    )
    film = Film(
        root=root,
        height=height,
        width=width,
        scale=scale,
        leukocytes=leukocytes,
        red_cells=place_red_cells(height, width, scale, rng, style.ring, keep_clear),
        platelets=platelets,
        grains=grains.astype(np.float32),
        stain=style,
        camera=draw_microscope(np.random.default_rng([root, LAB, 1]), style.blur, lab_effect),
        focus=float(rng.uniform(0.8, 1.4)),
        veil=style.veil * float(rng.exponential()),
    )
    return film, names


def _deal(kinds: list[str], shares: np.ndarray, number: int, rng: np.random.Generator) -> list[str]:
    """Deal the types in their exact shares; what is left over falls by chance."""
    counts = np.floor(shares * number).astype(int)
    counts += rng.multinomial(number - counts.sum(), shares)
    return rng.permutation(np.repeat(kinds, counts)).tolist()


def _settle_leukocytes(
    cells: list[Cell], height: int, width: int, scale: float, rng: np.random.Generator
) -> list[tuple[int, float, float]]:
    """Find leukocytes a place of their own; they may touch but hardly overlap."""
    places: list[tuple[float, float, float]] = []
    kept: list[tuple[int, float, float]] = []
    grid: dict[tuple[int, int], list[int]] = {}
    bucket = 2 * max((c.radius for c in cells), default=1.0) * scale
    for index, cell in enumerate(cells):
        radius = cell.radius * scale
        for x, y in rng.uniform(0, 1, (60, 2)) * [width, height]:
            at = int(x // bucket), int(y // bucket)
            near = [
                places[k]
                for dx in (-1, 0, 1)
                for dy in (-1, 0, 1)
                for k in grid.get((at[0] + dx, at[1] + dy), ())
            ]
            if all(np.hypot(x - px, y - py) > 0.98 * (radius + pr) for px, py, pr in near):
                grid.setdefault(at, []).append(len(places))
                places.append((x, y, radius))
                kept.append((index, float(x), float(y)))
                break
    return kept


def draw_tile(film: Film, top: int, left: int, image: np.ndarray, cell_map: np.ndarray) -> None:
    """Draw one tile into the picture and the map; objects at its edges are drawn whole."""
    bottom, right = min(top + TILE, film.height), min(left + TILE, film.width)
    height, width = bottom - top + 2 * MARGIN, right - left + 2 * MARGIN
    x0, y0 = left - MARGIN, top - MARGIN
    canvas = new_canvas(height, width)
    tile_map = np.zeros((height, width), cell_map.dtype)

    def here(x, y, reach):
        across = (x + reach > x0) & (x - reach < x0 + width)
        return across & (y + reach > y0) & (y - reach < y0 + height)

    red = film.red_cells
    red = red[here(red[:, 0], red[:, 1], 1.3 * red[:, 2] * red[:, 3] * film.scale + 2)]
    paint_red_cells(canvas, film.scale, red, float(x0), float(y0))
    paint_veil(canvas, film.scale, film.veil, float(x0), float(y0), film.root)
    nothing = np.zeros_like(tile_map)
    for k in np.flatnonzero(here(film.platelets[:, 0], film.platelets[:, 1], 4 * film.scale)):
        x, y = film.platelets[k] - [x0, y0]
        seed = np.random.default_rng([film.root, PLATELET, int(k)])
        paint_cell(
            canvas, nothing, 0, build_cell(load_recipes()["platelet"], seed), x, y, film.scale
        )
    grains = film.grains[here(film.grains[:, 0], film.grains[:, 1], film.scale)]
    grains = grains * np.array([1 / film.scale, 1 / film.scale, 1], np.float32)
    dyes = np.array([1.1, 0.3, 0.0, 0.0], np.float32)
    paint_grains(canvas, -x0, -y0, film.scale, grains, dyes, 0.8, 0.0, 0.12)
    for number, (cell, x, y) in enumerate(film.leukocytes, start=1):
        if here(x, y, (cell.radius + 1) * film.scale + 2):
            paint_cell(canvas, tile_map, number, cell, x - x0, y - y0, film.scale)
    rng = np.random.default_rng([film.root, SENSOR, top // TILE, left // TILE])
    image[top:bottom, left:right] = photograph(
        canvas,
        film.scale,
        film.stain,
        film.camera,
        rng,
        focus=film.focus,
        window=(y0, x0, film.height, film.width),
        margin=MARGIN,
        grain=65537,
    )
    cell_map[top:bottom, left:right] = tile_map[MARGIN:-MARGIN, MARGIN:-MARGIN]


def measure(film: Film, names: Sequence[str], cell_map: np.ndarray) -> pd.DataFrame:
    """Measure each leukocyte in the finished map, so truth is what is seen."""
    rows = []
    for number, (cell, x, y) in enumerate(film.leukocytes, start=1):
        reach = int((cell.radius + 1) * film.scale) + 3
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        window = cell_map[top : int(y) + reach, left : int(x) + reach]
        own = cellmap.select(window, number)
        ys, xs = np.nonzero(own)
        if len(ys) == 0:
            continue
        nucleus = int(cellmap.nuclei(own).sum())
        rows.append(
            {
                "cell": number,
                "cell_type": names[number - 1],
                "nc_ratio": nucleus / len(ys),
                "n_lobes": cell.n_lobes,
                "nucleus_area": nucleus,
                "cytoplasm_area": len(ys) - nucleus,
                "cell_area": len(ys),
                "x": x,
                "y": y,
                "x0": left + xs.min(),
                "y0": top + ys.min(),
                "x1": left + xs.max() + 1,
                "y1": top + ys.max() + 1,
            }
        )
    columns = (
        "cell cell_type nc_ratio n_lobes nucleus_area cytoplasm_area cell_area x y x0 y0 x1 y1"
    )
    return pd.DataFrame(rows, columns=columns.split())
