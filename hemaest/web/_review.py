"""What the reviewed cells mean: the differential, flags, what to look at next, the signature.

Pure functions over the rows of the store; called by the routes and by the report.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest.clinical import CellTaxonomy
from hemaest.web._store import NOT_COUNTED, UNIDENTIFIED

__all__ = [
    "COLORS",
    "KEYS",
    "agreement",
    "differential",
    "flags",
    "page_types",
    "sign_off",
    "suggest",
]

# keys under the fingers of one hand for what is met most; letters name the rest
KEYS = {
    "segmented neutrophil": "1",
    "band neutrophil": "2",
    "lymphocyte": "3",
    "monocyte": "4",
    "eosinophil": "5",
    "basophil": "6",
    "metamyelocyte": "7",
    "myelocyte": "8",
    "promyelocyte": "9",
    "blast": "0",
    "neutrophil": "n",
    "immature granulocyte": "i",
    "reactive lymphocyte": "r",
    "plasma cell": "p",
    "erythroblast": "e",
    "platelet": "t",
    "smudge cell": "s",
    "artefact": "a",
    UNIDENTIFIED: "u",
    NOT_COUNTED: "x",
}
# distinguished by people with every common color blindness in pairs that lie beside each other
COLORS = {
    "segmented neutrophil": "#0072b2",
    "band neutrophil": "#56b4e9",
    "neutrophil": "#2a8fd0",
    "lymphocyte": "#009e73",
    "reactive lymphocyte": "#66c2a5",
    "plasma cell": "#00695c",
    "monocyte": "#e69f00",
    "eosinophil": "#d55e00",
    "basophil": "#5e3c99",
    "metamyelocyte": "#b07aa1",
    "myelocyte": "#cc79a7",
    "promyelocyte": "#a0477e",
    "immature granulocyte": "#c26aa0",
    "blast": "#c1121f",
    "erythroblast": "#8c564b",
    "platelet": "#7a7a7a",
    "smudge cell": "#9c9c6c",
    "artefact": "#555555",
    UNIDENTIFIED: "#f0e442",
    NOT_COUNTED: "#bdbdbd",
}
# percent of leukocytes in adult blood; a laboratory has ranges of its own
RANGES = {
    "segmented neutrophil": (40.0, 75.0),
    "neutrophil": (40.0, 75.0),
    "band neutrophil": (0.0, 6.0),
    "lymphocyte": (20.0, 45.0),
    "monocyte": (2.0, 10.0),
    "eosinophil": (0.0, 6.0),
    "basophil": (0.0, 1.5),
}
FLAGGED = {
    "blast": "Blasts",
    "immature granulocyte": "Immature granulocytes",
    "nucleated red cell": "Nucleated red cells",
    "plasma cell": "Plasma cells",
    "smudge cell": "Smudge cells",
}


@cache
def _taxonomy() -> CellTaxonomy:
    return CellTaxonomy.blood()


def _is_a(label: str, wider: str) -> bool:
    known = _taxonomy()
    return label in known and wider in known and known.is_a(label, wider)


def page_types(classes: Sequence[str]) -> list[dict[str, str]]:
    """Return the types of the page, in a fixed order: name, key and color."""
    names = list(dict.fromkeys([*KEYS, *classes]))
    # those without a word of their own go in before "unidentified"
    names = [n for n in names if n not in {UNIDENTIFIED, NOT_COUNTED}]
    return [
        {"name": n, "key": KEYS.get(n, ""), "color": COLORS.get(n, "#777777")}
        for n in [*names, UNIDENTIFIED, NOT_COUNTED]
    ]


def is_leukocyte(label: str) -> bool:
    """Return whether a label counts in the differential; a type of the user's own does."""
    if label in {UNIDENTIFIED, NOT_COUNTED}:
        return False
    return _taxonomy().counted(label) if label in _taxonomy() else True


def _outside(
    normal: tuple[float, float] | None,
    percent: float | None,
    low: float | None,
    high: float | None,
) -> str | None:
    """Say whether a share is outside its reference range, and whether its interval is so too."""
    if normal is None or percent is None or normal[0] <= percent <= normal[1]:
        return None
    reaches = low is not None and high is not None and low <= normal[1] and high >= normal[0]
    return "perhaps" if reaches else "yes"


def differential(
    cells: Sequence[Mapping[str, Any]], *, wbc: float | None = None, counter: Any = None
) -> dict[str, Any]:
    """Return the differential before and after review.

    Parameters
    ----------
    cells : sequence of rows
        Cells as the observer sees them.
    wbc : float, optional
        Leukocytes in 10^9 per liter, from a counter; gives absolute counts.
    counter : DifferentialCounter, optional
        Gives intervals that include the errors of the classifier. Without one they include the
        error of counting alone, and the result says so.

    Returns
    -------
    result : dict
        ``rows``, ``n``, ``n_reviewed``, ``unidentified``, ``not_counted``, ``intervals``,
        ``nrbc_per_100``, ``corrected_wbc``. In a row, ``outside`` is "yes" where the share and its
        interval lie outside the reference range, "perhaps" where the interval reaches into it.
    """
    before = Counter(c["type"] for c in cells if not c["author"] and is_leukocyte(c["type"]))
    after = Counter(c["label"] for c in cells if is_leukocyte(c["label"]))
    n_before, n_after = sum(before.values()), sum(after.values())
    limits = _limits(cells, after, counter)
    nrbc = sum(_is_a(c["label"], "nucleated red cell") for c in cells)
    per_100 = 100 * nrbc / n_after if n_after else None
    corrected = None if wbc is None or per_100 is None else wbc * 100 / (100 + per_100)
    rows = []
    order = {t["name"]: i for i, t in enumerate(page_types([]))}
    for name in sorted({*before, *after}, key=lambda t: (order.get(t, len(order)), t)):
        plain = 100 * after[name] / n_after if n_after else None
        percent, low, high = limits.get(name, (plain, None, None))
        normal = RANGES.get(name)
        rows.append(
            {
                "type": name,
                "n_before": before[name],
                "percent_before": 100 * before[name] / n_before if n_before else None,
                "n": after[name],
                "percent": percent,
                "low": low,
                "high": high,
                "reference": list(normal) if normal else None,
                "outside": _outside(normal, percent, low, high),
                "absolute": None
                if corrected is None or percent is None
                else corrected * percent / 100,
            }
        )
    labels = [c["label"] for c in cells]
    return {
        "rows": rows,
        "n": n_after,
        "n_reviewed": sum(bool(c["reviewed"]) for c in cells),
        "unidentified": labels.count(UNIDENTIFIED),
        "not_counted": len(labels) - n_after - labels.count(UNIDENTIFIED),
        "intervals": "counting and classifier" if counter is not None else "counting",
        "nrbc_per_100": per_100,
        "wbc": wbc,
        "corrected_wbc": corrected,
    }


def _limits(
    cells: Sequence[Mapping[str, Any]], after: Mapping[str, int], counter: Any
) -> dict[str, tuple[float, float, float]]:
    """Return the percentage of each type with its 95% limits."""
    total = sum(after.values())
    if not total:
        return {}
    if counter is not None and (table := _counted(cells, counter)) is not None:
        return {
            str(t): (float(row["percent"]), float(row["low"]), float(row["high"]))
            for t, row in table.iterrows()
            if pd.notna(row["percent"])
        }
    from scipy.stats import binomtest

    limits = {}
    for name, n in after.items():
        interval = binomtest(n, total).proportion_ci(method="wilson")
        limits[name] = (100 * n / total, 100 * float(interval.low), 100 * float(interval.high))
    return limits


def _counted(cells: Sequence[Mapping[str, Any]], counter: Any) -> pd.DataFrame | None:
    """Return the counter's table; None where no cell has probabilities of its classes."""
    own = [c for c in cells if c["probabilities"] and c["label"] != NOT_COUNTED]
    if not own:
        return None
    return counter.count(_table(own, counter), reviewed=_reviewed(own, counter) or None)


def _table(cells: Sequence[Mapping[str, Any]], counter: Any) -> NDArray[np.float64]:
    """Return the probabilities of the counter's classes, a row for each cell."""
    classes = [str(c) for c in counter.classes_]
    table = np.array([[c["probabilities"].get(k, 0.0) for k in classes] for c in cells], float)
    total = table.sum(axis=1, keepdims=True)
    return np.where(total > 0, table / np.maximum(total, 1e-12), np.nan)


def _reviewed(cells: Sequence[Mapping[str, Any]], counter: Any) -> dict[int, str]:
    """Return what a person called cells, in words that the counter knows."""
    types = set(map(str, counter.types_))
    return {
        i: c["label"]
        for i, c in enumerate(cells)
        if c["reviewed"] and (c["label"] in types or c["label"] in _taxonomy())
    }


def flags(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what a hematologist must see: wider type, words, cells and how many were seen."""
    result = []
    for wider, words in FLAGGED.items():
        members = [c for c in cells if _is_a(c["label"], wider)]
        if members:
            result.append(
                {
                    "flag": words,
                    "cells": [c["id"] for c in members],
                    "seen": sum(bool(c["seen"]) for c in members),
                }
            )
    novel = [c for c in cells if c["novel"] and c["label"] != NOT_COUNTED]
    if novel:
        result.append(
            {
                "flag": "Unlike anything the model knows",
                "cells": [c["id"] for c in novel],
                "seen": sum(bool(c["seen"]) for c in novel),
            }
        )
    return result


def suggest(
    cells: Sequence[Mapping[str, Any]],
    k: int = 12,
    *,
    target: str | None = None,
    counter: Any = None,
) -> list[int]:
    """Return the cells whose review would say most, by id; with ``target``, about that type."""
    open_ = [c for c in cells if not c["reviewed"] and c["probabilities"]]
    if not open_:
        return []
    if counter is not None:
        own = [c for c in cells if c["probabilities"] and c["label"] != NOT_COUNTED]
        known = _reviewed(own, counter)
        places = counter.suggest(_table(own, counter), k, target=target, reviewed=known or None)
        return [own[int(i)]["id"] for i in places if not own[int(i)]["reviewed"]]

    def doubt(cell: Mapping[str, Any]) -> float:
        p = np.array(list(cell["probabilities"].values()), float)
        if target is not None:
            share = sum(v for t, v in cell["probabilities"].items() if _is_a(t, target))
            return float(share * (1 - share))
        return float(-(p * np.log(np.maximum(p, 1e-12))).sum())

    return [c["id"] for c in sorted(open_, key=lambda c: (-doubt(c), c["id"]))[:k]]


def sign_off(
    cells: Sequence[Mapping[str, Any]],
    fields: Sequence[Mapping[str, Any]],
    *,
    accept_unidentified: bool = False,
) -> list[str]:
    """Return what is still to be done before a signature; an empty list means nothing."""
    problems = []
    waiting = sum(f["state"] in {"queued", "working"} for f in fields)
    if waiting:
        problems.append(f"{waiting} fields are still being analyzed.")
    if not cells and not waiting:
        problems.append("there is no cell to sign for.")
    unidentified = sum(c["label"] == UNIDENTIFIED for c in cells)
    if unidentified and not accept_unidentified:
        problems.append(
            f"{unidentified} cells are unidentified: name them, or accept them as they are."
        )
    for flag in flags(cells):
        unseen = len(flag["cells"]) - flag["seen"]
        if unseen:
            problems.append(f"{flag['flag']}: {unseen} of {len(flag['cells'])} were not seen.")
    return problems


def agreement(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Compare two observers over the cells that both have: kappa and every difference."""
    a = {c["id"]: c["label"] for c in first if not c["author"]}
    b = {c["id"]: c["label"] for c in second if not c["author"]}
    shared = sorted(a.keys() & b.keys())
    different = [{"cell": n, "first": a[n], "second": b[n]} for n in shared if a[n] != b[n]]
    x, y = [a[n] for n in shared], [b[n] for n in shared]
    kappa = None
    if len({*x, *y}) > 1:
        from sklearn.metrics import cohen_kappa_score

        kappa = float(cohen_kappa_score(x, y))
    return {
        "n": len(shared),
        "agreement": 1 - len(different) / len(shared) if shared else None,
        "kappa": kappa,
        "differences": different,
    }
