"""Draw the planned cells, one by one or on threads, and gather them with their truth."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from hemaest import cellmap
from hemaest._parallel import thread_pool

from ._anatomy import Cell, build_cell, paint_cell
from ._glass import draw_glass, paint_red, place_precipitate, place_red_cells, sprinkle
from ._kernels import paint_veil
from ._microscope import new_canvas, photograph
from ._plan import ANATOMY, CAMERA, LAB, SCENE, Plan
from ._recipes import load_recipes

DESCR = """Synthetic blood cells of known truth, drawn by hemaest.datasets.make_cells: no patient,
no photograph. Traits follow hemaest/datasets/recipes.toml, colors hemaest/datasets/stains.toml."""

JITTER = 0.05  # how far from the center a cell lies, in image widths


def draw_batch(
    plan: Plan,
    rows: range,
    size: int,
    field: tuple[float, float],
    neighbors: float,
    n_jobs: int | None,
) -> Bunch:
    """Return the cells of the given rows as ``make_cells`` does."""
    images = np.empty((len(rows), size, size, 3), np.uint8)
    masks = np.zeros((len(rows), size, size), np.uint8)
    lobes = np.zeros(len(rows), int)
    widths = {lab: _field_of(plan, lab, field) for lab in set(plan.patient_lab.tolist())}

    def work(k: int) -> None:
        width = widths[int(plan.patient_lab[plan.patient[rows[k]]])]
        images[k], lobes[k] = _draw(plan, rows[k], masks[k], size / width, neighbors)

    with thread_pool(n_jobs, len(rows)) as pool:
        list(pool.map(work, range(len(rows))))

    at = slice(rows.start, rows.stop)
    truth = _truth(plan, at, masks, lobes)
    truth["micrometres_per_pixel"] = [widths[lab] / size for lab in truth["lab_index"]]
    truth = truth.drop(columns="lab_index")
    return Bunch(
        images=images,
        target=plan.target[at],
        masks=masks,
        groups=truth["patient"].to_numpy(dtype=str),
        truth=truth,
        class_names={name: recipe.title for name, recipe in plan.recipes.items()},
        DESCR=DESCR,
    )


def _field_of(plan: Plan, lab: int, field: tuple[float, float]) -> float:
    rng = np.random.default_rng([plan.root, LAB, lab, 2])
    return float(rng.uniform(*field)) if field[0] < field[1] else field[0]


def _draw(
    plan: Plan, row: int, cell_map: np.ndarray, scale: float, neighbors: float
) -> tuple[np.ndarray, int]:
    """Draw one image: red cells first, the leukocytes over them, then the camera."""
    size = len(cell_map)
    patient, kind = int(plan.patient[row]), int(plan.kind[row])
    recipe = list(plan.recipes.values())[kind]
    source = int(plan.source[row])
    bias = plan.biases[patient]
    cell = build_cell(recipe, plan.stream(ANATOMY, source), bias)
    rng = plan.stream(SCENE, source)
    stain = plan.stains[patient, kind]
    lens = plan.stream(CAMERA, row)
    moved = lens.uniform(-0.02, 0.02, 2) * size if source != row else np.zeros(2)
    x, y = (size - 1) / 2 + JITTER * size * rng.uniform(-1, 1, 2) + moved

    cells = [(cell, x, y)]
    if neighbors > 0 and rng.random() < neighbors:
        cells.append(_neighbor(cell, x, y, scale, bias, rng))
    near = rng.uniform(0.3, 1.0)  # how far red cells of this film slip under the leukocyte
    keep_clear = np.array([[cx, cy, 0.9 * c.radius * scale, near] for c, cx, cy in cells])
    canvas = new_canvas(size, size)
    still = keep_clear - [moved[0], moved[1], 0, 0]
    glass = draw_glass(rng)
    red = place_red_cells(size, size, scale, rng, stain.ring, still, glass)
    paint_red(canvas, scale, red, glass.sheet, -moved[0], -moved[1])
    paint_veil(canvas, scale, stain.veil * rng.exponential(), -moved[0], -moved[1], row)
    _platelets(canvas, scale, keep_clear, rng)
    sprinkle(canvas, scale, place_precipitate(size, size, scale, rng, glass))
    for number in range(len(cells), 0, -1):
        paint_cell(canvas, cell_map, number, *cells[number - 1], scale)
    if source != row:
        stain = replace(stain, light=np.clip(stain.light * lens.uniform(0.97, 1.0), 0, 255))
    lab = int(plan.patient_lab[patient])
    focus = float(lens.uniform(0.8, 1.4))
    return photograph(canvas, scale, stain, plan.cameras[lab], lens, focus=focus), cell.n_lobes


def _neighbor(
    cell: Cell, x: float, y: float, scale: float, bias: np.ndarray | None, rng: np.random.Generator
) -> tuple[Cell, float, float]:
    names = ("neutrophil", "lymphocyte", "monocyte", "eosinophil")
    name = names[rng.choice(4, p=(0.55, 0.3, 0.1, 0.05))]
    other = build_cell(load_recipes()[name], rng, bias)
    way = rng.uniform(0, 2 * np.pi)
    apart = (cell.radius + other.radius) * rng.uniform(0.9, 1.15) * scale
    return other, x + apart * np.cos(way), y + apart * np.sin(way)


def _platelets(
    canvas: np.ndarray, scale: float, keep_clear: np.ndarray, rng: np.random.Generator
) -> None:
    recipe = load_recipes().get("platelet")
    if recipe is None:
        return
    size = canvas.shape[0]
    nothing = np.zeros(canvas.shape[:2], np.uint8)
    for _ in range(rng.poisson(1.0 * (size / scale / 30) ** 2)):
        platelet = build_cell(recipe, rng)
        x, y = rng.uniform(0, size, 2)
        if np.all(np.hypot(keep_clear[:, 0] - x, keep_clear[:, 1] - y) > keep_clear[:, 2] * 1.3):
            paint_cell(canvas, nothing, 0, platelet, x, y, scale)


def _truth(plan: Plan, at: slice, masks: np.ndarray, lobes: np.ndarray) -> pd.DataFrame:
    kind, patient = plan.kind[at], plan.patient[at]
    lab = plan.patient_lab[patient]
    own = cellmap.select(masks, 1)  # a neighbor is cell 2
    nucleus = cellmap.nuclei(own).sum(axis=(1, 2))
    cytoplasm = cellmap.cytoplasm(own).sum(axis=(1, 2))
    pairs = list(zip(patient.tolist(), kind.tolist(), strict=True))
    shifts = np.array([plan.sizes[pair] for pair in pairs])
    index = np.arange(at.start, at.stop)
    names = np.array(list(plan.recipes))
    with np.errstate(invalid="ignore"):
        nc_ratio = nucleus / (nucleus + cytoplasm)
    digits = len(str(len(plan.patient_lab) - 1))
    return pd.DataFrame(
        {
            "cell_type": names[kind],
            "nc_ratio": nc_ratio,
            "n_lobes": lobes,
            "nucleus_area": nucleus,
            "cytoplasm_area": cytoplasm,
            "cell_area": nucleus + cytoplasm,
            "stain": [plan.stains[pair].name for pair in pairs],
            "lab": [f"lab{k}" for k in lab],
            "patient": [f"patient{p:0{digits}d}" for p in patient],
            "lab_index": lab,
            "duplicate_of": np.where(plan.source[at] == index, -1, plan.source[at]),
            "lab_shift": shifts[:, 0],
            "patient_shift": shifts[:, 1],
            "confound_shift": shifts[:, 2],
        },
        index=index,
    )
