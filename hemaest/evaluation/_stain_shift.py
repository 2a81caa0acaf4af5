"""How a fitted recipe's score falls as images move away from those it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest import stain
from hemaest._parallel import map_images
from hemaest._progress import track
from hemaest._seeds import seed_of
from hemaest._tables import format_table
from hemaest.base import did_you_mean
from hemaest.evaluation._figures import plot_shifts
from hemaest.evaluation.scores import mean_recall
from hemaest.groups import check_labels
from hemaest.images import check_images, pack

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _colors(image: NDArray[np.uint8], change: Callable[[Any], Any]) -> NDArray[np.uint8]:
    """Change the colors and leave a cell map as it is."""
    changed = change(np.ascontiguousarray(image[..., :3]))
    return np.concatenate([changed, image[..., 3:]], axis=2) if image.shape[2] == 4 else changed


def brightness(image: NDArray[np.uint8], strength: float, sign: int) -> NDArray[np.uint8]:
    """Make an image up to 40% darker or brighter."""
    factor = 1 + 0.4 * strength * sign
    return _colors(image, lambda rgb: np.clip(rgb * factor, 0, 255).astype(np.uint8))


def blur(image: NDArray[np.uint8], strength: float, sign: int) -> NDArray[np.uint8]:
    """Blur by up to 2% of the shorter side, as a lens out of focus does."""
    import cv2

    sigma = 0.02 * strength * min(image.shape[:2])
    return _colors(image, lambda rgb: cv2.GaussianBlur(rgb, (0, 0), max(sigma, 1e-3)))


def jpeg(image: NDArray[np.uint8], strength: float, sign: int) -> NDArray[np.uint8]:
    """Compress down to JPEG quality 10."""
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, round(95 - 85 * strength)]

    def compress(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return cv2.imdecode(cv2.imencode(".jpg", rgb[..., ::-1], quality)[1], 1)[..., ::-1]

    return _colors(image, compress)


def scale(image: NDArray[np.uint8], strength: float, sign: int) -> NDArray[np.uint8]:
    """Enlarge or reduce by up to 1.4 around the center, the size of the image staying."""
    import cv2

    height, width = image.shape[:2]
    factor = 1.4 ** (strength * sign)
    center = ((width - 1) / 2, (height - 1) / 2)
    warp = cv2.getRotationMatrix2D(center, 0, factor)

    def resize(part: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
        return cv2.warpAffine(
            np.ascontiguousarray(part),
            warp,
            (width, height),
            flags=how,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    rgb = resize(image[..., :3], cv2.INTER_LINEAR)
    if image.shape[2] == 3:
        return rgb
    return np.dstack([rgb, resize(image[..., 3], cv2.INTER_NEAREST)])


SHIFTS = {"brightness": brightness, "blur": blur, "JPEG": jpeg, "scale": scale}
KINDS = ("stain", *SHIFTS)


def shift_images(
    X: Any, kind: str, strength: float, *, random_state: Any = 0, n_jobs: int | None = None
) -> NDArray[Any]:
    """Return all images moved away by one kind of shift; half of them to each side.

    Parameters
    ----------
    X : images
        A cell map stays with its cell.
    kind : {"stain", "brightness", "blur", "JPEG", "scale"}
        Which shift.
    strength : float
        0 leaves the images as they are; 1 is a change that laboratories really show, as
        :func:`stain_shift_curve` says.
    random_state : int, RandomState instance or None, default=0
        Seed of the stain changes and of the sides.
    n_jobs : int, optional
        Threads for changing images.

    Returns
    -------
    X_shifted : images

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.evaluation import shift_images
    >>> X = np.full((2, 16, 16, 3), 100, np.uint8)
    >>> shift_images(X, "brightness", 1.0)[:, 0, 0, 0].tolist()
    [60, 140]
    """
    X = check_images(X, estimator="shift_images")
    if kind not in KINDS:
        raise ValueError(
            f"kind {kind!r} must be one of {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
        )
    if strength == 0:
        return X
    seed = random_state if isinstance(random_state, int) else seed_of(random_state)
    if kind == "stain":
        augmenter = stain.StainAugmenter(strength=2 * strength, n_jobs=n_jobs)
        return augmenter.augment(X, random_state=seed)
    signs = np.where(np.random.default_rng(seed).permutation(len(X)) % 2, 1, -1)
    change = SHIFTS[kind]
    moved = map_images(lambda image, sign: change(image, strength, sign), X, signs, n_jobs=n_jobs)
    return pack(moved, dense=X.dtype != object)


class ShiftCurves:
    """Result of :func:`stain_shift_curve`.

    Attributes
    ----------
    table : DataFrame
        One row for each recipe, kind and strength, with its score.
    area : DataFrame
        Area under each curve, from 0 to 1: the mean score over the strengths; one row a recipe and
        one column a kind.
    """

    def __init__(self, table: pd.DataFrame):
        self.table = table

    @property
    def area(self) -> pd.DataFrame:
        """Mean score over the strengths, by the trapezoid rule."""
        rows = []
        for (recipe, kind), part in self.table.groupby(["recipe", "kind"], sort=False):
            at, score = part["strength"].to_numpy(), part["score"].to_numpy()
            span = at[-1] - at[0]
            rows.append((recipe, kind, np.trapezoid(score, at) / span if span else score[0]))
        long = pd.DataFrame(rows, columns=["recipe", "kind", "area"])
        wide = long.pivot(index="recipe", columns="kind", values="area")
        wide = wide[[k for k in KINDS if k in wide]].loc[long["recipe"].unique()]
        return wide.reset_index().rename_axis(columns=None)

    def __repr__(self) -> str:
        return format_table(self.area)

    def plot(self, axes: Any = None) -> Any:
        """Draw one panel for each kind of shift, all recipes on one axis.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, optional
            One for each kind; a new figure by default.

        Returns
        -------
        axes : array of matplotlib Axes
        """
        return plot_shifts(self, axes)


def stain_shift_curve(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    kinds: str | Sequence[str] = KINDS,
    strengths: Sequence[float] = STRENGTHS,
    scoring: Callable[[Any, Any], float] = mean_recall,
    n_jobs: int | None = None,
    random_state: Any = 0,
    verbose: bool | None = None,
) -> ShiftCurves:
    """Score fitted recipes on images that move away from their training in stain and optics.

    Strength 0 is the image as it is. Strength 1 is a change that laboratories really show: stains
    twice as far apart as :class:`hemaest.stain.StainAugmenter` draws by default, 40% of
    brightness, blur of 2% of the side, JPEG quality 10, 1.4 times the scale.

    Parameters
    ----------
    estimator : fitted classifier, or dict of str to fitted classifier
        What to score; nothing is fitted.
    X : images
        Test images that were not trained on.
    y : array-like of shape (n_samples,)
        Labels.
    kinds : str or sequence of str, default=("stain", "brightness", "blur", "JPEG", "scale")
        Which shifts.
    strengths : sequence of float, default=(0, 0.25, 0.5, 0.75, 1)
        How far to go, in rising order.
    scoring : callable, optional
        Called with true and predicted labels; balanced accuracy by default.
    n_jobs : int, optional
        Threads for changing images.
    random_state : int, RandomState instance or None, default=0
        Seed of the stain changes: all recipes, in all calls, see the same images.
    verbose : bool, optional
        Show progress; by default only to a person at a terminal.

    Returns
    -------
    ShiftCurves
        With ``.table``, ``.area`` and ``.plot()``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> X, y = np.full((4, 16, 16, 3), 200, np.uint8), ["a", "b", "a", "b"]
    >>> curves = stain_shift_curve(DummyClassifier().fit(X, y), X, y, kinds="blur")
    >>> float(curves.area.loc[0, "blur"])
    0.5
    """
    X = check_images(X, estimator="stain_shift_curve")
    y = check_labels(y, len(X), "stain_shift_curve")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    if len(strengths) < 1 or min(strengths) < 0 or list(strengths) != sorted(set(strengths)):
        raise ValueError(f"strengths={strengths!r} must rise and not be below 0.")
    models = estimator if isinstance(estimator, Mapping) else {type(estimator).__name__: estimator}
    seed = random_state if isinstance(random_state, int) else seed_of(random_state)
    rows = []
    steps = [(kind, float(strength)) for kind in kinds for strength in strengths]
    for kind, strength in track(steps, "shifting images", show=verbose):
        moved = shift_images(X, kind, strength, random_state=seed, n_jobs=n_jobs)
        for name, model in models.items():
            score = float(scoring(y, model.predict(moved)))
            rows.append({"recipe": name, "kind": kind, "strength": strength, "score": score})
    table = pd.DataFrame(rows)
    order = {name: i for i, name in enumerate(models)}
    table = table.sort_values(
        ["recipe", "kind", "strength"],
        key=lambda column: (
            column.map({**order, **{k: i for i, k in enumerate(KINDS)}})
            if column.name != "strength"
            else column
        ),
        kind="stable",
    )
    return ShiftCurves(table.reset_index(drop=True))
