"""Synthetic smears: fields of any size, drawn tile by tile, with every leukocyte known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from hemaest import cellmap
from hemaest._parallel import thread_pool
from hemaest._seeds import seed_of

from . import _film
from ._synthetic import check_numbers

__all__ = ["make_smear"]

# a healthy adult's differential count
ADULT = {
    "neutrophil": 0.57,
    "band_neutrophil": 0.03,
    "lymphocyte": 0.30,
    "monocyte": 0.06,
    "eosinophil": 0.03,
    "basophil": 0.01,
}


def make_smear(
    size: int | tuple[int, int] = 1024,
    *,
    n_cells: int | None = None,
    differential: Mapping[str, float] | None = None,
    micrometres_per_pixel: float = 0.2,
    stain: str = "may-gruenwald-giemsa",
    lab_effect: float = 0.0,
    patient_effect: float = 1.0,
    patient: int = 0,
    severity: float = 0.0,
    out: NDArray[np.uint8] | None = None,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> Bunch:
    """Draw a field of a blood smear with the box, map and type of everything in it.

    The field is drawn in tiles, so 20,000 x 20,000 pixels need little more memory than the
    image and its maps; give ``out`` to have the image written to a file on disk.

    Parameters
    ----------
    size : int or (height, width), default=1024
        In pixels.
    n_cells : int, optional
        Leukocytes; by default about one in 6,400 square micrometers. Where the field has no room
        for all of them, as many as fit.
    differential : mapping of cell type to share, optional
        By default a healthy adult's: 57% segmented and 3% band neutrophils, 30% lymphocytes, 6%
        monocytes, 3% eosinophils, 1% basophils.
    micrometres_per_pixel : float, default=0.2
        The magnification.
    stain : str, default="may-gruenwald-giemsa"
        A style of ``stains.toml``.
    lab_effect, patient_effect : float, default=0.0 and 1.0
        As for :func:`make_cells`.
    patient : int, default=0
        Smears of one seed and patient share the patient's traits and stain.
    severity : float, default=0.0
        How far film, stain, microscope and camera are from a well-kept laboratory's. At 1 the
        fields are those of any laboratory in the world: colored and uneven light, telephones and
        webcams, blur, halos, noise, heavy JPEG, a round view in a black frame; red cells of any
        color and shape, anaemic and crowded films, sheets of red cells, stain clumps, fibers,
        bubbles, water marks, ink, scale bars; leukocytes that touch one another and the border,
        or none at all.
    out : uint8 array of shape (height, width, 3), optional
        Where to draw, for example a ``numpy.memmap``.
    n_jobs : int, optional
        Threads; the result does not depend on them.
    random_state : int, RandomState or None
        The same seed gives the same bytes.

    Returns
    -------
    smear : Bunch
        ``image`` uint8 (height, width, 3); ``cell_map`` (height, width), in which cell k has
        cytoplasm 2k-1 and nucleus 2k, uint8 up to 127 cells and uint16 above; ``boxes`` int
        (n, 4): x0, y0, x1, y1, half open, exactly about each cell's pixels; ``target`` the types;
        ``truth`` a DataFrame with cell, cell_type, nc_ratio, n_lobes, nucleus_area,
        cytoplasm_area, cell_area, x, y, stain, patient. ``red_cell_map`` and ``platelet_map``
        (height, width), uint16 or uint32: the number of the red cell and of the platelet on top;
        ``others`` a DataFrame of these: kind, number, x0, y0, x1, y1, area. What cannot be seen
        at all is left out. ``DESCR``.

    Examples
    --------
    >>> from hemaest.datasets import make_smear
    >>> smear = make_smear(256, n_cells=3, differential={"monocyte": 1}, random_state=0)
    >>> smear.image.shape, smear.boxes.shape, smear.target.tolist()
    ((256, 256, 3), (3, 4), ['monocyte', 'monocyte', 'monocyte'])
    """
    height, width = (size, size) if isinstance(size, int) else size
    check_numbers(
        height=(height, int, 16, 1_000_000),
        width=(width, int, 16, 1_000_000),
        n_cells=(0 if n_cells is None else n_cells, int, 0, 30_000),
        micrometres_per_pixel=(micrometres_per_pixel, float, 0.02, 5),
        lab_effect=(lab_effect, float, 0, 10),
        patient_effect=(patient_effect, float, 0, 10),
        patient=(patient, int, 0, None),
        severity=(severity, float, 0, 3),
    )
    if out is not None and (out.shape != (height, width, 3) or out.dtype != np.uint8):
        raise ValueError(
            f"out must be uint8 of shape {(height, width, 3)}; got {out.dtype} {out.shape}."
        )
    shares = ADULT if differential is None else differential
    film, names = _film.lay_out(
        seed_of(random_state), height, width, n_cells, shares, 1 / micrometres_per_pixel,
        stain, lab_effect, patient_effect, patient, severity,
    )  # fmt: skip
    image = np.empty((height, width, 3), np.uint8) if out is None else out
    maps = _film.Maps(
        np.zeros((height, width), np.uint8 if len(names) <= cellmap.MAX_CELLS else np.uint16),
        np.zeros((height, width), _numbers_up_to(len(film.red_cells))),
        np.zeros((height, width), _numbers_up_to(2 * len(film.platelets))),
    )
    tile = _film.TILE
    corners = [(r, c) for r in range(0, height, tile) for c in range(0, width, tile)]

    def work(corner: tuple[int, int]) -> None:
        _film.draw_tile(film, *corner, image, maps)

    with thread_pool(n_jobs, len(corners)) as pool:
        list(pool.map(work, corners))
    truth = _film.measure_leukocytes(film, names, maps.leukocytes)
    truth["stain"] = stain
    truth["patient"] = f"patient{patient}"
    return Bunch(
        image=image,
        cell_map=maps.leukocytes,
        boxes=truth[["x0", "y0", "x1", "y1"]].to_numpy(int),
        target=truth["cell_type"].to_numpy(dtype=str),
        truth=truth.drop(columns=["x0", "y0", "x1", "y1"]),
        red_cell_map=maps.red_cells,
        platelet_map=maps.platelets,
        others=_film.measure_others(maps),
        DESCR="A synthetic smear of known truth, drawn by hemaest.datasets.make_smear.",
    )


def _numbers_up_to(largest: int) -> type[np.unsignedinteger]:
    return np.uint16 if largest < 2**16 else np.uint32
