"""From the traits of one cell to the shapes that the painters draw."""

from dataclasses import dataclass

import numpy as np

from hemaest import cellmap

from ._kernels import OUTLINE, paint_grains, paint_leukocyte, scatter, spine_area
from ._recipes import Recipe
from ._variants import vary

__all__ = ["Cell", "build_cell", "paint_cell"]

_ANGLES = np.arange(OUTLINE) * (2 * np.pi / OUTLINE)
_WAVES = np.arange(2, 10)
_FRINGE = np.arange(11, 34)
_FRINGE_COS, _FRINGE_SIN = (f(np.outer(_FRINGE, _ANGLES)) for f in (np.cos, np.sin))
_COS = np.cos(np.outer(_WAVES, _ANGLES))
_SIN = np.sin(np.outer(_WAVES, _ANGLES))


@dataclass(frozen=True)
class Cell:
    """The shapes and dyes of one cell, in micrometers about its own center."""

    outline: np.ndarray
    spine: np.ndarray
    nucleoli: np.ndarray
    look: np.ndarray
    granules: tuple[tuple[np.ndarray, np.ndarray, float, float], ...]
    n_lobes: int
    seed: int
    traits: dict[str, float]

    @property
    def radius(self) -> float:
        """The farthest that the outline reaches."""
        return float(self.outline.max())


def build_cell(
    recipe: Recipe,
    rng: np.random.Generator,
    bias: np.ndarray | None = None,
    *,
    wide: float = 1.0,
    sick: bool = False,
) -> Cell:
    """Draw one cell of a type.

    ``bias`` adds a patient's part to each trait's normal number, ``wide`` stretches the ranges of
    the recipe, ``sick`` draws the forms that disease, treatment and smearing give to the type.

    Examples
    --------
    >>> from hemaest.datasets._recipes import load_recipes
    >>> recipe, seeds = load_recipes()["neutrophil"], range(100)
    >>> plain = [build_cell(recipe, np.random.default_rng(s)) for s in seeds]
    >>> max(cell.n_lobes for cell in plain)
    5
    >>> rows = np.array([[cell.traits[t] for t in recipe.traits] for cell in plain])
    >>> bool((rows >= recipe.low - 1e-9).all() and (rows <= recipe.high + 1e-9).all())
    True
    >>> sick = [build_cell(recipe, np.random.default_rng(s), wide=1.4, sick=True) for s in seeds]
    >>> max(cell.n_lobes for cell in sick) > 5  # hypersegmented
    True
    >>> fewest = min(cell.traits["granules0.number"] for cell in sick)  # hypogranular
    >>> fewest < 0.5 * min(cell.traits["granules0.number"] for cell in plain)
    True
    """
    z = rng.standard_normal(64)
    traits = recipe.values(
        z if bias is None else bias[0] * bias[1:] + np.sqrt(1 - bias[0] ** 2) * z, wide
    )
    n_lobes = recipe.n_lobes(rng.random())
    if sick:
        traits, n_lobes = vary(recipe.name, traits, n_lobes, rng)
    seed = int(rng.integers(2**31))
    outline = _outline(traits, rng)
    spine = _nucleus(traits, n_lobes, outline, rng)
    nucleoli = _nucleoli(traits, spine, rng)
    return Cell(
        outline=outline.astype(np.float32),
        spine=spine.astype(np.float32),
        nucleoli=nucleoli.astype(np.float32),
        look=_look(traits, spine, rng),
        granules=_granules(recipe, traits, outline, spine, rng),
        n_lobes=n_lobes,
        seed=seed,
        traits=traits,
    )


def paint_cell(
    canvas: np.ndarray,
    cell_map: np.ndarray,
    number: int,
    cell: Cell,
    x: float,
    y: float,
    scale: float,
) -> None:
    """Paint the cell at pixel (x, y); number 0 leaves the map alone."""
    values = cellmap.codes(number) if number else (0, 0)
    paint_leukocyte(
        canvas, cell_map, values, x, y, scale,
        cell.outline, cell.spine, cell.nucleoli, cell.look, cell.seed,
    )  # fmt: skip
    for grains, dyes, cover, hollow in cell.granules:
        paint_grains(canvas, x, y, scale, grains, dyes, cover, hollow, 0.12)


def _count(mean: float, rng: np.random.Generator) -> int:
    """Round up or down by chance, so that 0.3 is one in three in ten cells."""
    return int(mean + rng.random())


def _outline(traits: dict[str, float], rng: np.random.Generator) -> np.ndarray:
    """Return the radius at each angle: an ellipse, waves, flat sides, buds; of the right area."""
    stretch = np.sqrt(traits["cell.stretch"])
    turn = rng.uniform(0, np.pi)
    c, s = np.cos(_ANGLES - turn), np.sin(_ANGLES - turn)
    radius = 1.0 / np.sqrt((c / stretch) ** 2 + (s * stretch) ** 2)
    # most cells are round, a few are far from it
    rough = traits["cell.roughness"] * min(rng.exponential(0.9), 2.5)
    size = rough * rng.standard_normal((2, len(_WAVES))) * (2.0 / _WAVES)
    radius *= 1.0 + size[0] @ _COS + size[1] @ _SIN
    if (ruffle := traits.get("cell.ruffle", 0.0)) > 0:  # a fringe finer than the waves
        fine = rng.standard_normal((2, len(_FRINGE))) * (10.0 / _FRINGE)
        radius *= 1.0 + ruffle * (fine[0] @ _FRINGE_COS + fine[1] @ _FRINGE_SIN)
    for _ in range(rng.poisson(1.3 * traits["cell.squeeze"])):
        # a neighbor presses one side flat
        facing = np.cos(_ANGLES - rng.uniform(0, 2 * np.pi))
        wall = 1.0 - traits["cell.squeeze"] * rng.uniform(0.05, 0.35)
        pressed = np.where(facing > 0.2, wall / np.maximum(facing, 0.2), 9.0)
        radius = -0.06 * np.logaddexp(-radius / 0.06, -pressed / 0.06)
    for _ in range(_count(traits["cell.blebs"], rng)):
        off = np.angle(np.exp(1j * (_ANGLES - rng.uniform(0, 2 * np.pi))))
        radius += rng.uniform(0.03, 0.12) * np.exp(-((off / rng.uniform(0.08, 0.2)) ** 2))
    radius *= 1.0 / np.sqrt(np.mean(radius**2))
    return radius * traits["cell.diameter"] / 2


def _nucleus(
    traits: dict[str, float], n_lobes: int, outline: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the nucleus as nodes (x, y, radius, pen): a bent chain that fits in the cell."""
    if n_lobes == 0 or traits["nucleus.nc_ratio"] <= 0:
        return np.zeros((1, 4))
    target = traits["nucleus.nc_ratio"] * np.pi * np.mean(outline**2)
    bend = np.deg2rad(traits["nucleus.bend"]) * rng.choice([-1.0, 1.0])
    length = traits["nucleus.length"]
    apart = traits.get("nucleus.apart", 0.25)  # below 0 lobes may lie over one another
    best, best_score = np.zeros((1, 4)), -np.inf
    for _ in range(14):
        facing = rng.uniform(0, 2 * np.pi)
        spine, lobe_of = _chain(length, bend, traits["nucleus.waist"], n_lobes, rng)
        area, x, y = spine_area(spine, spine[:, 2].max() / 7)
        grow = np.sqrt(target / area)
        spine[:, :2] = (spine[:, :2] - [x, y]) * grow
        spine[:, 2] *= grow
        turn = [[np.cos(facing), np.sin(facing)], [-np.sin(facing), np.cos(facing)]]
        spine[:, :2] = spine[:, :2] @ np.array(turn)
        room = _room(spine, outline)
        score = min(room, 0.0) + 2.0 * min(_gap(spine, lobe_of) - apart, 0.0)
        if score > best_score:
            best, best_score, best_room = spine, score, room
        if score > -0.1:
            break
        length *= 0.92
        bend *= 0.95
    way = rng.uniform(0, 2 * np.pi)
    push = max(best_room, 0.0) * traits["nucleus.offset"]
    best[:, :2] += push * np.array([np.cos(way), np.sin(way)])
    return best


def _chain(
    length: float, bend: float, waist: float, n_lobes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Walk along the nucleus, lobe after lobe; return nodes and the lobe each belongs to."""
    many = n_lobes > 1
    steps = 3 if many else 5 if length < 2.7 else 9
    sizes = np.clip(1 + 0.2 * rng.standard_normal(n_lobes), 0.72, 1.4) if many else np.ones(1)
    lengths = length * rng.uniform(0.6, 1.4, n_lobes) if many else np.array([length])
    ends = rng.uniform(0.74, 0.98, n_lobes + 1)
    kinks = 0.3 * rng.standard_normal(n_lobes)
    nodes: list[tuple[float, float, float, float]] = []
    lobe_of: list[int] = []
    x = y = heading = 0.0
    for k in range(n_lobes):
        if k:  # a thread to the next lobe, thin at both ends, on which the chain turns
            thread = 0.5 * waist * min(sizes[k - 1], sizes[k])
            gap = ends[k] * (sizes[k - 1] + sizes[k]) + 0.04 + 0.3 * rng.random() ** 2
            heading += 0.6 * bend / n_lobes + kinks[k]
            nodes.append((x, y, thread, 1.0))
            x, y = x + gap * np.cos(heading), y + gap * np.sin(heading)
            nodes.append((x, y, thread, 0.0))
            lobe_of += [-1, -1]
            heading += 0.25 * bend / n_lobes
        stride = 2 * lengths[k] / (steps - 1)
        curl = bend / (steps - 1) * (0.3 / n_lobes if many else 1.0)
        for j, t in enumerate(np.linspace(0, 1, steps)):
            if j:
                x, y = x + stride * np.cos(heading), y + stride * np.sin(heading)
                heading += curl
            middle = np.sin(np.pi * t)
            form = (
                ends[k] * (1 - t) + ends[k + 1] * t + 0.12 * middle
                if many
                else 1 - (1 - waist) * middle**2
            )
            nodes.append((x, y, sizes[k] * form, 0.0 if many and j == steps - 1 else 1.0))
            lobe_of.append(k)
    return np.array(nodes), np.array(lobe_of)


def _gap(spine: np.ndarray, lobe_of: np.ndarray) -> float:
    """Return the least free distance between two lobes; infinite for one."""
    if lobe_of.max() == 0:
        return np.inf
    lobes = lobe_of >= 0
    nodes, of = spine[lobes], lobe_of[lobes]
    apart = np.hypot(*(nodes[:, None, :2] - nodes[None, :, :2]).transpose(2, 0, 1))
    free = apart - nodes[:, None, 2] - nodes[None, :, 2]
    return float(free[of[:, None] != of[None, :]].min())


def _room(spine: np.ndarray, outline: np.ndarray) -> float:
    """Return the least distance between nucleus and outline; negative where it sticks out."""
    angle = np.arctan2(spine[:, 1], spine[:, 0])
    at = outline[np.round(angle / (2 * np.pi) * OUTLINE).astype(int) % OUTLINE]
    return float(np.min(at - np.hypot(spine[:, 0], spine[:, 1]) - spine[:, 2]))


def _nucleoli(traits: dict[str, float], spine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    number = _count(traits["chromatin.nucleoli"], rng)
    folds = _folds(_count(traits.get("chromatin.folds", 0.0), rng), spine, rng)
    rows = np.empty((number, 4))
    for k in range(number):
        node = spine[rng.integers(len(spine))]
        away = node[2] * 0.6 * np.sqrt(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        size = 0.5 * traits["chromatin.nucleolus"] * rng.uniform(0.75, 1.2)
        rows[k] = (
            node[0] + away * np.cos(angle),
            node[1] + away * np.sin(angle),
            size,
            traits["chromatin.clarity"],
        )
    return np.vstack([rows, folds])


def _folds(number: int, spine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return dark lines across the nucleus, each a row of small spots darker than clear."""
    rows = []
    for _ in range(number):
        node = spine[rng.integers(len(spine))]
        heading, turn = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.25)
        x, y = node[:2] + 0.5 * node[2] * rng.uniform(-1, 1, 2)
        size, depth = rng.uniform(0.2, 0.4), -rng.uniform(0.1, 0.45)
        for _ in range(int(rng.uniform(0.8, 1.8) * node[2] / size) + 1):
            rows.append((x, y, size, depth))
            heading += turn
            x, y = x + 0.9 * size * np.cos(heading), y + 0.9 * size * np.sin(heading)
    return np.array(rows).reshape(-1, 4)


def _look(traits: dict[str, float], spine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers that ``paint_leukocyte`` reads, in its order."""
    center = spine[:, :2].mean(axis=0)
    away = -center / (np.hypot(*center) + 1e-6)
    hof = center + away * spine[:, 2].max()
    order = "density contrast grain membrane"
    tint = "violet azure eosin texture grain rim hof"
    values = [traits[f"chromatin.{t}"] for t in order.split()]
    values += [traits[f"cytoplasm.{t}"] for t in tint.split()]
    values += [hof[0], hof[1], 0.3 * traits["cell.diameter"] / 2]
    values += [traits["nucleus.roughness"], 0.1, traits["cytoplasm.hemoglobin"]]
    values += [traits.get("chromatin.sap", 0.0), traits.get("chromatin.holes", 0.0)]
    return np.array(values, np.float32)


def _granules(
    recipe: Recipe,
    traits: dict[str, float],
    outline: np.ndarray,
    spine: np.ndarray,
    rng: np.random.Generator,
) -> tuple[tuple[np.ndarray, np.ndarray, float, float], ...]:
    reach = outline.max()
    kinds = []
    names = [f"granules{k}" for k in range(recipe.n_granule_kinds)] + ["vacuoles"]
    for name in names:
        number = _count(traits[f"{name}.number"], rng)
        if number == 0:
            continue
        tries = rng.random((4 * number + 8, 4)).astype(np.float32)
        places = np.empty_like(tries)
        # of platelets the middle may hold all granules
        places[:, :2] = (2 * tries[:, :2] - 1) * (reach * traits.get(f"{name}.inward", 1.0))
        places[:, 2] = traits[f"{name}.diameter"] / 2 * (0.75 + 0.5 * tries[:, 2])
        places[:, 3] = tries[:, 3]
        over = traits.get(f"{name}.over", 0.0)
        kept = scatter(places, outline, spine, 0.8, over, number)
        if name == "vacuoles":
            dyes, cover, hollow = np.zeros(4), 0.85, 0.0
        else:
            dyes = np.array([traits[f"{name}.{d}"] for d in ("violet", "azure", "eosin")] + [0])
            cover, hollow = traits[f"{name}.cover"], traits[f"{name}.hollow"]
        kinds.append((places[:kept, :3].copy(), dyes.astype(np.float32), cover, hollow))
    return tuple(kinds)
