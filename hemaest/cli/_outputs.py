"""Drawings of predictions: names that never meet, and failures that stop nothing else.

A drawing lies in the annotation folder as its image lies in the folders that were given, so two
images never share one, and a second run gives the same names.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hemaest import inspection
from hemaest._numba import raise_if_interrupted
from hemaest.cli._shared import printable
from hemaest.images import read_image

SHEET = 48
LONGEST_NAME = 120
# a drawing is at most this many times as long as it is high: others cost memory and show nothing
LONGEST_SHAPE = 20
FORBIDDEN = frozenset('/\\:*?"<>|%$')


class Drawings:
    """The folder of drawings of one run.

    Parameters
    ----------
    folder : Path or None
        Where they go; None draws nothing.
    files : sequence of Path
        All images of the run.
    roots : sequence of Path
        What was given on the command line.

    Attributes
    ----------
    failures : list of (str, str)
        What could not be drawn, and why.
    """

    def __init__(self, folder: Path | None, files: Sequence[Path], roots: Sequence[Path]) -> None:
        self.folder = folder
        self.failures: list[tuple[str, str]] = []
        places = [_place(file, roots) for file in files]
        self._files = {written_path(file): file for file in files}
        stems = Counter(place.with_suffix("") for place in places)
        self._names = {
            file: place.with_suffix("") if stems[place.with_suffix("")] == 1 else place
            for file, place in zip(files, places, strict=True)
        }

    def path_of(self, file: Path) -> Path:
        """Return where the drawing of an image goes."""
        assert self.folder is not None
        parts = [file_name(part) for part in self._names[file].parts]
        return self.folder.joinpath(*parts[:-1], f"{parts[-1]}.png")

    def draw_field(self, file: Path, reading: Any) -> None:
        """Draw a field with what was found; a failure is kept and the next one is drawn."""
        if self.folder is not None:
            high, wide = reading.field.shape[:2]
            self._save(file, (high, wide), reading.display, self.path_of(file))

    def draw_sheets(self, table: pd.DataFrame) -> None:
        """Draw sheets of cells, one type after the other, the least sure first."""
        if self.folder is None:
            return

        for label, part in table[table["label"] != ""].groupby("label"):
            part = part.sort_values("confidence", kind="stable")
            for number, start in enumerate(range(0, len(part), SHEET), 1):
                page = part.iloc[start : start + SHEET]
                shown, captions = [], []
                for file, sure in zip(page["file"], page["confidence"], strict=True):
                    try:
                        image = read_image(self._files[file])
                        _refuse_shape(*image.shape[:2])
                    except (ValueError, OSError) as error:
                        self.failures.append((file, str(error)))
                        continue
                    name = printable(Path(file).name)
                    shown.append(image)
                    captions.append(f"{name}\n{sure:.2f}" if sure == sure else name)
                if shown:
                    path = self.folder / f"{file_name(str(label))}-{number:02d}.png"
                    title = f"{label}: {len(part)} cells, page {number}"
                    display = inspection.CellGalleryDisplay(shown, captions=captions)
                    self._save(path, (1, 1), lambda d=display: d, path, title=title)

    def _save(
        self, file: Path, size: tuple[int, int], display: Any, path: Path, **options: Any
    ) -> None:
        try:
            _refuse_shape(*size)
            path.parent.mkdir(parents=True, exist_ok=True)
            display().save(path, **options)
        except Exception as error:  # a drawing that fails costs no result
            raise_if_interrupted(error)
            self.failures.append(
                (written_path(file), f"not drawn: {error or type(error).__name__}")
            )


def _refuse_shape(high: int, wide: int) -> None:
    if max(high, wide) > LONGEST_SHAPE * min(high, wide):
        raise ValueError(
            f"{wide} x {high} pixels is more than {LONGEST_SHAPE} times as long as it is high, "
            "which no drawing can show."
        )


def written_path(file: Path) -> str:
    r"""Return a path as it stands in tables; bytes that are no text are written out.

    Examples
    --------
    >>> written_path(Path("cell\udcff.png")) == "cell" + chr(92) + "udcff.png"
    True
    """
    return str(file).encode(errors="backslashreplace").decode()


def file_name(text: str) -> str:
    r"""Return a name of a file for any text: different texts have different names.

    Examples
    --------
    >>> file_name("Ph+"), file_name("Ph?"), file_name("a$\\frac$b")
    ('Ph+', 'Ph%3F', 'a%24%5Cfrac%24b')
    >>> texts = ["Ph*", "Ph/", "Ph%3F", "..", ".", "", "x" * 300, "x" * 301, "\udcff", "\u00e9"]
    >>> names = {file_name(text) for text in ["Ph+", "Ph?", *texts]}
    >>> len(names), any("/" in name or name in {".", ".."} for name in names)
    (12, False)
    """
    kept = "".join(
        c if c.isprintable() and c not in FORBIDDEN else _escaped(c) for c in text
    ).replace("..", "%2E%2E")
    if len(os.fsencode(kept)) <= LONGEST_NAME:
        return {"": "%", ".": "%2E"}.get(kept, kept)
    import hashlib

    digest = hashlib.sha256(kept.encode(errors="surrogateescape")).hexdigest()[:12]
    return f"{os.fsencode(kept)[: LONGEST_NAME - 14].decode(errors='ignore')}-{digest}"


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogateescape"))


def _place(file: Path, roots: Sequence[Path]) -> Path:
    """Return where an image lies below what was given, with the folder's name where several are."""
    for i, root in enumerate(roots):
        if root.is_dir() and file.is_relative_to(root):
            below = file.relative_to(root)
            if len(roots) == 1:
                return below
            same = [other for other in roots[:i] if other.resolve().name == root.resolve().name]
            name = root.resolve().name + (f"-{len(same) + 1}" if same else "")
            return Path(name) / below
    folders = sorted({str(root.parent) for root in roots if not root.is_dir()})
    if len(folders) < 2:
        return Path(file.name)
    return Path(f"files-{folders.index(str(file.parent)) + 1}") / file.name
