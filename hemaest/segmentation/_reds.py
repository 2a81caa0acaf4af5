"""Red cells as the measure of a field: their radius, their number."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reds:
    """The red cells of a field.

    Attributes
    ----------
    radius : float
        Of a typical single red cell in pixels; NaN where none was seen.
    mask : bool array (h, w)
        Where red cells lie.
    places : int array (n, 2)
        Row and column of each: single ones, and the peaks of the distance map of clumps.
    """

    radius: float
    mask: Mask
    places: NDArray[np.intp]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.places)


def stained(density: NDArray[np.float32]) -> Mask:
    """Return everything that is not plasma, holes (the pale middle of red cells) filled."""
    import cv2

    # numpy is slow over an axis of three
    mean = np.clip((density[..., 0] + density[..., 1] + density[..., 2]) / 3, 0, 1)
    smooth = cv2.GaussianBlur(mean, (0, 0), 1.0)
    # nuclei are far darker than red cells: clip them so that the threshold falls at the plasma
    clipped = np.minimum(smooth, max(2.5 * float(np.median(smooth)), 0.25))
    scaled = (255 * clipped / max(float(clipped.max()), 1e-6)).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)
    return filled_small(scaled > threshold)


def filled_small(mask: Mask, largest: float = 0.02) -> Mask:
    """Fill holes of at most ``largest`` of the image; plasma between cells stays open."""
    import cv2

    n, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    hole = stats[:, cv2.CC_STAT_AREA] < largest * mask.size
    x, y, w, h = stats[:, :4].T
    hole &= (x > 0) & (y > 0) & (x + w < mask.shape[1]) & (y + h < mask.shape[0])
    return mask | hole[labels]


def find_reds(density: NDArray[np.float32], nuclei: Mask) -> Reds:
    """Measure the red cells of a field of standardized density; nuclei are left out."""
    import cv2

    mask = stained(density)
    without = mask & ~cv2.dilate(nuclei.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    depth = cv2.distanceTransform(np.pad(without, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    peaks = _peaks(depth)
    if not len(peaks):
        return Reds(float("nan"), without, peaks)
    radii = depth[peaks[:, 0], peaks[:, 1]]
    # half of the red area lies in cells with a larger radius: specks have no weight
    order = np.argsort(radii)
    weight = np.cumsum(radii[order] ** 2)
    radius = float(radii[order][np.searchsorted(weight, 0.5 * weight[-1])])
    return Reds(radius, without, peaks[radii > 0.55 * radius])


def _peaks(depth: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return one peak of the distance map per round part."""
    from skimage.feature import peak_local_max

    top = float(depth.max(initial=0))
    if top < 2:
        return np.empty((0, 2), np.intp)
    high = np.percentile(depth[depth > 0], 98)
    apart = max(2, round(0.6 * high))
    return peak_local_max(
        depth, min_distance=apart, threshold_abs=0.35 * high, exclude_border=False
    )
