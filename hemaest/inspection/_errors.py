"""Right and wrong predictions of a classifier, by confidence, beside its confusion matrix."""

from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import ConfusionMatrixDisplay

from hemaest._docs import fill_doc
from hemaest.images import check_images
from hemaest.inspection._gallery import CellGalleryDisplay, of_predicted
from hemaest.inspection.drawing import (
    DISPLAY_DOCS,
    Savable,
    any_script,
    new_axes,
    plain_text,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Show = Literal["all", "wrong", "right"]
# inches that an image and a name beside the matrix take
TILE, NAME = 1.45, 2.6


@fill_doc(**DISPLAY_DOCS)
class ErrorGalleryDisplay(Savable):
    """Draw right and wrong predictions, sorted by confidence, and the confusion matrix.

    Parameters
    ----------
    images : images
        As :func:`hemaest.images.check_images` takes them.
    y_true : array-like of shape (n,)
        The true labels.
    proba : array-like of shape (n, n_classes)
        Predicted probabilities.
    classes : array-like of shape (n_classes,)
        The labels of its columns.
    predicted : array-like of shape (n,), optional
        The predictions; by default the most probable class.

    Attributes
    ----------
    %(drawn)s

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
        most_probable = self.classes[self.proba.argmax(axis=1)]
        self.predicted = most_probable if predicted is None else np.asarray(predicted)
        if self.predicted.shape != self.y_true.shape:
            raise ValueError(
                f"there are {len(self.images)} images but {self.predicted.size} predicted labels."
            )
        self.confidence = of_predicted(self.proba, self.predicted, self.classes)
        self.right = self.predicted == self.y_true

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        n_images: int = 24,
        show: Show = "all",
        ax: "Axes | None" = None,
        n_columns: int = 6,
        title: str | None = None,
    ) -> Self:
        """Predict images whose labels are known, and draw the errors.

        Parameters
        ----------
        estimator : fitted classifier or Pipeline
            With ``predict_proba``.
        X : images
            Images that it was not trained on.
        y : array-like of shape (n,)
            Their labels.
        n_images : int, default=24
            As in :meth:`plot`.
        show : {"all", "wrong", "right"}, default="all"
            See :meth:`order`.
        %(ax)s
        n_columns : int, default=6
            As in :meth:`plot`.
        %(title)s

        Returns
        -------
        display : ErrorGalleryDisplay
        """
        X = check_images(X, estimator="ErrorGalleryDisplay")
        proba, predicted = estimator.predict_proba(X), estimator.predict(X)
        display = cls(X, y, proba, estimator.classes_, predicted=predicted)
        return display.plot(ax, n_images=n_images, show=show, n_columns=n_columns, title=title)

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

    @any_script()
    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        n_images: int = 24,
        show: Show = "all",
        n_columns: int = 6,
        title: str | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure that fits.
        n_images : int, default=24
            How many images at most.
        show : {"all", "wrong", "right"}, default="all"
            See :meth:`order`.
        n_columns : int, default=6
            Images in a row.
        title : str, optional
            By default how many are right.

        Returns
        -------
        self : ErrorGalleryDisplay
        """
        rows = self.order(n_images, show)
        n_columns = max(1, min(n_columns, len(rows)))
        lines = max(1, -(-len(rows) // n_columns))
        labels = np.unique(np.concatenate([self.classes, self.y_true, self.predicted]))
        names = [plain_text(shortened(str(label), 72 * NAME, 10)) for label in labels]
        # the matrix needs room for one number and one name a class
        margin = max(1.8, 0.08 * max(map(len, names)) + 0.6)
        side = max(3.6, 0.6 * len(labels) + margin + 0.4)
        width = max(TILE * n_columns, 3.0)
        height = max(1.85 * lines + 0.4, side)
        self.ax_ = new_axes(ax, width + side, height)
        self.figure_: Any = self.ax_.figure
        self.ax_.set_axis_off()
        share = width / (width + side)
        if ax is None:
            # laid out by matplotlib: names of any length get their room
            place: Any = self.ax_.get_subplotspec()
            grid = place.subgridspec(1, 2, width_ratios=[width, side])
            gallery, matrix = (self.figure_.add_subplot(grid[k]) for k in (0, 1))
        else:
            gallery = self.ax_.inset_axes((0, 0, 0.96 * share, 1))
            matrix = self.ax_.inset_axes((share + 0.12, 0.12, 0.86 - share, 0.82))
        gallery.set_axis_off()
        self._draw_matrix(matrix, labels, names)
        if ax is None:
            # lays the figure out, so that the room for letters is known
            self.figure_.draw_without_rendering()  # type: ignore[union-attr]
        if title is None:
            title = f"{self.right.sum()} of {len(self.right)} right ({self.right.mean():.1%})"
        self._draw_gallery(gallery, rows, n_columns, title)
        return self

    def _draw_gallery(self, ax: "Axes", rows: NDArray[np.intp], n_columns: int, title: str) -> None:
        if not len(rows):
            ax.set_axis_off()
            ax.set_title(plain_text(title), fontsize="medium")
            return
        CellGalleryDisplay(
            self.images[rows],
            self.y_true[rows],
            predicted=self.predicted[rows],
            confidence=self.confidence[rows],
            captions=[self._caption(i) for i in rows],
        ).plot(ax, n_columns=n_columns, title=title)

    def _caption(self, i: int) -> str:
        text = f"{self.predicted[i]} {self.confidence[i]:.2f}"
        return f"✓ {text}" if self.right[i] else f"✗ {text}\nis {self.y_true[i]}"

    def _draw_matrix(self, ax: "Axes", labels: NDArray[Any], names: list[str]) -> None:
        counts = np.zeros((len(labels), len(labels)), dtype=int)
        places = (np.searchsorted(labels, y) for y in (self.y_true, self.predicted))
        np.add.at(counts, tuple(places), 1)
        ConfusionMatrixDisplay(counts, display_labels=names).plot(
            ax=ax,
            cmap="Blues",
            colorbar=False,
            xticks_rotation="vertical",
            im_kw={"aspect": "equal"},
        )
        ax.set(xlabel="predicted", ylabel="true")
