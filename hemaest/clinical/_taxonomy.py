"""The vocabulary of cells as a tree; everything in ``hemaest.clinical`` speaks these words.

The tree is read from ``taxonomy.toml``, which a hematologist can read and correct. Libraries such
as hiclass train hierarchical classifiers; they hold no vocabulary, and none of that is needed here.
"""

from __future__ import annotations

import heapq
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import pandas as pd

from hemaest._words import some
from hemaest.base import did_you_mean

FIELDS: dict[str, Any] = {  # of taxonomy.toml
    **dict.fromkeys(("parent", "next", "count", "lineage"), str),
    **dict.fromkeys(("blood", "marrow", "missed", "falsely"), (int, float)),
    **{"answer": bool, "also": (list, tuple)},
}
# what a confusion costs before it is weighted: within a lineage the harm is smaller
ONE_STAGE, SAME_LINEAGE, OTHER_LINEAGE = 0.25, 0.5, 1.0


@dataclass(frozen=True)
class CellType:
    """One type: its place in the tree and what is known of it."""

    name: str
    parent: str | None
    lineage: str
    matures_to: str | None
    counted: bool
    answer: bool
    usual: float
    missed: float
    falsely: float
    also: tuple[str, ...]


class CellTaxonomy:
    """A tree of cell types from lineage to maturation stage, with synonyms.

    Make one with :meth:`blood`, :meth:`marrow` or :meth:`from_toml`. The two that come with hemaest
    hold the same types; they differ in what a differential counts (marrow counts erythroblasts,
    blood reports them per 100 leukocytes) and in the usual percentages.

    Parameters
    ----------
    table : mapping of str to mapping
        Types by name with the fields of ``taxonomy.toml``: ``parent``, ``next`` (the stage it
        ripens into), ``blood`` and ``marrow`` (usual percentages), ``count``, ``lineage``,
        ``answer``, ``missed`` and ``falsely`` (weights of the costs), ``also`` (synonyms).
    tissue : {"blood", "marrow"}, default="blood"
        Whose counting rule and percentages hold.

    Examples
    --------
    >>> taxonomy = CellTaxonomy.blood()
    >>> taxonomy.resolve("SNE"), taxonomy.lineage("SNE")
    ('segmented neutrophil', 'granulocytic')
    >>> taxonomy.ancestors("myelocyte")
    ['immature granulocyte', 'granulocyte', 'leukocyte', 'cell']
    >>> taxonomy.one_stage_apart("myelocyte", "metamyelocyte")
    True
    >>> "normoblast" in taxonomy
    True
    """

    def __init__(
        self,
        table: Mapping[str, Mapping[str, Any]],
        tissue: Literal["blood", "marrow"] = "blood",
    ) -> None:
        if tissue not in ("blood", "marrow"):
            raise ValueError(f"tissue={tissue!r} must be 'blood' or 'marrow'.")
        self.tissue = tissue
        self._table = {name: dict(row) for name, row in table.items()}
        self._types: dict[str, CellType] = {}
        _refuse_broken(table)
        for name in _parents_first(table):
            self._types[name] = self._made(name, table[name])
        self._words = self._synonyms()

    def __getstate__(self) -> dict[str, Any]:
        """Carry what the tree is made of, so that a file cannot hold a broken one."""
        return {"table": self._table, "tissue": self.tissue}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the tree again, with all checks."""
        self.__init__(**state)  # type: ignore[misc]

    @classmethod
    def blood(cls) -> CellTaxonomy:
        """Return the taxonomy of peripheral blood.

        Returns
        -------
        taxonomy : CellTaxonomy
        """
        return _shipped("blood")

    @classmethod
    def marrow(cls) -> CellTaxonomy:
        """Return the taxonomy of bone marrow, whose differential counts nucleated red cells too.

        Returns
        -------
        taxonomy : CellTaxonomy
        """
        return _shipped("marrow")

    @classmethod
    def from_toml(
        cls, path: str | os.PathLike[str], tissue: Literal["blood", "marrow"] = "blood"
    ) -> CellTaxonomy:
        """Read a vocabulary of your own.

        Parameters
        ----------
        path : path
            A file like ``hemaest/clinical/taxonomy.toml``.
        tissue : {"blood", "marrow"}, default="blood"
            Whose counting rule and percentages hold.

        Returns
        -------
        taxonomy : CellTaxonomy
        """
        with open(path, "rb") as file:
            return cls(tomllib.load(file), tissue)

    def _made(self, name: str, row: Mapping[str, Any]) -> CellType:
        above = self._types.get(row.get("parent", ""))
        inherited = {
            "lineage": above.lineage if above else "none",
            "missed": above.missed if above else 1.0,
            "falsely": above.falsely if above else 1.0,
        }
        counted = above.counted if above else False
        if "count" in row:
            counted = self.tissue in row["count"].split()
        return CellType(
            name=name,
            parent=row.get("parent"),
            lineage=row.get("lineage", inherited["lineage"]),
            matures_to=row.get("next"),
            counted=counted,
            answer=row.get("answer", True),
            usual=float(row.get(self.tissue, 0.0)),
            missed=float(row.get("missed", inherited["missed"])),
            falsely=float(row.get("falsely", inherited["falsely"])),
            also=tuple(row.get("also", ())),
        )

    def _synonyms(self) -> dict[str, str]:
        words = {_key(name): name for name in self._types}
        for name, kind in self._types.items():
            for word in kind.also:
                known = words.setdefault(_key(word), name)
                if known != name:
                    raise ValueError(f"{word!r} stands for {known!r} and for {name!r}: keep one.")
        return words

    @property
    def types(self) -> tuple[str, ...]:
        """Names of all types, parents before their children."""
        return tuple(self._types)

    def __contains__(self, label: object) -> bool:
        return _key(label) in self._words

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, CellTaxonomy)
        return same and self.tissue == other.tissue and self._types == other._types  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.tissue, self.types))

    def __repr__(self) -> str:
        return f"CellTaxonomy({len(self._types)} types of {self.tissue})"

    def resolve(self, label: object) -> str:
        """Return the standard name of a type, from any of its names.

        Parameters
        ----------
        label : str
            Case, hyphens, underscores and a plural s do not matter.

        Returns
        -------
        name : str
        """
        try:
            return self._words[_key(label)]
        except KeyError:
            raise ValueError(
                f"{label!r} is no cell type of this taxonomy.{did_you_mean(label, self._types)} "
                "CellTaxonomy.types lists the names; harmonize(labels, source=...) translates the "
                "labels of public sets."
            ) from None

    def _of(self, label: object) -> CellType:
        return self._types[self.resolve(label)]

    def parent(self, label: object) -> str | None:
        """Return the wider type, or None for the root.

        Parameters
        ----------
        label : str
            Any name of the type.

        Returns
        -------
        parent : str or None
        """
        return self._of(label).parent

    def ancestors(self, label: object) -> list[str]:
        """Return the wider types, nearest first.

        Parameters
        ----------
        label : str
            Any name of the type.

        Returns
        -------
        names : list of str
        """
        found = []
        above = self._of(label).parent
        while above is not None:
            found.append(above)
            above = self._types[above].parent
        return found

    def descendants(self, label: object) -> list[str]:
        """Return all narrower types.

        Parameters
        ----------
        label : str
            Any name of the type.

        Returns
        -------
        names : list of str
        """
        name = self.resolve(label)
        return [other for other in self._types if name in self.ancestors(other)]

    def is_a(self, label: object, wider: object) -> bool:
        """Return whether a type is another one or belongs to it.

        Parameters
        ----------
        label, wider : str
            Any names of the two types.

        Returns
        -------
        answer : bool
        """
        name = self.resolve(wider)
        return self.resolve(label) == name or name in self.ancestors(label)

    def lineage(self, label: object) -> str:
        """Return the lineage: granulocytic, monocytic, lymphoid, blast, erythroid, ...

        Parameters
        ----------
        label : str
            Any name of the type.

        Returns
        -------
        lineage : str
        """
        return self._of(label).lineage

    def one_stage_apart(self, a: object, b: object) -> bool:
        """Return whether one of two types ripens directly into the other.

        A type that belongs to a stage counts as that stage.

        Parameters
        ----------
        a, b : str
            Any names of the two types.

        Returns
        -------
        answer : bool
        """
        return self._ripens(a, b) or self._ripens(b, a)

    def _ripens(self, young: object, old: object) -> bool:
        for name in (self.resolve(young), *self.ancestors(young)):
            after = self._types[name].matures_to
            if after is not None and self.is_a(old, after):
                return True
        return False

    def counted(self, label: object) -> bool:
        """Return whether a differential count of this tissue counts the type.

        Parameters
        ----------
        label : str
            Any name of the type.

        Returns
        -------
        answer : bool
            Platelets, red cells and artefacts never count; erythroblasts count in marrow only.
        """
        return self._of(label).counted

    def answers(self, classes: Iterable[object]) -> dict[str, list[int]]:
        """Return the wider types that say something about a set of classes, with their members.

        Parameters
        ----------
        classes : iterable of str
            What a classifier tells apart.

        Returns
        -------
        members : dict of str to list of int
            Positions of the classes that belong to each type; the types that hold fewer come first.
            Types that hold one class only, or hold all of them, are left out.
        """
        names = [self.resolve(c) for c in classes]
        found: dict[str, list[int]] = {}
        for wide, kind in reversed(self._types.items()):  # the narrowest word of several
            inside = [i for i, name in enumerate(names) if self.is_a(name, wide)]
            if kind.answer and 1 < len(inside) < len(names) and inside not in found.values():
                found[wide] = inside
        return dict(sorted(found.items(), key=lambda item: len(item[1])))

    def usual(self, classes: Iterable[object]) -> pd.Series:
        """Return the usual percentage of each class in healthy adults.

        Parameters
        ----------
        classes : iterable of str
            Class names; a wide class has the sum of what it holds and no other class holds.

        Returns
        -------
        percent : Series
            Scaled so that the classes that are counted sum to 100, where any has a share.
        """
        labels = list(classes)
        names = [self.resolve(c) for c in labels]
        share = dict.fromkeys(names, 0.0)
        for kind in self._types.values():
            for above in (kind.name, *self.ancestors(kind.name)):
                if above in share:
                    share[above] += kind.usual
                    break
        values = np.array([share[name] for name in names])
        total = values[[self.counted(name) for name in names]].sum()
        return pd.Series(values * (100 / total if total > 0 else 1.0), index=labels, name="percent")

    def cost(self, true: object, named: object) -> float:
        """Return what it costs to call one type another.

        Parameters
        ----------
        true, named : str
            Any names of the two types.

        Returns
        -------
        cost : float
            0 where the name is right or a wider type; a quarter where it is one stage off, a half
            within the lineage, 1 elsewhere; times the weight of overlooking the true type or of
            falsely naming the other, whichever is larger, unless both belong to one dangerous kind.
        """
        a, b = self._of(true), self._of(named)
        if self.is_a(a.name, b.name):
            return 0.0
        if self.one_stage_apart(a.name, b.name):
            base = ONE_STAGE
        else:
            base = SAME_LINEAGE if a.lineage == b.lineage else OTHER_LINEAGE
        if a.lineage == b.lineage and a.missed == b.missed:
            return base
        return base * max(a.missed, b.falsely)

    def cost_matrix(self, classes: Iterable[object]) -> pd.DataFrame:
        """Return the cost of every confusion, rows being the true types.

        Parameters
        ----------
        classes : iterable of str
            Class names.

        Returns
        -------
        costs : DataFrame
        """
        labels = list(classes)
        costs = [[self.cost(true, named) for named in labels] for true in labels]
        return pd.DataFrame(costs, index=labels, columns=labels)

    def table(self) -> pd.DataFrame:
        """Return the vocabulary as a table, one row a type.

        Returns
        -------
        table : DataFrame
            type, parent, lineage, next stage, counted, usual percentage, weights, synonyms.
        """
        rows = [
            {
                "type": kind.name,
                "parent": kind.parent or "",
                "lineage": kind.lineage,
                "next_stage": kind.matures_to or "",
                "counted": kind.counted,
                "usual_percent": kind.usual,
                "missed": kind.missed,
                "falsely": kind.falsely,
                "also": ", ".join(kind.also),
            }
            for kind in self._types.values()
        ]
        return pd.DataFrame(rows)

    def tree(self) -> str:
        """Return the tree as indented lines.

        Returns
        -------
        text : str
        """
        return "\n".join("  " * len(self.ancestors(name)) + name for name in self._depth_first())

    def _depth_first(self, above: str | None = None) -> list[str]:
        found = []
        for name, kind in self._types.items():
            if kind.parent == above:
                found += [name, *self._depth_first(name)]
        return found


def _key(label: object) -> str:
    """Return what is compared: no case, no hyphens, no plural."""
    text = re.sub(r"[\s_\-]+", " ", str(label).strip().lower())
    return text[:-1] if text.endswith("s") and len(text) > 4 else text


@cache
def _shipped(tissue: Literal["blood", "marrow"]) -> CellTaxonomy:
    text = files("hemaest.clinical").joinpath("taxonomy.toml").read_text(encoding="utf-8")
    return CellTaxonomy(tomllib.loads(text), tissue)


def _refuse_broken(table: Mapping[str, Mapping[str, Any]]) -> None:
    for name, row in table.items():
        unknown = sorted(set(row) - FIELDS.keys())
        if unknown:
            hint = did_you_mean(unknown[0], FIELDS)
            raise ValueError(f"{name!r} has unknown fields {some(unknown)}.{hint}")
        for field, value in row.items():
            words = value if field == "also" and isinstance(value, (list, tuple)) else ()
            if not isinstance(value, FIELDS[field]) or not all(isinstance(w, str) for w in words):
                raise ValueError(f"the {field} of {name!r} is {value!r:.80}: it has another type.")
        for field in ("parent", "next"):
            if field in row and row[field] not in table:
                hint = did_you_mean(row[field], table)
                raise ValueError(f"the {field} of {name!r}, {row[field]!r}, is no type.{hint}")


def _parents_first(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    place = {name: i for i, name in enumerate(table)}
    children: dict[str | None, list[int]] = {}
    for name, row in table.items():
        children.setdefault(row.get("parent"), []).append(place[name])
    names, done = list(table), []
    ready = children.get(None, [])
    while ready:
        # the first in the file whose parent is there: a child stands near its parent
        done.append(names[heapq.heappop(ready)])
        for child in children.get(done[-1], ()):
            heapq.heappush(ready, child)
    if lost := sorted(set(table) - set(done)):
        raise ValueError(f"these types are their own ancestors: {some(lost)}.")
    return done
