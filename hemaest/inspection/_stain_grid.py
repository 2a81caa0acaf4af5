"""Images as they came beside images as they are after each of some steps."""

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from hemaest.images import check_images, iter_arrays, rgb
from hemaest.inspection._gallery import one_each
from hemaest.inspection._letters import shortened, size_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["StainGridDisplay"]

GAP = 0.05


class StainGridDisplay:
    """Draw images in columns and what each step made of them in rows.

    The first row is the images as they came, so that a reader sees what a normalization changed:
    that the stains came together, and that no cell lost its structure.

    Parameters
    ----------
    rows : mapping of str to images
        Name of the row -> images; the same number in each row.
    column_names : sequence of str, optional
        Written above the columns, such as the laboratories; one name for neighbouring columns is
        written once.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        The figure of ``ax_``.

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
    >>> len(display.plot().ax_.images)
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
    def from_estimators(
        cls, estimators: Any, X: Any, *, n_images: int = 8, column_names: Any = None
    ) -> Self:
        """Run fitted steps on some images and return the undrawn display.

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
        return cls(rows, column_names=names)

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
        from matplotlib.figure import Figure

        n_columns, n_rows = len(next(iter(self.rows.values()))), len(self.rows)
        pitch = 1 + GAP
        longest = max(len(line) for name in self.rows for line in name.split("\n"))
        margin = 0.15 + 0.075 * longest
        if ax is None:
            inches = 1.1
            figure = Figure(
                figsize=((n_columns + margin) * inches, n_rows * inches + 0.5), layout="constrained"
            )
            ax = figure.subplots()
        else:
            window = ax.get_window_extent()
            inches = window.width / ax.figure.dpi / (n_columns * pitch + margin)
        self.ax_, self.figure_ = ax, ax.figure
        for i, (name, images) in enumerate(self.rows.items()):
            ax.text(-0.08, i * pitch + 0.5, name, ha="right", va="center", fontsize="medium")
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
            ax.set_title(title, fontsize="medium")
        return self

    def _write_columns(self, ax: "Axes", pitch: float, points: float) -> None:
        """Write each run of equal names once, above a line over its columns."""
        runs = [(name, len(list(run))) for name, run in groupby(self.column_names or [])]
        size = min((size_for([name], points * n, 10) for name, n in runs), default=10)
        start = 0
        for name, n in runs:
            left, right = start * pitch, (start + n - 1) * pitch + 1
            ax.plot([left, right], [-0.06, -0.06], color="0.4", linewidth=1, clip_on=False)
            text = shortened(name, points * n, size)
            ax.text((left + right) / 2, -0.1, text, ha="center", va="bottom", fontsize=size)
            start += n
