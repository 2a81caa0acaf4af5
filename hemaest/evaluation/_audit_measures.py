"""What the audit measures: each image in one pass, marks, shortcuts, suspicious labels.

:func:`hemaest.evaluation.audit` calls these in turn and turns what they find into findings.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemaest._near_duplicates import FINE, SAMPLE, SMALL, Sketch, digest_of, gray
from hemaest._parallel import thread_pool
from hemaest._sketch import SIZE, CopyMetric, raw_views, shrink
from hemaest.evaluation import scores
from hemaest.features import ColorFeatures
from hemaest.images import ImageRef, as_array

BORDER = 0.06
# of the histogram of marks
SIDE = 128
LEVELS = 16
ZONE = SIDE // 4  # what is burned in lies near the border
SHARE = 0.2

Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


@dataclass
class ImageFacts:
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
    """Return the color features that the control recipe uses as well."""
    return _color_features().transform(image[None])[0]


@cache
def _color_features() -> ColorFeatures:
    return ColorFeatures(n_jobs=1).fit(np.zeros((1, 2, 2, 3), np.uint8))


def border_pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of a thin frame, where a cell hardly ever lies, as one row."""
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


def measure(item: Any, metric: CopyMetric, histogram: Callable[[Any], None]) -> ImageFacts:
    """Read one image and describe it; a broken file is described by its error."""
    try:
        image = as_array(item)[..., :3]
    except (ValueError, OSError) as error:
        none = np.empty(0)
        return ImageFacts(None, none, none, none, np.empty(0, np.float32), (0, 0), "", str(error))
    facts, kind = file_facts(item, image)
    histogram(image)
    small = shrink(image, FINE)
    raw = raw_views(small)
    return ImageFacts(
        Sketch(digest_of(image), metric.points(raw), gray(small, SMALL)),
        color_statistics(small),
        color_statistics(border_pixels(small)),
        facts,
        raw[0].copy(),
        image.shape[:2],
        kind,
    )


def measure_all(
    X: NDArray[Any],
    classes: NDArray[np.intp],
    random_state: int,
    n_jobs: int | None,
    track: Callable[[Iterable[Any]], Iterable[Any]],
) -> tuple[list[ImageFacts], PixelHistogram]:
    """Describe all images with threads; memory holds a few images at a time."""
    metric = _fit_metric(X, random_state)
    histogram = PixelHistogram(int(classes.max(initial=0)) + 1)

    def work(i: int) -> ImageFacts:
        return measure(X[i], metric, lambda image: histogram.add(image, int(classes[i])))

    with thread_pool(n_jobs, len(X)) as pool:
        return list(track(pool.map(work, range(len(X))))), histogram


def _fit_metric(X: NDArray[Any], random_state: int) -> CopyMetric:
    """Estimate from a sample what copies have in common; broken files are skipped."""
    rng = np.random.default_rng(random_state)
    sample, reason = [], ""
    for i in rng.permutation(len(X)):
        try:
            sample.append(shrink(as_array(X[i]), 2 * SIZE))
        except (ValueError, OSError) as error:
            reason = str(error)
            continue
        if len(sample) == SAMPLE:
            break
    if not sample:
        raise ValueError(
            f"None of the {len(X)} images can be read as an image of at least 2 x 2 pixels in "
            f"color; check the folder. One of them: {reason}"
        )
    return CopyMetric.learn(sample, rng)


class PixelHistogram:
    """Counts of gray levels at every place, class by class; its size does not grow with images.

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

        Background is smooth when many images are averaged. A mark is a dark spot that many images
        share beside a bright one that many share as well.
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
    columns = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "center"
    return f"{rows} {columns}"


def simple_models() -> dict[str, Any]:
    """Two models that need no tuning: logistic regression and five nearest neighbors."""
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "5 nearest neighbors": make_pipeline(StandardScaler(), KNeighborsClassifier(5)),
    }


def out_of_fold(
    model: Any, features: NDArray[Any], true: NDArray[np.intp], folds: Folds, n_classes: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return tested positions and the class probabilities that a model gave them."""
    index = np.concatenate([test for _, test in folds])
    probability = np.zeros((len(index), n_classes))
    at = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for train, test in folds:
            k = min(5, len(train))
            if "kneighborsclassifier" in model.named_steps:
                model.set_params(kneighborsclassifier__n_neighbors=k)
            model.fit(features[train], true[train])
            probability[at : at + len(test), model.classes_] = model.predict_proba(features[test])
            at += len(test)
    return index, probability


def shortcut_scores(
    features: dict[str, NDArray[np.float64]],
    true: NDArray[np.intp],
    groups: NDArray[np.intp],
    folds: Folds,
    random_state: int,
) -> pd.DataFrame:
    """Balanced accuracy of each kind of feature under the given folds, the better model of two."""
    n_classes = int(true.max()) + 1
    tested = np.concatenate([test for _, test in folds])
    codes = np.unique(groups[tested], return_inverse=True)[1]
    draws = scores.GroupedBootstrap(codes, 1000, random_state=random_state)
    rows = []
    for name, values in features.items():
        best: dict[str, Any] = {}
        for model_name, model in simple_models().items():
            index, probability = out_of_fold(model, values, true, folds, n_classes)
            predicted = probability.argmax(1)
            matrix = scores.confusions(true[index], predicted, n_classes)
            score = float(scores.balanced_accuracy(matrix))
            if score > best.get("balanced_accuracy", -1.0):
                drawn = scores.balanced_accuracy(
                    draws.confusions(true[index], predicted, n_classes)
                )
                low, high = draws.interval(drawn)
                best = {
                    "seen": name,
                    "model": model_name,
                    "balanced_accuracy": score,
                    "low": low,
                    "high": high,
                    "chance": 1 / len(np.unique(true[index])),
                }
        rows.append(best)
    return pd.DataFrame(rows)


def label_error_candidates(
    true: NDArray[np.intp], probability: NDArray[np.float64]
) -> pd.DataFrame:
    """Rank images whose label an out-of-fold model confidently contradicts.

    Confident learning after Northcutt et al. (2021).

    A class is confidently given where its probability is at least the mean probability that images
    labeled so get themselves. An image is a candidate where the likeliest of those classes is not
    its own.

    Parameters
    ----------
    true : int array of shape (n,)
        Labels as they stand.
    probability : array of shape (n, n_classes)
        Out-of-fold probabilities.

    Returns
    -------
    candidates : DataFrame
        Columns position, given, suggested, margin; the most confident first.

    Examples
    --------
    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9]])
    >>> label_error_candidates(np.array([0, 0, 1, 1]), p)["position"].tolist()
    [2]

    Wrong labels among many come before right ones:

    >>> rng = np.random.default_rng(0)
    >>> true, wrong = rng.integers(0, 3, 600), rng.choice(600, 40, replace=False)
    >>> given = true.copy()
    >>> given[wrong] = (true[wrong] + rng.integers(1, 3, 40)) % 3
    >>> p = np.exp(3.0 * np.eye(3)[true] + rng.normal(0, 1, (600, 3)))
    >>> found = label_error_candidates(given, p / p.sum(1, keepdims=True))
    >>> hits = np.isin(found["position"], wrong)
    >>> bool(hits[:20].mean() > 0.9), bool(hits.sum() >= 30)
    (True, True)
    """
    n, n_classes = probability.shape
    present = np.isin(np.arange(n_classes), true)
    usual = np.array(
        [probability[true == k, k].mean() if present[k] else np.inf for k in range(n_classes)]
    )
    confident = np.where(probability >= usual, probability, -1.0)
    suggested = confident.argmax(1)
    own = probability[np.arange(n), true]
    margin = probability[np.arange(n), suggested] - own
    wrong = (confident.max(1) >= 0) & (suggested != true) & (margin > 0)
    position = np.flatnonzero(wrong)
    table = pd.DataFrame(
        {
            "position": position,
            "given": true[position],
            "suggested": suggested[position],
            "margin": margin[position],
        }
    )
    return table.sort_values("margin", ascending=False, kind="stable").reset_index(drop=True)
