"""One pass over the images: everything that the audit needs of each, and no image is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._near_duplicates import FINE, SAMPLE, Sketch, sketch_image
from hemaest._parallel import thread_pool
from hemaest._sketch import SIZE, CopyMetric, raw_sketch, shrink
from hemaest.evaluation._overlays import PixelHistogram
from hemaest.features import ColorFeatures
from hemaest.images import ImageRef, as_array

BORDER = 0.06


@dataclass
class Look:
    """What is kept of one image."""

    sketch: Sketch | None
    color: NDArray[np.float64]
    border: NDArray[np.float64]
    file: NDArray[np.float64]
    raw: NDArray[np.float32]
    shape: tuple[int, int]
    kind: str
    error: str = ""


def color_statistics(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the colour features that the control recipe sees too."""
    return ColorFeatures().fit_transform(image[None])[0]


def border_pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of a thin frame, where hardly ever a cell lies, as one row."""
    edge = max(1, round(BORDER * min(image.shape[:2])))
    sides = (image[:edge], image[-edge:], image[edge:-edge, :edge], image[edge:-edge, -edge:])
    return np.concatenate([side.reshape(-1, 3) for side in sides])[None]


def file_facts(item: Any, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], str]:
    """Return what is known without looking at a pixel, and the kind of file."""
    height, width = image.shape[:2]
    if isinstance(item, ImageRef):
        suffix = Path(item.path).suffix.lower()
        kind, size = suffix, float(item.size)
        code = float(sum(ord(letter) * 31**k for k, letter in enumerate(suffix)) % 997)
    else:
        kind, size, code = "array", 0.0, 0.0
    facts = [height, width, width / height, size, size / (height * width), code]
    return np.array(facts, dtype=float), f"{kind} {height}x{width}"


def look_at(item: Any, metric: CopyMetric, histogram: Callable[[Any], None]) -> Look:
    """Read one image and describe it; a broken file is described by its error."""
    try:
        image = as_array(item)[..., :3]
    except (ValueError, OSError) as error:
        none = np.empty(0)
        return Look(None, none, none, none, np.empty(0, np.float32), (0, 0), "", str(error))
    facts, kind = file_facts(item, image)
    histogram(image)
    small = shrink(image, FINE)
    return Look(
        sketch_image(image, metric),
        color_statistics(small),
        color_statistics(border_pixels(small)),
        facts,
        raw_sketch([shrink(small, SIZE)])[0],
        image.shape[:2],
        kind,
    )


def look_at_all(
    X: NDArray[Any],
    classes: NDArray[np.intp],
    random_state: int,
    n_jobs: int | None,
    track: Callable[[Iterable[Any]], Iterable[Any]],
) -> tuple[list[Look], PixelHistogram]:
    """Describe all images with threads; memory holds a few images at a time."""
    metric = _learn(X, random_state)
    histogram = PixelHistogram(int(classes.max(initial=0)) + 1)

    def work(i: int) -> Look:
        return look_at(X[i], metric, lambda image: histogram.add(image, int(classes[i])))

    with thread_pool(n_jobs, len(X)) as pool:
        return list(track(pool.map(work, range(len(X))))), histogram


def _learn(X: NDArray[Any], random_state: int) -> CopyMetric:
    """Learn what copies keep from a sample; broken files are passed over."""
    rng = np.random.default_rng(random_state)
    sample = []
    for i in rng.permutation(len(X)):
        try:
            sample.append(shrink(as_array(X[i]), 2 * SIZE))
        except (ValueError, OSError):
            continue
        if len(sample) == SAMPLE:
            break
    if not sample:
        raise ValueError(f"None of the {len(X)} images can be read; check the folder.")
    return CopyMetric.learn(sample, rng)
