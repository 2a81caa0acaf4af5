"""The container of saved models: named entries in a zip, stored as they are, and a checksum.

Nothing in it is compressed, so reading it takes no more memory than the file is long. Anything
else that a zip can hold (compression, encryption, links, folders, one name twice, overlapping or
hidden entries) is refused before it is read.
"""

import hashlib
import io
import os
import re
import stat
import struct
import zipfile
from pathlib import Path

from hemaest._files import write_whole
from hemaest.persistence._values import UnsafeFileError

__all__ = ["Container", "pack", "write_container"]

MARK = b"hemaest sha256 "
DIGEST = 64
MAX_ENTRIES = 1000
MAX_JSON = 16 << 20
NAME = re.compile(r"[a-z]{1,20}(-[0-9]{1,4})?\.(json|safetensors)")
END = struct.Struct("<4s4H2LH")
CHUNK = 1 << 20


def pack(entries: dict[str, bytes]) -> bytes:
    """Return the bytes of a container: the zip, whose comment ends in the checksum of the rest."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            # a fixed time: the same model gives the same bytes
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
        archive.comment = MARK + b"0" * DIGEST
    content = stream.getvalue()[:-DIGEST]
    return content + hashlib.sha256(content).hexdigest().encode()


def write_container(entries: dict[str, bytes], path: str | os.PathLike[str]) -> Path:
    """Write a container, which is there only when it is whole."""
    return write_whole(path, pack(entries))


class Container:
    """An open container whose checksum is right.

    Parameters
    ----------
    path : str or path-like
        The file.

    Attributes
    ----------
    checksum : str
        SHA-256 of all but itself.
    names : list of str
        Of the entries.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise ValueError(f"{path} is no file.")
            self._file = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise FileNotFoundError(f"{path} cannot be read: {error.strerror}.") from None
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _open(self) -> None:
        self.checksum = self._checked()
        comment = len(MARK) + DIGEST
        self._file.seek(-END.size - comment, os.SEEK_END)
        mark, disk, start, here, total, _, _, length = END.unpack(self._file.read(END.size))
        if (mark, disk, start, length) != (b"PK\5\6", 0, 0, comment) or here != total:
            raise UnsafeFileError(f"{self.path} is no container of hemaest.")
        if total > MAX_ENTRIES:
            raise UnsafeFileError(f"{self.path} holds more than {MAX_ENTRIES} entries.")
        try:  # zipfile calls what it does not support, such as encryption, not implemented
            self._archive = zipfile.ZipFile(self._file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UnsafeFileError(f"{self.path} cannot be read as a zip: {error}") from None
        self._entries = self._archive.infolist()
        self._refuse_strange_entries()
        self.names = [entry.filename for entry in self._entries]

    def _checked(self) -> str:
        """Return the checksum, and refuse a file that was cut or changed, or is of another kind."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        head = self._file.read(64)
        self._file.seek(max(0, size - DIGEST - len(MARK)))
        mark, digest = self._file.read(len(MARK)), self._file.read()
        if not (head.startswith(b"PK") and mark == MARK):
            raise ValueError(
                f"{self.path} is cut off: its end, with the checksum, is missing. Copy it again."
                if head.startswith(b"PK") or b"PK\x03\x04" in head
                else f"{self.path} is no file of hemaest.persistence.save. (Models of joblib.dump "
                "are read by joblib.load, if you trust their maker.)"
            )
        self._file.seek(0)
        hashed, left = hashlib.sha256(), size - DIGEST
        while left:
            part = self._file.read(min(CHUNK, left))
            hashed.update(part)
            left -= len(part)
        if hashed.hexdigest().encode() != digest:
            raise ValueError(
                f"{self.path} was changed or damaged: its checksum is wrong. Copy it again."
            )
        return digest.decode()

    def _refuse_strange_entries(self) -> None:
        names = [entry.filename for entry in self._entries]
        if "estimator.pickle" in names:
            raise UnsafeFileError(
                f"{self.path} was written by an older version of hemaest, in a format that could "
                "run code when loaded; it is no longer read. Fit the model and save it again."
            )
        if len(set(names)) < len(names):
            raise UnsafeFileError(f"{self.path} holds two entries of one name.")
        expected = 0
        for entry in self._entries:
            shown = f"{self.path} holds an entry {entry.filename[:80]!r} that"
            if not NAME.fullmatch(entry.filename):
                raise UnsafeFileError(f"{shown} save does not write.")
            plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & ~0x800
            if not plain or entry.compress_size != entry.file_size:
                raise UnsafeFileError(f"{shown} is compressed or encrypted.")
            if entry.header_offset != expected:
                raise UnsafeFileError(f"{shown} overlaps another or lies outside.")
            expected += 30 + len(entry.filename) + entry.file_size
        if expected != self._archive.start_dir:
            raise UnsafeFileError(f"{self.path} holds more than its entries.")

    def read(self, name: str) -> bytes:
        """Return the content of an entry."""
        if name not in self.names:
            raise UnsafeFileError(f"{self.path} holds no {name}.")
        entry = self._archive.getinfo(name)
        if name.endswith(".json") and entry.file_size > MAX_JSON:
            raise UnsafeFileError(f"{self.path}: {name} is larger than {MAX_JSON >> 20} MiB.")
        try:  # zipfile also raises NotImplementedError: a compression that it does not know
            return self._archive.read(entry)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise UnsafeFileError(f"{self.path}: {name} cannot be read: {error}") from None
