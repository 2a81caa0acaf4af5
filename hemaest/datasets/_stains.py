"""Stain styles over optical density, and how labs and patients shift them."""

import functools
import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np

__all__ = ["Stain", "load_stains", "shift", "shift_size"]

DYES = ("nucleus", "azure", "eosin", "red_cell")


@dataclass(frozen=True)
class Stain:
    """One style: the light of empty glass, and the optical density of a unit of each dye."""

    name: str
    light: np.ndarray
    density: np.ndarray
    ring: float
    blur: float
    glow: float
    veil: float


@functools.cache
def load_stains() -> dict[str, Stain]:
    """Return every style of ``stains.toml`` by name."""
    text = files("hemaest.datasets").joinpath("stains.toml").read_text(encoding="utf-8")
    return {
        name: Stain(
            name,
            np.array(row["light"], np.float32),
            np.array([row[dye] for dye in DYES], np.float32),
            row["ring"],
            row["blur"],
            row["glow"],
            row["veil"],
        )
        for name, row in tomllib.loads(text).items()
    }


def shift(stain: Stain, rng: np.random.Generator, strength: float) -> Stain:
    """Return the style as another lab or another day would have it.

    Each dye is taken up more or less, its hue turns a little, and the lamp changes colour.
    """
    uptake = np.exp(0.22 * strength * rng.standard_normal((4, 1)))
    hue = np.exp(0.09 * strength * rng.standard_normal((4, 3)))
    lamp = 1.0 + strength * (0.02 * rng.standard_normal() + 0.02 * rng.standard_normal(3))
    return replace(
        stain,
        density=(stain.density * uptake * hue).astype(np.float32),
        light=np.clip(stain.light * lamp, 60, 255).astype(np.float32),
    )


def shift_size(before: Stain, after: Stain) -> float:
    """Return the root mean square change of optical density, over dyes, glass and channels."""
    lamp = np.log(before.light / after.light)
    change = np.vstack([after.density - before.density, lamp])
    return float(np.sqrt(np.mean(change.astype(float) ** 2)))
