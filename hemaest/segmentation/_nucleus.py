"""Five voters on where the nucleus is, and the joining of its lobes."""

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._colors import kmeans, nearest, otsu3
from hemaest.segmentation._scene import Scene

Mask = NDArray[np.bool_]


def voters(scene: Scene) -> list[Mask]:
    """Return five candidate masks of everything that is stained like a nucleus.

    The darkest class of three-class Otsu on green and on red, the darkest cluster of k-means in
    CIELAB with 3 and with 4 clusters, and Otsu on the soft map of Mousavi Kouzehkanan and others
    (2022): ``min(M, S) - max(K - M, 0)`` after grey-world scaling.
    """
    valid = scene.valid
    if scene.blank:
        return [np.zeros(valid.shape, bool)] * 5
    green, red = scene.rgb[..., 1], scene.rgb[..., 0]
    masks = [green <= otsu3(green[valid]), red <= otsu3(red[valid])]
    points = scene.lab[valid]
    sample = points[:: max(1, len(points) // 2000)]
    for k in (3, 4):
        centres = kmeans(sample, k)
        member = nearest(scene.lab.reshape(-1, 3), centres).reshape(valid.shape)
        masks.append(member == centres[:, 0].argmin())
    masks.append(_violet(scene))
    return [mask & valid for mask in masks]


def share_of(masks: list[Mask]) -> NDArray[np.float32]:
    """Return the share of the voters who say nucleus, for each pixel.

    Examples
    --------
    >>> import numpy as np
    >>> share_of([np.array([True, True]), np.array([True, False])])
    array([1. , 0.5], dtype=float32)
    """
    votes = np.zeros(masks[0].shape, np.uint8)
    for mask in masks:
        votes += mask
    return np.divide(votes, len(masks), dtype=np.float32)


def _violet(scene: Scene) -> Mask:
    """Otsu on the violet soft map."""
    import cv2

    soft = (violet_map(scene.rgb, scene.valid) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(soft[scene.valid].reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    return soft > threshold


def violet_map(rgb: NDArray[np.uint8], valid: Mask) -> NDArray[np.float32]:
    """Return how violet each pixel is, 0 to 1, free of the light's colour."""
    import cv2

    mean = np.maximum(cv2.mean(rgb, valid.astype(np.uint8))[:3], 1).astype(np.float32)
    # plane by plane: numpy is slow on every third value
    red, green, blue = np.minimum(
        np.moveaxis(rgb, -1, 0).astype(np.float32, order="C")
        * (mean.mean() / mean / 255)[:, None, None],
        1,
    )
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    black = 1 - high
    magenta = (high - green) / np.maximum(high, 1e-6)
    total = high + low
    saturation = (high - low) / np.maximum(np.minimum(total, 2 - total), 1e-6)
    return np.clip(np.minimum(magenta, saturation) - np.maximum(black - magenta, 0), 0, 1)


def central_nucleus(mask: Mask) -> Mask:
    """Keep the most central large component, and the lobes that belong to it.

    Up to four rounds add components of at least a tenth of the seed's area that are near
    (in units of the nucleus' own radius) and do not touch the border.
    """
    import cv2

    height, width = mask.shape
    n, labels, stats, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if n < 2:
        return mask
    area, centres = stats[1:, cv2.CC_STAT_AREA].astype(float), centres[1:]
    x, y, w, h = stats[1:, :4].T
    off = np.hypot(*(centres - [(width - 1) / 2, (height - 1) / 2]).T) / min(height, width)
    seed = int((area * np.exp(-((off / 0.35) ** 2))).argmax())
    border = (x == 0) | (y == 0) | (x + w >= width) | (y + h >= height)
    chosen = np.arange(n - 1) == seed
    candidate = (area >= 0.1 * area[seed]) & ~border & ~chosen
    for _ in range(4):
        rest = np.flatnonzero(candidate & ~chosen)
        if not len(rest):
            break
        now = np.r_[False, chosen][labels]
        total = area[chosen].sum()
        radius = np.sqrt(total / np.pi)
        middle = area[chosen] @ centres[chosen] / total
        distance = cv2.distanceTransform((~now).astype(np.uint8), cv2.DIST_L2, 3)
        before = chosen.sum()
        for k in rest:
            box = np.s_[y[k] : y[k] + h[k], x[k] : x[k] + w[k]]
            gap = distance[box][labels[box] == k + 1].min()
            if gap < 1.4 * radius and np.hypot(*(centres[k] - middle)) < 4 * radius:
                chosen[k] = True
        if chosen.sum() == before:
            break
    return np.r_[False, chosen][labels]
