"""``hemaest predict``."""

import copy
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from hemaest import datasets, persistence, pretrained
from hemaest._files import write_whole
from hemaest._numba import raise_if_interrupted
from hemaest._parallel import iterate_items
from hemaest._progress import track
from hemaest._tables import format_table
from hemaest.cli._info import read_card
from hemaest.cli._ledger import Ledger
from hemaest.cli._outputs import Drawings, written_path
from hemaest.cli._shared import (
    INTERRUPTED,
    NOTHING_DONE,
    WRONG_USAGE,
    noted,
    printable,
    say,
    stop,
)
from hemaest.clinical.reading import (
    FieldReader,
    familiar_cells,
    field_warnings,
    looks_like_field,
    name_cells,
)
from hemaest.images import read_image, to_object_array

SHOWN = 20
WHOLE = ("cell", "nucleus_area", "cell_area")
# images read and named by one thread, images looked at before the work, fields that measure one
# microscope
BATCH, LOOKED_AT, SAMPLE = 32, 6, 15
# cells of one microscope that a network is fitted to: at most, and at least
MOST_CELLS, FEWEST_CELLS = 256, 10
# of the width of the training images; beyond, an image is unlike them
UNLIKE = 3.0

Row = dict[str, Any]


@dataclass(frozen=True)
class PredictOptions:
    """What ``hemaest predict`` was given."""

    paths: tuple[Path, ...]
    model: Path | None = None
    kind: str = "auto"
    same_microscope: bool = False
    csv: Path | None = None
    annotate: Path | None = None
    count: bool = False
    counter: Path | None = None
    jobs: int = -1
    as_json: bool = False


def run(options: PredictOptions) -> None:
    """Classify the cell of every image, or find and classify all leukocytes of every field."""
    model, roots = model_and_paths(options)
    card: dict[str, Any] = {"checksum": "shipped", "trained_on": {}}
    if model is not None:
        card = read_card(model)
    files, left_out = listed(roots)
    classifier = loaded(model)
    kind = chosen_kind(options.kind, card["trained_on"], files, shipped=model is None)
    warn_of(card["trained_on"], kind)
    drawings = Drawings(options.annotate, files, roots)
    reader = reader_of(kind, classifier, card["trained_on"], options, drawings, files)
    settings = {"input": kind, "same_microscope": options.same_microscope}
    ledger = Ledger(options.csv, {"model": card["checksum"], **settings, "format": 2})
    done = {file for file in files if ledger.has(file)}
    if options.annotate is not None and kind == "field":
        # a table without its drawing is not done
        done = {file for file in done if drawings.path_of(file).exists()}
    new = [file for file in files if file not in done]
    if done:
        say(f"{len(done)} of {len(files)} files were done before; going on.")
    with noted():
        try:
            for file, rows in track(reader.read(new), "predicting", total=len(new)):
                ledger.add(file, rows)
        except KeyboardInterrupt:
            ledger.close()
            csv = options.csv
            hint = (
                "Run the same command to continue from here."
                if csv
                else "--csv FILE would keep them."
            )
            stop(
                f"\nInterrupted after {len(ledger.rows)} of {len(files)} files. {hint}", INTERRUPTED
            )
        table = pd.DataFrame(
            [row for file in files for row in ledger.rows[str(file)]]
            + [reader.failed(file, why) for file, why in left_out.items()]
        )
        for column in [c for c in WHOLE if c in table]:  # empty where a file failed
            table[column] = pd.to_numeric(table[column], errors="coerce").astype("Int64")
        finish(table, [*files, *left_out], options, drawings, kind)
    ledger.remove()


def finish(
    table: pd.DataFrame,
    files: Sequence[Path],
    options: PredictOptions,
    drawings: Drawings,
    kind: str,
) -> None:
    """Write the table first, then print and draw; list what failed."""
    csv = options.csv
    failed = table.loc[table["error"] != "", ["file", "error"]].reset_index(drop=True)
    n_failed = failed["file"].nunique()
    n_done = len(files) - len(set(table["file"]) - set(table.loc[table["error"] == "", "file"]))
    if csv is not None:
        write_whole(csv, table.to_csv(index=False).encode())
    if options.as_json:
        typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=2))
    elif n_done:
        show(table, options, kind)
    if n_done and kind == "cell":
        drawings.draw_sheets(table)
    if n_failed:
        say(f"\n{n_failed} of the {len(files)} files failed:")
        say(format_table(failed))
    if drawings.failures:
        say(f"\n{len(drawings.failures)} drawings failed; the predictions are complete:")
        say(format_table(pd.DataFrame(drawings.failures, columns=["file", "reason"])))
    if options.annotate is not None and n_done:
        say(f"\nDrawings: {options.annotate.resolve()}")
    if csv is not None:
        say(f"\nTable: {csv.resolve()}")
    if not n_done:
        raise typer.Exit(NOTHING_DONE)


def model_and_paths(options: PredictOptions) -> tuple[Path | None, list[Path]]:
    """Return the model, None for the shipped one, and the images: the model may come first."""
    first, *rest = options.paths
    is_model = first.suffix == ".hemaest" or (not first.exists() and rest)
    if options.model is None and first.is_file() and not is_model:
        with open(first, "rb") as file:
            is_model = file.read(4) == b"PK\3\4"
    if options.model is not None or not is_model:
        return options.model, list(options.paths)
    if not rest:
        stop(f"{first} is a model; give images, or folders of them, after it.", WRONG_USAGE)
    return first, rest


def listed(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Return the image files that are meant, each once, and what is left out of them and why."""
    found: dict[Path, None] = {}
    left_out: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            listing = datasets.list_files(path)
            found |= dict.fromkeys(listing.files)
            left_out |= listing.left_out
            if listing.others:
                say(f"Note: {path}: {listing.others_in_words()}.")
        elif path.is_file():
            found[path] = None
        else:
            stop(f"{path} is neither a file nor a folder.", WRONG_USAGE)
    if not found:
        for file, why in left_out.items():
            say(f"{written_path(file)}: {why}")
        stop(f"no image file in {', '.join(map(str, paths))}.", NOTHING_DONE)
    return list(found), left_out


def loaded(model: Path | None) -> Any:
    """Return the classifier; versions that differ are said in a line."""
    with noted():
        try:
            return (
                pretrained.load_pretrained("blood-cells")
                if model is None
                else persistence.load(model)
            )
        except (ValueError, OSError) as error:
            stop(str(error), WRONG_USAGE)


def chosen_kind(kind: str, trained: dict[str, Any], files: Sequence[Path], *, shipped: bool) -> str:
    """Return what the images show: as given, or as the model was trained; refuse what is neither.

    The shipped models take both; there, the images themselves are looked at.
    """
    own = trained.get("input")
    if kind == "cell" and own == "field":
        stop(
            "this model was trained on whole fields, in which it finds the cells itself; "
            "use --input field (or auto).",
            WRONG_USAGE,
        )
    if kind != "auto":
        return kind
    if own == "field":
        return "field"
    if own != "cell" and not shipped:
        stop(
            "this model does not say whether it was trained on single cells or whole fields; "
            "give --input cell or --input field.",
            WRONG_USAGE,
        )
    fields, seen = fields_among(files)
    if shipped:
        return "field" if 2 * fields > seen else "cell"
    if 2 * fields > seen:
        stop(
            f"these images look like whole fields ({fields} of {seen} that were looked at), and "
            "this model was trained on single cells: use --input field to find the cells first, or "
            "--input cell if each image is one cell.",
            WRONG_USAGE,
        )
    return "cell"


def fields_among(files: Sequence[Path]) -> tuple[int, int]:
    """Return how many of a few images look like fields, and how many were looked at."""
    places = np.unique(np.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).round())
    images = [
        image for place in places.astype(int) if (image := opened(files[place])[0]) is not None
    ]
    return sum(map(looks_like_field, images)), len(images)


def warn_of(trained: dict[str, Any], kind: str) -> None:
    """Say what a reader of the result must hold against it."""
    if trained.get("source") == "synthetic cells":
        say(
            "Note: this model has only seen synthetic cells. It shows how things work; "
            "do not believe the types it names on real ones."
        )
    if kind == "field" and trained.get("input") == "cell" and not trained.get("red_cell_radius"):
        say(
            "Note: the magnification of the training images is unknown (no red cells were seen), "
            "so cells are cut out by their own size."
        )


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
    options: PredictOptions,
    drawings: Drawings,
    files: Sequence[Path],
) -> "CellFiles | FieldFiles":
    """Return what reads the files."""
    if options.same_microscope and not hasattr(classifier, "adapt_batchnorm"):
        say("Note: --same-microscope cannot fit this model to your cells; only networks can be.")
    if kind == "cell":
        return CellFiles(classifier, trained, options, files)
    return FieldFiles(classifier, trained, options, drawings, files)


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
        options: PredictOptions,
        files: Sequence[Path],
    ) -> None:
        self.classifier = classifier
        self.jobs = options.jobs
        self.width = trained.get("width") if trained.get("input") == "cell" else None
        self.fitted: dict[Path, Any] = {}  # by folder
        if options.same_microscope:
            for folder, own in by_folder(files).items():
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
        # only what was named can be asked for: an image that fails spoils no other
        known = [image for image, cell in zip(images, named, strict=True) if not cell.error]
        familiar = iter(familiar_cells(classifier, to_object_array(known)) if known else ())
        cells = iter(named)
        rows = []
        for file, (image, reason) in zip(files, read, strict=True):
            row = self.failed(file, reason)
            if image is not None:
                cell = next(cells)
                row |= {"label": cell.label, "confidence": cell.confidence}
                note = self.note(image)
                if not cell.error and not next(familiar):
                    note = "unlike the cells that the network knows"
                row |= {"note": note, "error": cell.error}
            rows.append(row)
        return rows

    def failed(self, file: Path, reason: str) -> Row:
        """Return the row of a file without a prediction."""
        row = {"file": written_path(file), "label": "", "confidence": None, "note": ""}
        return {**row, "error": reason}

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
        options: PredictOptions,
        drawings: Drawings,
        files: Sequence[Path],
    ) -> None:
        size = (trained["height"], trained["width"]) if trained.get("height") else None
        radius = trained.get("red_cell_radius") if trained.get("input") == "cell" else None
        self.reader = FieldReader(classifier, trained_size=size, trained_radius=radius)
        self.drawings = drawings
        self.jobs = options.jobs
        self.radius: dict[Any, float] = {}
        self.fitted: dict[Path, FieldReader] = {}
        if options.same_microscope:
            for folder, own in by_folder(files).items():
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
        if field is None:
            return [self.failed(file, reason)]
        known = self.radius.get((file.parent, field.shape[:2]))
        try:
            reader = self.fitted.get(file.parent, self.reader)
            reading = reader.read(field, red_cell_radius=known)
            warnings = field_warnings(reader.detector, field)
        except Exception as error:  # one field that fails spoils no other
            raise_if_interrupted(error)
            return [self.failed(file, f"{type(error).__name__}: {error}")]
        self.drawings.draw_field(file, reading)
        rows = json.loads(reading.table.to_json(orient="records"))
        notes = [] if rows else ["no leukocyte found"]
        if rows and self.reader.scales and not reading.red_cell_radius > 0:
            notes.append("no red cell measured: cut out by its own size")
        note = "; ".join(notes + warnings)
        named = [{"file": written_path(file), **row, "note": note} for row in rows]
        return named or [_empty(file, note=note)]


def _empty(file: Path, *, note: str = "", error: str = "") -> Row:
    return {"file": written_path(file), "cell": None, "label": "", "note": note, "error": error}


def show(table: pd.DataFrame, options: PredictOptions, kind: str) -> None:
    """Print the predictions, or how many cells of each type there are."""
    good = table[table["error"] == ""].drop(columns="error")
    if options.count:
        typer.echo(format_table(counted(good, options.counter)))
        if options.counter is None:
            typer.echo(
                "\nThe intervals hold the error of counting, not those of the classifier; "
                "--counter FILE adds them."
            )
        if kind == "field":
            empty = int((good["label"] == "").sum())
            typer.echo(f"\n{good['file'].nunique()} fields, {empty} of them without a leukocyte.")
        return
    columns = ["file", "cell", "label", "confidence", "nc_ratio", "note"]
    shown = good[[c for c in columns if c in good and not (good[c].isna() | (good[c] == "")).all()]]
    typer.echo(printable(format_table(shown.head(SHOWN))))
    if len(shown) > SHOWN:
        where = f"all are in {options.csv}" if options.csv else "--csv FILE keeps all"
        typer.echo(f"... and {len(shown) - SHOWN} more ({where})")


def counted(table: pd.DataFrame, counter: Path | None = None) -> pd.DataFrame:
    """Return the differential count, with 95% intervals.

    With a saved :class:`~hemaest.clinical.DifferentialCounter` they hold the classifier's errors.

    Examples
    --------
    >>> counted(pd.DataFrame({"label": ["blast", "blast", ""]})).round(2).values.tolist()
    [['blast', 2, 100.0, 34.24, 100.0], ['all', 2, 100.0, nan, nan]]
    """
    labels = table.loc[table["label"] != "", "label"]
    if counter is not None and len(labels):
        found = loaded(counter).count(labels.to_numpy(dtype=str))
        return found.reset_index(names="type")
    from scipy.stats import binomtest

    total, nan = len(labels), float("nan")
    rows = []
    for label, number in labels.value_counts().items():
        ends = binomtest(int(number), total).proportion_ci(method="wilson")
        percents = [100 * share for share in (number / total, ends.low, ends.high)]
        rows.append((label, number, *percents))
    rows.append(("all", total, 100.0 if total else nan, nan, nan))
    return pd.DataFrame(rows, columns=["type", "n", "percent", "low", "high"])
