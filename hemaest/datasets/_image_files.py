"""Files below a folder: image files and tables, sorted, and which of them cannot be read.

Every loader, the command line and ``hemaest.scale`` list their files here. Hidden files and what
file browsers and archives leave behind are passed over; links to folders are followed.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hemaest._parallel import thread_pool
from hemaest._progress import track
from hemaest._words import some
from hemaest.images import EXTENSIONS, ImageRef

# left behind by file browsers and archives, besides names that begin with a dot
DEBRIS = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
# image formats that are not read
OTHER_IMAGES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".raw", ".dng", ".cr2", ".nef"}
    | {".dcm", ".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".nd2", ".lif", ".oib", ".vsi"}
)
NAMED = 3  # examples in a warning
SAVE_AS = "save it as RGB in a JPEG, PNG, BMP, WebP or TIFF file"


@dataclass(frozen=True)
class Listing:
    """What lies below a folder: every file is in one of the three parts.

    Attributes
    ----------
    files : list of Path
        Image files, sorted.
    left_out : dict of Path to str
        Image files and folders that cannot be taken, and why.
    others : Counter of str
        How many other files there are, by extension; "hidden" are those of file browsers too.
    """

    files: list[Path]
    left_out: dict[Path, str]
    others: Counter[str]

    def others_in_words(self) -> str:
        """Return how many other files there are, or an empty string.

        Examples
        --------
        >>> Listing([], {}, Counter({".txt": 2, "hidden": 1})).others_in_words()
        '3 other files are no images (2 .txt, 1 hidden)'
        """
        if not self.others:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.others.most_common())
        n = self.others.total()
        return (
            f"1 other file is no image ({kinds})"
            if n == 1
            else f"{n} other files are no images ({kinds})"
        )


def list_files(folder: str | os.PathLike[str]) -> Listing:
    """Return the files below a folder, at any depth, and what is left out of them.

    Parameters
    ----------
    folder : str or path-like
        Where to look.

    Returns
    -------
    listing : Listing

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("2.png", "1.gif", "notes.txt", ".3.png"):
    ...     (folder / name).touch()
    >>> found = list_files(folder)
    >>> [file.name for file in found.files], dict(found.others)
    (['2.png'], {'hidden': 1, '.txt': 1})
    >>> [(file.name, reason[:16]) for file, reason in found.left_out.items()]
    [('1.gif', '.gif is not read')]
    """
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    others: Counter[str] = Counter()
    closed: list[OSError] = []
    for here, _, names in walk(Path(folder), closed.append, others):
        for name in names:
            extension, path = _extension(name), here / name
            if extension in OTHER_IMAGES:
                left_out[path] = f"{extension} is not read; {SAVE_AS}."
            elif extension not in EXTENSIONS:
                others[extension or "without extension"] += 1
            elif path.is_file() or not path.exists():  # a link to nowhere fails when it is read
                files.append(path)
            else:
                left_out[path] = "it is no regular file (a pipe, socket or device)."
    for error in closed:
        left_out[Path(error.filename)] = (
            f"this folder cannot be read ({error.strerror}); change its permissions."
        )
    return Listing(files, left_out, others)


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files below a folder, sorted, without hidden files and debris.

    A warning counts and names what is left out although it is, or may hold, an image: files of
    other image formats, and folders that cannot be read.

    Parameters
    ----------
    folder : str or path-like
        Where to look, at any depth.

    Returns
    -------
    files : list of Path

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("2.png", "1.jpg", "notes.txt"):
    ...     (folder / name).touch()
    >>> [file.name for file in image_files(folder)]
    ['1.jpg', '2.png']
    """
    found = list_files(folder)
    if found.left_out:
        shown = [
            f"{path.relative_to(folder).as_posix()}: {why}" for path, why in found.left_out.items()
        ]
        warnings.warn(f"{folder}: {len(shown)} left out ({some(shown, NAMED)})", stacklevel=2)
    return found.files


def _extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def walk(
    top: Path,
    on_error: Callable[[OSError], None] | None = None,
    passed_over: Counter[str] | None = None,
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder with its subfolders and files, as ``os.walk`` does.

    Names are sorted and debris is left out; links to folders are followed, but not those that
    lead back to a folder on the way. Subfolders removed from the yielded list are not entered.
    ``on_error`` gets the error of each folder that cannot be read; ``passed_over`` counts hidden
    files and folders.
    """
    for root, folders, names in os.walk(top, followlinks=True, onerror=on_error):
        here = Path(root)
        if passed_over is not None:
            passed_over.update("hidden" for name in (*folders, *names) if is_debris(name))
        folders[:] = sorted(
            name for name in folders if not is_debris(name) and not _leads_back(top, here / name)
        )
        yield here, folders, sorted(name for name in names if not is_debris(name))


def is_debris(name: str) -> bool:
    """Return whether a file or folder is hidden or left behind by a file browser.

    Examples
    --------
    >>> is_debris("._cell.jpg"), is_debris("cell.jpg")
    (True, False)
    """
    return name.startswith(".") or name.lower() in DEBRIS


def _leads_back(top: Path, path: Path) -> bool:
    if not path.is_symlink():
        return False
    target = path.resolve()
    steps = path.parent.relative_to(top).parts
    on_the_way = (top.joinpath(*steps[:i]) for i in range(len(steps) + 1))
    return any(above.resolve().is_relative_to(target) for above in on_the_way)


def subfolder(folder: Path, *names: str) -> Path | None:
    """Return the one folder of these names, at any depth; None where there is none."""
    wanted = {folder_key(name) for name in names}
    matching: list[Path] = []
    for here, folders, _ in walk(folder):
        matching += [here / name for name in folders if folder_key(name) in wanted]
        folders[:] = [name for name in folders if folder_key(name) not in wanted]
    if len(matching) > 1:
        where = ", ".join(f"{f.relative_to(folder).as_posix()}/" for f in matching)
        raise ValueError(
            f"{folder} holds {len(matching)} folders that could be {names[0]}: {where}. Give the "
            "folder around the one that is meant, or move the others away."
        )
    return matching[0] if matching else None


def folder_key(name: str) -> str:
    """Return what names of folders are compared by: letters and digits, without case.

    Examples
    --------
    >>> folder_key("Test-A") == folder_key("test a")
    True
    """
    return "".join(c for c in name.lower() if c.isalnum())


def files_with(folder: Path, extension: str) -> list[Path]:
    """Return the files of one extension at any depth, the shallowest first, without debris."""
    files = [
        here / name
        for here, _, names in walk(folder)
        for name in names
        if _extension(name) == extension
    ]
    return sorted(files, key=lambda file: (len(file.parts), file))


def tables_named(folder: Path, *names: str) -> list[Path]:
    """Return the CSV files of these names at any depth; letters and digits are compared."""
    wanted = {folder_key(name) for name in names}
    return [file for file in files_with(folder, ".csv") if folder_key(file.stem) in wanted]


def reasons_unreadable(files: Sequence[Path]) -> list[str]:
    """Return for each file why it cannot be read; this reads and decodes them all."""
    with thread_pool() as pool:
        return list(track(pool.map(why_unreadable, files), "reading images", total=len(files)))


def why_unreadable(file: Path) -> str:
    """Return why a file cannot be read as a color image; empty where it can.

    Examples
    --------
    >>> why_unreadable(Path("nowhere.png"))
    'nowhere.png cannot be read: No such file or directory.'
    """
    try:
        ImageRef(file).read()
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def failure_table(names: Sequence[str], reasons: Sequence[str]) -> pd.DataFrame:
    """Return the files that have a reason, as a table of file and reason."""
    rows = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason]
    return pd.DataFrame(rows, columns=["file", "reason"], dtype=str)


def image_refs(files: Sequence[Path]) -> list[ImageRef]:
    """Return references to the files; one that is gone is named, with the way out."""
    try:
        return [ImageRef(file) for file in files]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} It is a link to nowhere, or it is named in a table and is not in the folder; "
            "copy it again, or load with verify=True, which leaves out what cannot be read and "
            "lists it in `failures`."
        ) from error
