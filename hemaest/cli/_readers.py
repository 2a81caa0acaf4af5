"""How ``hemaest predict`` reads its files: each as one cell, as a field, or as what it shows."""

import copy
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hemaest._numba import raise_if_interrupted
from hemaest._parallel import iterate_items
from hemaest.cli._outputs import Drawings, written_path
from hemaest.cli._shared import say
from hemaest.clinical.reading import (
    FieldReader,
    found_in_field,
    looks_like_field,
    name_cells,
)
from hemaest.images import read_image, to_object_array

# images read and named by one thread, files looked at before what is a cell among them is named,
# fields that measure one microscope
BATCH, LOOKED_AT, SAMPLE = 32, 256, 15
# cells of one microscope that a network is fitted to: at most, and at least
MOST_CELLS, FEWEST_CELLS = 256, 10
# of the width of the training images; beyond, an image is unlike them
UNLIKE = 3.0

Row = dict[str, Any]


def opened(file: Path) -> tuple[Any, str]:
    """Return the image, or why there is none."""
    try:
        return read_image(file), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def reader_of(
    kind: str,
    classifier: Any,
    trained: dict[str, Any],
    files: Sequence[Path],
    drawings: Drawings,
    *,
    same_microscope: bool = False,
    jobs: int = -1,
) -> "CellFiles | FieldFiles | EitherFiles":
    """Return what reads files that each show one cell, a field, or either ("auto").

    With ``same_microscope`` a network is fitted to the cells of each folder.
    """
    if same_microscope and not hasattr(classifier, "adapt_batchnorm"):
        say("Note: --same-microscope cannot fit this model to your cells; only networks can be.")
    if kind == "auto":
        return EitherFiles(classifier, trained, files, drawings, same_microscope, jobs)
    fitted_on = files if same_microscope else ()
    if kind == "cell":
        return CellFiles(classifier, trained, fitted_on, jobs)
    return FieldFiles(classifier, trained, fitted_on, drawings, jobs)


def by_folder(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the files of each folder."""
    folders = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    return dict(folders)


def evenly(files: Sequence[Path], most: int) -> list[Path]:
    """Return so many of the files at most, from all over the list."""
    places = np.unique(np.linspace(0, len(files) - 1, min(most, len(files))).round())
    return [files[place] for place in places.astype(int)]


def fitted_to(classifier: Any, images: Sequence[Any], folder: Path) -> Any:
    """Return the classifier as it is for the cells of one microscope, or with too few as it was."""
    cells = [image for image in images if image is not None]
    if not hasattr(classifier, "adapt_batchnorm"):
        return classifier
    if len(cells) < FEWEST_CELLS:
        say(f"Note: {folder}: {len(cells)} cells are too few to fit the network to.")
        return classifier
    return classifier.adapt_batchnorm(to_object_array(cells))


class CellFiles:
    """Each file is one cell."""

    def __init__(
        self,
        classifier: Any,
        trained: dict[str, Any],
        fitted_on: Sequence[Path] = (),
        jobs: int = -1,
    ) -> None:
        self.classifier = classifier
        self.jobs = jobs
        self.width = trained.get("width") if trained.get("input") == "cell" else None
        self.fitted: dict[Path, Any] = {}  # by folder
        for folder, own in by_folder(fitted_on).items():
            cells = [opened(file)[0] for file in evenly(own, MOST_CELLS)]
            self.fitted[folder] = fitted_to(classifier, cells, folder)

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, list[Row]]]:
        """Yield each file with its row."""
        batches = [
            own[start : start + BATCH]
            for own in (by_folder(files).values() if self.fitted else [files])
            for start in range(0, len(own), BATCH)
        ]
        for part, rows in zip(
            batches, iterate_items(self._rows, batches, n_jobs=self.jobs), strict=True
        ):
            for file, row in zip(part, rows, strict=True):
                yield file, [row]

    def _rows(self, files: Sequence[Path]) -> list[Row]:
        read = [opened(file) for file in files]
        classifier = self.fitted.get(files[0].parent, self.classifier)
        images = [image for image, _ in read if image is not None]
        named = name_cells(classifier, images)
        cells = iter(named)
        rows = []
        for file, (image, reason) in zip(files, read, strict=True):
            row = self.failed(file, reason)
            if image is not None:
                cell = next(cells)
                row |= {"label": cell.label, "confidence": cell.confidence}
                note = self.note(image)
                if not cell.familiar:
                    note = "unlike the cells that the network knows"
                row |= {"note": note, "error": cell.error}
            rows.append(row)
        return rows

    def failed(self, file: Path, reason: str) -> Row:
        """Return the row of a file without a prediction."""
        row = {"file": written_path(file), "input": "cell", "label": "", "confidence": None}
        return {**row, "note": "", "error": reason}

    def note(self, image: Any) -> str:
        """Return in what an image is unlike the training images, empty where it is like them."""
        if not self.width:
            return ""
        times = max(image.shape[:2]) / self.width
        if 1 / UNLIKE < times < UNLIKE:
            return ""
        return f"{times:.1f} times as wide as the training images"


class FieldFiles:
    """Each file is a field."""

    def __init__(
        self,
        classifier: Any,
        trained: dict[str, Any],
        fitted_on: Sequence[Path],
        drawings: Drawings,
        jobs: int = -1,
    ) -> None:
        size = (trained["height"], trained["width"]) if trained.get("height") else None
        radius = trained.get("red_cell_radius") if trained.get("input") == "cell" else None
        self.reader = FieldReader(classifier, trained_size=size, trained_radius=radius)
        self.drawings = drawings
        self.jobs = jobs
        self.radius: dict[Any, float] = {}
        self.fitted: dict[Path, FieldReader] = {}
        for folder, own in by_folder(fitted_on).items():
            self._fit(folder, own)

    def _fit(self, folder: Path, files: Sequence[Path]) -> None:
        """Measure red cells once for all fields of one size, and fit the classifier to cells."""
        sizes = defaultdict(list)
        for file in evenly(files, SAMPLE):
            field, _ = opened(file)
            if field is not None:
                sizes[field.shape[:2]].append(field)
        if self.reader.scales:
            for size, fields in sizes.items():
                self.radius[folder, size] = self.reader.red_cell_radius(fields)
        cells: list[Any] = []
        for fields in sizes.values():
            cells += list(self.reader.detector.detect_cells(to_object_array(fields)).images)
        self.fitted[folder] = copy.copy(self.reader)
        self.fitted[folder].classifier = fitted_to(self.reader.classifier, cells, folder)

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, list[Row]]]:
        """Yield each file with one row for each leukocyte."""
        yield from zip(files, iterate_items(self._rows, files, n_jobs=self.jobs), strict=True)

    def failed(self, file: Path, reason: str) -> Row:
        """Return the row of a file without a prediction."""
        return _empty(file, error=reason)

    def _rows(self, file: Path) -> list[Row]:
        field, reason = opened(file)
        return [self.failed(file, reason)] if field is None else self.named(file, field)

    def named(self, file: Path, field: Any, found: Any = None) -> list[Row]:
        """Return the rows of a field, of which what was found in it may be known."""
        known = self.radius.get((file.parent, field.shape[:2]))
        try:
            reader = self.fitted.get(file.parent, self.reader)
            reading = reader.read(field, red_cell_radius=known, found=found)
        except Exception as error:  # one field that fails spoils no other
            raise_if_interrupted(error)
            return [self.failed(file, f"{type(error).__name__}: {error}")]
        self.drawings.draw_field(file, reading)
        rows = json.loads(reading.table.to_json(orient="records"))
        notes = [] if rows else ["no leukocyte found"]
        if rows and self.reader.scales and not reading.red_cell_radius > 0:
            notes.append("no red cell measured: cut out by its own size")
        note = "; ".join([*notes, *reading.warnings])
        first = {"file": written_path(file), "input": "field"}
        return [{**first, **row, "note": note} for row in rows] or [_empty(file, note=note)]


class EitherFiles:
    """Each file is a cell or a field, as it is seen in the file itself."""

    def __init__(
        self,
        classifier: Any,
        trained: dict[str, Any],
        files: Sequence[Path],
        drawings: Drawings,
        same_microscope: bool = False,
        jobs: int = -1,
    ) -> None:
        self.jobs = jobs
        self.is_field: dict[Path, bool] = {}  # where that had to be known beforehand
        if same_microscope:
            kinds = iterate_items(shows_field, files, n_jobs=jobs)
            self.is_field = dict(zip(files, kinds, strict=True))
        own = [[f for f, field in self.is_field.items() if field is kind] for kind in (False, True)]
        self.cells = CellFiles(classifier, trained, own[0], jobs)
        self.fields = FieldFiles(classifier, trained, own[1], drawings, jobs)

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, list[Row]]]:
        """Yield each file with its row, or one row for each leukocyte of a field."""
        for start in range(0, len(files), LOOKED_AT):
            part, cells = files[start : start + LOOKED_AT], []
            looked_at = iterate_items(self._rows_of_field, part, n_jobs=self.jobs)
            for file, rows in zip(part, looked_at, strict=True):
                if rows is None:
                    cells.append(file)
                else:
                    yield file, rows
            yield from self.cells.read(cells)

    def failed(self, file: Path, reason: str) -> Row:
        """Return the row of a file without a prediction."""
        return {**self.cells.failed(file, reason), "input": ""}

    def _rows_of_field(self, file: Path) -> list[Row] | None:
        """Return the rows of a file that shows a field or cannot be read; None for a cell."""
        image, reason = opened(file)
        if image is None:
            return [self.failed(file, reason)]
        if self.is_field:
            return self.fields.named(file, image) if self.is_field[file] else None
        try:
            found = found_in_field(image, self.fields.reader.detector)
        except Exception as error:  # one image that fails spoils no other
            raise_if_interrupted(error)
            return [self.failed(file, f"{type(error).__name__}: {error}")]
        return None if found is None else self.fields.named(file, image, found)


def shows_field(file: Path) -> bool:
    """Return whether a file shows a field; one that cannot be read is none."""
    image, _ = opened(file)
    return image is not None and looks_like_field(image)


def _empty(file: Path, *, note: str = "", error: str = "") -> Row:
    first = {"file": written_path(file), "input": "field", "cell": None, "label": ""}
    return {**first, "note": note, "error": error}
