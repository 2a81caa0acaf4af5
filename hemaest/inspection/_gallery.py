"""Many images side by side: cells with their labels, and images after each of some steps.

Both displays draw tiles in one axes, so they fit into any axes of a larger figure.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest import cellmap
from hemaest._docs import fill_doc
from hemaest.images import as_array, cell_map, check_images, iter_arrays, rgb
from hemaest.inspection.drawing import (
    DISPLAY_DOCS,
    PLAIN,
    RIGHT,
    WRONG,
    Savable,
    any_script,
    new_axes,
    plain_text,
    shortened,
    size_for,
    thumbnail,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# pixels of a tile, so that files stay small
TILE = 160
GAP = 0.06
PITCH = 1.05


@fill_doc(**DISPLAY_DOCS)
class CellGalleryDisplay(Savable):
    """Draw cells in a grid, each with its label, framed by whether the prediction is right.

    Right predictions have a blue frame; wrong ones have a dashed vermilion frame and both labels,
    so that the drawing can be read without color. Cells with a cell map are outlined.

    Parameters
    ----------
    images : images
        As :func:`hemaest.images.check_images` takes them.
    labels : array-like of shape (n,), optional
        What the cells are.
    predicted : array-like of shape (n,), optional
        What was predicted.
    confidence : array-like of shape (n,), optional
        Probability of the prediction, 0 to 1.
    captions : sequence of str, optional
        Written below the cells instead of their labels.

    Attributes
    ----------
    %(drawn)s

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> cells = make_cells(6, random_state=0)
    >>> display = CellGalleryDisplay(cells.images, cells.target)
    >>> len(display.plot(n_columns=3).ax_.images)
    6
    """

    def __init__(
        self,
        images: Any,
        labels: ArrayLike | None = None,
        *,
        predicted: ArrayLike | None = None,
        confidence: ArrayLike | None = None,
        captions: Sequence[str] | None = None,
    ) -> None:
        self.images = check_images(images, estimator="CellGalleryDisplay")
        n = len(self.images)
        self.labels = one_each("labels", labels, n)
        self.predicted = one_each("predicted", predicted, n)
        self.confidence = one_each("confidence", confidence, n)
        self.captions = None if captions is None else [str(c) for c in captions]
        one_each("captions", self.captions, n)

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_predictions(
        cls,
        X: Any,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        n_images: int | None = 24,
        ax: "Axes | None" = None,
        n_columns: int | None = None,
        title: str | None = None,
    ) -> Self:
        """Draw some predictions, as many of each true class as there can be.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y_true : array-like of shape (n,)
            What the cells are.
        y_pred : array-like of shape (n,)
            What was predicted.
        confidence : array-like of shape (n,), optional
            Probability of the prediction.
        n_images : int or None, default=24
            How many to show, evenly spaced within each class; None shows all.
        %(ax)s
        n_columns : int, optional
            As in :meth:`plot`.
        %(title)s

        Returns
        -------
        display : CellGalleryDisplay
        """
        X = check_images(X, estimator="CellGalleryDisplay")
        y_true = np.asarray(one_each("y_true", y_true, len(X)))
        y_pred = np.asarray(one_each("y_pred", y_pred, len(X)))
        sure = one_each("confidence", confidence, len(X))
        rows = some_of_each(y_true, n_images)
        display = cls(
            X[rows],
            y_true[rows],
            predicted=y_pred[rows],
            confidence=None if sure is None else sure[rows],
        )
        return display.plot(ax, n_columns=n_columns, title=title)

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        n_images: int | None = 24,
        ax: "Axes | None" = None,
        n_columns: int | None = None,
        title: str | None = None,
    ) -> Self:
        """Predict some cells with a fitted classifier, and draw them.

        Parameters
        ----------
        estimator : fitted classifier
            Only the cells that are shown are predicted.
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,), optional
            What the cells are.
        n_images : int or None, default=24
            How many to show, evenly spaced within each class; None shows all.
        %(ax)s
        n_columns : int, optional
            As in :meth:`plot`.
        %(title)s

        Returns
        -------
        display : CellGalleryDisplay
        """
        X = check_images(X, estimator="CellGalleryDisplay")
        labels = one_each("y", y, len(X))
        rows = some_of_each(np.zeros(len(X)) if labels is None else labels, n_images)
        X = X[rows]
        predicted = estimator.predict(X)
        confidence = None
        if hasattr(estimator, "predict_proba"):
            confidence = of_predicted(estimator.predict_proba(X), predicted, estimator.classes_)
        labels = None if labels is None else labels[rows]
        display = cls(X, labels, predicted=predicted, confidence=confidence)
        return display.plot(ax, n_columns=n_columns, title=title)

    @any_script()
    def plot(
        self, ax: "Axes | None" = None, *, n_columns: int | None = None, title: str | None = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure that fits the cells.
        n_columns : int, optional
            Cells in a row; by default a shape a little wider than high.
        title : str, optional
            By default how many are right, where that is known.

        Returns
        -------
        self : CellGalleryDisplay
        """
        n = len(self.images)
        columns = n_columns or min(n, max(3, int(np.ceil(np.sqrt(1.6 * n)))))
        rows = -(-n // columns)
        captions = [self._caption(i) for i in range(n)]
        lines = max((text.count("\n") + 1 for text in captions if text), default=0)
        below = 0.15 * lines + 0.03 if lines else GAP
        own = ax is None
        if ax is None:
            inches = 1.3
            ax = new_axes(None, columns * inches * (1 + GAP), rows * inches * (1 + below) + 0.4)
        self.ax_ = ax
        self.figure_: Any = ax.figure
        ax.set_xlim(-GAP, columns * (1 + GAP))
        ax.set_ylim(rows * (1 + below), -GAP)
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(self._title() if title is None else plain_text(title), fontsize="medium")
        if own:
            # lays the figure out, so that the room for letters is known
            self.figure_.draw_without_rendering()  # type: ignore[union-attr]
        window = self.ax_.get_window_extent()
        wide = window.width * 72 / self.figure_.dpi * (1 + GAP) / (columns * (1 + GAP) + GAP)
        size = size_for(captions, wide, 8.5)
        for i, text in enumerate(captions):
            left, top = (i % columns) * (1 + GAP), (i // columns) * (1 + below)
            self._draw(i, left, top, shortened(text, wide, size), size)
        return self

    def _draw(self, i: int, left: float, top: float, text: str, size: float) -> None:
        from matplotlib.patches import Rectangle

        image = as_array(self.images[i])
        height, width = image.shape[:2]
        scale = 1 / max(height, width)
        # centered in a square tile, never stretched
        x0, y0 = left + (1 - width * scale) / 2, top + (1 - height * scale) / 2
        extent = (x0, x0 + width * scale, y0 + height * scale, y0)
        self.ax_.imshow(
            thumbnail(image, TILE), extent=extent, aspect="equal", interpolation="antialiased"
        )
        self._outline(image, x0, y0, scale)
        color, style = self._frame(i)
        self.ax_.add_patch(
            Rectangle((left, top), 1, 1, fill=False, ec=color, ls=style, lw=1.6, clip_on=False)
        )
        if text:
            ink = WRONG if color == WRONG else "#222222"
            self.ax_.text(
                left + 0.5,
                top + 1.03,
                plain_text(text),
                ha="center",
                va="top",
                fontsize=size,
                color=ink,
            )

    def _outline(self, image: NDArray[np.uint8], x0: float, y0: float, scale: float) -> None:
        labels = cell_map(image)
        if labels is None:
            return
        from skimage.measure import find_contours

        for mask in (labels > 0, cellmap.nuclei(labels)):
            for line in find_contours(np.pad(mask, 1).astype(float), 0.5):
                x, y = x0 + (line[:, 1] - 0.5) * scale, y0 + (line[:, 0] - 0.5) * scale
                self.ax_.plot(x, y, color="white", lw=1.6)
                self.ax_.plot(x, y, color="#222222", lw=0.7)

    def _frame(self, i: int) -> tuple[str, str]:
        if self.labels is None or self.predicted is None:
            return PLAIN, "solid"
        right = self.labels[i] == self.predicted[i]
        return (RIGHT, "solid") if right else (WRONG, "dashed")

    def _caption(self, i: int) -> str:
        if self.captions is not None:
            return self.captions[i]
        sure = "" if self.confidence is None else f" {self.confidence[i]:.2f}"
        if self.predicted is None:
            return "" if self.labels is None else f"{self.labels[i]}{sure}"
        if self.labels is None or self.labels[i] == self.predicted[i]:
            return f"{self.predicted[i]}{sure}"
        return f"{self.predicted[i]}{sure}\nis {self.labels[i]}"

    def _title(self) -> str:
        n = len(self.images)
        if self.labels is None or self.predicted is None:
            return f"{n} cell" + ("s" if n > 1 else "")
        right = int(np.sum(self.labels == self.predicted))
        return f"{right} of {n} right"


@fill_doc(**DISPLAY_DOCS)
class StainGridDisplay(Savable):
    """Draw images in columns, and the output of each step in rows.

    The first row holds the original images, so that a reader sees what a normalization changed:
    whether the stains agree, and whether each cell kept its structure.

    Parameters
    ----------
    rows : mapping of str to images
        Name of the row -> images; the same number in each row.
    column_names : sequence of str, optional
        Written above the columns, such as the laboratories; one name for neighboring columns is
        written once.

    Attributes
    ----------
    %(drawn)s

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> from hemaest.stain import MacenkoNormalizer, ReinhardNormalizer
    >>> cells = make_cells(6, image_size=64, n_labs=2, random_state=0)
    >>> steps = {"Reinhard": ReinhardNormalizer(), "Macenko": MacenkoNormalizer()}
    >>> fitted = {name: step.fit(cells.images[:2]) for name, step in steps.items()}
    >>> display = StainGridDisplay.from_estimators(fitted, cells.images)
    >>> list(display.rows)
    ['original', 'Reinhard', 'Macenko']
    >>> len(display.ax_.images)
    18
    """

    def __init__(self, rows: Mapping[str, Any], *, column_names: Any = None) -> None:
        self.rows: dict[str, NDArray[Any]] = {
            str(name): check_images(images, min_pixels=1, estimator="StainGridDisplay")
            for name, images in rows.items()
        }
        lengths = {name: len(images) for name, images in self.rows.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Each row needs the same number of images; got {lengths}.")
        self.column_names = None if column_names is None else [str(c) for c in column_names]
        n = next(iter(lengths.values()))
        if self.column_names is not None and len(self.column_names) != n:
            raise ValueError(
                f"column_names has {len(self.column_names)} entries for {n} columns of images."
            )

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_estimators(
        cls,
        estimators: Any,
        X: Any,
        *,
        n_images: int = 8,
        column_names: Any = None,
        ax: "Axes | None" = None,
        title: str | None = None,
    ) -> Self:
        """Run fitted steps on some images, and draw what each of them returns.

        Parameters
        ----------
        estimators : fitted transformer, or mapping of str to such
            Normalizers, ALHE, or whole pipelines of image steps.
        X : images
            As :func:`hemaest.images.check_images` takes them.
        n_images : int, default=8
            How many to show at most, evenly spaced.
        column_names : sequence of str, optional
            One for each image of X.
        %(ax)s
        %(title)s

        Returns
        -------
        display : StainGridDisplay
        """
        X = check_images(X, min_pixels=1, estimator="StainGridDisplay")
        if not isinstance(estimators, Mapping):
            estimators = {type(estimators).__name__: estimators}
        shown = np.unique(np.linspace(0, len(X) - 1, min(n_images, len(X))).astype(int))
        names = one_each("column_names", column_names, len(X))
        names = None if names is None else names[shown]
        rows = {"original": X[shown]}
        rows.update({name: step.transform(X[shown]) for name, step in estimators.items()})
        return cls(rows, column_names=names).plot(ax, title=title)

    @any_script()
    def plot(self, ax: "Axes | None" = None, *, title: str | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure that fits the images.
        title : str, optional
            By default none.

        Returns
        -------
        self : StainGridDisplay
        """
        n_columns, n_rows = len(next(iter(self.rows.values()))), len(self.rows)
        pitch = PITCH
        longest = max(len(line) for name in self.rows for line in name.split("\n"))
        margin = 0.15 + 0.075 * longest
        if ax is None:
            inches = 1.1
            ax = new_axes(None, (n_columns + margin) * inches, n_rows * inches + 0.5)
        else:
            window = ax.get_window_extent()
            inches = window.width / ax.figure.dpi / (n_columns * pitch + margin)
        self.ax_, self.figure_ = ax, ax.figure
        for i, (name, images) in enumerate(self.rows.items()):
            ax.text(
                -0.08, i * pitch + 0.5, plain_text(name), ha="right", va="center", fontsize="medium"
            )
            for j, image in enumerate(iter_arrays(images)):
                height, width = image.shape[:2]
                side = max(height, width)
                left, top = j * pitch, i * pitch
                dx, dy = (1 - width / side) / 2, (1 - height / side) / 2
                extent = (left + dx, left + 1 - dx, top + 1 - dy, top + dy)
                ax.imshow(rgb(image), extent=extent, interpolation="antialiased")
        self._write_columns(ax, pitch, 72 * 0.9 * inches)
        ax.set_xlim(-margin, n_columns * pitch)
        ax.set_ylim(n_rows * pitch, -0.05 if self.column_names is None else -0.3)
        ax.set_aspect("equal")
        ax.set_axis_off()
        if title:
            ax.set_title(plain_text(title), fontsize="medium")
        return self

    def _write_columns(self, ax: "Axes", pitch: float, points: float) -> None:
        """Write each run of equal names once, above a line over its columns."""
        runs = [(name, len(list(run))) for name, run in groupby(self.column_names or [])]
        size = min((size_for([name], points * n, 10) for name, n in runs), default=10)
        start = 0
        for name, n in runs:
            left, right = start * pitch, (start + n - 1) * pitch + 1
            ax.plot([left, right], [-0.06, -0.06], color="0.4", linewidth=1, clip_on=False)
            text = plain_text(shortened(name, points * n, size))
            ax.text((left + right) / 2, -0.1, text, ha="center", va="bottom", fontsize=size)
            start += n


def one_each(name: str, values: Any, n: int) -> Any:
    """Return the values of a parameter as an array, one for each image."""
    if values is None:
        return None
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} entries, but there are {n} images.")
    return np.asarray(values)


def of_predicted(
    proba: ArrayLike, predicted: ArrayLike, classes: ArrayLike
) -> NDArray[np.floating]:
    """Return the probability of the class that was predicted for each item.

    It need not be the most probable: where a threshold was tuned, ``predict`` decides.

    Examples
    --------
    >>> of_predicted([[0.7, 0.3]], ["blast"], ["ig", "blast"])
    array([0.3])
    """
    column = (np.asarray(predicted)[:, None] == np.asarray(classes)).argmax(axis=1)
    return np.take_along_axis(np.asarray(proba), column[:, None], axis=1)[:, 0]


def some_of_each(labels: ArrayLike, n: int | None) -> NDArray[np.intp]:
    """Return the rows of about as many items of each class, evenly spaced, class after class.

    Examples
    --------
    >>> some_of_each(["a", "b", "a", "a", "a"], 3).tolist()
    [0, 4, 1]
    """
    labels = np.asarray(labels)
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quota = np.zeros(len(names), int)
    left = len(labels) if n is None else min(n, len(labels))
    while left:
        for k in np.flatnonzero(quota < counts)[:left]:
            quota[k] += 1
            left -= 1
    parts = []
    for k, number in enumerate(quota):
        own = np.flatnonzero(codes == k)
        parts.append(own[np.linspace(0, len(own) - 1, number).round().astype(int)])
    return np.concatenate(parts)
