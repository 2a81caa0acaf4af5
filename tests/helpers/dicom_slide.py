"""A slide as DICOM: one file for each level, tiles of plain pixels in one dense grid."""

import struct
from pathlib import Path

import numpy as np

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
LONG = {"OB", "OW", "SQ"}


def write_dicom(folder: Path, levels: list[np.ndarray], um_per_pixel: float, tile: int) -> Path:
    """Write the levels of a pyramid; return the file of the finest."""
    paths = [folder / f"level{i}.dcm" for i in range(len(levels))]
    for number, (path, pixels) in enumerate(zip(paths, levels, strict=True)):
        spacing = um_per_pixel / 1000 * levels[0].shape[1] / pixels.shape[1]
        path.write_bytes(_level(pixels, number, spacing, tile))
    return paths[0]


def _level(pixels: np.ndarray, number: int, spacing: float, tile: int) -> bytes:
    height, width = pixels.shape[:2]
    down, across = -(-height // tile), -(-width // tile)
    filled = np.full((down * tile, across * tile, 3), 255, np.uint8)
    filled[:height, :width] = pixels
    frames = filled.reshape(down, tile, across, tile, 3).swapaxes(1, 2).tobytes()
    name = f"1.2.3.4.{number + 1}"
    measures = _element(0x0028, 0x0030, "DS", f"{spacing:.8f}\\{spacing:.8f}")
    shared = _sequence(0x5200, 0x9229, _sequence(0x0028, 0x9110, measures))
    kind = (
        "ORIGINAL\\PRIMARY\\VOLUME\\NONE" if number == 0 else "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED"
    )
    meta = b"".join([
        _element(0x0002, 0x0001, "OB", b"\0\1"),
        _element(0x0002, 0x0002, "UI", WHOLE_SLIDE),
        _element(0x0002, 0x0003, "UI", name),
        _element(0x0002, 0x0010, "UI", EXPLICIT_LITTLE_ENDIAN),
        _element(0x0002, 0x0012, "UI", "1.2.3.4"),
    ])  # fmt: skip
    body = b"".join([
        _element(0x0008, 0x0008, "CS", kind),
        _element(0x0008, 0x0016, "UI", WHOLE_SLIDE),
        _element(0x0008, 0x0018, "UI", name),
        _element(0x0008, 0x0060, "CS", "SM"),
        _element(0x0020, 0x000D, "UI", "1.2.3.4.100"),
        _element(0x0020, 0x000E, "UI", "1.2.3.4.101"),
        _element(0x0020, 0x0052, "UI", "1.2.3.4.102"),
        _element(0x0020, 0x9311, "CS", "TILED_FULL"),
        _element(0x0028, 0x0002, "US", 3),
        _element(0x0028, 0x0004, "CS", "RGB"),
        _element(0x0028, 0x0006, "US", 0),
        _element(0x0028, 0x0008, "IS", str(down * across)),
        _element(0x0028, 0x0010, "US", tile),
        _element(0x0028, 0x0011, "US", tile),
        _element(0x0028, 0x0100, "US", 8),
        _element(0x0028, 0x0101, "US", 8),
        _element(0x0028, 0x0102, "US", 7),
        _element(0x0028, 0x0103, "US", 0),
        _element(0x0048, 0x0006, "UL", width),
        _element(0x0048, 0x0007, "UL", height),
        _element(0x0048, 0x0303, "UL", 1),
        shared,
        _element(0x7FE0, 0x0010, "OB", frames),
    ])  # fmt: skip
    length = _element(0x0002, 0x0000, "UL", len(meta))
    return b"\0" * 128 + b"DICM" + length + meta + body


def _sequence(group: int, number: int, item: bytes) -> bytes:
    return _element(group, number, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item)


def _element(group: int, number: int, kind: str, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        value = struct.pack("<H" if kind == "US" else "<I", value)
    elif isinstance(value, str):
        value = value.encode()
    value += (b"\0" if kind in {"UI", "OB"} else b" ") * (len(value) % 2)
    size = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", group, number) + kind.encode() + size + value
