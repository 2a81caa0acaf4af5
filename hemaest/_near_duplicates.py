"""Find images that are copies of one image: rotated, mirrored, cropped, recompressed, refocused.

Three steps, each much dearer and much surer than the one before: near neighbors of sketches, then
the best of 8 turns on small gray images, then a fine alignment after which every patch that has
any texture must agree. Two different cells on one kind of background fail the last step where the
cell is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from hemaest._parallel import map_images, pool_size, thread_pool
from hemaest._sketch import VIEWS, CopyMetric, raw_views, shrink, view
from hemaest.images import as_array, check_images

RADIUS = 10.0  # in units of copy noise; 99.5% of copies lie within 8
SLACK = 0.25  # a neighbor may be missed beyond RADIUS / (1 + SLACK); it saves half of the search
LARGE = 150_000  # images, beyond which a graph of neighbors is faster than a tree
NEIGHBORS = 5  # of each part; a copy is nearly always nearer than any other image
SMALL, FINE, PATCHES = 64, 128, 8
COARSE_MATCH = 0.65
WORTH_READING = 0.6  # the agreement of small images above which files are read again
ENOUGH = 0.9  # of the texture, weighted by contrast
LARGEST_HOLE = 4  # patches of 64
FIRST_STEPS, STEPS = 8, 40  # of the alignment: copies are recognized long before it ends
AT_ONCE = 256  # pairs
SAMPLE = 400
TURNS = [(quarter, mirror) for quarter in range(4) for mirror in (False, True)]


@dataclass
class Sketch:
    """What is kept of an image while others are searched."""

    digest: bytes
    points: NDArray[np.float32]
    small: NDArray[np.uint8]


@dataclass
class Pair:
    """Two images that are copies of one."""

    first: int
    second: int
    exact: bool
    agreement: float  # share of the textured patches that agree


def sketch_image(image: NDArray[np.uint8], metric: CopyMetric) -> Sketch:
    """Return digest, sketch and a small gray image."""
    small = shrink(image, FINE)
    return Sketch(digest_of(image), metric.points(raw_views(small)), gray(small, SMALL))


def digest_of(image: NDArray[np.uint8]) -> bytes:
    """Return a hash of the pixels and of how they are arranged."""
    pixels = np.ascontiguousarray(image[..., :3])
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.data)
    return digest.digest()


def gray(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a square gray image; green counts most, as stains absorb it."""
    import cv2

    return cv2.cvtColor(shrink(image, size), cv2.COLOR_RGB2GRAY)


def turned(image: NDArray[Any], turn: tuple[int, bool]) -> NDArray[Any]:
    """Turn by quarters, then mirror."""
    image = np.rot90(image, turn[0])
    return np.ascontiguousarray(image[:, ::-1] if turn[1] else image)


def _detail(gray_image: NDArray[Any], radius: float) -> NDArray[np.float32]:
    import cv2

    image = gray_image.astype(np.float32)
    return image - cv2.GaussianBlur(image, (0, 0), radius)


def coarse_match(
    a: NDArray[np.uint8], b: NDArray[np.uint8], where: tuple[float, float, float]
) -> tuple[float, tuple[int, bool], tuple[int, int]]:
    """Return the best correlation of a part of `a` with `b`, its turn and its shift."""
    import cv2

    part = cv2.resize(
        np.ascontiguousarray(view(a, *where)), (SMALL, SMALL), interpolation=cv2.INTER_AREA
    )
    part, target = _detail(part, 5), _detail(b, 5)
    edge = SMALL // 8
    best = (-1.0, TURNS[0], (0, 0))
    for turn in TURNS:
        template = turned(part, turn)[edge:-edge, edge:-edge]
        found = cv2.matchTemplate(target, template, cv2.TM_CCOEFF_NORMED)
        _, score, _, place = cv2.minMaxLoc(found)
        if score > best[0]:
            best = (float(score), turn, (place[0] - edge, place[1] - edge))
    return best


def _first_guess(
    size: int, where: tuple[float, float, float], turn: tuple[int, bool], shift: tuple[int, int]
) -> NDArray[np.float32]:
    """Affine map from the pixels of b to those of a, both size x size."""
    scale, top, left = where
    side = round(size * scale)
    y, x = np.mgrid[:size, :size] * (side / size)
    y = turned(y + round((size - side) * top), turn)
    x = turned(x + round((size - side) * left), turn)
    rows = [[m[0, 1] - m[0, 0], m[1, 0] - m[0, 0], m[0, 0]] for m in (x, y)]
    guess = np.array(rows)
    guess[:, 2] -= guess[:, :2] @ (np.array(shift) * size / SMALL)
    return guess.astype(np.float32)


def agreement(
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    where: tuple[float, float, float],
    turn: tuple[int, bool],
    shift: tuple[int, int],
    steps: int = STEPS,
) -> float:
    """Align two gray images and return the share of their texture that agrees; 0 if none does.

    Each patch counts by its contrast, so a nucleus counts more than the smear around it.
    """
    import cv2

    size = len(a)
    a, b = a.astype(np.float32), b.astype(np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    try:
        _, warp = cv2.findTransformECC(
            b, a, _first_guess(size, where, turn, shift), cv2.MOTION_AFFINE, stop, None, 5
        )
    except cv2.error:  # it did not converge: these are different images
        return 0.0
    if not 0.6 < abs(np.linalg.det(warp[:, :2])) < 1.6:
        return 0.0
    flags = cv2.WARP_INVERSE_MAP
    # outside, the edge goes on: black would darken the blur that patches are compared with
    moved = cv2.warpAffine(
        a, warp, (size, size), flags=cv2.INTER_LINEAR | flags, borderMode=cv2.BORDER_REPLICATE
    )
    inside = cv2.warpAffine(np.ones_like(a), warp, (size, size), flags=cv2.INTER_NEAREST | flags)
    inside = cv2.erode(inside, np.ones((5, 5))) > 0.5
    if inside.mean() < 0.5:
        return 0.0
    return _patches_agree(moved, b, inside)


def _patches_agree(a: Any, b: Any, inside: NDArray[np.bool_]) -> float:
    import cv2

    def patches(image: Any) -> Any:
        side = len(image) // PATCHES
        tiles = image.reshape(PATCHES, side, PATCHES, side).swapaxes(1, 2)
        return tiles.reshape(PATCHES**2, -1)

    mask = patches(inside)
    p, q = (
        patches(_detail(cv2.GaussianBlur(image, (0, 0), len(a) / FINE), 6 * len(a) / FINE))
        for image in (a, b)
    )
    count = np.maximum(mask.sum(1), 1)
    p, q = ((v - (v * mask).sum(1, keepdims=True) / count[:, None]) * mask for v in (p, q))
    contrast = np.sqrt(np.stack([(p**2).sum(1), (q**2).sum(1)]) / count)
    correlation = (p * q).sum(1) / count / (contrast[0] * contrast[1] + 1e-6)
    weight = contrast.max(0) * (mask.mean(1) > 0.6) * (contrast.max(0) > 2)
    if np.count_nonzero(weight) < 4:  # too little to see: equal pixels alone would prove it
        return 0.0
    wrong = (correlation <= 0.6) & (weight > 0)
    if _largest_hole(wrong.reshape(PATCHES, -1)) > LARGEST_HOLE:
        return 0.0
    return float(1 - (weight * wrong).sum() / weight.sum())


def _largest_hole(wrong: NDArray[np.bool_]) -> int:
    """Count the patches of the largest coherent area that disagrees: another cell is one."""
    labels, count = ndimage.label(wrong)
    return int(np.bincount(labels.ravel())[1:].max()) if count else 0


def neighbors(
    points: NDArray[np.float32], k: int, n_jobs: int | None = None
) -> Callable[[NDArray[np.float32]], tuple[NDArray[Any], NDArray[Any]]]:
    """Return a function that gives the `k` nearest points of others, infinitely far beyond RADIUS.

    Up to ``LARGE`` points by a tree, whose time grows as their square. Beyond, by a graph of
    neighbors, whose time grows as their number; it misses a few neighbors in a thousand. Without
    usearch (``hemaest[scale]``) the tree is used for all.

    Examples
    --------
    >>> points = np.arange(30, dtype=np.float32)[:, None] * 4
    >>> distance, nearest = neighbors(points, 3)(points[:1] + 1)
    >>> distance.tolist(), nearest.tolist()
    ([[1.0, 3.0, 7.0]], [[0, 1, 2]])
    """
    if len(points) > LARGE:
        try:
            return _by_graph(points, k, n_jobs)
        except ImportError:
            pass
    tree, workers = cKDTree(points), pool_size(n_jobs)
    return lambda others: tree.query(
        others, range(1, k + 1), eps=SLACK, distance_upper_bound=RADIUS, workers=workers
    )


def _by_graph(points: NDArray[np.float32], k: int, n_jobs: int | None) -> Callable[..., Any]:
    from usearch.index import Index

    index = Index(
        ndim=points.shape[1], metric="l2sq", dtype="f32", expansion_add=128, expansion_search=64
    )
    # one thread: in another order it would be another graph
    index.add(np.arange(len(points)), points, threads=1)
    threads = pool_size(n_jobs)

    def query(others: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        found = index.search(np.ascontiguousarray(others), k, threads=threads)
        distance = np.sqrt(np.maximum(found.distances, 0))
        return np.where(distance <= RADIUS, distance, np.inf), found.keys.astype(np.intp)

    return query


def candidates(
    sketches: list[Sketch], keep: NDArray[np.intp], n_jobs: int | None = None
) -> list[tuple[int, int, tuple[float, float, float]]]:
    """Return pairs worth a look, the likeliest first, with the part of the first to look at."""
    places = np.stack([sketches[i].points for i in keep])
    nearest_to = neighbors(places[:, 0], min(NEIGHBORS + 1, len(keep)), n_jobs)
    parts = []
    for number in range(len(VIEWS)):
        distance, nearest = nearest_to(places[:, number])
        first, column = np.nonzero(np.isfinite(distance))
        second = nearest[first, column]
        if number == 0:
            # whole against whole is the same either way round
            first, second = np.minimum(first, second), np.maximum(first, second)
        rows = np.stack([first, second, np.full(len(first), number)], axis=1)
        parts.append(np.column_stack([rows, distance[distance < np.inf]])[first != second])
    found = np.concatenate(parts)
    order = np.lexsort((found[:, 1], found[:, 0], found[:, 2], found[:, 3]))
    found = found[order]
    likeliest = np.sort(np.unique(found[:, :2], axis=0, return_index=True)[1])
    return [
        (int(keep[int(i)]), int(keep[int(j)]), VIEWS[int(number)])
        for i, j, number, _ in found[likeliest]
    ]


def search(
    sketches: list[Sketch],
    read: Callable[[int], NDArray[np.uint8]],
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    n_jobs: int | None = None,
) -> list[Pair]:
    """Return pairs of copies, as few as connect each set of copies."""
    first: dict[bytes, int] = {}
    pairs = []
    for i, sketch in enumerate(sketches):
        original = first.setdefault(sketch.digest, i)
        if original != i:
            pairs.append(Pair(original, i, True, 1.0))
    keep = np.array(sorted(first.values()))
    parent = list(range(len(sketches)))  # who is already known to be a copy of whom

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    fine = lru_cache(500)(lambda i: gray(read(i), FINE))

    def look(pair: tuple[int, int, tuple[float, float, float]]) -> float:
        i, j, where = pair
        if root(i) == root(j):
            return 0.0
        small = sketches[i].small, sketches[j].small
        score, turn, shift = coarse_match(*small, where)
        if score < COARSE_MATCH:
            return 0.0
        if agreement(*small, where, turn, shift, FIRST_STEPS) < WORTH_READING:
            return 0.0
        return agreement(fine(i), fine(j), where, turn, shift)

    worth = candidates(sketches, keep, n_jobs)
    shown = iter(track(worth))
    with thread_pool(n_jobs, len(worth)) as pool:
        for start in range(0, len(worth), AT_ONCE):
            part = worth[start : start + AT_ONCE]
            for (i, j, _), share in zip(part, pool.map(look, part), strict=True):
                next(shown)
                if share >= ENOUGH and root(i) != root(j):
                    pairs.append(Pair(min(i, j), max(i, j), False, share))
                    parent[root(j)] = root(i)
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def connect_pairs(pairs: list[Pair], n: int) -> NDArray[np.intp]:
    """Return a group for each image: all that pairs connect, numbered in order."""
    rows, columns = [p.first for p in pairs], [p.second for p in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(n, n))
    codes = connected_components(graph, directed=False)[1]
    first = np.unique(codes, return_index=True)[1]
    return np.argsort(np.argsort(first))[codes]


def learn_metric(X: NDArray[Any], random_state: int = 0) -> CopyMetric:
    """Learn what copies keep, from a sample of the images."""
    rng = np.random.default_rng(random_state)
    sample = np.sort(rng.permutation(len(X))[:SAMPLE])
    return CopyMetric.learn((as_array(X[i]) for i in sample), rng)


def near_duplicate_groups(X: Any, *, n_jobs: int | None = None) -> NDArray[np.intp]:
    """Return a group for each image; copies of one image share one.

    Turned, mirrored, slightly cut (to 90% of the side), recompressed, brightened and refocused
    copies are found. Different cells that merely look alike are not joined.

    Parameters
    ----------
    X : images
        As :func:`hemaest.images.check_images` takes them.
    n_jobs : int, optional
        Threads.

    Returns
    -------
    groups : int array of shape (n_samples,)
        Numbered in order of first appearance; an image like no other is alone in its group.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3)).astype(np.uint8)
    >>> near_duplicate_groups([cells[0], cells[1], np.rot90(cells[0]), cells[2]]).tolist()
    [0, 1, 0, 2]
    """
    X = check_images(X)
    metric = learn_metric(X)
    sketches = map_images(lambda image: sketch_image(image, metric), X, n_jobs=n_jobs)
    return connect_pairs(search(sketches, lambda i: as_array(X[i]), n_jobs=n_jobs), len(X))
