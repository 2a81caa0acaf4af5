"""Stain styles over optical density, and how labs and patients shift them."""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np

__all__ = ["Stain", "load_stains", "restain", "shift", "shift_size"]

DYES = ("nucleus", "azure", "eosin", "red_cell")

# what red cells look like in the laboratories of the world (optical density in R, G, B), and the
# light of empty glass; a laboratory lies between two of each
RED_CELLS = {
    "pink": (0.10, 0.42, 0.36),
    "brown": (0.22, 0.40, 0.48),
    "orange": (0.05, 0.25, 0.45),
    "gray": (0.34, 0.36, 0.30),
    "blue": (0.50, 0.30, 0.14),
    "slate": (0.46, 0.38, 0.26),
    "purple": (0.32, 0.52, 0.16),
    "magenta": (0.14, 0.55, 0.18),
    "clear": (0.03, 0.06, 0.07),
}
GLASS = {
    "white": (250, 249, 248),
    "yellow": (254, 248, 180),
    "peach": (252, 228, 205),
    "pink": (248, 228, 238),
    "blue": (222, 232, 250),
    "teal": (160, 195, 180),
    "olive": (190, 188, 165),
    "gray": (205, 205, 208),
    "dim": (165, 160, 165),
}


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

    Each dye is taken up more or less, its hue turns a little, and the lamp changes color.
    """
    uptake = np.exp(0.22 * strength * rng.standard_normal((4, 1)))
    hue = np.exp(0.09 * strength * rng.standard_normal((4, 3)))
    lamp = 1.0 + strength * (0.02 * rng.standard_normal() + 0.02 * rng.standard_normal(3))
    return replace(
        stain,
        density=(stain.density * uptake * hue).astype(np.float32),
        light=np.clip(stain.light * lamp, 60, 255).astype(np.float32),
    )


def restain(stain: Stain, rng: np.random.Generator, severity: float) -> Stain:
    """Return the style as some laboratory of the world may have it; 0 leaves it as it is.

    Red cells may be bluish, brown, gray or nearly colorless, nuclei from blue to magenta and pale
    to black, the glass of any color. A nucleus always absorbs more than a red cell.
    """
    if severity == 0:
        return stain
    amount = min(severity, 1.0)
    density = shift(stain, rng, 1.5 * severity).density.astype(float)
    if rng.random() < 0.8 * amount:
        new = _between(RED_CELLS, rng) * np.exp(0.35 * severity * rng.standard_normal())
        density[3] += amount * (new - density[3])
    # blue to magenta: what a nucleus lets through of red against blue
    turn = 0.3 * severity * rng.standard_normal()
    density[0] *= np.exp([-turn, 0.0, turn])
    density[0] *= np.exp(0.3 * severity * rng.standard_normal())
    density[0] *= max(1.0, rng.uniform(1.45, 1.8) * density[3, :2].mean() / density[0, :2].mean())
    ring = stain.ring * np.exp(0.5 * severity * rng.standard_normal())
    if density[3].mean() < 0.15:  # clear red cells are seen by their edge alone
        ring = max(ring, rng.uniform(0.5, 2.5))
    light = stain.light.astype(float)
    if rng.random() < 0.8 * amount:
        light += amount * (_between(GLASS, rng) - light)
    return replace(
        stain,
        density=density.astype(np.float32),
        light=np.clip(light, 60, 255).astype(np.float32),
        ring=float(ring),
        glow=stain.glow + 0.04 * amount * float(rng.random()),
        veil=stain.veil * float(np.exp(0.6 * severity * rng.standard_normal())),
    )


def _between(colors: Mapping[str, tuple[float, ...]], rng: np.random.Generator) -> np.ndarray:
    """Return a color near one of the given ones, on the way to another."""
    first, second = rng.choice(np.array(list(colors.values()), float), 2)
    return first + rng.uniform(0, 0.5) * (second - first)


def shift_size(before: Stain, after: Stain) -> float:
    """Return the root mean square change of optical density, over dyes, glass and channels."""
    lamp = np.log(before.light / after.light)
    change = np.vstack([after.density - before.density, lamp])
    return float(np.sqrt(np.mean(change.astype(float) ** 2)))
