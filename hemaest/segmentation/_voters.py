"""The label-free method for one cell: five voters on color find the nucleus, then its cell.

:func:`segment_by_voters` uses them alone. :func:`combine_with_voters` lets them move the borders
that the network drew, where both agree: the two methods err differently.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hemaest.segmentation._color_models import kmeans, log_gaussian, log_mixture, nearest, otsu3
from hemaest.segmentation._working_image import (
    Mask,
    SegmentationResult,
    WorkingImage,
    agreement_of,
    dice,
    no_cell,
    one_cell,
    square_around,
    stained_like_nuclei,
    working_image,
)

SIDE = 128
SMALLEST = 12
# no cytoplasm is looked for beyond this many radii of the nucleus' hull
REACH = 2.2
# voters draw sharp borders but take granules and red cells for nuclei and cytoplasm: they count
# in full where they overlap this much with the network, and not at all below that
ALIKE, UNLIKE = 0.85, 0.7
# and then they move a border by at most this share of the radius
BORDER_REACH = 0.1


def segment_by_voters(image: NDArray[np.uint8]) -> SegmentationResult:
    """Segment the nucleus and the cytoplasm of the central cell of an RGB crop."""
    work = working_image(image, SIDE)
    masks = [central_nucleus(mask) for mask in voters(work)]
    votes = vote_share(masks)
    nucleus = votes > 0.5
    if nucleus.sum() < SMALLEST:
        return no_cell(work.size)
    if not stained_like_nuclei(work.raw_density[nucleus].mean(axis=0, keepdims=True))[0]:
        return no_cell(work.size)
    cell = whole_cell(work, nucleus)
    return one_cell(work.up(votes), work.up(cell), agreement_of(masks, nucleus))


def combine_with_voters(
    image: NDArray[np.uint8], network: SegmentationResult
) -> SegmentationResult:
    """Return the network's cell with its borders moved towards those of like-minded voters.

    The agreement is the worse of that between the nuclei and that between the cells, with the
    majority of all voters: it parts good maps from bad ones. Where the network found nothing, the
    voters' cell is taken, with an agreement of 0.
    """
    if not network.labels.any():
        result = segment_by_voters(image)
        return replace(result, agreement=0.0 if result.labels.any() else float("nan"))
    work = working_image(image, SIDE)
    masks = [central_nucleus(mask) for mask in voters(work)]
    majority = vote_share(masks) > 0.5
    if majority.sum() < SMALLEST:
        return replace(network, agreement=0.0)
    whole = whole_cell(work, majority)
    known, known_whole = (
        _shrunk(soft, majority.shape) > 0.5 for soft in (network.nucleus, network.cell)
    )
    cells = dice(whole > 0.5, known_whole)
    agreement = min(cells, dice(majority, known))
    weight = np.array([voter_weight(dice(mask, known)) for mask in masks])
    most = float(weight.max())
    votes: NDArray[Any] = np.average(masks, axis=0, weights=weight) if most else majority
    votes, whole = work.up(near_border(votes, known)), work.up(near_border(whole, known_whole))
    # nothing beyond this window can be more than one half
    box = square_around(network.labels > 0, 1.5)
    part = tidy(
        _mean(network.nucleus[box], votes[box], most),
        _mean(network.cell[box], whole[box], voter_weight(cells)),
        agreement,
    )
    result = no_cell(network.labels.shape)
    for full, small in ((result.nucleus, part.nucleus), (result.cell, part.cell)):
        full[box] = small
    result.labels[box] = part.labels
    return replace(result, agreement=part.agreement)


def near_border(votes: NDArray[np.floating], known: Mask) -> NDArray[np.floating]:
    """Return votes near the border of a mask, and the mask elsewhere."""
    import cv2

    inside, outside = known.astype(np.uint8), (~known).astype(np.uint8)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    away += cv2.distanceTransform(outside, cv2.DIST_L2, 5)
    # the border runs between the pixels nearest to it, which are 1 away from the other side
    return np.where(away < BORDER_REACH * np.sqrt(inside.sum() / np.pi) + 0.5, votes, known)


def voter_weight(overlap: float) -> float:
    """Return the weight of a voter, 0 to 1, by its overlap with the network."""
    return float(np.clip((overlap - UNLIKE) / (ALIKE - UNLIKE), 0, 1))


def _mean(
    one: NDArray[np.float32], other: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    return ((one + weight * other) / (1 + weight)).astype(np.float32)


def _shrunk(soft: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    import cv2

    return cv2.resize(soft, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def voters(work: WorkingImage) -> list[Mask]:
    """Return five candidate masks of everything that is stained like a nucleus.

    The darkest class of three-class Otsu on green and on red, the darkest cluster of k-means in
    CIELAB with 3 and with 4 clusters, and Otsu on the soft map of Mousavi Kouzehkanan and others
    (2022): ``min(M, S) - max(K - M, 0)`` after gray-world scaling.
    """
    valid = work.valid
    if work.blank:
        return [np.zeros(valid.shape, bool)] * 5
    green, red = work.rgb[..., 1], work.rgb[..., 0]
    masks = [green <= otsu3(green[valid]), red <= otsu3(red[valid])]
    points = work.lab[valid]
    sample = points[:: max(1, len(points) // 2000)]
    for k in (3, 4):
        centers = kmeans(sample, k)
        member = nearest(work.lab.reshape(-1, 3), centers).reshape(valid.shape)
        masks.append(member == centers[:, 0].argmin())
    masks.append(_violet(work))
    return [mask & valid for mask in masks]


def vote_share(masks: list[Mask]) -> NDArray[np.float32]:
    """Return the share of the voters who say nucleus, for each pixel.

    Examples
    --------
    >>> import numpy as np
    >>> vote_share([np.array([True, True]), np.array([True, False])])
    array([1. , 0.5], dtype=float32)
    """
    votes = np.zeros(masks[0].shape, np.uint8)
    for mask in masks:
        votes += mask
    return np.divide(votes, len(masks), dtype=np.float32)


def _violet(work: WorkingImage) -> Mask:
    """Otsu on the violet soft map."""
    import cv2

    soft = (violet_map(work.rgb, work.valid) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(soft[work.valid].reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    return soft > threshold


def violet_map(rgb: NDArray[np.uint8], valid: Mask) -> NDArray[np.float32]:
    """Return how violet each pixel is, 0 to 1, free of the light's color."""
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
    n, labels, stats, centers = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if n < 2:
        return mask
    area, centers = stats[1:, cv2.CC_STAT_AREA].astype(float), centers[1:]
    x, y, w, h = stats[1:, :4].T
    off = np.hypot(*(centers - [(width - 1) / 2, (height - 1) / 2]).T) / min(height, width)
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
        middle = area[chosen] @ centers[chosen] / total
        distance = cv2.distanceTransform((~now).astype(np.uint8), cv2.DIST_L2, 3)
        before = chosen.sum()
        for k in rest:
            box = np.s_[y[k] : y[k] + h[k], x[k] : x[k] + w[k]]
            gap = distance[box][labels[box] == k + 1].min()
            if gap < 1.4 * radius and np.hypot(*(centers[k] - middle)) < 4 * radius:
                chosen[k] = True
        if chosen.sum() == before:
            break
    return np.r_[False, chosen][labels]


def cell_posterior(work: WorkingImage, nucleus: Mask, steps: int = 2) -> NDArray[np.float32]:
    """Return the probability that a pixel belongs to the cell of this nucleus.

    The prior falls with the distance from the nucleus' hull, in units of its radius. The
    background is four Gaussians of color far from the nucleus; the cytoplasm is one, which
    starts as "any color of this image", so that red cells that touch the nucleus are explained
    by the background before the cytoplasm can take them.
    """
    import cv2

    ys, xs = np.nonzero(nucleus)
    hull = np.zeros(nucleus.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.int32)), 1)
    radius = np.sqrt(hull.sum() / np.pi)
    distance = cv2.distanceTransform(1 - hull, cv2.DIST_L2, 5)
    result = nucleus.astype(np.float32)
    outside = work.valid & ~nucleus
    if outside.sum() < 50:
        return result
    far = outside & (distance > 1.2 * radius)
    if far.sum() < 50:
        far = outside & (distance >= np.quantile(distance[outside], 0.7))
    free = outside & (distance < REACH * radius)
    points, away = work.lab[free], distance[free]
    prior = expit((0.45 * radius - away) / (0.18 * radius)).clip(1e-4, 1 - 1e-4)
    sample = work.lab[far]
    background = log_mixture(points, sample[:: max(1, len(sample) // 1000)], 4)
    odds = np.log(prior / (1 - prior)) - background
    everything = work.lab[work.valid][::3]
    wide = 4 * np.cov(everything.T) + 25 * np.eye(3)
    share = expit(odds + log_gaussian(points, everything.mean(axis=0), wide))
    for _ in range(steps):
        weight = share.sum()
        if weight < 10:
            break
        mean = share @ points / weight
        spread = points - mean
        covariance = (spread * share[:, None]).T @ spread / weight
        share = expit(odds + log_gaussian(points, mean, covariance))
    result[free] = share
    return result


def guided_filter(
    soft: NDArray[np.float32], guide: NDArray[np.float32], radius: int = 3, eps: float = 20.0
) -> NDArray[np.floating]:
    """Smooth a soft map along the edges of a guide (He and others, 2013)."""
    import cv2

    def mean(a: NDArray[np.floating]) -> NDArray[np.floating]:
        return cv2.blur(a, (2 * radius + 1, 2 * radius + 1))

    g, s = mean(guide), mean(soft)
    slope = (mean(guide * soft) - g * s) / (mean(guide * guide) - g * g + eps)
    return mean(slope) * guide + mean(s - slope * g)


def whole_cell(work: WorkingImage, nucleus: Mask) -> NDArray[np.float32]:
    """Return a soft map of the whole cell: one piece, without holes, with the nucleus inside."""
    import cv2

    soft = guided_filter(cell_posterior(work, nucleus), work.lab[..., 0]).clip(0, 1)
    soft[nucleus] = 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx((soft > 0.5).astype(np.uint8), cv2.MORPH_OPEN, disk) | nucleus
    joined = touching(opened.astype(bool), nucleus)
    closed = cv2.morphologyEx(joined.astype(np.uint8), cv2.MORPH_CLOSE, disk).astype(bool)
    cell = filled(closed) & work.valid
    # the soft map decides where the border runs between pixels, the mask what belongs
    inside, outside = np.maximum(soft, 0.51), np.minimum(soft, 0.49)
    near = cv2.dilate(cell.astype(np.uint8), disk).astype(bool)
    return np.where(cell, inside, np.where(near, outside, 0)).astype(np.float32)


def tidy(
    nucleus: NDArray[np.float32], cell: NDArray[np.float32], agreement: float
) -> SegmentationResult:
    """Leave one cell without holes, and a nucleus without specks and pinholes."""
    inner = nucleus > 0.5
    if not inner.any():
        return one_cell(nucleus, cell, agreement)
    inner = without_specks(inner, 0.04)
    inner = ~without_specks(~inner, 0.04, of=inner.sum())
    whole = filled(touching((cell > 0.5) | inner, inner))
    nucleus = np.where(inner, np.maximum(nucleus, 0.501), np.minimum(nucleus, 0.5))
    cell = np.where(whole, np.maximum(cell, 0.501), np.minimum(cell, 0.5))
    return one_cell(nucleus.astype(np.float32), cell.astype(np.float32), agreement)


def without_specks(mask: Mask, share: float, of: float | None = None) -> Mask:
    """Drop components smaller than a share of the largest one (or of ``of`` pixels).

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((9, 9), bool); mask[:6, :6] = mask[8, 8] = True
    >>> int(without_specks(mask, 0.1).sum())
    36
    """
    import cv2

    n, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if n < 2:
        return mask
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    area[0] = 0
    return (area >= share * (area.max() if of is None else of))[labels] & mask


def touching(mask: Mask, seed: Mask) -> Mask:
    """Keep the components of a mask that hold a pixel of the seed."""
    import cv2

    n, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    keep = np.zeros(n, bool)
    keep[labels[seed & mask]] = True
    keep[0] = False
    return keep[labels]


def filled(mask: Mask) -> Mask:
    """Fill the holes of a mask."""
    import cv2

    padded = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    return padded[1:-1, 1:-1] != 2
