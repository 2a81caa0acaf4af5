"""Read pictures of single cells, or whole fields, and name what is in them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._numba import raise_if_interrupted
from hemaest.images import read_image, to_object_array

Row = dict[str, Any]
Image = NDArray[np.uint8]

BATCH = 32
SHEET = 48
SAMPLE = 15


def named(estimator: Any, images: Sequence[Image]) -> list[tuple[str, float]]:
    """Return the label of each image, and how sure the model says it is (NaN if it does not)."""
    X = to_object_array(list(images))
    if hasattr(estimator, "predict_proba"):
        proba = estimator.predict_proba(X)
        labels = estimator.classes_[proba.argmax(axis=1)]
        return [(str(label), float(p)) for label, p in zip(labels, proba.max(axis=1), strict=True)]
    return [(str(label), float("nan")) for label in estimator.predict(X)]


def named_or_reason(estimator: Any, images: Sequence[Image]) -> list[tuple[str, float | None, str]]:
    """Return label, confidence and what went wrong; one picture that fails spoils no other."""
    if not images:
        return []
    try:
        return [(*name, "") for name in named(estimator, images)]
    except Exception as error:  # whatever a step raises, the other pictures go on
        raise_if_interrupted(error)
        if len(images) == 1:
            return [("", None, f"{type(error).__name__}: {error}")]
    return [named_or_reason(estimator, [image])[0] for image in images]


def read_or_reason(file: Path) -> tuple[Image | None, str]:
    """Return the picture, or why there is none."""
    try:
        return read_image(file), ""
    except (ValueError, OSError) as error:
        return None, str(error)


class CellReader:
    """Each picture is one cell."""

    def __init__(self, estimator: Any, trained: Any, annotate: Path | None, jobs: int) -> None:
        self.estimator = estimator
        self.annotate = annotate

    def prepare(self, files: Sequence[Path]) -> None:
        """Do nothing: a cell needs no other one."""

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, list[Row]]]:
        """Yield each file with its row."""
        for start in range(0, len(files), BATCH):
            part = files[start : start + BATCH]
            read = [read_or_reason(file) for file in part]
            images = [image for image, _ in read if image is not None]
            names = iter(named_or_reason(self.estimator, images))
            for file, (image, reason) in zip(part, read, strict=True):
                label, confidence, failed = ("", None, reason) if image is None else next(names)
                row = {"file": str(file), "label": label, "confidence": confidence}
                yield file, [{**row, "error": failed}]

    def finish(self, table: pd.DataFrame) -> None:
        """Draw sheets of cells, one type after the other, the least sure first."""
        if self.annotate is None:
            return
        from hemaest.inspection import CellGalleryDisplay

        self.annotate.mkdir(parents=True, exist_ok=True)
        for label, part in table[table["label"] != ""].groupby("label"):
            part = part.sort_values("confidence", kind="stable")
            for number, start in enumerate(range(0, len(part), SHEET), 1):
                page = part.iloc[start : start + SHEET]
                captions = [
                    f"{Path(file).name}\n{sure:.2f}" if sure == sure else Path(file).name
                    for file, sure in zip(page["file"], page["confidence"], strict=True)
                ]
                images = [read_image(file) for file in page["file"]]
                display: Any = CellGalleryDisplay(images, captions=captions)
                title = f"{label}: {len(part)} cells, page {number}"
                display.save(self.annotate / f"{_safe(label)}-{number:02d}.png", title=title)


class FieldReader:
    """Each picture is a field: its leukocytes are found, cut out, outlined and named."""

    def __init__(self, estimator: Any, trained: Any, annotate: Path | None, jobs: int) -> None:
        from hemaest.segmentation import SmearDetector

        self.trained = trained
        self.annotate = annotate
        self.own_detector = trained.get("input") == "field"
        if self.own_detector:
            self.detector, self.estimator = estimator.steps[0][1], estimator[1:]
        else:
            self.detector, self.estimator = SmearDetector(), estimator
        self._radius: dict[tuple[Any, ...], float] = {}
        self._stems: Counter[str] = Counter()

    def prepare(self, files: Sequence[Path]) -> None:
        """Measure the red cells: the pictures of one size in one folder are one microscope's."""
        self._stems = Counter(file.stem for file in files)
        if not self.own_detector:
            self.detector.fit(np.zeros((1, 8, 8, 3), np.uint8))
        if self.own_detector or not self.trained.get("red_cell_radius"):
            return
        folders = defaultdict(list)
        for file in files:
            folders[file.parent].append(file)
        for folder, own in folders.items():
            places = np.unique(np.linspace(0, len(own) - 1, min(SAMPLE, len(own))).round())
            sizes = defaultdict(list)
            for place in places.astype(int):
                field, _ = read_or_reason(own[place])
                if field is not None:
                    sizes[field.shape[:2]].append(field)
            for size, fields in sizes.items():
                found = self.detector.count(to_object_array(fields))["red_cell_radius"].median()
                self._radius[(folder, size)] = float(found)

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, list[Row]]]:
        """Yield each file with one row for each leukocyte."""
        for file in files:
            field, reason = read_or_reason(file)
            if field is None:
                yield file, [_empty(file, error=reason)]
                continue
            try:
                rows = self._rows(file, field)
            except Exception as error:  # one field that fails spoils no other
                raise_if_interrupted(error)
                rows = [_empty(file, error=f"{type(error).__name__}: {error}")]
            yield file, rows

    def _rows(self, file: Path, field: Image) -> list[Row]:
        cells = self.detector.detect_cells(to_object_array([field]))
        table = cells.table
        names = named(self.estimator, self._crops(file, field, cells)) if len(table) else []
        rows = [
            {
                "file": str(file),
                "cell": int(cell.cell) + 1,
                "label": label,
                "confidence": confidence,
                **{c: round(float(getattr(cell, c)), 3) for c in ("x0", "y0", "x1", "y1", "score")},
                **areas(labels),
                "note": "",
                "error": "",
            }
            for cell, labels, (label, confidence) in zip(
                table.itertuples(index=False), cells.maps, names, strict=True
            )
        ]
        if self.annotate is not None:
            self._draw(file, field, cells, names)
        return rows or [_empty(file, note="no leukocyte found")]

    def _crops(self, file: Path, field: Image, cells: Any) -> list[Image]:
        """Return the cells as the model saw cells in training: as much around, as large."""
        trained = self.trained.get("red_cell_radius")
        radius = self._radius.get((file.parent, field.shape[:2]), float("nan"))
        if self.own_detector or not trained or not radius > 0:
            return list(cells.images)
        size = self.trained["height"], self.trained["width"]
        boxes = cells.table[["x0", "y0", "x1", "y1"]].to_numpy(dtype=float)
        return [window(field, box, size, radius / trained) for box in boxes]

    def _draw(self, file: Path, field: Image, cells: Any, names: list[tuple[str, float]]) -> None:
        from hemaest.inspection import SmearDisplay

        assert self.annotate is not None
        self.annotate.mkdir(parents=True, exist_ok=True)
        boxes = cells.table[["x0", "y0", "x1", "y1"]].to_numpy(dtype=float)
        sure = np.array([confidence for _, confidence in names])
        if len(names) and not np.isnan(sure).any():
            # beside a name a reader takes a figure for how sure the name is
            boxes = np.column_stack([boxes, sure])
        labels = field_map(field.shape[:2], cells)
        names_only = [name for name, _ in names]
        display: Any = SmearDisplay(field, boxes, cell_map=labels, names=names_only)
        # names that come twice are told apart by their folder
        name = file.stem if self._stems[file.stem] < 2 else f"{file.parent.name}-{file.stem}"
        display.save(self.annotate / f"{name}.png")

    def finish(self, table: pd.DataFrame) -> None:
        """Do nothing: each field was drawn when it was read."""


def _empty(file: Path, *, note: str = "", error: str = "") -> Row:
    return {"file": str(file), "cell": None, "label": "", "note": note, "error": error}


def _safe(label: Any) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in str(label))


def areas(labels: Image) -> dict[str, Any]:
    """Return the measures of one cell from its map.

    Examples
    --------
    >>> areas(np.array([[0, 1, 2, 2]], np.uint8))
    {'nucleus_area': 2, 'cell_area': 3, 'nc_ratio': 0.667}
    """
    nucleus, cell = int((labels == 2).sum()), int((labels > 0).sum())
    ratio = round(nucleus / cell, 3) if cell else None
    return {"nucleus_area": nucleus, "cell_area": cell, "nc_ratio": ratio}


def window(field: Image, box: Any, size: tuple[int, int], scale: float) -> Image:
    """Cut a window around a box and bring it to a size; what lies outside is the border's colour.

    Parameters
    ----------
    field : uint8 array (H, W, 3)
        The whole picture.
    box : sequence of float
        x0, y0, x1, y1.
    size : (int, int)
        Height and width of the result.
    scale : float
        Pixels of the field for one of the result.

    Examples
    --------
    >>> field = np.zeros((50, 50, 3), np.uint8)
    >>> field[20:30, 20:30] = 255
    >>> cut = window(field, (20, 20, 30, 30), (40, 40), 0.5)
    >>> cut.shape, cut[20, 20].tolist(), cut[5, 5].tolist()
    ((40, 40, 3), [255, 255, 255], [0, 0, 0])
    """
    from hemaest._frame import border_color
    from hemaest._geometry import scale_to

    high, wide = (max(2, round(side * scale)) for side in size)
    # the cell stays in the middle, as it is in training pictures
    top, left = round((box[1] + box[3] - high) / 2), round((box[0] + box[2] - wide) / 2)
    canvas = np.empty((high, wide, 3), np.uint8)
    canvas[:] = border_color(field)
    y0, x0 = max(0, top), max(0, left)
    part = field[y0 : max(0, top + high), x0 : max(0, left + wide)]
    canvas[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return scale_to(canvas, *size)


def field_map(size: tuple[int, int], cells: Any) -> Image:
    """Return the cell map of a field from the maps of its crops; more than 127 do not fit."""
    labels = np.zeros(size, np.uint8)
    corners = cells.table[["crop_x0", "crop_y0"]].to_numpy(dtype=int)[: cellmap.MAX_CELLS]
    for k, ((x0, y0), own) in enumerate(zip(corners, cells.maps, strict=False), 1):
        part = labels[y0 : y0 + own.shape[0], x0 : x0 + own.shape[1]]
        part[own > 0] = cellmap.encode(k * (own > 0), cellmap.nuclei(own))[own > 0]
    return labels
