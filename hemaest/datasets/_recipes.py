"""Read the recipes of cell types and draw the traits of one cell from them."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

__all__ = ["Recipe", "load_recipes"]

_PARTS = {
    "cell": "diameter stretch roughness squeeze blebs",
    "nucleus": "nc_ratio length bend waist offset roughness",
    "chromatin": "density contrast grain membrane nucleoli nucleolus clarity",
    "cytoplasm": "violet azure eosin texture grain rim hof",
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

    def values(self, z: np.ndarray) -> dict[str, float]:
        """Turn standard normal numbers, one a trait, into trait values inside the ranges."""
        share = np.clip(0.5 + 0.25 * z[: len(self.traits)], 0.0, 1.0)
        return dict(
            zip(self.traits, (self.low + share * (self.high - self.low)).tolist(), strict=True)
        )

    def n_lobes(self, u: float) -> int:
        """Return the number of lobes at quantile ``u`` of this type's shares."""
        for number, share in self.lobes:
            u -= share
            if u < 0:
                return number
        return self.lobes[-1][0]


def _parse(name: str, table: Mapping) -> Recipe:
    ranges: dict[str, list[float]] = {}
    for part, wanted in _PARTS.items():
        given = dict(table[part])
        lobes = given.pop("lobes", None) if part == "nucleus" else None
        if lobes is not None:
            shares = np.array([float(v) for v in lobes.values()])
            kept_lobes = tuple(zip(map(int, lobes), (shares / shares.sum()).tolist(), strict=True))
        _check_names(f"{name}.{part}", given, wanted.split())
        ranges |= {f"{part}.{trait}": given[trait] for trait in wanted.split()}
    for k, kind in enumerate(table["granules"]):
        _check_names(f"{name}.granules", kind, _GRANULE.split())
        ranges |= {f"granules{k}.{trait}": kind[trait] for trait in _GRANULE.split()}
    low, high = np.array(list(ranges.values()), float).T
    if (low > high).any():
        wrong = [t for t, bad in zip(ranges, low > high, strict=True) if bad]
        raise ValueError(f"recipe {name!r}: low is above high in {wrong}; swap the two numbers.")
    return Recipe(
        name, table["title"], kept_lobes, tuple(ranges), low, high, len(table["granules"])
    )


def _check_names(where: str, given: Mapping, wanted: list[str]) -> None:
    if set(given) != set(wanted):
        raise ValueError(
            f"recipe table {where}: got {sorted(given)}, but the traits are {sorted(wanted)}."
        )


@functools.cache
def load_recipes() -> dict[str, Recipe]:
    """Return every recipe of ``recipes.toml`` by name of the cell type."""
    text = files("hemaest.datasets").joinpath("recipes.toml").read_text(encoding="utf-8")
    return {name: _parse(name, table) for name, table in tomllib.loads(text).items()}
