"""How far a field can be trusted: whether it is a film that can be read, and what is wrong.

``SmearDetector.quality`` calls this.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._frame import paint_frame
from hemaest.nets.fieldnet import look_at_field, shipped_field_net
from hemaest.segmentation._field import FieldResult, resized, working_zoom
from hemaest.segmentation._fields import Scale

UNFAMILIAR = 0.5
# a second look is closer by so much, at so many pixels of the middle; a film is a film there, too
CLOSER = 1.5
WINDOW = 640
RED_CELL_RADII = (2.0, 5.6)  # micrometers
SCALES = (0.03, 1.3)  # micrometers a pixel
CROWDED = 0.6  # of a field, under leukocytes
UNEVEN = 0.5


def quality_of_field(
    image: NDArray[np.uint8], field: FieldResult, scale: Scale, n_leukocytes: int
) -> dict[str, Any]:
    """Return one row of ``SmearDetector.quality``."""
    image = paint_frame(image)
    familiarity = familiarity_of(image, field)
    radius = field.red_cell_radius * field.um_per_pixel
    cells = float((field.segmentation.labels > 0).mean())
    wrong = []
    if familiarity < UNFAMILIAR:
        wrong.append("unlike the films that the network knows")
    if scale.source == "none":
        wrong.append("no cell that shows the scale")
    elif not SCALES[0] <= scale.um_per_pixel <= SCALES[1]:
        wrong.append(f"implausible scale of {scale.um_per_pixel:.3g} um per pixel")
    elif np.isfinite(radius) and not RED_CELL_RADII[0] <= radius <= RED_CELL_RADII[1]:
        wrong.append(f"implausible radius of red cells, {radius:.1f} um at this scale")
    if cells > CROWDED:
        wrong.append("implausibly much of the field is leukocytes")
    if unevenness(image) > UNEVEN:
        wrong.append("uneven light")
    return {
        "n_leukocytes": n_leukocytes,
        "um_per_pixel": scale.um_per_pixel,
        "scale_source": scale.source,
        "familiarity": familiarity,
        "warning": "; ".join(wrong),
    }


def familiarity_of(image: NDArray[np.uint8], field: FieldResult) -> float:
    """Return the probability of a film that can be read, the lesser of two looks."""
    zoom = CLOSER * working_zoom(field.um_per_pixel)
    side = max(1, round(WINDOW / zoom))
    top, left = (max(0, n - side) // 2 for n in image.shape[:2])
    middle = resized(image[top : top + side, left : left + side], zoom)
    closer = look_at_field(shipped_field_net(), middle).familiar
    return float(1 / (1 + np.exp(-min(field.familiar, closer))))


def unevenness(image: NDArray[np.uint8]) -> float:
    """Return by what share the light of the darkest part of a field falls short of the brightest.

    Examples
    --------
    >>> flat = np.full((64, 64, 3), 200, np.uint8)
    >>> unevenness(flat)
    0.0
    """
    rows, columns = (np.array_split(np.arange(n), 4) for n in image.shape[:2])
    lights = []
    for r in rows:
        for c in columns:
            part = image[r[0] : r[-1] + 1 : 2, c[0] : c[-1] + 1 : 2].max(axis=2)
            film = part[part > 40]
            if len(film) > 0.5 * part.size:
                lights.append(np.percentile(film, 90))
    return float(1 - min(lights) / max(lights)) if lights else 0.0
