"""Two methods that err differently: the network, and voters who have a say where they agree."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._central import SIDE, segment_central
from hemaest.segmentation._cytoplasm import filled, touching, whole_cell
from hemaest.segmentation._found import Found, nothing, one_cell
from hemaest.segmentation._nucleus import central_nucleus, share_of, voters
from hemaest.segmentation._scene import make_scene, square_around

Mask = NDArray[np.bool_]

# voters draw sharp borders but take granules and red cells for nuclei and cytoplasm: they are
# heard in full where they overlap this much with the network, and not at all below that
ALIKE, UNLIKE = 0.85, 0.7
# and then they move a border by at most this share of the radius
REACH = 0.1
SMALLEST = 12


def with_voters(image: NDArray[np.uint8], network: Found) -> Found:
    """Return the network's cell with its borders moved towards those of like-minded voters.

    The agreement is the worse of that between the nuclei and that between the cells, with the
    majority of all voters: it tells good maps from bad ones. Where the network found nothing, the
    voters' cell is taken, with an agreement of 0.
    """
    if not network.labels.any():
        alone = segment_central(image)
        agreement = 0.0 if alone.labels.any() else float("nan")
        return Found(alone.nucleus, alone.cell, alone.labels, agreement)
    scene = make_scene(image, SIDE)
    masks = [central_nucleus(mask) for mask in voters(scene)]
    majority = share_of(masks) > 0.5
    if majority.sum() < SMALLEST:
        return Found(network.nucleus, network.cell, network.labels, 0.0)
    whole = whole_cell(scene, majority)
    known, known_whole = (
        _shrunk(soft, majority.shape) > 0.5 for soft in (network.nucleus, network.cell)
    )
    cells = dice(whole > 0.5, known_whole)
    agreement = min(cells, dice(majority, known))
    weight = np.array([heard(dice(mask, known)) for mask in masks])
    most = float(weight.max())
    votes: NDArray[Any] = np.average(masks, axis=0, weights=weight) if most else majority
    votes, whole = scene.up(near_border(votes, known)), scene.up(near_border(whole, known_whole))
    # nothing beyond this window can be more than one half
    box = square_around(network.labels > 0, 1.5)
    part = tidy(
        _mean(network.nucleus[box], votes[box], most),
        _mean(network.cell[box], whole[box], heard(cells)),
        agreement,
    )
    found = nothing(network.labels.shape)
    for full, small in ((found.nucleus, part.nucleus), (found.cell, part.cell)):
        full[box] = small
    found.labels[box] = part.labels
    return replace(found, agreement=part.agreement)


def near_border(votes: NDArray[np.floating], known: Mask) -> NDArray[np.floating]:
    """Return votes near the border of a mask, and the mask elsewhere."""
    import cv2

    inside, outside = known.astype(np.uint8), (~known).astype(np.uint8)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    away += cv2.distanceTransform(outside, cv2.DIST_L2, 5)
    # the border runs between the pixels nearest to it, which are 1 away from the other side
    return np.where(away < REACH * np.sqrt(inside.sum() / np.pi) + 0.5, votes, known)


def heard(overlap: float) -> float:
    """Return the weight of a voter, 0 to 1, by its overlap with the network."""
    return float(np.clip((overlap - UNLIKE) / (ALIKE - UNLIKE), 0, 1))


def _mean(
    one: NDArray[np.float32], other: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    return ((one + weight * other) / (1 + weight)).astype(np.float32)


def _shrunk(soft: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    import cv2

    return cv2.resize(soft, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def tidy(nucleus: NDArray[np.float32], cell: NDArray[np.float32], agreement: float) -> Found:
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


def dice(a: Mask, b: Mask) -> float:
    """Return the overlap of two masks: 1 for equal ones, also where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0
