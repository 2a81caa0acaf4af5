"""Run a fitted estimator over any number of files: in order, in flat memory, resumable.

Files go through the estimator in batches, each read and worked on by one thread, or by one worker
of a cluster, so that decoder and network never wait for each other. Rows are written as Parquet in
parts of a fixed number of files, the failures of each part after its rows; a part whose failures
are there is complete, so a run that was killed goes on where it stopped and ends with the same
bytes.
What is not rows has a name with a leading underscore, which readers of Parquet folders pass over.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import hemaest
from hemaest._files import check_writable, remove_unfinished, write_whole
from hemaest._parallel import iterate_items, send
from hemaest._progress import track
from hemaest.base import labels_and_probabilities
from hemaest.datasets import image_files
from hemaest.images import read_image, rgb, to_object_array
from hemaest.persistence import load

__all__ = ["StreamResult", "predict_stream"]

Kind = Literal["predict", "transform"]
FILE_COLUMNS = ("file", "path", "filename", "image")
NOTE, FAILURES = "_stream.json", "_failures"


@dataclass(frozen=True)
class StreamResult:
    """What a stream wrote.

    Parameters
    ----------
    folder : Path
        The folder of ``part-*.parquet``, which ``pandas.read_parquet`` reads as one table;
        ``_failures`` below it holds the table of failures.
    n_files : int
        Files in all.
    n_failed : int
        Files that failed.

    Examples
    --------
    >>> from hemaest.scale import StreamResult
    >>> StreamResult(Path("out"), n_files=100, n_failed=2).n_failed
    2
    """

    folder: Path
    n_files: int
    n_failed: int

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows, or some columns of them, in the order of the files."""
        if not any(self.folder.glob("part-*.parquet")):
            return pd.DataFrame({"row": np.empty(0, np.int64), "file": np.empty(0, object)})
        return pd.read_parquet(self.folder, columns=columns)

    def failures(self) -> pd.DataFrame:
        """Return row, file and error of what failed."""
        return pd.read_parquet(self.folder / FAILURES)


def predict_stream(
    model: Any,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    kind: Kind = "predict",
    batch_size: int = 32,
    part_size: int = 2048,
    n_jobs: int | None = None,
) -> StreamResult:
    """Run a fitted estimator over files, and write partitioned Parquet.

    Parameters
    ----------
    model : fitted estimator or path
        A classifier of single images for ``kind="predict"``, a transformer that gives a table
        (features, embeddings) for ``kind="transform"``. A path is loaded with
        :func:`hemaest.persistence.load`.
    source : path or sequence of paths
        A folder (all images below it, sorted by name), a manifest (CSV or Parquet with a column
        ``file``; relative names are relative to the manifest), or the files themselves.
    out : path
        A folder. If it holds parts of the same run, the run goes on; parts of another run are an
        error.
    kind : {"predict", "transform"}, default="predict"
        What is written: ``label``, ``confidence`` and the probability of each class, or the
        columns of ``transform``.
    batch_size : int, default=32
        Images that are read by one thread, and go through the estimator together.
    part_size : int, default=2048
        Files in one Parquet file.
    n_jobs : int, optional
        Batches that are worked on at once. None: as many as there are threads.

    Returns
    -------
    result : StreamResult

    Notes
    -----
    Where joblib uses a dask cluster (:func:`on_cluster`), its workers read the files, which they
    must see under the same names, and run the estimator; this process writes.

    Examples
    --------
    >>> import tempfile
    >>> import cv2
    >>> from hemaest.datasets import make_cells
    >>> from hemaest.recipes import make_recipe
    >>> from hemaest.scale import predict_stream
    >>> cells = make_cells(12, classes=["lymphocyte", "neutrophil"], image_size=48, random_state=0)
    >>> model = make_recipe("color-logistic").fit(cells.images, cells.target)
    >>> folder = tempfile.mkdtemp()
    >>> for i, image in enumerate(cells.images):
    ...     _ = cv2.imwrite(f"{folder}/{i:02d}.png", image[..., ::-1])
    >>> result = predict_stream(model, folder, tempfile.mkdtemp() + "/out", part_size=5)
    >>> result.n_files, result.n_failed, len(result.table())
    (12, 0, 12)
    """
    _check(kind, batch_size, part_size)
    estimator, fingerprint = _loaded(model)
    files = _files_of(source)
    n = len(files)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURES).mkdir(exist_ok=True)
    check_writable(folder / "part-000000.parquet")
    about = {
        "hemaest": hemaest.__version__,
        "kind": kind,
        "model": fingerprint,
        "files": _digest(files),
        "n_files": n,
        "batch_size": batch_size,
        "part_size": part_size,
    }
    _claim(folder, about)
    starts = range(0, len(files), part_size)
    lists = [_part(folder / FAILURES, start // part_size) for start in starts]
    missing = [start for start, done in zip(starts, lists, strict=True) if not done.is_file()]
    parts = [range(start, min(start + part_size, n)) for start in missing]
    batches = [part[i : i + batch_size] for part in parts for i in range(0, len(part), batch_size)]
    work = partial(_outcome, estimator, kind)
    places = ([(row, files[row]) for row in batch] for batch in batches)
    outcomes = send(work, places) or iterate_items(work, places, n_jobs=n_jobs)
    for part in track(parts, "Files", len(parts)):
        number = part.start // part_size
        tables, failures = _joined(itertools.islice(outcomes, -(-len(part) // batch_size)))
        if tables:
            rows = pd.concat(tables, ignore_index=True)
            _write(
                _part(folder, number),
                _pyarrow().Table.from_pandas(rows, preserve_index=False),
                about,
            )
        _write(lists[number], _table_of_failures(failures), about)
    return StreamResult(folder, n, sum(_length(done) for done in lists))


# ------------------------------------------------------------------------------- what is run


def _check(kind: str, batch_size: int, part_size: int) -> None:
    if kind not in {"predict", "transform"}:
        raise ValueError(f"kind is {kind!r}; it must be 'predict' or 'transform'.")
    for name, value in (("batch_size", batch_size), ("part_size", part_size)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1.")
    _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ImportError('streams need pyarrow: pip install "hemaest[scale]"') from None
    return pyarrow


def _loaded(model: Any) -> tuple[Any, str]:
    """Return the estimator and what identifies it."""
    if isinstance(model, str | os.PathLike):
        return load(model), hashlib.sha256(Path(model).read_bytes()).hexdigest()
    from joblib import hash as hash_of

    return model, hash_of(model)


def _files_of(source: Any) -> list[str]:
    if not isinstance(source, str | os.PathLike):
        files = [os.fspath(item) for item in source]
    elif Path(source).is_dir():
        files = [os.fspath(file) for file in image_files(source)]
    elif Path(source).is_file():
        files = _from_manifest(Path(source))
    else:
        raise FileNotFoundError(f"{source} is neither a folder nor a manifest (CSV, Parquet).")
    if not files:
        raise ValueError(f"no image file in {source}.")
    return files


def _from_manifest(path: Path) -> list[str]:
    if path.suffix.lower() == ".parquet":
        table = pd.read_parquet(path)
    elif path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        sep = "\t" if path.suffix.lower() == ".tsv" else ","
        table = pd.read_csv(path, sep=sep, dtype=str, keep_default_na=False)
    else:
        raise ValueError(f"{path} is no manifest; it must be CSV or Parquet.")
    column = next((c for c in table if str(c).strip().lower() in FILE_COLUMNS), None)
    if column is None:
        raise ValueError(
            f"{path} has no column named {' or '.join(FILE_COLUMNS)}; it has {list(table)}."
        )
    # os.path keeps a million joins cheap, which Path does not
    top = os.fspath(path.parent)
    return [os.path.join(top, str(name)) for name in table[column]]


def _digest(files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        digest.update(os.fsencode(name) + b"\0")
    return digest.hexdigest()


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Say in the folder what runs here; refuse a folder in which something else ran."""
    note = folder / NOTE
    remove_unfinished(note)
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        other = [key for key in about if before.get(key) != about[key]]
        if other:
            raise ValueError(
                f"{folder} holds another run: {', '.join(other)} differ. "
                "Name another folder, or remove this one to start again."
            )
    elif any(folder.glob("part-*.parquet")):
        raise ValueError(f"{folder} holds Parquet files that no run of this kind wrote.")
    else:
        write_whole(note, json.dumps(about, indent=1).encode())


# ---------------------------------------------------------------------------------- the work


# a row of the source and the name of its file
Place = tuple[int, str]
# the rows of a batch, and its failures: row, file, error
Outcome = tuple[list[pd.DataFrame], list[tuple[int, str, str]]]


def _outcome(estimator: Any, kind: Kind, batch: Sequence[Place]) -> Outcome:
    """Read the files of a batch and run the estimator over what can be read."""
    read: list[tuple[Place, NDArray[np.uint8]]] = []
    failures: list[tuple[int, str, str]] = []
    for place in batch:
        try:
            read.append((place, rgb(read_image(place[1]))))
        except Exception as error:
            failures.append((*place, f"{type(error).__name__}: {error}"))
    tables = []
    for places, rows in _rows_or_errors(estimator, kind, read):
        if isinstance(rows, str):
            failures.append((*places[0], rows))
        else:
            rows.insert(0, "row", [row for row, _ in places])
            rows.insert(1, "file", [_text(name) for _, name in places])
            tables.append(rows)
    return tables, failures


def _rows_or_errors(
    estimator: Any, kind: Kind, images: Sequence[tuple[Place, NDArray[np.uint8]]]
) -> Iterator[tuple[list[Place], pd.DataFrame | str]]:
    """Yield the places and rows of a batch; if it fails, image by image to find who does."""
    if not images:
        return
    try:
        rows = _rows(estimator, kind, to_object_array([image for _, image in images]))
        yield [place for place, _ in images], rows
    except Exception as error:
        if len(images) == 1:
            yield [images[0][0]], f"{type(error).__name__}: {error}"
            return
        for one in images:
            yield from _rows_or_errors(estimator, kind, [one])


def _joined(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the rows and the failures of one part."""
    tables: list[pd.DataFrame] = []
    failures: list[tuple[int, str, str]] = []
    for rows, failed in outcomes:
        tables += rows
        failures += failed
    return tables, sorted(failures)


def _rows(estimator: Any, kind: Kind, X: NDArray[Any]) -> pd.DataFrame:
    if kind == "transform":
        values = estimator.transform(X)
        if isinstance(values, pd.DataFrame):
            return values.reset_index(drop=True)
        values = np.asarray(values)
        if values.ndim != 2:
            raise ValueError("the transformer gives images, not a table.")
        return pd.DataFrame(values, columns=[str(c) for c in _column_names(estimator, values)])
    labels, probabilities = labels_and_probabilities(estimator, X)
    columns: dict[str, Any] = {"label": [_text(v) for v in labels]}
    if probabilities is not None:
        columns["confidence"] = probabilities.max(axis=1)
        columns |= {f"p_{c}": probabilities[:, i] for i, c in enumerate(estimator.classes_)}
    return pd.DataFrame(columns)


def _column_names(estimator: Any, values: NDArray[Any]) -> Sequence[Any]:
    try:
        names = estimator.get_feature_names_out()
    except (AttributeError, ValueError):
        names = []
    return names if len(names) == values.shape[1] else [f"x{i}" for i in range(values.shape[1])]


def _text(value: Any) -> str:
    """Return text that UTF-8 can hold; file names of any bytes stay readable."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# --------------------------------------------------------------------------------- the files


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def _table_of_failures(failures: Sequence[tuple[int, str, str]]) -> Any:
    pa = _pyarrow()
    # without a schema an empty column has no type, and the parts do not fit together
    types = pa.schema([("row", pa.int64()), ("file", pa.string()), ("error", pa.string())])
    rows = [
        {"row": row, "file": _text(file), "error": _text(error)} for row, file, error in failures
    ]
    return pa.Table.from_pylist(rows, schema=types)


def _write(path: Path, table: Any, about: dict[str, Any]) -> None:
    provenance = {b"hemaest": json.dumps(about).encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **provenance})
    write = _pyarrow().parquet.write_table
    write_whole(path, lambda file: write(table, file, compression="zstd"))


def _length(path: Path) -> int:
    return int(_pyarrow().parquet.read_metadata(path).num_rows)
