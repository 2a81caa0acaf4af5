"""How far a field can be trusted: whether it is like what the network knows, and what is wrong.

``SmearDetector.quality`` calls this. A field is seen a second time, smaller: on a film of blood the
network says the same again and reads a scale that is coarser by just so much; on anything else it
does not. How alike is measured against rendered fields.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._frame import paint_frame
from hemaest.nets.fieldnet import look_at_field, shipped_field_net
from hemaest.segmentation._field import FieldResult, resized, working_zoom
from hemaest.segmentation._fields import GLANCE, Scale

SMALLER = 0.8
# of rendered fields of any laboratory, the shares LEVELS have values below these; written by
# ``python -m benchmarks.fields --trust-levels``
LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 1.0)
RENDERED = {
    "certainty": (0.735, 0.854, 0.901, 0.947, 0.962, 0.988),
    "agreement": (0.281, 0.631, 0.778, 0.885, 0.911, 0.955),
    "steadiness": (0.226, 0.419, 0.557, 0.763, 0.823, 0.921),
}
UNFAMILIAR = 0.01
RED_CELL_RADII = (2.0, 5.6)  # micrometers
SCALES = (0.03, 1.3)  # micrometers a pixel
CROWDED = 0.6  # of a field, under leukocytes
UNEVEN = 0.5


def quality_of_field(
    image: NDArray[np.uint8], field: FieldResult, scale: Scale, n_leukocytes: int
) -> dict[str, Any]:
    """Return one row of ``SmearDetector.quality``."""
    image = paint_frame(image)
    parts = measures(image, field, scale)
    familiarity = familiarity_of(parts)
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


def measures(image: NDArray[np.uint8], field: FieldResult, scale: Scale) -> dict[str, float]:
    """Return certainty, agreement of two looks, and steadiness of the scale, each from 0 to 1."""
    net = shipped_field_net()
    um = field.um_per_pixel
    zoom = min(working_zoom(um), 1.5 * GLANCE / max(image.shape[:2]))
    first = look_at_field(net, resized(image, zoom))
    second = look_at_field(net, resized(image, SMALLER * zoom))
    a = first.kind
    b = _as_large(second.kind, a.shape)
    either = (a > 0) | (b > 0)
    # the share of what is an object in either look that is the same in both
    agreement = float((a == b)[either].mean()) if either.any() else 1.0
    known = np.isfinite(first.um_per_pixel) and np.isfinite(second.um_per_pixel)
    octaves = np.log2(second.um_per_pixel / first.um_per_pixel * SMALLER) if known else 0.0
    steady = float(np.exp(-3 * abs(octaves) - (first.doubt if known else 0.0)))
    return {"certainty": field.certainty, "agreement": agreement, "steadiness": steady}


def familiarity_of(parts: dict[str, float]) -> float:
    """Return the share of rendered fields that are worse in the respect in which this is worst.

    Examples
    --------
    >>> familiarity_of({"certainty": 1.0, "agreement": 1.0, "steadiness": 1.0})
    1.0
    """
    return min(float(np.interp(parts[k], values, LEVELS)) for k, values in RENDERED.items())


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


def _as_large(kind: NDArray[np.integer], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    import cv2

    size = shape[1], shape[0]
    return np.asarray(cv2.resize(kind.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST))
