"""Walking a folder of images: sorted, through links, without debris."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from hemaest.images import EXTENSIONS

# what file browsers and archives leave behind, besides names that begin with a dot
DEBRIS = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
# images all the same, but not in a form that is read
OTHER_IMAGES = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".raw", ".dng", ".cr2", ".nef"}
    | {".dcm", ".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".nd2", ".lif", ".oib", ".vsi"}
)
NAMED = 3  # examples in a warning


def is_debris(path: Path) -> bool:
    """Return whether a path is hidden or left behind by a file browser.

    Examples
    --------
    >>> is_debris(Path("._cell.jpg")), is_debris(Path("cell.jpg"))
    (True, False)
    """
    return path.name.startswith(".") or path.name.lower() in DEBRIS


def folder_key(name: str) -> str:
    """Return what names of folders are compared by: letters and digits, without case.

    Examples
    --------
    >>> folder_key("Test-A") == folder_key("test a")
    True
    """
    return "".join(c for c in name.lower() if c.isalnum())


def walk(
    top: Path, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder with its subfolders and files, as ``os.walk`` does.

    Names are sorted and debris is left out; links to folders are followed, but not those that
    lead back to a folder on the way. Subfolders taken out of the yielded list are not entered.
    ``on_error`` gets the error of each folder that cannot be read.
    """
    for root, folders, names in os.walk(top, followlinks=True, onerror=on_error):
        here = Path(root)
        folders[:] = sorted(
            f for f in folders if not is_debris(Path(f)) and not _leads_back(top, here / f)
        )
        yield here, folders, sorted(name for name in names if not is_debris(Path(name)))


def _leads_back(top: Path, path: Path) -> bool:
    if not path.is_symlink():
        return False
    target = path.resolve()
    steps = path.parent.relative_to(top).parts
    on_the_way = (top.joinpath(*steps[:i]) for i in range(len(steps) + 1))
    return any(above.resolve().is_relative_to(target) for above in on_the_way)


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted, without hidden files and debris.

    A warning counts and names what is left out although it is, or may hold, an image: files of
    other image formats, and folders that cannot be read.

    Parameters
    ----------
    folder : Path
        Where to look.

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
    files: list[Path] = []
    others: list[str] = []
    closed: list[OSError] = []
    for here, _, names in walk(folder, closed.append):
        for name in names:
            kind = Path(name).suffix.lower()
            if kind in EXTENSIONS:
                files.append(here / name)
            elif kind in OTHER_IMAGES:
                others.append((here / name).relative_to(folder).as_posix())
    if others:
        kinds = ", ".join(sorted({Path(name).suffix.lower() for name in others}))
        warnings.warn(
            f"{folder}: {_some(others, 'image file')} left out, because {kinds} is not read; save "
            "them as RGB in JPEG, PNG, BMP, WebP or TIFF files.",
            stacklevel=2,
        )
    if closed:
        names = [f"{error.filename} ({error.strerror})" for error in closed]
        warnings.warn(
            f"{folder}: {_some(names, 'folder')} left out, because it cannot be read; change its "
            "permissions.",
            stacklevel=2,
        )
    return files


def _some(names: list[str], what: str) -> str:
    """Return how many there are, and the first few of them.

    Examples
    --------
    >>> _some(["a.gif", "b.gif"], "image file")
    '2 image files (a.gif, b.gif)'
    """
    shown = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({shown})"


def subfolder(folder: Path, *names: str) -> Path | None:
    """Return the one folder of these names, at any depth; None where there is none."""
    wanted = {folder_key(name) for name in names}
    found: list[Path] = []
    for here, folders, _ in walk(folder):
        found += [here / name for name in folders if folder_key(name) in wanted]
        folders[:] = [name for name in folders if folder_key(name) not in wanted]
    if len(found) > 1:
        where = ", ".join(f"{f.relative_to(folder).as_posix()}/" for f in found)
        raise ValueError(
            f"{folder} holds {len(found)} folders that could be {names[0]}: {where}. Give the "
            "folder around the one that is meant, or move the others away."
        )
    return found[0] if found else None
