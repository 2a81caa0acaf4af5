"""The forms that disease, treatment and the making of a film give to a cell of each type.

A recipe describes the type as an atlas shows it; here stands what sick patients and careless
films add: toxic and hypogranular neutrophils, washed-out basophils, large granular lymphocytes,
blasts with a cleft or vacuoles, giant platelets, shrunken and drawn-out cells. ``build_cell``
calls :func:`vary` where such cells are requested.
"""

from collections.abc import Callable

import numpy as np

from ._recipes import possible

__all__ = ["vary"]

# micrometers; no film shrinks a cell with a nucleus so far that it is as small as a large platelet
SMALLEST_WITH_NUCLEUS = 6.8

Traits = dict[str, float]
Change = Callable[[Traits, np.random.Generator], None]


def vary(name: str, traits: Traits, n_lobes: int, rng: np.random.Generator) -> tuple[Traits, int]:
    """Return traits and number of lobes of a cell as a patient or a film may have changed it."""
    traits = dict(traits)
    for share, change in [*_FORMS.get(name, ()), *_ANY]:
        if rng.random() < share:
            change(traits, rng)
    n_lobes = int(traits.pop("n_lobes", n_lobes))
    return possible_with_lobes(traits), n_lobes


def possible_with_lobes(traits: Traits) -> Traits:
    """Return possible traits; how far lobes lie apart may be negative."""
    apart = traits.pop("nucleus.apart", None)
    traits = possible(traits)
    if traits["nucleus.nc_ratio"] > 0:
        traits["cell.diameter"] = max(traits["cell.diameter"], SMALLEST_WITH_NUCLEUS)
    return traits if apart is None else {**traits, "nucleus.apart": apart}


def _times(**factors: tuple[float, float]) -> Change:
    """Multiply traits, each by a number between two ends; ``__`` stands for the dot."""

    def change(traits: Traits, rng: np.random.Generator) -> None:
        for name, (low, high) in factors.items():
            key = name.replace("__", ".")
            if key in traits:
                traits[key] *= rng.uniform(low, high)

    return change


def _plus(**ends: tuple[float, float]) -> Change:
    """Add to traits, to each a number between two ends."""

    def change(traits: Traits, rng: np.random.Generator) -> None:
        for name, (low, high) in ends.items():
            traits[name.replace("__", ".")] += rng.uniform(low, high)

    return change


def _to(**ends: tuple[float, float]) -> Change:
    """Set traits to a number between two ends."""

    def change(traits: Traits, rng: np.random.Generator) -> None:
        for name, (low, high) in ends.items():
            key = name.replace("__", ".")
            if key in traits or key in _MORE:
                traits[key] = rng.uniform(low, high)

    return change


def _both(*changes: Change) -> Change:
    def change(traits: Traits, rng: np.random.Generator) -> None:
        for one in changes:
            one(traits, rng)

    return change


# what no recipe has: the number of lobes, how far they lie apart (below 0: over one another), the
# folds of a nucleus, the sap between clumps of chromatin (how pale; lines or holes), the fringe of
# a cell, how far from the middle granules go
_MORE = (
    "n_lobes", "nucleus.apart", "chromatin.folds", "chromatin.sap", "chromatin.holes",
    "cell.ruffle", "granules0.inward",
)  # fmt: skip

_OVERLAPPING = _both(
    _to(nucleus__apart=(-1.2, 0.1)), _times(nucleus__bend=(0.9, 1.5), nucleus__length=(0.7, 1.3))
)
# long narrow lobes that turn most of the way round
_LOOSE_LOBES = _both(
    _to(
        nucleus__length=(0.6, 1.9),
        nucleus__bend=(180, 420),
        nucleus__waist=(0.15, 0.7),
        nucleus__apart=(-0.8, 0.25),
    ),
    _times(nucleus__nc_ratio=(0.65, 1.0)),
)
# spread out flat: small lobes far apart, threads too thin to see, cytoplasm almost as pale as glass
_LOBES_FAR_APART = _both(
    _to(
        n_lobes=(3, 5.9), nucleus__apart=(0.3, 1.2), nucleus__waist=(0.02, 0.2),
        nucleus__length=(0.8, 2.2), nucleus__bend=(60, 300), nucleus__nc_ratio=(0.16, 0.34),
    ),
    _times(
        granules0__number=(0.0, 0.5), cytoplasm__eosin=(0.1, 0.7), cytoplasm__azure=(0.1, 0.7),
        cytoplasm__violet=(0.1, 0.7), cell__diameter=(1.0, 1.35),
    ),
)  # fmt: skip
# broad lobes that lie over one another, as a folded or brain-shaped nucleus shows them
_FOLDED_OVER = _to(
    n_lobes=(2, 2.9), nucleus__waist=(0.5, 0.9), nucleus__apart=(-1.6, -0.6),
    nucleus__length=(0.4, 1.0), nucleus__bend=(60, 240), nucleus__nc_ratio=(0.45, 0.7),
)  # fmt: skip
_HORSESHOE = _to(
    nucleus__length=(0.9, 2.0), nucleus__bend=(110, 260), nucleus__waist=(0.75, 1.0),
    nucleus__nc_ratio=(0.42, 0.65), chromatin__sap=(0.05, 0.4), chromatin__holes=(0.0, 0.3),
)  # fmt: skip
# a narrow ribbon, bent to a horseshoe, a ring or an S
_RIBBON = _both(
    _to(nucleus__length=(2.6, 5.5), nucleus__bend=(120, 340), nucleus__waist=(0.7, 1.0)),
    _times(nucleus__nc_ratio=(0.7, 1.0)),
)
# lobes with a smooth edge, side by side; the thread between them is too thin to see
_SMOOTH_LOBES = _both(
    _times(nucleus__roughness=(0.1, 0.5), nucleus__length=(0.5, 1.0)),
    _to(nucleus__waist=(0.02, 0.2)),
)
_COARSE_GRANULES = _to(
    granules0__hollow=(0.3, 0.95),
    granules0__diameter=(0.45, 0.95),
    granules0__cover=(0.6, 1.0),
    granules0__number=(140, 380),
)
# granules side by side and over one another, orange to brick red: no cytoplasm is left to see
_PACKED_GRANULES = _both(
    _to(
        granules0__number=(220, 460),
        granules0__diameter=(0.5, 1.0),
        granules0__cover=(0.55, 1.0),
        granules0__eosin=(0.9, 2.1),
        granules0__hollow=(0.0, 0.7),
    ),
    _times(cytoplasm__eosin=(1.0, 3.0)),
)
# many fine granules and a pink ground: at low resolution an even lilac or salmon
_EVEN_CYTOPLASM = _both(
    _to(
        granules0__number=(180, 420),
        granules0__diameter=(0.18, 0.36),
        granules0__eosin=(0.2, 0.6),
        granules0__cover=(0.25, 0.6),
        cytoplasm__eosin=(0.12, 0.45),
    ),
)
_TOXIC = _both(
    _times(granules0__violet=(1.2, 2.2), granules0__diameter=(1.0, 1.5)),
    _to(vacuoles__number=(0, 5), cytoplasm__azure=(0.1, 0.4)),
)
_MARKED_GRANULES = _times(
    granules0__violet=(1.2, 3.0), granules0__cover=(1.0, 1.4), granules0__number=(0.8, 1.6)
)
# thick or badly rinsed films: cytoplasm that should be clear takes the stain
_DARK_CYTOPLASM = _to(
    cytoplasm__eosin=(0.15, 0.5),
    cytoplasm__azure=(0.1, 0.5),
    cytoplasm__violet=(0.05, 0.3),
    cytoplasm__texture=(0.2, 0.6),
)
# the same, in patches, with a dark border: pink to tan
_MOTTLED = _to(
    cytoplasm__eosin=(0.1, 0.45), cytoplasm__azure=(0.05, 0.4), cytoplasm__violet=(0.03, 0.25),
    cytoplasm__texture=(0.4, 0.9), cytoplasm__grain=(0.5, 1.3), cytoplasm__rim=(0.2, 2.0),
)  # fmt: skip
# in blocks with paler chromatin between them, which is easily taken for nucleoli
_BLOCKS = _both(
    _to(
        chromatin__sap=(0.15, 0.65),
        chromatin__holes=(0.1, 0.65),
        chromatin__grain=(0.4, 1.3),
        chromatin__contrast=(0.1, 0.45),
        chromatin__density=(0.6, 0.95),
    ),
    _times(chromatin__membrane=(1.0, 2.5)),
)
_PALE_SPOTS = _to(
    chromatin__nucleoli=(0.5, 3), chromatin__nucleolus=(0.7, 1.8), chromatin__clarity=(0.08, 0.35)
)
_ASIDE = _to(nucleus__offset=(0.5, 1.1))
_HYPOGRANULAR = _times(granules0__number=(0, 0.35), cytoplasm__texture=(0.2, 0.7))
_VACUOLATED = _to(vacuoles__number=(3, 16), vacuoles__diameter=(0.5, 1.7))
_CLEFT = _to(
    nucleus__bend=(60, 200), nucleus__length=(0.4, 1.2), nucleus__waist=(0.45, 0.85),
    nucleus__roughness=(0.2, 0.7),
)  # fmt: skip
_GRANULAR = _to(granules0__number=(6, 45))
_DENSE = _times(chromatin__density=(1.15, 1.5), chromatin__contrast=(0.2, 0.8))
_MARKED_NUCLEOLI = _to(
    chromatin__nucleoli=(1, 4), chromatin__nucleolus=(1.4, 3), chromatin__clarity=(0.3, 0.6)
)
_BLAST: tuple[tuple[float, Change], ...] = (
    (0.2, _CLEFT),
    (0.12, _VACUOLATED),
    (0.15, _GRANULAR),
    (0.2, _MARKED_NUCLEOLI),
    (0.1, _to(cell__blebs=(2, 8), cytoplasm__azure=(0.6, 1.2))),
    (0.15, _to(nucleus__nc_ratio=(0.5, 0.7))),
    (0.15, _to(chromatin__folds=(0.5, 2))),
    (0.1, _DENSE),
)

# smeared out: an angular outline, a pale nucleus without structure that fades into the granules
_RAGGED = _to(
    cell__roughness=(0.06, 0.16), cell__squeeze=(0.6, 1.2), nucleus__roughness=(0.4, 1.2),
    chromatin__contrast=(0.03, 0.15), chromatin__density=(0.5, 0.8), chromatin__membrane=(0, 0.08),
    cytoplasm__violet=(0.1, 0.4),
)  # fmt: skip
_RIPENING: tuple[tuple[float, Change], ...] = (
    (0.12, _RAGGED),
    (0.3, _MARKED_GRANULES),
    (0.15, _HYPOGRANULAR),
    (0.15, _TOXIC),
    (0.1, _VACUOLATED),
)

_FORMS: dict[str, tuple[tuple[float, Change], ...]] = {
    "neutrophil": (
        (0.25, _ASIDE),
        (0.35, _MARKED_GRANULES),
        (0.5, _EVEN_CYTOPLASM),
        (0.3, _DARK_CYTOPLASM),
        (0.3, _MOTTLED),
        (0.25, _to(granules0__eosin=(0.4, 1.0))),
        (0.3, _times(nucleus__roughness=(0.1, 0.5))),
        (0.3, _times(chromatin__density=(1.1, 1.5))),
        (0.35, _OVERLAPPING),
        (0.45, _LOOSE_LOBES),
        (0.15, _TOXIC),
        (0.15, _HYPOGRANULAR),
        (0.16, _LOBES_FAR_APART),
        (0.05, _to(n_lobes=(5, 7.5))),
        (0.05, _to(n_lobes=(2, 2.9), nucleus__length=(0.02, 0.3), nucleus__waist=(0.25, 0.5))),
    ),
    "band_neutrophil": (
        (0.25, _ASIDE),
        (0.35, _MARKED_GRANULES),
        (0.5, _EVEN_CYTOPLASM),
        (0.3, _DARK_CYTOPLASM),
        (0.3, _MOTTLED),
        (0.25, _to(granules0__eosin=(0.4, 1.0))),
        (0.3, _times(nucleus__roughness=(0.1, 0.5))),
        (0.3, _times(chromatin__density=(1.1, 1.5))),
        (0.55, _RIBBON),
        (0.15, _TOXIC),
        (0.15, _HYPOGRANULAR),
        (0.25, _times(nucleus__bend=(1.1, 1.7))),
        (0.25, _times(nucleus__waist=(0.75, 1.0), nucleus__length=(0.9, 1.4))),
    ),
    "eosinophil": (
        (0.3, _OVERLAPPING),
        (0.5, _SMOOTH_LOBES),
        (0.4, _COARSE_GRANULES),
        (0.65, _PACKED_GRANULES),
        (0.1, _times(granules0__number=(0.15, 0.8), cytoplasm__eosin=(0.4, 1.0))),
        (0.2, _to(granules0__violet=(0.1, 0.5))),
        (0.2, _times(granules0__eosin=(0.7, 1.4), granules0__diameter=(0.7, 1.2))),
        (0.15, _to(vacuoles__number=(2, 10))),
        (0.1, _to(granules0__over=(0.2, 0.7))),
        (0.2, _times(chromatin__density=(0.45, 0.85))),
        (0.2, _to(cytoplasm__rim=(0.3, 1.5))),
        (0.15, _both(_times(granules0__eosin=(0.5, 0.9)), _to(granules0__azure=(0.05, 0.4)))),
    ),
    "immature_eosinophil": ((0.5, _PACKED_GRANULES), (0.3, _COARSE_GRANULES)),
    "basophil": (
        (0.35, _ASIDE),
        (0.25, _to(cytoplasm__eosin=(0.2, 0.6))),
        (0.2, _PALE_SPOTS),
        (0.3, _to(vacuoles__number=(0, 0.5))),
        (0.3, _times(granules0__number=(0.1, 0.6), granules0__violet=(0.6, 1.0))),
        (0.2, _to(vacuoles__number=(3, 14), vacuoles__diameter=(0.4, 1.0))),
        (0.3, _both(_to(granules0__over=(0.7, 1)), _times(granules0__number=(1.0, 1.7)))),
        (0.2, _times(chromatin__density=(0.6, 0.9))),
        (  # granules hide the nucleus: the whole cell is violet-black and mottled
            0.35,
            _both(
                _to(
                    granules0__over=(0.9, 1), granules0__number=(150, 320),
                    granules0__diameter=(0.4, 0.8), nucleus__nc_ratio=(0.5, 0.85),
                    nucleus__roughness=(0.3, 1.0),
                ),
                _times(cytoplasm__violet=(1.5, 4.0)),
            ),
        ),
    ),
    "lymphocyte": (
        (0.35, _BLOCKS),
        (0.3, _PALE_SPOTS),
        (0.3, _to(cell__ruffle=(0.004, 0.03))),
        (0.25, _to(chromatin__grain=(0.25, 0.7))),
        (0.12, _to(granules0__number=(4, 22))),
        (0.2, _DENSE),
        (  # small and dark, with hardly any cytoplasm
            0.3,
            _to(
                cell__diameter=(7.5, 10.5), nucleus__nc_ratio=(0.7, 0.94),
                chromatin__density=(1.05, 1.6), chromatin__contrast=(0.04, 0.25),
                cytoplasm__azure=(0.4, 1.1),
            ),
        ),
        (0.1, _to(nucleus__offset=(0.7, 1), cytoplasm__azure=(0.6, 1.1))),
        (0.15, _CLEFT),
        (0.06, _to(cell__blebs=(4, 12))),
        (0.06, _to(cell__stretch=(1.3, 1.9))),
        (0.06, _VACUOLATED),
        (0.1, _to(cytoplasm__eosin=(0.1, 0.4))),
    ),
    "cll_lymphocyte": ((0.2, _times(cell__diameter=(1.0, 1.3))), (0.1, _CLEFT)),
    "reactive_lymphocyte": (
        (0.25, _to(chromatin__folds=(0.5, 2))),
        (0.2, _CLEFT),
        (0.25, _to(cytoplasm__azure=(0.8, 1.4))),
        (0.15, _VACUOLATED),
        (0.15, _to(granules0__number=(4, 20))),
        (0.15, _MARKED_NUCLEOLI),
    ),
    "monocyte": (
        (0.3, _BLOCKS),
        (0.35, _PALE_SPOTS),
        (0.3, _ASIDE),
        (0.5, _to(chromatin__folds=(0.5, 3.5))),
        (0.35, _to(cell__squeeze=(0.6, 1.2), cell__stretch=(1.1, 1.9), cell__ruffle=(0, 0.02))),
        (0.15, _to(nucleus__nc_ratio=(0.25, 0.45))),
        (0.25, _VACUOLATED),
        (0.2, _times(nucleus__bend=(1.1, 1.7), nucleus__waist=(0.7, 1.0))),
        (0.06, _FOLDED_OVER),
        (0.3, _HORSESHOE),
        (0.15, _to(cytoplasm__eosin=(0.1, 0.4))),
        (0.15, _times(nucleus__nc_ratio=(1.0, 1.4), nucleus__length=(0.3, 0.9))),
        (0.15, _to(cytoplasm__azure=(0.5, 0.9))),
        (0.3, _to(granules0__number=(80, 300), granules0__violet=(0.25, 0.7))),
        (0.15, _HYPOGRANULAR),
    ),
    "plasma_cell": (
        (0.08, _to(n_lobes=(2, 2.9), nucleus__length=(0.02, 0.2), nucleus__waist=(0.1, 0.3))),
        (0.1, _to(vacuoles__number=(6, 22), vacuoles__diameter=(0.8, 2.0))),
        (0.15, _times(nucleus__nc_ratio=(1.0, 1.6), chromatin__contrast=(0.5, 1.0))),
        (0.1, _to(cytoplasm__eosin=(0.1, 0.4))),
    ),
    "lymphoblast": _BLAST,
    "early_pre_b_lymphoblast": _BLAST,
    "pre_b_lymphoblast": _BLAST,
    "pro_b_lymphoblast": _BLAST,
    "myeloblast": _BLAST,
    "promyelocyte": (
        (0.2, _RAGGED),
        (0.15, _both(_times(granules0__number=(1.2, 2.2)), _to(granules0__over=(0.6, 1)))),
        (0.1, _both(_HYPOGRANULAR, _CLEFT)),
        (0.15, _to(cytoplasm__azure=(0.7, 1.2))),
    ),
    "myelocyte": _RIPENING,
    "metamyelocyte": _RIPENING,
    "erythroblast": (
        (0.3, _ASIDE),
        (0.25, _to(cytoplasm__eosin=(0.1, 0.4))),
        (
            0.35,
            _to(
                nucleus__nc_ratio=(0.12, 0.35), chromatin__density=(1.2, 1.8),
                chromatin__contrast=(0.02, 0.2), cytoplasm__hemoglobin=(0.6, 1.1),
                cytoplasm__azure=(0, 0.25), nucleus__offset=(0.2, 1.2), cell__diameter=(7, 10.5),
            ),
        ),
        (
            0.2,
            _to(
                nucleus__nc_ratio=(0.5, 0.8), cytoplasm__azure=(0.7, 1.3),
                cytoplasm__hemoglobin=(0, 0.2), chromatin__density=(0.85, 1.2),
                cell__diameter=(10, 16),
            ),
        ),
        (  # half filled with hemoglobin: a dense round nucleus in gray violet
            0.25,
            _to(
                nucleus__nc_ratio=(0.3, 0.6), chromatin__density=(1.1, 1.6),
                cytoplasm__violet=(0.05, 0.3), cytoplasm__azure=(0.25, 0.8),
                cytoplasm__hemoglobin=(0.2, 0.6), cell__diameter=(8, 12.5),
            ),
        ),
        (0.06, _to(n_lobes=(2, 3.9), nucleus__waist=(0.2, 0.5))),
        (0.1, _to(cell__blebs=(2, 7))),
    ),
    "platelet": (
        (0.2, _times(cell__diameter=(1.4, 2.6), granules0__number=(1.5, 5))),
        (0.1, _times(granules0__number=(0, 0.2))),
        (0.15, _times(cell__stretch=(1.2, 2.2))),
        (0.2, _times(granules0__violet=(1.1, 1.6), granules0__cover=(1.0, 1.4))),
        (0.3, _to(cell__blebs=(2, 8))),
        (0.5, _to(granules0__inward=(0.45, 0.9))),
        (  # a lilac haze: the granules hardly show
            0.25,
            _times(
                cytoplasm__violet=(0.4, 1.2), granules0__violet=(0.3, 0.8),
                granules0__cover=(0.2, 0.7), granules0__number=(0.2, 1.0),
            ),
        ),
        (  # small and dense: the granules reach the edge
            0.5,
            _to(
                cell__diameter=(1.6, 3.4), cytoplasm__violet=(0.25, 0.9), cytoplasm__rim=(0, 0.1),
                cytoplasm__texture=(0.3, 0.8), cytoplasm__grain=(0.25, 0.6),
                granules0__number=(14, 60), granules0__diameter=(0.2, 0.45), cell__ruffle=(0, 0.05),
            ),
        ),
        (  # large to giant, dark and densely granular, often with spikes
            0.35,
            _to(
                cell__diameter=(3.2, 7.0), cytoplasm__violet=(0.15, 1.0),
                cytoplasm__azure=(0.1, 0.5), cytoplasm__texture=(0.3, 0.9),
                granules0__number=(50, 200), granules0__diameter=(0.22, 0.5),
                granules0__cover=(0.5, 0.95), cell__blebs=(0, 9), cell__ruffle=(0, 0.06),
            ),
        ),
        (  # speckled: fine grains side by side, as a good objective shows them
            0.35,
            _to(
                granules0__number=(50, 170), granules0__diameter=(0.13, 0.27),
                granules0__cover=(0.5, 0.95), granules0__violet=(0.5, 1.1),
            ),
        ),
    ),
    "smudge_cell": (
        (0.3, _to(cell__stretch=(1.3, 2.6))),
        (0.3, _times(chromatin__density=(0.6, 1.5))),
        (0.3, _times(cell__diameter=(1.1, 1.6))),
    ),
}  # fmt: skip

# whatever the type: the thin end of the film, the thick one, a drawn-out or squeezed cell
_ANY: tuple[tuple[float, Change], ...] = (
    (0.1, _times(cell__diameter=(1.1, 1.3), chromatin__density=(0.7, 0.95))),
    # swollen on thin film: wide, pale and smooth
    (
        0.07,
        _times(
            cell__diameter=(1.3, 1.7), chromatin__density=(0.5, 0.85),
            chromatin__contrast=(0.4, 1.0), cytoplasm__azure=(0.4, 0.9),
        ),
    ),
    (
        0.1,
        _times(
            cell__diameter=(0.75, 0.92), chromatin__density=(1.1, 1.35),
            chromatin__contrast=(0.4, 0.9),
        ),
    ),
    (0.1, _times(cell__stretch=(1.1, 1.5))),
    (0.15, _to(cell__squeeze=(0.6, 1.2))),
    (0.1, _times(cell__roughness=(1.3, 2.5))),
    (0.4, _to(cell__ruffle=(0.0, 0.015))),
    (0.3, _times(chromatin__contrast=(0.6, 1.7))),
    # fixing, drying and sharpening change the grain of chromatin more than the type does
    (0.35, _to(chromatin__grain=(0.2, 1.4))),
    (0.35, _to(chromatin__contrast=(0.04, 0.5))),
    (0.35, _to(chromatin__sap=(0.05, 0.55), chromatin__holes=(0.0, 0.65))),
    (0.3, _times(chromatin__density=(0.65, 1.35))),
    # overstained: a nucleus of any type is dark and even
    (0.25, _times(chromatin__density=(1.15, 1.7), chromatin__contrast=(0.2, 0.8))),
    # quick stains, and films that were hardly rinsed, tint the cytoplasm of every type pink to tan
    (0.3, _plus(cytoplasm__eosin=(0.05, 0.55), cytoplasm__violet=(0.0, 0.15))),
    # a little out of focus, a cell has a dark border
    (0.12, _to(cytoplasm__rim=(0.4, 2.5))),
)  # fmt: skip
