"""Heat maps of where a network looks: drawn on the cell, and summed over its parts.

The base class of ``GradCAM`` and ``AttentionMap``, how they reach the network inside a pipeline,
and :func:`occlusion` for classifiers that are no network.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from hemaest import cellmap
from hemaest._docs import fill_doc
from hemaest.base import did_you_mean
from hemaest.deep import ImageClassifier
from hemaest.deep.letterbox import placement
from hemaest.images import as_array, cell_map, check_images, rgb, to_object_array
from hemaest.inspection.drawing import (
    DISPLAY_DOCS,
    Savable,
    any_script,
    new_axes,
    overlay,
    plain_text,
    shortened,
    size_for,
    thumbnail,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Heat = NDArray[np.float64]
# covers of an image in a row, and the side of one as a share of the image's
GRID, COVER = 9, 0.28
# inches that an image beside its map takes, and pixels of each
PAIR, TILE = 3.1, 320
# a pair in units of an image: width with the gap to the next, height with the title
GAP = 0.16
WIDE, HIGH = 2.06 + GAP, 1.24
DOCS = DISPLAY_DOCS | {
    "explained": """
    estimator : fitted deep classifier, or Pipeline that ends in one
        What to explain.
    X : images
        As the estimator takes them.
    target : label or array of labels, optional
        The class whose evidence is shown; by default the predicted one of each image.
    """,
    "options": """
    **options
        For the kind of map; only :class:`GradCAM` has one, ``layer``.
    """,
}


def unbox(heat: Heat, height: int, width: int, size: int) -> Heat:
    """Bring a coarse map of the letterboxed square back to the image, scaled to a maximum of 1.

    Examples
    --------
    >>> heat = np.zeros((8, 8))
    >>> heat[4, 6] = 1
    >>> back = unbox(heat, 40, 80, 64)

    The square is 80 x 80 around the image, so place (4.5, 6.5) of 8 is near row 45 - 20, column 65:

    >>> row, column = np.unravel_index(back.argmax(), back.shape)
    >>> back.shape, bool(abs(row - 25) <= 3), bool(abs(column - 65) <= 3)
    ((40, 80), True, True)
    """
    import cv2

    top, left, inner_height, inner_width = placement(height, width, size)
    square = cv2.resize(heat.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    part = square[top : top + inner_height, left : left + inner_width]
    whole = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR).clip(min=0)
    return np.asarray(whole, dtype=np.float64) / max(float(whole.max()), 1e-12)


def heat_shares(heat: Heat, labels: NDArray[np.uint8]) -> dict[str, float]:
    """Return how much of the heat lies on nucleus, cytoplasm and surround, and their areas.

    Examples
    --------
    >>> heat_shares(np.ones((2, 2)), np.array([[0, 1], [2, 2]], np.uint8))["nucleus"]
    0.5
    """
    parts = {
        "nucleus": cellmap.nuclei(labels),
        "cytoplasm": cellmap.cytoplasm(labels),
        "surround": labels == 0,
    }
    total = max(float(heat.sum()), 1e-12)
    shares = {name: float(heat[mask].sum()) / total for name, mask in parts.items()}
    return shares | {f"{name}_area": float(mask.mean()) for name, mask in parts.items()}


class HeatDisplay(Savable):
    """Images, a heat map for each, and the predictions.

    Parameters
    ----------
    images : list of uint8 arrays
    maps : list of float arrays
        From 0 to 1, of the images' sizes.
    titles : list of str
    """

    # further options of from_estimator and compute
    _options: ClassVar[tuple[str, ...]] = ()
    _scale_label: ClassVar[str] = "relative to the image's maximum"

    def __init__(
        self, images: list[NDArray[np.uint8]], maps: list[Heat], titles: list[str]
    ) -> None:
        self.images = images
        self.maps = maps
        self.titles = titles

    @classmethod
    @fill_doc(**DOCS)
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        ax: "Axes | None" = None,
        n_images: int = 12,
        n_columns: int = 4,
        title: str | None = None,
        **options: Any,
    ) -> Self:
        """Compute the maps of some images, and draw them.

        Parameters
        ----------
        %(explained)s
        %(ax)s
        n_images : int, default=12
            How many images are drawn at most; the maps of all are computed.
        n_columns : int, default=4
            As in :meth:`plot`.
        %(title)s
        %(options)s

        Returns
        -------
        display : object
        """
        display = cls.compute(estimator, X, target=target, **options)
        return display.plot(ax, n_images=n_images, n_columns=n_columns, title=title)

    @classmethod
    @fill_doc(**DOCS)
    def compute(cls, estimator: Any, X: Any, *, target: Any = None, **options: Any) -> Self:
        """Compute the maps of some images and draw nothing.

        Parameters
        ----------
        %(explained)s
        %(options)s

        Returns
        -------
        display : object
        """
        unknown = [name for name in options if name not in cls._options]
        if unknown:
            known = ", ".join(["target", *cls._options])
            raise TypeError(
                f"{cls.__name__} has no option {unknown[0]!r}; it takes {known}."
                f"{did_you_mean(unknown[0], cls._options)}"
            )
        classifier, images = reach_net(estimator, X, cls.__name__)
        wanted = targets_of(classifier, images, target)
        proba = classifier.predict_proba(images)
        maps, shown, titles = [], [], []
        size = classifier.image_size
        for start in range(0, len(images), 32):
            rows = slice(start, start + 32)
            coarse = cls._coarse(classifier, images[rows], wanted[rows], **options)
            for heat, item in zip(coarse, images[rows], strict=True):
                image = as_array(item)
                height, width = image.shape[:2]
                maps.append(unbox(heat, height, width, size))
                shown.append(image)
        for i, place in enumerate(wanted):
            titles.append(f"{classifier.classes_[place]} {proba[i, place]:.2f}")
        return cls(shown, maps, titles)

    @staticmethod
    @abstractmethod
    def _coarse(
        classifier: Any, images: NDArray[Any], wanted: NDArray[np.intp], **options: Any
    ) -> NDArray[np.floating]:
        """Return one coarse map of heat for each image."""

    @property
    def shares_(self) -> "pd.DataFrame":
        """Share of the heat on nucleus, cytoplasm and surround, beside their share of the area.

        A model that looks at the cell has far more of its heat on the cell than the cell has of
        the area.
        """
        import pandas as pd

        labels = [cell_map(image) for image in self.images]
        if any(label is None for label in labels):
            raise ValueError(
                "the images have no cell map; put a hemaest.segmentation.CellSegmenter before the "
                "classifier, or append your own map as a fourth channel."
            )
        rows = [
            heat_shares(heat, label)
            for heat, label in zip(self.maps, labels, strict=True)
            if label is not None
        ]
        return pd.DataFrame(rows)

    @any_script()
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        n_images: int = 12,
        n_columns: int = 4,
        title: str | None = None,
    ) -> Self:
        """Draw each image beside itself under its map, with the scale of the map's colors.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure that fits.
        n_images : int, default=12
            How many images at most.
        n_columns : int, default=4
            Pairs in a row.
        title : str, optional
            By default none.

        Returns
        -------
        self : object
            With ``ax_`` and ``figure_``.
        """
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        n = min(n_images, len(self.images))
        columns = max(1, min(n_columns, n))
        rows = -(-n // columns)
        own = ax is None
        self.ax_ = ax = new_axes(ax, PAIR * columns + 0.9, 1.85 * rows + 0.2)
        self.figure_: Any = ax.figure
        ax.set_xlim(0, columns * WIDE - GAP)
        ax.set_ylim(rows * HIGH, -0.2)
        ax.set_aspect("equal")
        ax.set_axis_off()
        if title:
            ax.set_title(plain_text(title), fontsize="medium")
        scale = ScalarMappable(Normalize(0, 1), cmap="inferno")
        bar = self.figure_.colorbar(scale, ax=ax, shrink=min(0.8, 2.2 / (1.85 * rows)), pad=0.02)
        bar.set_label(self._scale_label, fontsize=8)
        bar.set_ticks([0, 0.5, 1])
        bar.ax.tick_params(labelsize=8)
        if own:
            # lays the figure out, so that the room for letters is known
            self.figure_.draw_without_rendering()  # type: ignore[union-attr]
        points = ax.get_window_extent().width * 72 / self.figure_.dpi / columns * 0.95
        size = size_for(self.titles[:n], points, 8.5)
        for i in range(n):
            left, top = (i % columns) * WIDE, (i // columns) * HIGH
            self._draw(i, left, top)
            text = plain_text(shortened(self.titles[i], points, size))
            ax.text(left + 1.03, top - 0.04, text, ha="center", va="bottom", fontsize=size)
        return self

    def _draw(self, i: int, left: float, top: float) -> None:
        """Draw one pair, each image centered in a square and never stretched."""
        image = rgb(self.images[i])
        height, width = image.shape[:2]
        side = max(height, width)
        x, y = (1 - width / side) / 2, (1 - height / side) / 2
        # pixels that are not visible would only fill memory
        small = thumbnail(image, TILE), thumbnail(overlay(image, self.maps[i]), TILE)
        for k, shown in enumerate(small):
            start = left + k * 1.06
            extent = (start + x, start + 1 - x, top + 1 - y, top + y)
            self.ax_.imshow(shown, extent=extent, interpolation="antialiased")


def occlusion(classifier: Any, image: NDArray[np.uint8], label: Any) -> Heat:
    """Return by how much the probability of a type falls where a part is covered.

    Squares of the border's color cover the image one after the other; where the probability falls,
    the model looks. This holds for every classifier that gives probabilities, with features too.

    Parameters
    ----------
    classifier : fitted classifier
        It has ``predict_proba`` and ``classes_``.
    image : uint8 array of shape (height, width, 3)
        A cell.
    label : label
        The type, one of ``classifier.classes_``.

    Returns
    -------
    fall : float array of shape (height, width)
        0 where nothing falls. Each pixel has the mean over the covers that lie on it.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.inspection import occlusion
    >>> class Dark:
    ...     classes_ = np.array(["dark", "light"])
    ...     def predict_proba(self, X):
    ...         dark = np.array([(x < 100).any() for x in X], float)
    ...         return np.column_stack([dark, 1 - dark])
    >>> image = np.full((40, 40, 3), 200, np.uint8)
    >>> image[4:8, 4:8] = 0
    >>> fall = occlusion(Dark(), image, "dark")
    >>> bool(fall[6, 6] > 0.9), float(fall[30, 30])
    (True, 0.0)
    """
    classes = [str(c) for c in classifier.classes_]
    if str(label) not in classes:
        raise ValueError(f"label {str(label)!r} is no class of the model: {classes}.")
    place = classes.index(str(label))
    height, width = image.shape[:2]
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    color = np.median(border, axis=0).astype(np.uint8)
    high, wide = max(1, round(COVER * height)), max(1, round(COVER * width))
    corners = [
        (round(y), round(x))
        for y in np.linspace(0, height - high, GRID)
        for x in np.linspace(0, width - wide, GRID)
    ]
    covered = []
    for y, x in corners:
        copy = image.copy()
        copy[y : y + high, x : x + wide] = color
        covered.append(copy)
    answers = np.asarray(classifier.predict_proba(to_object_array([image, *covered])), float)
    falls = np.maximum(answers[0, place] - answers[1:, place], 0)
    total, number = np.zeros((height, width)), np.zeros((height, width))
    for (y, x), fall in zip(corners, falls, strict=True):
        total[y : y + high, x : x + wide] += fall
        number[y : y + high, x : x + wide] += 1
    return total / np.maximum(number, 1)


def reach_net(estimator: Any, X: Any, name: str) -> tuple[Any, NDArray[Any]]:
    """Return the deep classifier of a fitted estimator, and X as it reaches it.

    Parameters
    ----------
    estimator : fitted classifier or Pipeline
        What ends in a deep classifier.
    X : images
        As the estimator takes them.
    name : str
        Of the display, for errors.
    """
    images = check_images(X, estimator=name)
    before: list[Any] = []
    while isinstance(estimator, (FrozenEstimator, Pipeline)):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            check_is_fitted(estimator)
            before.extend([estimator[:-1]] if len(estimator.steps) > 1 else [])
            estimator = estimator.steps[-1][1]
    if not (isinstance(estimator, ImageClassifier)):
        raise TypeError(
            f"{name} explains a network, but this ends in {type(estimator).__name__}; give a "
            "fitted deep classifier (hemaest.deep) or a Pipeline that ends in one."
        )
    check_is_fitted(estimator, "net_")
    for steps in before:
        images = check_images(steps.transform(images), estimator=name)
    return estimator, images


def targets_of(classifier: Any, images: NDArray[Any], target: Any) -> NDArray[np.intp]:
    """Return for each image the place of the class to explain; by default the predicted one."""
    if target is None:
        return classifier.predict_proba(images).argmax(axis=1)
    given = np.asarray(target)
    if given.ndim and given.shape != (len(images),):
        raise ValueError(
            f"target has shape {given.shape}, but there are {len(images)} images; give one label "
            "for all, or one for each."
        )
    wanted = np.broadcast_to(given, (len(images),))
    known = {label: i for i, label in enumerate(classifier.classes_.tolist())}
    missing = [label for label in dict.fromkeys(wanted.tolist()) if label not in known]
    if missing:
        raise ValueError(f"target {missing[0]!r} is no class of the model: {list(known)}.")
    return np.array([known[label] for label in wanted.tolist()])
