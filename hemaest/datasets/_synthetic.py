"""Synthetic blood cells whose truth is known to the pixel."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from sklearn.utils import Bunch

from hemaest._seeds import seed_of

from ._recipes import load_recipes

__all__ = ["iter_cells", "make_cells"]


def make_cells(
    n_samples: int = 200,
    *,
    classes: Sequence[str] | None = None,
    image_size: int = 128,
    n_labs: int = 1,
    n_patients: int = 10,
    stain: str | Sequence[str] = "may-gruenwald-giemsa",
    class_weights: Mapping[str, float] | Sequence[float] | None = None,
    near_duplicates: float = 0.0,
    label_noise: float = 0.0,
    field: float | tuple[float, float] = 30.0,
    neighbors: float = 0.0,
    lab_effect: float = 1.0,
    patient_effect: float = 1.0,
    confound: float = 0.0,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> Bunch:
    """Draw stained blood cells with their maps, patients and true measurements.

    Each cell follows the written recipe of its type (``hemaest/datasets/recipes.toml``), lies
    among red cells and platelets, and is stained and photographed as a lab would.

    Parameters
    ----------
    n_samples : int, default=200
        How many cells.
    classes : sequence of str, optional
        Cell types. By default the six common ones: basophil, eosinophil, lymphoblast,
        lymphocyte, monocyte and (segmented) neutrophil.
    image_size : int, default=128
        Height and width of each image in pixels.
    n_labs : int, default=1
        Labs, each with its own stain and camera. Patient ``p`` belongs to lab ``p % n_labs``.
    n_patients : int, default=10
        Patients, each with cells of every class where there are enough.
    stain : str or sequence of str, default="may-gruenwald-giemsa"
        A style of ``stains.toml`` (may-gruenwald-giemsa, wright, leishman, quick, understained,
        overstained), or several that the labs take in turn, or "mixed" for all of them.
    class_weights : mapping or sequence of float, optional
        Share of each class; equal by default.
    near_duplicates : float, default=0.0
        Share of images that show the cell of another image again, slightly moved. Each class
        keeps an original.
    label_noise : float, default=0.0
        Share of targets that name another class; ``truth.cell_type`` stays right.
    field : float or (float, float), default=30.0
        Width of the image in micrometers; of a pair each lab draws its own between them.
    neighbors : float, default=0.0
        Chance that another leukocyte lies beside the first; it is cell 2 of the map.
    lab_effect, patient_effect : float, default=1.0
        Strength of what labs do to color and focus, and patients to color and traits.
        0 turns the effect off. A single lab has the style as it is written.
    confound : float, default=0.0
        Strength of a color shift that gives the class away, to test that a study notices.
    n_jobs : int, optional
        Threads; the result does not depend on them.
    random_state : int, RandomState or None
        The same seed gives the same bytes.

    Returns
    -------
    cells : Bunch
        ``images`` uint8 (n, size, size, 3); ``target`` the types as str; ``masks`` cell maps
        uint8 (n, size, size): 0 background, 1 cytoplasm, 2 nucleus; ``groups`` the patients;
        ``truth`` a DataFrame with cell_type, nc_ratio (nucleus area / cell area), n_lobes,
        nucleus_area, cytoplasm_area, cell_area (pixels of the map), stain, lab, patient,
        micrometres_per_pixel, duplicate_of (-1: none), and the sizes of the shifts in optical
        density: lab_shift, patient_shift, confound_shift; ``class_names``; ``DESCR``.

    See Also
    --------
    iter_cells : The same cells, batch after batch.

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(12, image_size=64, random_state=0)
    >>> cells.images.shape, cells.masks.shape
    ((12, 64, 64, 3), (12, 64, 64))
    >>> sorted(set(cells.target.tolist()))[:3]
    ['basophil', 'eosinophil', 'lymphoblast']
    >>> bool((cells.truth.cell_area == (cells.masks > 0).sum(axis=(1, 2))).all())
    True
    """
    (cells,) = iter_cells(
        n_samples, batch_size=n_samples, classes=classes, image_size=image_size, n_labs=n_labs,
        n_patients=n_patients, stain=stain, class_weights=class_weights,
        near_duplicates=near_duplicates, label_noise=label_noise, field=field,
        neighbors=neighbors, lab_effect=lab_effect, patient_effect=patient_effect,
        confound=confound, n_jobs=n_jobs, random_state=random_state,
    )  # fmt: skip
    return cells


def list_cell_types() -> list[str]:
    """Return the cell types that the renderer can draw.

    Returns
    -------
    types : list of str

    Examples
    --------
    >>> from hemaest.datasets import list_cell_types
    >>> "basophil" in list_cell_types()
    True
    """
    return list(load_recipes())


def iter_cells(
    n_samples: int = 200,
    *,
    batch_size: int = 256,
    classes: Sequence[str] | None = None,
    image_size: int = 128,
    n_labs: int = 1,
    n_patients: int = 10,
    stain: str | Sequence[str] = "may-gruenwald-giemsa",
    class_weights: Mapping[str, float] | Sequence[float] | None = None,
    near_duplicates: float = 0.0,
    label_noise: float = 0.0,
    field: float | tuple[float, float] = 30.0,
    neighbors: float = 0.0,
    lab_effect: float = 1.0,
    patient_effect: float = 1.0,
    confound: float = 0.0,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> Iterator[Bunch]:
    """Yield the cells of :func:`make_cells` in batches, so memory does not grow with their number.

    Parameters
    ----------
    n_samples : int, default=200
        How many cells in all.
    batch_size : int, default=256
        How many in each batch; the cells do not depend on it.
    classes, image_size, n_labs, n_patients, stain, class_weights, near_duplicates, label_noise, \
field, neighbors, lab_effect, patient_effect, confound, n_jobs, random_state
        As for :func:`make_cells`.

    Yields
    ------
    batch : Bunch
        As :func:`make_cells` returns.

    Examples
    --------
    >>> from hemaest.datasets import iter_cells
    >>> [len(batch.images) for batch in iter_cells(5, batch_size=2, image_size=32, random_state=0)]
    [2, 2, 1]
    """
    check_numbers(
        n_samples=(n_samples, int, 1, None),
        batch_size=(batch_size, int, 1, None),
        image_size=(image_size, int, 8, 4096),
        n_labs=(n_labs, int, 1, None),
        n_patients=(n_patients, int, 1, None),
        near_duplicates=(near_duplicates, float, 0, 1),
        label_noise=(label_noise, float, 0, 1),
        neighbors=(neighbors, float, 0, 1),
        lab_effect=(lab_effect, float, 0, 10),
        patient_effect=(patient_effect, float, 0, 10),
        confound=(confound, float, 0, 10),
    )
    widths = field if isinstance(field, (tuple, list)) else (field, field)
    if len(widths) != 2:
        raise ValueError(f"field must be a width or a pair of widths; got {field!r}.")
    low, high = widths
    check_numbers(field=(low, float, 5, 500))
    check_numbers(field=(high, float, low, 500))
    from ._draw import draw_batch  # these two load numba
    from ._plan import plan_cells

    plan = plan_cells(
        seed_of(random_state), n_samples, classes, class_weights, n_labs, n_patients, stain,
        near_duplicates, label_noise, lab_effect, patient_effect, confound,
    )  # fmt: skip
    starts = range(0, n_samples, batch_size)
    rows = (range(start, min(start + batch_size, n_samples)) for start in starts)
    drawn = float(low), float(high)
    return (draw_batch(plan, r, image_size, drawn, neighbors, n_jobs) for r in rows)


def check_numbers(**given: tuple[Any, type, float, float | None]) -> None:
    """Refuse a value that is not of its kind (int or float) or out of its range."""
    for name, (value, kind, low, high) in given.items():
        wanted = Integral if kind is int else Real
        right_kind = isinstance(value, wanted) and not isinstance(value, bool)
        if not (right_kind and value >= low and (high is None or value <= high)):
            what = "a whole number" if kind is int else "a number"
            upto = f">= {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"{name} must be {what} {upto}; got {value!r}.")
