"""Read the recipes of cell types and draw the traits of one cell from them."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

__all__ = ["Recipe", "load_recipes", "possible"]

_PARTS = {
    "cell": "diameter stretch roughness squeeze blebs",
    "nucleus": "nc_ratio length bend waist offset roughness",
    "chromatin": "density contrast grain membrane nucleoli nucleolus clarity",
    "cytoplasm": "violet azure eosin hemoglobin texture grain rim hof",
    "vacuoles": "number diameter",
}
_GRANULE = "number diameter violet azure eosin over cover hollow"


@dataclass(frozen=True)
class Recipe:
    """One cell type: its traits by name, each with a low and a high end."""

    name: str
    title: str
    lobes: tuple[tuple[int, float], ...]
    traits: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    n_granule_kinds: int

    def values(self, z: np.ndarray, wide: float = 1.0) -> dict[str, float]:
        """Turn standard normal numbers, one a trait, into trait values inside the ranges.

        Above 1, ``wide`` stretches every range about its middle: the cells of the sick.

        Examples
        --------
        >>> recipe = load_recipes()["monocyte"]
        >>> lowest, highest = recipe.values(np.full(64, -9.0)), recipe.values(np.full(64, 9.0))
        >>> list(lowest.values()) == recipe.low.tolist()
        True
        >>> list(highest.values()) == recipe.high.tolist()
        True
        """
        reach = 0.5 * wide
        share = np.clip(0.5 + 0.25 * wide * z[: len(self.traits)], 0.5 - reach, 0.5 + reach)
        drawn = (self.low + share * (self.high - self.low)).tolist()
        traits = dict(zip(self.traits, drawn, strict=True))
        return traits if wide <= 1 else possible(traits)

    def n_lobes(self, u: float) -> int:
        """Return the number of lobes at quantile ``u`` of this type's shares."""
        for number, share in self.lobes:
            u -= share
            if u < 0:
                return number
        return self.lobes[-1][0]


# what no cell goes beyond, however wide the ranges; everything else is only kept from below 0
_LEAST = {
    "cell.diameter": 1.2,
    "cell.stretch": 1.0,
    "chromatin.grain": 0.15,
    "cytoplasm.grain": 0.15,
}
_MOST = {
    "nucleus.nc_ratio": 0.96,
    "nucleus.waist": 1.0,
    "chromatin.contrast": 0.75,
    "chromatin.clarity": 0.7,
    "cell.roughness": 0.2,
    "cell.squeeze": 1.2,
    "cytoplasm.hof": 0.95,
}
_SHARES = ("over", "cover", "hollow")


def possible(traits: dict[str, float]) -> dict[str, float]:
    """Return the traits, each brought back to what a cell can have.

    Examples
    --------
    >>> possible({"cell.stretch": 0.5, "nucleus.nc_ratio": 1.2, "vacuoles.number": -1.0})
    {'cell.stretch': 1.0, 'nucleus.nc_ratio': 0.96, 'vacuoles.number': 0.0}
    """
    return {
        name: min(
            max(value, _LEAST.get(name, 0.0)),
            _MOST.get(name, 1.0 if name.endswith(_SHARES) else np.inf),
        )
        for name, value in traits.items()
    }


def _parse(name: str, table: Mapping) -> Recipe:
    """Return a type as it is written, or say what is wrong with it.

    Examples
    --------
    >>> table = {"title": "x", "cell": {"diamter": [1, 2]}, "nucleus": {"lobes": {"1": 1}}}
    >>> _parse("x", table)
    Traceback (most recent call last):
    ValueError: recipe 'x', cell: no such trait as ['diamter']; there are ['diameter', ...].
    >>> parts = {"chromatin": {}, "cytoplasm": {}, "granules": [], "vacuoles": {}}
    >>> _parse("x", table | parts | {"cell": {"diameter": [3, 2]}})
    Traceback (most recent call last):
    ValueError: recipe 'x': low is above high in ['cell.diameter']; swap the two numbers.
    """
    nucleus = dict(table["nucleus"])
    lobes = {int(k): float(v) for k, v in nucleus.pop("lobes").items()}
    ranges: dict[str, list[float]] = {}
    for part, traits in _PARTS.items():
        given = nucleus if part == "nucleus" else table[part]
        ranges |= _ranges(name, part, given, traits.split())
    for k, kind in enumerate(table["granules"]):
        ranges |= _ranges(name, f"granules{k}", kind, _GRANULE.split())
    low, high = np.array(list(ranges.values()), float).T
    if (low > high).any():
        wrong = [t for t, bad in zip(ranges, low > high, strict=True) if bad]
        raise ValueError(f"recipe {name!r}: low is above high in {wrong}; swap the two numbers.")
    total = sum(lobes.values())
    return Recipe(
        name=name,
        title=table["title"],
        lobes=tuple((number, share / total) for number, share in lobes.items()),
        traits=tuple(ranges),
        low=low,
        high=high,
        n_granule_kinds=len(table["granules"]),
    )


def _ranges(name: str, part: str, given: Mapping, known: list[str]) -> dict[str, list[float]]:
    if unknown := set(given) - set(known):
        raise ValueError(
            f"recipe {name!r}, {part}: no such trait as {sorted(unknown)}; there are {known}."
        )
    return {f"{part}.{trait}": list(given.get(trait, (0.0, 0.0))) for trait in known}


@functools.cache
def load_recipes() -> dict[str, Recipe]:
    """Return every recipe of ``recipes.toml`` by name of the cell type."""
    text = files("hemaest.datasets").joinpath("recipes.toml").read_text(encoding="utf-8")
    return {name: _parse(name, table) for name, table in tomllib.loads(text).items()}
