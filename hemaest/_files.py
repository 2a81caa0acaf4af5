"""Write files that are there only when they are whole, and say beforehand where none can be.

Called by whatever writes a result: saved models, tables, reports, checkpoints, cached folds.
"""

import errno
import os
import re
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["check_writable", "remove_unfinished", "write_whole"]

UNFINISHED = re.compile(r"\.(?P<pid>[0-9]+)\.part$")


def write_whole(path: str | os.PathLike[str], write: bytes | Callable[[IO[bytes]], Any]) -> Path:
    """Write a file beside its place, and put it there when it is complete.

    Parameters
    ----------
    path : str or path-like
        The file; a file that is there stays until the new one is complete.
    write : bytes or callable
        The content, or what writes it to an open binary file.

    Returns
    -------
    path : Path

    Raises
    ------
    OSError
        Of the kind that occurred (no room, no permission, name too long); its message names the
        path. What was written so far is removed.

    Examples
    --------
    >>> folder = tempfile.mkdtemp()
    >>> write_whole(f"{folder}/table.csv", b"file,label").read_text()
    'file,label'
    >>> [file.name for file in Path(folder).iterdir()]
    ['table.csv']
    """
    target = Path(path)
    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target)
        part = _part(target, os.getpid())
        with open(part, "xb") as file:
            if callable(write):
                write(file)
            else:
                file.write(write)
            file.flush()
            os.fsync(file.fileno())  # a power failure too leaves the old file or the new one
        os.replace(part, target)
    except OSError as error:
        raise named(error, target) from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink()
    return target


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left beside a path; what a living one writes stays.

    Examples
    --------
    >>> target = Path(tempfile.mkdtemp()) / "model.hemaest"
    >>> part = target.with_name("model.hemaest.999999999.part")
    >>> part.touch()
    >>> remove_unfinished(target)
    >>> part.exists()
    False
    """
    target = Path(path)
    with suppress(OSError):
        for file in target.parent.iterdir():
            found = UNFINISHED.search(file.name)
            if found and file == _part(target, int(found["pid"])) and not _alive(found["pid"]):
                with suppress(OSError):
                    file.unlink()


def check_writable(path: str | os.PathLike[str], *, n_bytes: int = 1 << 16) -> None:
    """Raise unless a file of some size can be written at a path; nothing is left there.

    Call it before the work whose result goes there.

    Parameters
    ----------
    path : str or path-like
        The file to be.
    n_bytes : int, default=65536
        The room that it needs at least.

    Examples
    --------
    >>> check_writable(tempfile.mkdtemp() + "/" + "x" * 300)
    Traceback (most recent call last):
    ...
    OSError: .../xxx...xxx cannot be written: File name too long.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file in it")
        folder = next(parent for parent in target.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder")
        if target.parent.exists():
            with suppress(FileNotFoundError):
                os.lstat(target)  # raises where the name is too long
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * n_bytes)
    except OSError as error:
        raise named(error, target) from error


def named(error: OSError, path: Path) -> OSError:
    """Return an error of the same kind whose message names the path and the reason."""
    shown = str(path)
    if len(shown) > 200:
        shown = f"{shown[:-240]}{path.name[:3]}...{path.name[-3:]}"
    made = type(error)(f"{shown} cannot be written: {error.strerror or error}.")
    made.errno = error.errno
    return made


def _part(target: Path, pid: int) -> Path:
    name = target.name
    if len(os.fsencode(name)) > 200:  # the longest name allowed leaves no room for an ending
        name = f"{zlib.crc32(os.fsencode(name)):08x}"
    return target.with_name(f"{name}.{pid}.part")


def _alive(pid: str) -> bool:
    if os.name == "nt":  # there, signal 0 is no question
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
