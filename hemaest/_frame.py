"""Frames and borders: black that is no part of the image, and the color of its edge.

Corners of a turned copy, the rim of a round view, a cut-out, a padded band. The stain normalizers
leave a frame out, segmentation paints it as plasma, resizing fills up with the color of the border.
"""

import numpy as np
from numpy.typing import NDArray

# no stain is so dark in all three channels
BLACK = 24
# less of the edge than this may be a cell's shadow
SHARE_OF_EDGE = 0.02
# a band that was padded on is darker still
BAND = 12


def find_frame(image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Return where an image is black from its edge on, None where it has no black edge.

    Examples
    --------
    >>> image = np.full((40, 40, 3), 230, np.uint8)
    >>> find_frame(image)
    >>> image[:10] = image[20, 20] = 0
    >>> int(find_frame(image).sum())
    400
    """
    colors = image[..., :3]
    edge = np.concatenate([colors[0], colors[-1], colors[:, 0], colors[:, -1]]).T
    # plane by plane: numpy is slow over an axis of three
    if (np.maximum(np.maximum(edge[0], edge[1]), edge[2]) < BLACK).mean() < SHARE_OF_EDGE:
        return None
    import cv2

    black = (colors.max(axis=2) < BLACK).astype(np.uint8)
    parts = cv2.connectedComponents(black, connectivity=4)[1]
    at_edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.isin(parts, np.unique(at_edge[at_edge > 0]))


def beside_frame(image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Return what is beside the frame; None where there is no frame, or nothing beside it."""
    frame = find_frame(image)
    if frame is None:
        return None
    beside = ~with_seam(frame)
    return beside if beside.any() else None


def with_seam(frame: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a frame with the dim seam that interpolation and JPEG leave beside it."""
    import cv2

    return cv2.dilate(frame.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0


def paint_frame(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB image whose black frame is painted as the empty plasma is.

    An image without one comes back as it is, and so does one whose whole edge is black.

    Examples
    --------
    >>> image = np.full((40, 40, 3), 230, np.uint8)
    >>> paint_frame(image) is image
    True
    >>> image[:10] = 0
    >>> int(paint_frame(image).min())
    230
    """
    frame = find_frame(image)
    if frame is None or all(
        edge.all() for edge in (frame[0], frame[-1], frame[:, 0], frame[:, -1])
    ):
        return image
    frame = with_seam(frame)
    if frame.all():
        return image
    seen = image[~frame]
    bright = seen[:, 1] >= np.percentile(seen[:, 1], 90) - 8
    painted = image.copy()
    painted[frame] = np.median(seen[bright], axis=0)
    return painted


def black_bands(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find black bands that lie along at least half of an edge: padding, not stain.

    Examples
    --------
    >>> image = np.full((20, 20, 3), 200, np.uint8); image[:3] = 0
    >>> black_bands(image)[:, 10].nonzero()[0]
    array([0, 1, 2, 3])
    """
    import cv2

    red, green, blue = np.moveaxis(image, -1, 0)
    dark = (np.maximum(np.maximum(red, green), blue) <= BAND).astype(np.uint8)
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


def border_color(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the median color of the outermost pixels, which is mostly plasma.

    Parameters
    ----------
    image : uint8 array of shape (height, width, channels)
        The first three channels count.

    Returns
    -------
    color : uint8 array of shape (3,)

    Examples
    --------
    >>> border_color(np.full((4, 4, 3), 7, np.uint8)).tolist()
    [7, 7, 7]
    """
    colors = image[..., :3]
    edge = np.concatenate([colors[0], colors[-1], colors[1:-1, 0], colors[1:-1, -1]])
    return np.median(edge, axis=0).round().astype(np.uint8)
