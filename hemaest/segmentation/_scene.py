"""An image brought to working size: its colours, the pixels that count, the way back."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BLACK = 12
# an image with less spread of lightness (in L*) than this holds no stained nucleus
MIN_CONTRAST = 6.0


@dataclass(frozen=True)
class Scene:
    """What the label-free method works on.

    Attributes
    ----------
    rgb : uint8 array (h, w, 3)
        The smoothed image at working size.
    lab : float32 array (h, w, 3)
        The same in CIELAB.
    valid : bool array (h, w)
        False on a black frame that was added around the picture.
    size : tuple of int
        Height and width of the original.
    """

    rgb: NDArray[np.uint8]
    lab: NDArray[np.float32]
    valid: NDArray[np.bool_]
    size: tuple[int, int]

    @property
    def blank(self) -> bool:
        """Whether there is too little contrast for any stained cell."""
        if self.valid.sum() < 16:
            return True
        low, high = np.percentile(self.lab[..., 0][self.valid], [1, 99])
        return bool(high - low < MIN_CONTRAST)

    @cached_property
    def density(self) -> NDArray[np.float32]:
        """Optical density in units of the darkest stain."""
        from hemaest.segmentation._standard import standardize

        return standardize(self.rgb)

    @cached_property
    def raw_density(self) -> NDArray[np.float32]:
        """Optical density in its own units."""
        from hemaest.segmentation._standard import raw_density

        return raw_density(self.rgb)

    @property
    def scale(self) -> float:
        """Working pixels per original pixel."""
        return max(self.rgb.shape[:2]) / max(self.size)

    def up(self, soft: NDArray[np.floating]) -> NDArray[np.float32]:
        """Bring a soft map of working size to the size of the original."""
        import cv2

        smooth = cv2.GaussianBlur(np.asarray(soft, np.float32), (3, 3), 0)
        height, width = self.size
        if smooth.shape == self.size:
            return smooth
        return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)


def make_scene(image: NDArray[np.uint8], side: int) -> Scene:
    """Shrink an RGB image to at most ``side`` pixels and derive what the method needs.

    Examples
    --------
    >>> import numpy as np
    >>> scene = make_scene(np.full((300, 200, 3), 240, np.uint8), side=120)
    >>> scene.rgb.shape, bool(scene.valid.all()), scene.up(np.ones((120, 80))).shape
    ((120, 80, 3), True, (300, 200))
    """
    import cv2

    height, width = image.shape[:2]
    shrink = side / max(height, width)
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    image = np.ascontiguousarray(image)
    valid = ~black_frame(image)
    smooth = cv2.GaussianBlur(image, (5, 5), 0)
    lab = cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return Scene(smooth, lab, valid, (height, width))


def square_around(cell: NDArray[np.bool_], times: float) -> tuple[slice, slice]:
    """Return the square window of ``times`` a cell's size around it, inside the picture.

    Examples
    --------
    >>> import numpy as np
    >>> cell = np.zeros((100, 100), bool); cell[40:60, 10:30] = True
    >>> square_around(cell, 2.0)
    (slice(29, 70, None), slice(0, 41, None))
    """
    ys, xs = np.flatnonzero(cell.any(axis=1)), np.flatnonzero(cell.any(axis=0))
    height, width = cell.shape
    if not len(ys):
        return slice(0, height), slice(0, width)
    side = int(np.ceil(times * (max(np.ptp(ys), np.ptp(xs)) + 1))) + 1
    side = min(max(side, 16), height, width)
    top = int(np.clip((ys[0] + ys[-1] - side) // 2, 0, height - side))
    left = int(np.clip((xs[0] + xs[-1] - side) // 2, 0, width - side))
    return slice(top, top + side), slice(left, left + side)


def black_frame(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find black bands that lie along at least half of an edge: padding, not stain.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((20, 20, 3), 200, np.uint8); image[:3] = 0
    >>> black_frame(image)[:, 10].nonzero()[0]
    array([0, 1, 2, 3])
    """
    import cv2

    red, green, blue = np.moveaxis(image, -1, 0)
    dark = (np.maximum(np.maximum(red, green), blue) <= BLACK).astype(np.uint8)
    frame = np.zeros(dark.shape, bool)
    edges = (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])
    if dark.all() or not any(dark[edge].any() for edge in edges):
        return frame
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    for edge in edges:
        line = labels[edge]
        counts = np.bincount(line)
        counts[0] = 0
        for label in np.flatnonzero(2 * counts >= line.size):
            frame |= labels == label
    if frame.any():  # its blurred rim too
        frame = cv2.dilate(frame.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return frame
