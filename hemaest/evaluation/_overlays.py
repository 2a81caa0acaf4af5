"""Find what is burned into pictures at a fixed place: scale bars, labels, frames."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 128
LEVELS = 16
ZONE = SIDE // 4  # what is burned in lies near the border
SHARE = 0.2


class PixelHistogram:
    """Counts of grey levels at every place, class by class; its size does not grow with images.

    Parameters
    ----------
    n_classes : int
        How many classes there are.
    """

    def __init__(self, n_classes: int):
        self.counts = np.zeros((n_classes, SIDE * SIDE, LEVELS), dtype=np.uint32)
        self._place = np.arange(SIDE * SIDE)
        self._lock = threading.Lock()

    def add(self, image: NDArray[np.uint8], label: int) -> None:
        """Count one image."""
        import cv2

        # nearest, not area: the sharp edge of a scale bar must stay sharp
        small = cv2.resize(
            np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST
        )
        level = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).ravel() // (256 // LEVELS)
        with self._lock:
            self.counts[label, self._place, level] += 1

    def overlay(self, label: int | None = None) -> NDArray[np.bool_]:
        """Return where a fixed mark lies, for one class or for all together.

        Background is smooth when many images are laid over each other. A mark is a dark spot that
        many images share beside a bright one that many share as well.
        """
        counts = self.counts.sum(0) if label is None else self.counts[label]
        n = counts[0].sum()
        if n < 8:
            return np.zeros((SIDE, SIDE), dtype=bool)
        dark = counts[:, : LEVELS * 5 // 16].sum(1).reshape(SIDE, SIDE) / n
        usual = ndimage.median_filter(dark, 15, mode="nearest")
        border = np.ones((SIDE, SIDE), dtype=bool)
        border[ZONE:-ZONE, ZONE:-ZONE] = False
        noise = 4 * np.sqrt(np.maximum(usual * (1 - usual), 0.01) / n)
        spots = border & (dark > usual + np.maximum(SHARE, noise))
        return spots if np.count_nonzero(spots) >= 4 else np.zeros_like(spots)


def corner_name(spots: NDArray[np.bool_]) -> str:
    """Say in words where the middle of the spots lies."""
    y, x = (axis.mean() / SIDE for axis in np.nonzero(spots))
    rows = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else "middle"
    columns = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "centre"
    return f"{rows} {columns}"
