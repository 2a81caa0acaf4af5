"""Many cells side by side, with what they are called."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemaest import cellmap
from hemaest.images import as_array, cell_map, check_images, rgb
from hemaest.inspection._letters import shortened, size_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CellGalleryDisplay"]

# blue and vermilion are told apart by colour-blind readers too; wrong ones are dashed besides
RIGHT, WRONG, PLAIN = "#0072B2", "#D55E00", "#999999"
TILE = 160
GAP = 0.06


class CellGalleryDisplay:
    """Draw cells in a grid, each with its name, framed by whether it was named rightly.

    Right ones have a blue frame, wrong ones a dashed vermilion one and both names, so that the
    picture reads without colour as well. Cells with a cell map are outlined.

    Parameters
    ----------
    images : images
        As :func:`hemaest.images.check_images` takes them.
    labels : array-like of shape (n,), optional
        What the cells are.
    predicted : array-like of shape (n,), optional
        What they were called.
    confidence : array-like of shape (n,), optional
        How sure that was, 0 to 1.
    captions : sequence of str, optional
        Written below the cells instead of their names.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.

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
    def from_predictions(
        cls,
        X: Any,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        confidence: ArrayLike | None = None,
        n_cells: int | None = 24,
    ) -> Self:
        """Return the undrawn display of some cells, as many of each true class as there can be.

        Parameters
        ----------
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y_true : array-like of shape (n,)
            What the cells are.
        y_pred : array-like of shape (n,)
            What they were called.
        confidence : array-like of shape (n,), optional
            How sure that was.
        n_cells : int or None, default=24
            How many to show, evenly spaced within each class; None shows all.

        Returns
        -------
        display : CellGalleryDisplay
        """
        X = check_images(X, estimator="CellGalleryDisplay")
        y_true = np.asarray(one_each("y_true", y_true, len(X)))
        y_pred = np.asarray(one_each("y_pred", y_pred, len(X)))
        sure = one_each("confidence", confidence, len(X))
        rows = some_of_each(y_true, n_cells)
        return cls(
            X[rows],
            y_true[rows],
            predicted=y_pred[rows],
            confidence=None if sure is None else sure[rows],
        )

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike | None = None, *, n_cells: int | None = 24
    ) -> Self:
        """Name the cells with a fitted classifier, and return the undrawn display.

        Parameters
        ----------
        estimator : fitted classifier
            Only the cells that are shown are named.
        X : images
            As :func:`hemaest.images.check_images` takes them.
        y : array-like of shape (n,), optional
            What the cells are.
        n_cells : int or None, default=24
            How many to show, evenly spaced within each class; None shows all.

        Returns
        -------
        display : CellGalleryDisplay
        """
        X = check_images(X, estimator="CellGalleryDisplay")
        labels = one_each("y", y, len(X))
        rows = some_of_each(np.zeros(len(X)) if labels is None else labels, n_cells)
        X = X[rows]
        predicted = estimator.predict(X)
        confidence = None
        if hasattr(estimator, "predict_proba"):
            confidence = of_named(estimator.predict_proba(X), predicted, estimator.classes_)
        labels = None if labels is None else labels[rows]
        return cls(X, labels, predicted=predicted, confidence=confidence)

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
        from matplotlib.figure import Figure

        n = len(self.images)
        columns = n_columns or min(n, max(3, int(np.ceil(np.sqrt(1.6 * n)))))
        rows = -(-n // columns)
        captions = [self._caption(i) for i in range(n)]
        lines = max((text.count("\n") + 1 for text in captions if text), default=0)
        below = 0.15 * lines + 0.03 if lines else GAP
        own = ax is None
        if ax is None:
            inches = 1.3
            figure = Figure(
                figsize=(columns * inches * (1 + GAP), rows * inches * (1 + below) + 0.4),
                layout="constrained",
            )
            ax = figure.subplots()
        self.ax_, self.figure_ = ax, ax.figure
        ax.set_xlim(-GAP, columns * (1 + GAP))
        ax.set_ylim(rows * (1 + below), -GAP)
        ax.set_aspect("equal")
        ax.set_axis_off()
        ax.set_title(self._title() if title is None else title, fontsize="medium")
        if own:
            # lays the figure out, so that the room for letters is known
            figure.draw_without_rendering()
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
        # centred in a square tile, never stretched
        x0, y0 = left + (1 - width * scale) / 2, top + (1 - height * scale) / 2
        extent = (x0, x0 + width * scale, y0 + height * scale, y0)
        self.ax_.imshow(
            small(rgb(image)), extent=extent, aspect="equal", interpolation="antialiased"
        )
        self._outline(image, x0, y0, scale)
        color, style = self._frame(i)
        self.ax_.add_patch(
            Rectangle((left, top), 1, 1, fill=False, ec=color, ls=style, lw=1.6, clip_on=False)
        )
        if text:
            ink = WRONG if color == WRONG else "#222222"
            self.ax_.text(
                left + 0.5, top + 1.03, text, ha="center", va="top", fontsize=size, color=ink
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
        return f"{right} of {n} named rightly"


def one_each(name: str, values: Any, n: int) -> Any:
    """Return the values of a parameter as an array, one for each image."""
    if values is None:
        return None
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} entries, but there are {n} images.")
    return np.asarray(values)


def of_named(proba: ArrayLike, predicted: ArrayLike, classes: ArrayLike) -> NDArray[np.floating]:
    """Return the probability of the class that each item was called.

    It need not be the likeliest: where a threshold was tuned, the names are those of ``predict``.

    Examples
    --------
    >>> of_named([[0.7, 0.3]], ["blast"], ["ig", "blast"])
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


def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image no larger than a tile is drawn, so that files stay small."""
    from hemaest._geometry import scale_to

    height, width = image.shape[:2]
    share = TILE / max(height, width)
    if share >= 1:
        return image
    return scale_to(image, max(1, round(height * share)), max(1, round(width * share)))
