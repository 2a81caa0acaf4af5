"""Find the leukocytes of smear fields: boxes, crops, counts, and how far to trust them."""

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from hemaest import cellmap
from hemaest._frame import paint_frame
from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, Interval, checked_fit
from hemaest.images import pack, rgb, to_object_array

if TYPE_CHECKING:
    from hemaest.segmentation._field import FieldResult
    from hemaest.segmentation._fields import Scale

__all__ = ["SmearDetector"]


class SmearDetector(ImageTransformer):
    """Find every leukocyte of a smear field.

    A small network, trained on rendered fields of every possible laboratory and on no real image,
    tells background, red cells, platelets, cytoplasm and nuclei apart, and how deep each pixel lies
    in its cell, so that touching cells come apart. The red cells of a field are its measure, and
    where there are too few of them the network reads the scale from all that it sees, so that no
    magnification has to be given. Fields may have any size; one that is
    too large to be seen at once is seen in overlapping tiles.

    Parameters
    ----------
    um_per_pixel : float, optional
        The scale of all fields in micrometers a pixel, where it is known: it is obeyed.
    red_cell_radius : float, optional
        The radius of a typical red cell in pixels, another way to give the scale.
    min_score : float, default=0.5
        Cells with a lower score are left out. A score is the mean probability that a pixel of
        the cell is a leukocyte's, less where cell or nucleus are too small for one.
    margin : float, default=0.15
        How much wider than its box a crop is, on each side, as a share of the box.
    n_jobs : int, optional
        Threads over fields; None means all that are available.

    Attributes
    ----------
    min_score_ : float
        The score in use: ``min_score``, or where boxes were given the one that found them best.
    offset_ : float array of shape (4,)
        What is added to x0, y0, x1, y1 as a share of the box: 0, or learned from the boxes.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:200, :240]
    >>> field = np.full((200, 240, 3), (245, 228, 208), np.uint8)
    >>> for cy, cx in [(40, 40), (150, 60), (60, 190), (160, 190)]:
    ...     field[np.hypot(y - cy, x - cx) < 18] = (225, 165, 160)
    >>> field[np.hypot(y - 100, x - 120) < 30] = (190, 188, 216)
    >>> field[np.hypot(y - 100, x - 120) < 20] = (95, 55, 140)
    >>> detector = SmearDetector().fit([field])
    >>> (x0, y0, x1, y1, score), = detector.predict([field])[0]
    >>> bool(abs(x0 - 90) < 6 and abs(y1 - 131) < 6 and score > 0.5)
    True
    >>> detector.count([field])[["leukocytes", "red_cells"]].to_numpy().tolist()
    [[1, 4]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "um_per_pixel": [None, Interval(Real, 0, None, closed="neither")],
        "red_cell_radius": [None, Interval(Real, 0, None, closed="neither")],
        "min_score": [Interval(Real, 0, 1, closed="both")],
        "margin": [Interval(Real, 0, 2, closed="both")],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        *,
        um_per_pixel: float | None = None,
        red_cell_radius: float | None = None,
        min_score: float = 0.5,
        margin: float = 0.15,
        n_jobs: int | None = None,
    ) -> None:
        self.um_per_pixel = um_per_pixel
        self.red_cell_radius = red_cell_radius
        self.min_score = min_score
        self.margin = margin
        self.n_jobs = n_jobs

    @checked_fit
    def fit(self, X: Any, y: Any = None, boxes: Any = None) -> Self:
        """Take the method as it is, or adjust score and box edges to given boxes.

        Parameters
        ----------
        X : images
            Fields, as :func:`hemaest.images.check_images` takes them.
        y : ignored
            For pipelines.
        boxes : sequence of arrays of shape (k, 4), optional
            The leukocytes of each field: x0, y0, x1, y1, half-open pixels.

        Returns
        -------
        self : object
        """
        X = self._check_images(X)
        min_score, offset = float(self.min_score), np.zeros(4)
        if boxes is not None:
            truth = _check_boxes(boxes, len(X))
            found = [field.boxes for field in self._find(X)]
            min_score, offset = _adjust(found, truth, min_score)
        self.min_score_, self.offset_ = min_score, offset
        return self

    def _find(self, X: NDArray[Any], *, others: bool = False) -> list["FieldResult"]:
        return self._map(lambda image: self._field(image, others=others)[0], X)

    def _map(self, function: Any, X: NDArray[Any]) -> list[Any]:
        # the pool limits the threads of what is loaded when it starts
        import hemaest.segmentation._fields  # noqa: F401

        return map_images(function, X, n_jobs=self.n_jobs)

    def _field(
        self, image: NDArray[np.uint8], *, others: bool = False
    ) -> tuple["FieldResult", "Scale"]:
        from hemaest.segmentation._fields import Scale, find_field

        known = Scale.given(self.um_per_pixel, self.red_cell_radius)
        return find_field(paint_frame(rgb(image)), known, others=others)

    def _boxes(self, field: "FieldResult") -> NDArray[np.float64]:
        kept = field.boxes[field.boxes[:, 4] >= self.min_score_]  # the best come first
        return _shifted(kept, self.offset_, field.segmentation.labels.shape)

    def predict(self, X: Any) -> list[NDArray[np.float64]]:
        """Return the leukocytes of each field.

        Parameters
        ----------
        X : images
            Fields, as :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        boxes : list of float arrays of shape (k, 5)
            x0, y0, x1, y1 (half-open pixels) and score, best first; (0, 5) where none is found.
        """
        check_is_fitted(self)
        return [self._boxes(field) for field in self._find(self._check_images(X))]

    def count(self, X: Any) -> pd.DataFrame:
        """Count leukocytes, red cells and platelets of each field.

        Parameters
        ----------
        X : images
            Fields, as :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        table : DataFrame
            ``leukocytes``, ``red_cells``, ``platelets`` and ``red_cell_radius`` in pixels (NaN
            where no red cell was seen). Red cells and platelets are counted by their middles,
            which the network predicts: both are estimates.
        """
        check_is_fitted(self)
        rows = [
            {
                "leukocytes": len(self._boxes(field)),
                "red_cells": len(field.red_cell_places),
                "platelets": len(field.platelet_places),
                "red_cell_radius": field.red_cell_radius,
            }
            for field in self._find(self._check_images(X), others=True)
        ]
        return pd.DataFrame(rows)

    def quality(self, X: Any) -> pd.DataFrame:
        """Say of each field how far its cells can be trusted, and what speaks against it.

        Parameters
        ----------
        X : images
            Fields, as :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        table : DataFrame
            One row a field: ``n_leukocytes``; ``um_per_pixel`` and ``scale_source`` ("given"; "red
            cells"; "network", where there are too few red cells; "none"); ``familiarity`` from 0
            to 1, the probability that this is a film that can be read, and no other picture;
            ``warning`` in words, empty where nothing speaks against the field.
        """
        check_is_fitted(self)

        def row(image: NDArray[np.uint8]) -> dict[str, Any]:
            return self._quality_of(image, *self._field(image))

        return pd.DataFrame(self._map(row, self._check_images(X)))

    def _quality_of(
        self, image: NDArray[np.uint8], field: "FieldResult", scale: "Scale"
    ) -> dict[str, Any]:
        from hemaest.segmentation._trust import quality_of_field

        return quality_of_field(rgb(image), field, scale, len(self._boxes(field)))

    def detect_cells(self, X: Any, *, quality: bool = False) -> Bunch:
        """Cut every leukocyte out of its field.

        Parameters
        ----------
        X : images
            Fields, as :func:`hemaest.images.check_images` takes them.
        quality : bool, default=False
            Whether to return the table of :meth:`quality` too, which is much faster than to
            ask for both.

        Returns
        -------
        cells : Bunch
            ``images``: object array of RGB crops with ``margin`` around each box; ``maps``: their
            cell maps, the cell in question being cell 1 and the only one; ``table``: DataFrame
            with field, cell (its number in the field), x0, y0, x1, y1, score, and the crop's
            crop_x0, crop_y0, crop_x1, crop_y1; ``groups``: the field of each crop; ``quality``:
            one row a field, where it was asked for.
        """
        check_is_fitted(self)
        X = self._check_images(X)

        def work(image: NDArray[np.uint8]) -> tuple[tuple[list, list, list], dict[str, Any]]:
            field, scale = self._field(image)
            about = self._quality_of(image, field, scale) if quality else {}
            return self._cells_of(image, field), about

        done = self._map(work, X)
        parts = [part for part, _ in done]
        images = [crop for crops, _, _ in parts for crop in crops]
        maps = [labels for _, these, _ in parts for labels in these]
        rows = [{"field": i, **row} for i, (_, _, these) in enumerate(parts) for row in these]
        table = pd.DataFrame(rows, columns=["field", *_COLUMNS])
        cells = Bunch(
            images=to_object_array(images),
            maps=to_object_array(maps),
            table=table,
            groups=table["field"].to_numpy(),
        )
        if quality:
            cells.quality = pd.DataFrame([about for _, about in done])
        return cells

    def _cells_of(self, image: NDArray[np.uint8], field: "FieldResult") -> tuple[list, list, list]:
        crops, maps, rows = [], [], []
        for number, box in enumerate(self._boxes(field)):
            around = _with_margin(box, self.margin, image.shape[:2])
            x0, y0, x1, y1 = around
            labels = field.segmentation.labels[y0:y1, x0:x1]
            crops.append(rgb(image)[y0:y1, x0:x1].copy())
            maps.append(cellmap.select(labels, int(field.owners[number])))
            rows.append(dict(zip(_COLUMNS, [number, *box, *around], strict=True)))
        return crops, maps, rows

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        boxes = self._boxes(self._field(image)[0])
        if not len(boxes):
            return image.copy()
        x0, y0, x1, y1 = _with_margin(boxes[0], self.margin, image.shape[:2])
        return image[y0:y1, x0:x1].copy()

    def transform(self, X: Any) -> NDArray[Any]:
        """Return one crop a field: the leukocyte with the best score, or the whole field.

        Parameters
        ----------
        X : images
            Fields, as :func:`hemaest.images.check_images` takes them.

        Returns
        -------
        images : uint8 array (n, H, W, C) or 1-D object array
            Dense only where all crops happen to have one size.
        """
        check_is_fitted(self)
        X = self._check_images(X)
        return pack(self._map(self._transform_image, X), dense=X.dtype != object)


_COLUMNS = ["cell", "x0", "y0", "x1", "y1", "score", "crop_x0", "crop_y0", "crop_x1", "crop_y1"]


def _with_margin(
    box: NDArray[np.float64], margin: float, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return whole pixels of a box that is wider by ``margin`` of its longer side."""
    x0, y0, x1, y1 = box[:4]
    more = margin * max(x1 - x0, y1 - y0)
    height, width = size
    return (
        max(0, int(np.floor(x0 - more))),
        max(0, int(np.floor(y0 - more))),
        min(width, int(np.ceil(x1 + more))),
        min(height, int(np.ceil(y1 + more))),
    )


def _shifted(
    boxes: NDArray[np.float64], offset: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Move the edges of boxes by shares of their width and height; keep them in the image."""
    if not offset.any():
        return boxes
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    moved = boxes.copy()
    moved[:, :4] += offset * np.stack([wide, high, wide, high], axis=1)
    height, width = size
    moved[:, [0, 2]] = moved[:, [0, 2]].clip(0, width)
    moved[:, [1, 3]] = moved[:, [1, 3]].clip(0, height)
    return moved


def _check_boxes(boxes: Any, n: int) -> list[NDArray[np.float64]]:
    if len(boxes) != n:
        raise ValueError(f"boxes has {len(boxes)} items, X has {n}; give one array for each field.")
    checked = []
    for i, item in enumerate(boxes):
        table = np.asarray(item, dtype=float)
        table = table.reshape(0, 4) if table.size == 0 else table
        if table.ndim != 2 or table.shape[1] < 4:
            raise ValueError(f"boxes[{i}] has shape {table.shape}; it must be (k, 4).")
        if not np.isfinite(table[:, :4]).all():
            raise ValueError(f"boxes[{i}] holds NaN or infinity; leave such boxes out.")
        if (table[:, 2:4] <= table[:, :2]).any():
            raise ValueError(f"boxes[{i}]: x1 must be larger than x0, and y1 than y0.")
        checked.append(table[:, :4])
    return checked


def _adjust(
    found: list[NDArray[np.float64]], truth: list[NDArray[np.float64]], default: float
) -> tuple[float, NDArray[np.float64]]:
    """Return the score that finds the given boxes best (F1), and how their edges differ."""
    shifts, hits = [], []
    for boxes, true in zip(found, truth, strict=True):
        pairs = match_boxes(boxes, true)
        matched = np.zeros(len(boxes), bool)
        for i, j in pairs:
            wide, high = boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1]
            shifts.append((true[j] - boxes[i, :4]) / [wide, high, wide, high])
            matched[i] = True
        hits.append(np.column_stack([boxes[:, 4], matched]))
    table = np.concatenate(hits) if hits else np.empty((0, 2))
    total = sum(len(t) for t in truth)
    offset = np.median(shifts, axis=0) if shifts else np.zeros(4)
    best, score = -1.0, default
    for at in np.unique(np.r_[default, table[:, 0]]):
        kept = table[:, 0] >= at
        f1 = 2 * table[kept, 1].sum() / max(kept.sum() + total, 1)
        # of equal scores the one nearest to the default
        if f1 > best + 1e-9 or (f1 > best - 1e-9 and abs(at - default) < abs(score - default)):
            best, score = f1, float(at)
    return score, offset


def match_boxes(
    boxes: NDArray[np.float64], truth: NDArray[np.float64], least: float = 0.5
) -> list[tuple[int, int]]:
    """Match boxes to true ones one to one, best score first, at an IoU of at least ``least``.

    Examples
    --------
    >>> import numpy as np
    >>> match_boxes(np.array([[0, 0, 10, 10, 0.9]]), np.array([[50, 50, 60, 60], [1, 0, 10, 10]]))
    [(0, 1)]
    """
    overlap = iou(boxes, truth)
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(truth), bool)
    for i in np.argsort(-boxes[:, 4], kind="stable"):
        row = np.where(free, overlap[i], 0)
        if len(row) and row.max() >= least:
            j = int(row.argmax())
            free[j] = False
            pairs.append((int(i), j))
    return pairs


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the overlap of each pair of boxes as a share of their union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    size_a, size_b = (np.prod(x[:, 2:4] - x[:, :2], axis=1) for x in (a, b))
    return both / np.maximum(size_a[:, None] + size_b[None] - both, 1e-9)
