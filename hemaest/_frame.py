"""Black that is no part of the picture: corners of a turned copy, a round view's rim, cut-outs."""

import numpy as np
from numpy.typing import NDArray

# no stain is so dark in all three channels
BLACK = 24
# less of the edge than this may be a cell's shadow
SHARE_OF_EDGE = 0.02


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
    """Return where the picture is, None where all of the image is picture, or none of it."""
    frame = find_frame(image)
    if frame is None:
        return None
    beside = ~with_seam(frame)
    return beside if beside.any() else None


def with_seam(frame: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a frame with the dim seam that interpolation and JPEG leave beside it."""
    import cv2

    return cv2.dilate(frame.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
