"""What was done so far, on disk, so that an interrupted run continues where it stopped."""

import json
from pathlib import Path
from typing import Any, TextIO

Row = dict[str, Any]


class Ledger:
    """One line of JSON for each finished file, beside the table that will be written.

    Parameters
    ----------
    csv : Path or None
        The table; the ledger is ``<csv>.part``. With None nothing is kept on disk.
    run : dict
        What must be the same for a run to continue: the model and the options.

    Attributes
    ----------
    rows : dict of str to list of dict
        The rows of each finished file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> files = [folder / name for name in "xyz"]
    >>> for file in files:
    ...     _ = file.write_text("1")
    >>> ledger = Ledger(folder / "out.csv", {"model": "a"})
    >>> for file in files:
    ...     ledger.add(file, [{"label": file.name}])
    >>> ledger.close()

    A changed file is done again, and so is one whose line was cut, as when the power fails:

    >>> part = folder / "out.csv.part"
    >>> _ = part.write_text(part.read_text()[:-5]), files[0].write_text("changed")
    >>> ledger = Ledger(folder / "out.csv", {"model": "a"})
    >>> [ledger.has(file) for file in files]
    [False, True, False]
    >>> ledger.close()

    Another model begins again. When the table is written, the ledger goes:

    >>> ledger = Ledger(folder / "out.csv", {"model": "b"})
    >>> ledger.rows
    {}
    >>> ledger.remove()
    >>> part.exists()
    False
    """

    def __init__(self, csv: Path | None, run: dict[str, Any]) -> None:
        self.rows: dict[str, list[Row]] = {}
        self._path = None if csv is None else csv.with_name(csv.name + ".part")
        self._file: TextIO | None = None
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = _lines(self._path)
        if lines and lines[0] == run:
            for line in lines[1:]:
                if line["stat"] == _stat(Path(line["file"])):
                    self.rows[line["file"]] = line["rows"]
        self._file = self._path.open("w", encoding="utf-8")
        self._write(run)
        for file, rows in self.rows.items():
            self._write({"file": file, "stat": _stat(Path(file)), "rows": rows})

    def has(self, file: Path) -> bool:
        """Return whether a file, as it is now, was done."""
        return str(file) in self.rows

    def add(self, file: Path, rows: list[Row]) -> None:
        """Keep the rows of a finished file."""
        self.rows[str(file)] = rows
        self._write({"file": str(file), "stat": _stat(file), "rows": rows})

    def _write(self, line: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Leave the ledger for the next run."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Remove the ledger: the table is written."""
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _lines(path: Path) -> list[Any]:
    """Return the whole lines of a ledger; the last one may have been cut."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def _stat(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:
        return [-1, -1]
    return [found.st_mtime_ns, found.st_size]
