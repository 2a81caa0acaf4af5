"""Who is drawn: the types, patients and labs of a set, settled before a pixel is painted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from ._microscope import Microscope, draw_microscope
from ._recipes import Recipe, load_recipes
from ._stains import Stain, load_stains, shift, shift_size

__all__ = ["COMMON_TYPES", "Plan", "pick", "plan_cells", "trait_bias"]

COMMON_TYPES = ("basophil", "eosinophil", "lymphoblast", "lymphocyte", "monocyte", "neutrophil")

# what a random stream is for: streams of one kind never depend on those of another
ANATOMY, SCENE, CAMERA, PATIENT, LAB, CLASS = range(1, 7)


@dataclass(frozen=True)
class Plan:
    """One row a cell, and the patients, labs and class shifts they refer to."""

    root: int
    recipes: dict[str, Recipe]
    kind: np.ndarray  # true type, as an index into recipes
    target: np.ndarray
    patient: np.ndarray
    source: np.ndarray  # the cell that this image shows: itself unless a near-duplicate
    patient_lab: np.ndarray
    stains: dict[tuple[int, int], Stain]  # of (patient, type)
    sizes: dict[tuple[int, int], tuple[float, float, float]]
    cameras: list[Microscope]
    biases: list[np.ndarray | None]

    def stream(self, purpose: int, index: int) -> np.random.Generator:
        """Return the random stream of one cell: it depends on nothing else in the set."""
        return np.random.default_rng([self.root, purpose, index])


def pick(what: str, name: str, known: Mapping[str, object]) -> str:
    """Return ``name`` if it is known; else say what is, and what was likely meant."""
    if name in known:
        return name
    near = get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r}; the known ones are {sorted(known)}.{hint}")


def plan_cells(
    root: int,
    n_samples: int,
    classes: Sequence[str] | None,
    class_weights: Mapping[str, float] | Sequence[float] | None,
    n_labs: int,
    n_patients: int,
    stain: str | Sequence[str],
    near_duplicates: float,
    label_noise: float,
    lab_effect: float,
    patient_effect: float,
    confound: float,
) -> Plan:
    """Settle types, patients, labs and stains of ``n_samples`` cells."""
    known = load_recipes()
    names = [pick("cell type", c, known) for c in (COMMON_TYPES if classes is None else classes)]
    if len(set(names)) != len(names) or not names:
        raise ValueError(f"classes must name each type once, and at least one; got {names}.")
    rng = np.random.default_rng([root, 0])
    kind, patient = _deal(n_samples, _shares(names, class_weights), n_patients, rng)
    source = _copy_some(kind, near_duplicates, rng)
    kind, patient = kind[source], patient[source]
    target = _mislabel(kind, label_noise, len(names), rng)
    patient_lab = np.arange(n_patients) % n_labs
    stains, sizes = _stains(root, names, patient_lab, stain, lab_effect, patient_effect, confound)
    cameras = [
        draw_microscope(
            np.random.default_rng([root, LAB, lab, 1]),
            stains[lab, 0].blur,
            lab_effect if n_labs > 1 else 0.0,
        )
        for lab in range(min(n_labs, n_patients))
    ]
    return Plan(
        root=root,
        recipes={name: known[name] for name in names},
        kind=kind,
        target=np.array(names)[target],
        patient=patient,
        source=source,
        patient_lab=patient_lab,
        stains=stains,
        sizes=sizes,
        cameras=cameras,
        biases=_biases(root, n_patients, patient_effect),
    )


def _shares(names: list[str], weights: Mapping[str, float] | Sequence[float] | None) -> np.ndarray:
    if weights is None:
        return np.full(len(names), 1 / len(names))
    if isinstance(weights, Mapping):
        for name in weights:
            pick("class in class_weights", name, dict.fromkeys(names))
        weights = [weights.get(name, 0.0) for name in names]
    shares = np.asarray(weights, float)
    usable = np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0
    if shares.shape != (len(names),) or not usable:
        raise ValueError(
            f"class_weights must hold one number >= 0 for each of {names}; got {list(weights)}."
        )
    return shares / shares.sum()


def _deal(
    n: int, shares: np.ndarray, n_patients: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Assign types in their exact shares, and each type evenly over the patients."""
    exact = shares * n
    counts = np.floor(exact).astype(int)
    short = n - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    kind = np.repeat(np.arange(len(shares)), counts)
    patient = (np.arange(n) + rng.integers(n_patients)) % n_patients
    order = rng.permutation(n)
    return kind[order], patient[order]


def _copy_some(kind: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return for each cell the one that it shows; copies show an original of the same type.

    A type of which all were to be copies keeps one original.
    """
    n = len(kind)
    source = np.arange(n)
    copies = rng.permutation(n)[: int(round(share * n))]
    original = np.ones(n, bool)
    original[copies] = False
    for c in np.unique(kind[copies]):
        pool = np.flatnonzero(original & (kind == c))
        mine = copies[kind[copies] == c]
        if not len(pool):
            pool, mine = mine[:1], mine[1:]
        source[mine] = rng.choice(pool, len(mine))
    return source


def _mislabel(
    kind: np.ndarray, share: float, n_classes: int, rng: np.random.Generator
) -> np.ndarray:
    target = kind.copy()
    wrong = rng.permutation(len(kind))[: int(round(share * len(kind)))]
    if len(wrong) and n_classes < 2:
        raise ValueError("label_noise needs at least two classes to confuse.")
    if len(wrong):
        target[wrong] = (kind[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    return target


def _stains(
    root: int,
    names: list[str],
    patient_lab: np.ndarray,
    stain: str | Sequence[str],
    lab_effect: float,
    patient_effect: float,
    confound: float,
) -> tuple[dict[tuple[int, int], Stain], dict[tuple[int, int], tuple[float, float, float]]]:
    known = load_stains()
    styles_given = [stain] if isinstance(stain, str) else list(stain)
    if not styles_given:
        raise ValueError(f"stain names no style; the known ones are {sorted(known)}, or 'mixed'.")
    styles = (
        list(known)
        if styles_given == ["mixed"]
        else [pick("stain", s, known) for s in styles_given]
    )
    stains, sizes = {}, {}
    several = patient_lab.max() > 0
    for patient, lab in enumerate(patient_lab.tolist()):
        plain = known[styles[lab % len(styles)]]
        rng = np.random.default_rng([root, LAB, lab])
        at_lab = shift(plain, rng, lab_effect if several else 0.0)
        rng = np.random.default_rng([root, PATIENT, patient])
        of_patient = shift(at_lab, rng, 0.4 * patient_effect)
        for c in range(len(names)):
            final = _tint(of_patient, root, c, confound)
            stains[patient, c] = final
            sizes[patient, c] = (
                shift_size(plain, at_lab),
                shift_size(at_lab, of_patient),
                shift_size(of_patient, final),
            )
    return stains, sizes


def _tint(stain: Stain, root: int, c: int, strength: float) -> Stain:
    """Shift the color of the whole image by an amount that reveals the class."""
    if strength == 0:
        return stain
    color = np.random.default_rng([root, CLASS, c]).standard_normal(3)
    tint = np.exp(-0.08 * strength * np.abs(color))
    return replace(stain, light=(stain.light * tint).astype(np.float32))


def _biases(root: int, n_patients: int, strength: float) -> list[np.ndarray | None]:
    return [trait_bias([root, PATIENT, p, 1], strength) for p in range(n_patients)]


def trait_bias(seed: list[int], strength: float) -> np.ndarray | None:
    """Return a patient's part of every trait: its weight, then normal numbers."""
    if strength == 0:
        return None
    row = np.random.default_rng(seed).standard_normal(65)
    row[0] = min(0.55 * strength, 0.95)
    return row
