"""What a classifier got right and wrong, and how sure it was."""

from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from hemaest.images import as_array, check_images, rgb
from hemaest.inspection._gallery import of_named
from hemaest.inspection._letters import shortened, size_for

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

# blue and vermilion, told apart by most colour-blind readers; a sign says it again
RIGHT, WRONG = "#0072B2", "#D55E00"

Show = Literal["all", "wrong", "right"]
# inches that an image and a name beside the matrix take
TILE, NAME = 1.45, 2.6


class ErrorGalleryDisplay:
    """Draw predictions, right and wrong in colour, sorted by confidence, and the confusion matrix.

    Parameters
    ----------
    images : images
        As :func:`hemaest.images.check_images` takes them.
    y_true : array-like of shape (n,)
        The true labels.
    proba : array-like of shape (n, n_classes)
        What the classifier said.
    classes : array-like of shape (n_classes,)
        The labels of its columns.
    predicted : array-like of shape (n,), optional
        What it called the images; by default the likeliest class.

    Attributes
    ----------
    figure_ : matplotlib Figure
        After :meth:`plot`.

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.inspection import ErrorGalleryDisplay
    >>> cells = np.full((3, 16, 16, 3), 200, np.uint8)
    >>> display = ErrorGalleryDisplay(
    ...     cells, ["a", "b", "b"], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], ["a", "b"]
    ... )
    >>> display.order().tolist(), display.right.tolist()
    ([0, 1, 2], [True, False, True])
    """

    def __init__(
        self,
        images: Any,
        y_true: ArrayLike,
        proba: ArrayLike,
        classes: ArrayLike,
        *,
        predicted: ArrayLike | None = None,
    ) -> None:
        self.images = check_images(images, estimator="ErrorGalleryDisplay")
        self.y_true = np.asarray(y_true)
        self.classes = np.asarray(classes)
        self.proba = np.asarray(proba, dtype=float)
        if self.proba.shape != (len(self.images), len(self.classes)):
            raise ValueError(
                f"proba has shape {self.proba.shape}; with {len(self.images)} images and "
                f"{len(self.classes)} classes it must be {len(self.images), len(self.classes)}."
            )
        if self.y_true.shape != (len(self.images),):
            raise ValueError(f"there are {len(self.images)} images but {self.y_true.size} labels.")
        likeliest = self.classes[self.proba.argmax(axis=1)]
        self.predicted = likeliest if predicted is None else np.asarray(predicted)
        if self.predicted.shape != self.y_true.shape:
            raise ValueError(
                f"there are {len(self.images)} images but {self.predicted.size} predicted labels."
            )
        self.confidence = of_named(self.proba, self.predicted, self.classes)
        self.right = self.predicted == self.y_true

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: ArrayLike) -> Self:
        """Predict images whose labels are known.

        Parameters
        ----------
        estimator : fitted classifier or Pipeline
            With ``predict_proba``.
        X : images
            Images that it was not trained on.
        y : array-like of shape (n,)
            Their labels.

        Returns
        -------
        display : ErrorGalleryDisplay
        """
        X = check_images(X, estimator="ErrorGalleryDisplay")
        proba, predicted = estimator.predict_proba(X), estimator.predict(X)
        return cls(X, y, proba, estimator.classes_, predicted=predicted)

    def order(self, n: int = 24, show: Show = "all") -> NDArray[np.intp]:
        """Return the rows to draw, most confident first.

        Parameters
        ----------
        n : int, default=24
            How many at most.
        show : {"all", "wrong", "right"}, default="all"
            Which. With ``"all"`` up to half are the most confident errors, the rest the least
            confident of those that are right.

        Returns
        -------
        rows : int array
        """
        if show not in get_args(Show):
            raise ValueError(f"show={show!r}; it must be one of {', '.join(get_args(Show))}.")
        by_confidence = np.argsort(-self.confidence, kind="stable")
        wrong = by_confidence[~self.right[by_confidence]]
        right = by_confidence[self.right[by_confidence]]
        if show != "all":
            return (wrong if show == "wrong" else right)[:n]
        errors = wrong[: max(n // 2, n - len(right))]
        chosen = np.concatenate([errors, right[len(right) - min(len(right), n - len(errors)) :]])
        return chosen[np.argsort(-self.confidence[chosen], kind="stable")]

    def plot(self, n: int = 24, *, show: Show = "all", columns: int = 6) -> Self:
        """Draw.

        Parameters
        ----------
        n : int, default=24
            How many images at most.
        show : {"all", "wrong", "right"}, default="all"
            See :meth:`order`.
        columns : int, default=6
            Images in a row.

        Returns
        -------
        self : ErrorGalleryDisplay
        """
        from matplotlib.figure import Figure

        rows = self.order(n, show)
        lines = max(1, -(-len(rows) // columns))
        labels = np.unique(np.concatenate([self.classes, self.y_true]))
        names = [shortened(str(label), 72 * NAME, 10) for label in labels]
        # the matrix needs room for one number and one name a class
        margin = max(1.8, 0.08 * max(map(len, names)) + 0.6)
        side = max(3.6, 0.55 * len(labels) + margin)
        self.figure_ = Figure(
            figsize=(TILE * columns + side, max(1.85 * lines + 0.4, side)), layout="constrained"
        )
        parts: Any = self.figure_.subfigures(1, 2, width_ratios=[TILE * columns, side])
        self._draw_gallery(parts[0], rows, lines, columns)
        self._draw_matrix(parts[1], labels, names)
        return self

    def _draw_gallery(
        self, figure: "SubFigure", rows: NDArray[np.intp], lines: int, columns: int
    ) -> None:
        axes = figure.subplots(lines, columns, squeeze=False)
        for ax in axes.flat[len(rows) :]:
            ax.set_axis_off()
        titles = [self._caption(i) for i in rows]
        wide = 0.92 * 72 * TILE
        size = size_for(titles, wide, 7)
        for ax, i, title in zip(axes.flat, rows, titles, strict=False):
            ax.imshow(rgb(as_array(self.images[i])))
            ax.set(xticks=[], yticks=[])
            colour = RIGHT if self.right[i] else WRONG
            for spine in ax.spines.values():
                spine.set(color=colour, linewidth=2.5)
            ax.set_title(shortened(title, wide, size), fontsize=size, color=colour)
        figure.suptitle(
            f"{self.right.sum()} of {len(self.right)} right ({self.right.mean():.1%})",
            fontsize="medium",
        )

    def _caption(self, i: int) -> str:
        sure = f"{self.predicted[i]} {self.confidence[i]:.2f}"
        return f"✓ {sure}" if self.right[i] else f"✗ {sure}\nis {self.y_true[i]}"

    def _draw_matrix(self, figure: "SubFigure", labels: NDArray[Any], names: list[str]) -> None:
        ax = figure.subplots()
        counts = confusion_matrix(self.y_true, self.predicted, labels=labels)
        ConfusionMatrixDisplay(counts, display_labels=names).plot(
            ax=ax, cmap="Blues", colorbar=False, xticks_rotation="vertical"
        )
        ax.set(xlabel="predicted", ylabel="true")
