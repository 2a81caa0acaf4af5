"""Write docs/features.md: every handcrafted feature with its one-line definition, from the code.

Run ``python docs/features.py``; a test holds the page to the code.
"""

from pathlib import Path

from hemaest.features._chromatin import CHANNELS, SCALES
from hemaest.features._extractors import FAMILIES

PAGE = Path(__file__).with_suffix(".md")
TITLES = {"shape": "MorphologyFeatures", "chromatin": "ChromatinTexture", "color": "ColorFeatures"}
HEAD = """# Handcrafted features

Written by `python docs/features.py` from the definitions in the code. G is the green channel, D
the distance of a pixel of a region to the nearest pixel outside it, A an area in pixels, P
Crofton's perimeter. Gray levels of co-occurrence are fixed: 32 levels of 8 values. Optical density
is natural: ln(256 / (value + 1)). Entropies and information measures use natural logarithms.
What is missing is NaN; `cell_missing` and `nucleus_missing` say so.

What scikit-image also computes has its value to 1e-9, with these differences on purpose: Feret
diameters are those of the true convex hull, not of its pixels; the seventh Hu moment is absolute,
so that a mirrored cell is the same cell; binary patterns compare in whole numbers, so that ties
never fall by rounding; CIELAB uses the white point of the matrix, so that grays have a = b = 0.
"""


def is_coarse(name: str) -> bool:
    """Return whether a texture feature belongs to the coarse scales, which share one line."""
    return any(f"_{scale}_{channel}_" in name for scale in SCALES for channel in CHANNELS)


def page() -> str:
    """Return the page."""
    lines = [HEAD]
    for group, family in FAMILIES.items():
        definitions = family.definitions
        lines.append(f"## {TITLES[group]}: {len(definitions)} features\n")
        lines += ["| feature | definition |", "|---|---|"]
        for name, text in definitions.items():
            if not is_coarse(name):
                safe = text.replace("|", "\\|")
                lines.append(f"| `{name}` | {safe} |")
        coarse = [name for name in definitions if is_coarse(name)]
        if coarse:
            lines.append(
                f"| `<region>_<scale>_<channel>_<name>` | region cytoplasm or nucleus; scale "
                f"{' or '.join(SCALES)}; channel {', '.join(CHANNELS)}: the `glcm`, `haralick`, "
                f"`lbp`, `granules` and `fractal` features above, in that channel of the image "
                f"at that size ({len(coarse)} features) |"
            )
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
