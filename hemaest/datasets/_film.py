"""A whole film: where everything lies, how a tile of it is drawn, and what is seen of each thing.

``make_smear`` lays a :class:`Film` out once, draws it tile by tile, and measures it in the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from hemaest import cellmap

from ._anatomy import Cell, build_cell, paint_cell
from ._glass import (
    Glass,
    Mark,
    draw_glass,
    draw_marks,
    lay_over,
    paint_red,
    place_precipitate,
    place_red_cells,
    sprinkle,
)
from ._kernels import paint_veil
from ._microscope import Microscope, draw_microscope, new_canvas, photograph, view
from ._plan import pick, trait_bias
from ._recipes import load_recipes
from ._stains import Stain, load_stains, restain, shift

__all__ = ["TILE", "Film", "Maps", "draw_tile", "lay_out", "measure_leukocytes", "measure_others"]

AREA_PER_LEUKOCYTE = 6400.0  # square micrometers of film, where one film differs from another
AREA_PER_PLATELET = 1200.0
TILE = 1024  # fixed, since the sensor noise is drawn by tile; divisible by the blocks of JPEG

# what a random stream is for
FILM, CELL, PLATELET, SENSOR, LAB, PATIENT, DIRT = range(20, 27)


@dataclass(frozen=True)
class ScaleBar:
    """What the software of a camera writes into a corner, in pixels."""

    left: int
    top: int
    width: int
    height: int
    ink: tuple[int, int, int]
    paper: tuple[int, int, int] | None


@dataclass(frozen=True)
class Film:
    """All that lies on the glass, and the microscope above it."""

    root: int
    height: int
    width: int
    scale: float
    leukocytes: list[tuple[Cell, float, float]]
    red_cells: np.ndarray
    sheet: tuple[float, ...]  # how red cells that are pressed together look
    platelets: np.ndarray  # x, y (px) and how many times larger than usual
    grains: np.ndarray
    parasites: np.ndarray
    marks: list[Mark]
    stain: Stain
    microscope: Microscope
    focus: float
    veil: float
    bar: ScaleBar | None


@dataclass(frozen=True)
class Maps:
    """Who owns each pixel: leukocytes (2k-1 cytoplasm, 2k nucleus), red cells, platelets (k)."""

    leukocytes: np.ndarray
    red_cells: np.ndarray
    platelets: np.ndarray


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
    severity: float,
) -> tuple[Film, Sequence[str]]:
    """Place everything on the glass before any of it is drawn."""
    recipes = load_recipes()
    kinds = [pick("cell type", name, recipes) for name in shares]
    weights = np.array([float(v) for v in shares.values()])
    if len(weights) == 0 or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"differential must hold shares >= 0 that are not all 0; got {shares}.")
    rng = np.random.default_rng([root, FILM, patient])
    area = height * width / scale**2
    bias = trait_bias([root, PATIENT, patient], patient_effect)
    glass = draw_glass(rng, severity)
    names = _deal(kinds, weights / weights.sum(), _number(n_cells, area, severity, rng), rng)
    wide = 1.0 + 0.3 * severity * rng.random() if severity > 0 else 1.0
    cells = [
        build_cell(
            recipes[name],
            np.random.default_rng([root, CELL, patient, k]),
            bias,
            wide=wide,
            sick=severity > 0,
        )
        for k, name in enumerate(names)
    ]
    places = _settle_leukocytes(cells, height, width, scale, glass.crowd, severity, rng)
    leukocytes = [(cells[k], x, y) for k, x, y in places]
    style = _stain(root, stain, lab_effect, patient_effect, patient, severity)
    near = rng.uniform(0.3, 1.0)
    keep_clear = np.array(
        [[x, y, 0.9 * cell.radius * scale, near] for cell, x, y in leukocytes], np.float32
    ).reshape(-1, 4)
    red_cells = place_red_cells(height, width, scale, rng, style.ring, keep_clear, glass)
    dirt = np.random.default_rng([root, DIRT, patient])
    microscope = draw_microscope(
        np.random.default_rng([root, LAB, 1]), style.blur, lab_effect, severity
    )
    film = Film(
        root=root,
        height=height,
        width=width,
        scale=scale,
        leukocytes=leukocytes,
        red_cells=red_cells,
        sheet=glass.sheet,
        platelets=_platelets(area, width, height, scale, glass, rng),
        grains=place_precipitate(height, width, scale, rng, glass),
        parasites=_parasites(red_cells, scale, glass, dirt),
        marks=draw_marks(height, width, scale, dirt, severity),
        stain=style,
        microscope=microscope,
        focus=float(rng.uniform(0.8, 1.4)),
        veil=style.veil * float(rng.exponential()),
        bar=_scale_bar(height, width, dirt) if dirt.random() < 0.12 * severity else None,
    )
    return film, [names[k] for k, _, _ in places]


def _number(n_cells: int | None, area: float, severity: float, rng: np.random.Generator) -> int:
    """Return how many leukocytes; sick films hold none or dozens."""
    if n_cells is not None:
        return n_cells
    usual = area / AREA_PER_LEUKOCYTE
    if severity > 0:
        usual *= float(np.exp(1.2 * min(severity, 1.5) * rng.standard_normal()))
        usual *= float(rng.random() > 0.1 * severity)
    return int(rng.poisson(min(usual, area / 300)))


def _stain(
    root: int, name: str, lab_effect: float, patient_effect: float, patient: int, severity: float
) -> Stain:
    style = load_stains()[pick("stain", name, load_stains())]
    style = shift(style, np.random.default_rng([root, LAB]), lab_effect)
    style = restain(style, np.random.default_rng([root, LAB, 2]), severity)
    return shift(style, np.random.default_rng([root, PATIENT, patient, 1]), 0.4 * patient_effect)


def _deal(kinds: list[str], shares: np.ndarray, number: int, rng: np.random.Generator) -> list[str]:
    """Assign the types in their exact shares; what is left over falls by chance."""
    counts = np.floor(shares * number).astype(int)
    counts += rng.multinomial(number - counts.sum(), shares)
    return rng.permutation(np.repeat(kinds, counts)).tolist()


def _settle_leukocytes(
    cells: list[Cell],
    height: int,
    width: int,
    scale: float,
    crowd: float,
    severity: float,
    rng: np.random.Generator,
) -> list[tuple[int, float, float]]:
    """Find leukocytes a place of their own; they may touch but hardly overlap.

    A share ``crowd`` of them lies against another one. With ``severity`` some are cut by the edge.
    """
    places: list[tuple[float, float, float]] = []
    kept: list[tuple[int, float, float]] = []
    grid: dict[tuple[int, int], list[int]] = {}
    bucket = 2 * max((c.radius for c in cells), default=1.0) * scale
    spacing = 0.98 - 0.1 * min(severity, 1.0)
    for index, cell in enumerate(cells):
        radius = cell.radius * scale
        beyond = 0.7 * radius * (severity > 0)
        tries = rng.uniform(0, 1, (60, 2)) * [width + 2 * beyond, height + 2 * beyond] - beyond
        if crowd > 0 and places and rng.random() < crowd:
            beside = [places[k] for k in rng.integers(0, len(places), 20)]
            angle = rng.uniform(0, 2 * np.pi, 20)
            gap = np.array([p[2] for p in beside]) + radius
            gap = gap * rng.uniform(spacing, 1.08, 20)
            way = np.column_stack([np.cos(angle), np.sin(angle)]) * gap[:, None]
            tries = np.concatenate([np.array(beside)[:, :2] + way, tries])
        for x, y in tries:
            if not (-beyond <= x < width + beyond and -beyond <= y < height + beyond):
                continue
            at = int(x // bucket), int(y // bucket)
            near = [
                places[k]
                for dx in (-1, 0, 1)
                for dy in (-1, 0, 1)
                for k in grid.get((at[0] + dx, at[1] + dy), ())
            ]
            if all(np.hypot(x - px, y - py) > spacing * (radius + pr) for px, py, pr in near):
                grid.setdefault(at, []).append(len(places))
                places.append((x, y, radius))
                kept.append((index, float(x), float(y)))
                break
    return kept


def _platelets(
    area: float, width: int, height: int, scale: float, glass: Glass, rng: np.random.Generator
) -> np.ndarray:
    n = int(rng.poisson(glass.platelets * area / AREA_PER_PLATELET))
    size = np.where(rng.random(n) < glass.giant, rng.uniform(1.3, 2.4, n), 1.0)
    rows = [np.column_stack([rng.uniform(0, 1, (n, 2)) * [width, height], size])]
    for _ in range(rng.poisson(glass.packs * area / 4000) if glass.packs > 0 else 0):
        many = int(np.exp(rng.uniform(np.log(4), np.log(60))))
        wide = 0.9 * np.sqrt(many) * rng.uniform(0.8, 1.6) * scale
        at = rng.uniform(0, 1, 2) * [width, height] + wide * rng.standard_normal((many, 2))
        rows.append(np.column_stack([at, np.ones(many)]))
    return np.concatenate(rows)


def _parasites(
    red_cells: np.ndarray, scale: float, glass: Glass, rng: np.random.Generator
) -> np.ndarray:
    """Return rings and dots inside red cells, as grains: x, y (px) and radius (um)."""
    inside = red_cells[rng.random(len(red_cells)) < glass.parasites]
    n = len(inside)
    way = rng.uniform(-0.5, 0.5, (n, 2)) * inside[:, 2:3] * scale
    rows = [np.column_stack([inside[:, :2] + way, rng.uniform(0.25, 0.7, n)])]
    ring = rng.uniform(0.5, 1.3, (n, 1)) * scale
    for angle in np.linspace(0, 2 * np.pi, 10, endpoint=False):
        turn = [[np.cos(angle), np.sin(angle)]] * ring
        rows.append(np.column_stack([inside[:, :2] + way + turn, np.full(n, 0.18)]))
    return np.concatenate(rows).astype(np.float32)


def _scale_bar(height: int, width: int, rng: np.random.Generator) -> ScaleBar:
    wide = int(rng.uniform(0.06, 0.25) * width)
    high = int(np.clip(rng.uniform(0.25, 0.5) * wide, 4, height // 3))
    left = width - wide - int(rng.uniform(0, 0.05) * width)
    top = height - high - int(rng.uniform(0, 0.05) * height)
    ink = ((0, 0, 0), (255, 255, 255), (220, 20, 20), (20, 20, 200))[rng.integers(4)]
    paper = (None, (255, 255, 255), (0, 0, 0))[rng.integers(3)]
    if paper == ink:
        paper = None
    return ScaleBar(left, top, wide, high, ink, paper)


def draw_tile(film: Film, top: int, left: int, image: np.ndarray, maps: Maps) -> None:
    """Draw one tile into the image and the maps; objects at its edges are drawn whole."""
    margin = film.microscope.reach(film.scale, film.focus)
    bottom, right = min(top + TILE, film.height), min(left + TILE, film.width)
    height, width = bottom - top + 2 * margin, right - left + 2 * margin
    x0, y0 = left - margin, top - margin
    canvas = new_canvas(height, width)
    own = Maps(*(np.zeros((height, width), m.dtype) for m in vars(maps).values()))

    def here(x, y, reach):
        across = (x + reach > x0) & (x - reach < x0 + width)
        return across & (y + reach > y0) & (y - reach < y0 + height)

    red = film.red_cells
    names = np.flatnonzero(here(red[:, 0], red[:, 1], 4 * red[:, 2] * red[:, 3] * film.scale + 2))
    red = red[names]
    paint_red(canvas, film.scale, red, film.sheet, float(x0), float(y0), own.red_cells, names + 1)
    for grains in (film.parasites, film.grains):
        near = grains[here(grains[:, 0], grains[:, 1], (grains[:, 2] + 1) * film.scale)]
        sprinkle(canvas, film.scale, near, x0, y0)
    paint_veil(canvas, film.scale, film.veil, float(x0), float(y0), film.root)
    for k in np.flatnonzero(here(film.platelets[:, 0], film.platelets[:, 1], 8 * film.scale)):
        x, y, size = film.platelets[k]
        seed = np.random.default_rng([film.root, PLATELET, int(k)])
        platelet = build_cell(load_recipes()["platelet"], seed)
        if size != 1:
            platelet = _enlarged(platelet, size)
        paint_cell(canvas, own.platelets, int(k) + 1, platelet, x - x0, y - y0, film.scale)
    for number, (cell, x, y) in enumerate(film.leukocytes, start=1):
        if here(x, y, (cell.radius + 1) * film.scale + 2):
            paint_cell(canvas, own.leukocytes, number, cell, x - x0, y - y0, film.scale)
    over, hidden = lay_over(film.marks, y0, x0, height, width, film.scale)
    window = (y0, x0, film.height, film.width)
    photo = photograph(
        canvas,
        film.scale,
        film.stain,
        film.microscope,
        np.random.default_rng([film.root, SENSOR, top // TILE, left // TILE]),
        focus=film.focus,
        window=window,
        margin=margin,
        grain=65537,
        over=over,
    )
    _keep_visible(own, film, hidden, window)
    if film.bar is not None:
        photo = np.ascontiguousarray(photo)
        _write_bar(photo, film.bar, top, left, own, margin)
    inner = np.s_[margin:-margin, margin:-margin]
    image[top:bottom, left:right] = photo
    for whole, part in zip(vars(maps).values(), vars(own).values(), strict=True):
        whole[top:bottom, left:right] = part[inner]


def _enlarged(cell: Cell, size: float) -> Cell:
    granules = tuple(
        (grains * np.array([size, size, 1], np.float32), color, edge, depth)
        for grains, color, edge, depth in cell.granules
    )
    return replace(cell, outline=cell.outline * np.float32(size), granules=granules)


def _keep_visible(
    own: Maps, film: Film, hidden: np.ndarray | None, window: tuple[int, int, int, int]
) -> None:
    """Leave each pixel to what lies on top of it, and to nothing where it cannot be seen."""
    own.platelets[:] = (own.platelets + 1) // 2
    if film.microscope.eyepiece is not None:
        dark = view(film.microscope, own.platelets.shape, window) < 0.5
        hidden = dark if hidden is None else hidden | dark
    if hidden is not None:
        for part in vars(own).values():
            part[hidden] = 0
    own.platelets[own.leukocytes > 0] = 0
    own.red_cells[(own.leukocytes > 0) | (own.platelets > 0)] = 0


def _write_bar(
    photo: np.ndarray, bar: ScaleBar, top: int, left: int, own: Maps, margin: int
) -> None:
    import cv2

    x, y = bar.left - left, bar.top - top
    low = (x + bar.width, y + bar.height)
    if bar.paper is not None:
        cv2.rectangle(photo, (x, y), low, bar.paper, -1)
        box = np.s_[
            max(y + margin, 0) : max(low[1] + margin + 1, 0),
            max(x + margin, 0) : max(low[0] + margin + 1, 0),
        ]
        for part in vars(own).values():
            part[box] = 0
    foot = y + int(0.85 * bar.height)
    ends = x + int(0.1 * bar.width), x + int(0.9 * bar.width)
    cv2.line(photo, (ends[0], foot), (ends[1], foot), bar.ink, 1)
    for end in ends:
        cv2.line(photo, (end, foot - bar.height // 6), (end, foot), bar.ink, 1)
    size = bar.width / 130
    at = (x + bar.width // 4, y + int(0.55 * bar.height))
    cv2.putText(photo, "100 um", at, cv2.FONT_HERSHEY_SIMPLEX, size, bar.ink, 1, cv2.LINE_AA)


def measure_leukocytes(film: Film, names: Sequence[str], cell_map: np.ndarray) -> pd.DataFrame:
    """Measure each leukocyte in the finished map, so truth is what is seen."""
    rows = []
    for number, (cell, x, y) in enumerate(film.leukocytes, start=1):
        reach = int((cell.radius + 1) * film.scale) + 3
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        window = cell_map[top : max(int(y) + reach, 0), left : max(int(x) + reach, 0)]
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


def measure_others(maps: Maps) -> pd.DataFrame:
    """List the red cells and platelets that are seen: kind, number in its map, box and area."""
    from scipy.ndimage import find_objects

    rows = []
    for kind, numbers in (("red_cell", maps.red_cells), ("platelet", maps.platelets)):
        areas = np.bincount(numbers.ravel())
        for k, box in enumerate(find_objects(numbers), start=1):
            if box is not None:
                y, x = box
                rows.append((kind, k, x.start, y.start, x.stop, y.stop, int(areas[k])))
    return pd.DataFrame(rows, columns=["kind", "number", "x0", "y0", "x1", "y1", "area"])
