"""A smear field with the cells that were found in it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._docs import fill_doc
from hemaest.images import as_array, check_images, rgb
from hemaest.inspection.drawing import (
    DISPLAY_DOCS,
    Savable,
    any_script,
    class_color,
    ink_on,
    new_axes,
    plain_text,
    thumbnail,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SmearDisplay"]

UNNAMED = "#0072B2"
# inches: the longer side of the field, and what the shorter one has at least
LONG, SHORT = 8.0, 1.5
# the field is drawn pixel for pixel up to this many dots an inch, 2,400 pixels
MOST_DOTS = 300
# fields larger than this are reduced before they are drawn: a drawing has fewer pixels
LARGEST = 4800


@fill_doc(**DISPLAY_DOCS)
class SmearDisplay(Savable):
    """Draw a field with boxes, outlines, labels and scores.

    A cell type has the same color in every field (:func:`class_color`). Lines and letters follow
    the size at which the field is drawn, so a small field in a corner of a page and a large one on
    a screen are both legible. A new figure has the field's own resolution, up to 2,400 pixels.
    Where labels would cover each other, a label is moved or left out; its box stays.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        The field.
    boxes : array of shape (k, 4) or (k, 5)
        x0, y0, x1, y1 (half-open pixels) and score.
    cell_map : uint8 array (H, W), optional
        Outlines to draw: cells solid, nuclei thin.
    names : sequence of str, optional
        The class of each box.

    Attributes
    ----------
    %(drawn)s

    Examples
    --------
    >>> import numpy as np
    >>> field = np.full((120, 160, 3), 235, np.uint8)
    >>> display = SmearDisplay(field, [[20, 30, 60, 70, 0.97]], names=["lymphocyte"])
    >>> display.plot().ax_.get_title()
    '1 leukocyte: 1 lymphocyte'
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        boxes: Any,
        *,
        cell_map: NDArray[np.uint8] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.image = rgb(as_array(check_images([image], estimator="SmearDisplay")[0]))
        table = np.asarray(boxes, dtype=float)
        self.boxes = table.reshape(-1, table.shape[-1] if table.size else 5)
        if self.boxes.shape[1] not in {4, 5}:
            raise ValueError(f"boxes has shape {table.shape}; it must be (k, 4) or (k, 5).")
        if names is not None and len(names) != len(self.boxes):
            raise ValueError(f"names has {len(names)} items, boxes has {len(self.boxes)}.")
        if cell_map is not None and cell_map.shape != self.image.shape[:2]:
            raise ValueError(
                f"cell_map has shape {cell_map.shape}, the image {self.image.shape[:2]}."
            )
        self.cell_map = cell_map
        self.names = None if names is None else [str(name) for name in names]

    @classmethod
    @fill_doc(**DISPLAY_DOCS)
    def from_detector(
        cls,
        detector: Any,
        image: Any,
        *,
        classifier: Any = None,
        segmenter: Any = None,
        ax: "Axes | None" = None,
        scores: bool = True,
        title: str | None = None,
    ) -> Self:
        """Find and classify the leukocytes of a field, and draw them.

        Parameters
        ----------
        detector : fitted SmearDetector
            Finds the boxes.
        image : uint8 array (H, W, 3), ImageRef or path
            The field.
        classifier : fitted classifier, optional
            Classifies each crop.
        segmenter : fitted CellSegmenter(cells="all"), optional
            Draws the outlines.
        %(ax)s
        scores : bool, default=True
            As in :meth:`plot`.
        %(title)s

        Returns
        -------
        display : SmearDisplay
        """
        field = as_array(check_images([image], estimator="SmearDisplay")[0])
        cells = detector.detect_cells([field])
        boxes = cells.table[["x0", "y0", "x1", "y1", "score"]].to_numpy(dtype=float)
        names = None
        if classifier is not None and len(boxes):
            names = [str(name) for name in classifier.predict(cells.images)]
        cell_map = None if segmenter is None else segmenter.predict([field])[0]
        display = cls(field, boxes, cell_map=cell_map, names=names)
        return display.plot(ax, scores=scores, title=title)

    @any_script()
    def plot(
        self, ax: "Axes | None" = None, *, scores: bool = True, title: str | None = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; by default a new figure of the field's shape.
        scores : bool, default=True
            Whether to write the scores.
        title : str, optional
            By default how many cells there are of each class.

        Returns
        -------
        self : SmearDisplay
        """
        from matplotlib.patches import Rectangle

        height, width = self.image.shape[:2]
        if ax is None:
            longer = max(height, width)
            dots = float(np.clip(longer / LONG, 100, MOST_DOTS))
            size = [max(SHORT, LONG * n / longer) for n in (width, height)]
            ax = new_axes(None, size[0], size[1] + 0.4, dpi=dots)
        self.ax_, self.figure_ = ax, ax.figure
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        ax.imshow(thumbnail(self.image, LARGEST), extent=extent)
        ax.set_axis_off()
        points = self._points_per_pixel()
        line = float(np.clip(1.6 * np.sqrt(points * min(height, width) / 300), 0.6, 2.5))
        colors = self._colors()
        self._draw_outlines(line)
        for box, color in zip(self.boxes, colors, strict=True):
            x0, y0, x1, y1 = box[:4]
            ax.add_patch(
                Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=color, lw=line)
            )
        self._write_labels(colors, scores, points)
        room = max(points * width, 72 * SHORT)
        words = self._title() if title is None else title
        ax.set_title(plain_text(wrapped(words, room, 10)), fontsize=10)
        return self

    def _points_per_pixel(self) -> float:
        """Return how many typographic points one pixel of the field takes."""
        window = self.ax_.get_window_extent()
        height, width = self.image.shape[:2]
        return min(window.width / width, window.height / height) * 72 / self.figure_.dpi

    def _classes(self) -> list[str]:
        return sorted(set(self.names or []))

    def _colors(self) -> list[str]:
        if self.names is None:
            return [UNNAMED] * len(self.boxes)
        return [class_color(name) for name in self.names]

    def _title(self) -> str:
        n = len(self.boxes)
        title = "no leukocyte" if n == 0 else f"{n} leukocyte" + ("s" if n > 1 else "")
        counts = [f"{self.names.count(c)} {c}" for c in self._classes()] if self.names else []
        return title + (": " + ", ".join(counts) if counts else "")

    def _draw_outlines(self, line: float) -> None:
        if self.cell_map is None:
            return
        from skimage.measure import find_contours

        cells, nuclei = cellmap.cells(self.cell_map), cellmap.nuclei(self.cell_map)
        masks = [(cells == k, 0.8) for k in range(1, int(cells.max()) + 1)] + [(nuclei, 0.5)]
        for mask, share in masks:
            for outline in find_contours(np.pad(mask, 1).astype(float), 0.5):
                self.ax_.plot(
                    outline[:, 1] - 1, outline[:, 0] - 1, color="white", lw=1.8 * share * line
                )
                self.ax_.plot(
                    outline[:, 1] - 1, outline[:, 0] - 1, color="#222222", lw=share * line
                )
        self.ax_.set_xlim(-0.5, self.image.shape[1] - 0.5)
        self.ax_.set_ylim(self.image.shape[0] - 0.5, -0.5)

    def _write_labels(self, colors: list[str], scores: bool, points: float) -> None:
        """Write what fits: each label above its box, else below, else not at all."""
        if not len(self.boxes):
            return
        side = float(np.median(self.boxes[:, 2:4] - self.boxes[:, :2])) * points
        size = float(np.clip(0.16 * side, 4.5, 10))
        high = 1.6 * size / points
        height, width = self.image.shape[:2]
        taken: list[tuple[float, float, float, float]] = []
        for i, color in enumerate(colors):
            text = self._label(i, scores)
            x0, y0, x1, y1 = self.boxes[i, :4]
            wide = 0.62 * size * (len(text) + 1) / points
            left = float(np.clip(x0, 0, max(0, width - wide)))
            for top in (y0 - high, y1, y0):
                place = (left, top, left + wide, top + high)
                free = top >= 0 and top + high <= height
                if text and free and not any(_overlap(place, other) for other in taken):
                    taken.append(place)
                    self.ax_.text(
                        left, top + high / 2, plain_text(text), fontsize=size, color=ink_on(color),
                        va="center",
                        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.15 * size},
                    )  # fmt: skip
                    break

    def _label(self, i: int, scores: bool) -> str:
        parts = [self.names[i]] if self.names else []
        if scores and self.boxes.shape[1] == 5:
            parts.append(f"{self.boxes[i, 4]:.2f}")
        return " ".join(parts)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
