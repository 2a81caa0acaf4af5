"""A whole slide image: opened when it is needed, read in pieces at any reduction.

OpenSlide reads the formats of scanners (SVS, NDPI, MRXS, SCN, DICOM, pyramidal TIFF); tifffile
reads the OME-TIFF whose pyramid OpenSlide does not see. Used by ``count_slide``.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Slide"]


class _Reader(Protocol):
    """What both libraries are brought to."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]:
        """Width and height of each level, the finest first."""
        ...

    @property
    def um_per_pixel(self) -> float | None:
        """Micrometers a pixel of the finest level."""
        ...

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return pixels of a level, all of them inside it."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Slide:
    """A whole slide image.

    The file is opened at the first read, in each process for itself: a slide may be pickled and
    sent to workers.

    Parameters
    ----------
    path : path
        The file (for MRXS and DICOM: the one that OpenSlide takes).
    um_per_pixel : float, optional
        Micrometers a pixel at full resolution, where the file does not say or says it wrongly.

    Attributes
    ----------
    size : tuple of int
        Width and height at full resolution.
    level_sizes : list of tuples of int
        Width and height of each level that the file holds, the finest first.
    um_per_pixel : float or None
        As given, or as the file says.
    scale_source : {"given", "file", "unknown"}
        Where ``um_per_pixel`` is from.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import tifffile
    >>> from hemaest.scale import Slide
    >>> path = tempfile.mkdtemp() + "/slide.tif"
    >>> pixels = np.full((600, 800, 3), 220, np.uint8)
    >>> tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb")
    >>> with Slide(path, um_per_pixel=0.25) as slide:
    ...     slide.size, slide.read(700, 500, 200, 200).shape
    ((800, 600), (200, 200, 3))
    """

    def __init__(self, path: str | os.PathLike[str], *, um_per_pixel: float | None = None) -> None:
        self.path = Path(path)
        if um_per_pixel is not None and not 0.01 <= um_per_pixel <= 20:
            raise ValueError(f"um_per_pixel is {um_per_pixel}; it must be 0.01 to 20 micrometers.")
        self._given = um_per_pixel
        self._reader: _Reader | None = None
        self._lock = Lock()

    def __repr__(self) -> str:
        """Return the call that made it."""
        return f"Slide({str(self.path)!r}, um_per_pixel={self._given})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind."""
        return {"path": self.path, "_given": self._given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open again when it is needed."""
        self.__init__(state["path"], um_per_pixel=state["_given"])  # type: ignore[misc]

    def __enter__(self) -> Self:
        """Open the file."""
        self._opened()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _opened(self) -> _Reader:
        with self._lock:
            if self._reader is None:
                self._reader = _open(self.path)
            return self._reader

    @property
    def size(self) -> tuple[int, int]:
        """Width and height at full resolution."""
        return self._opened().sizes[0]

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        """Width and height of each level that the file holds, the finest first."""
        return [(int(width), int(height)) for width, height in self._opened().sizes]

    @property
    def um_per_pixel(self) -> float | None:
        """Micrometers a pixel at full resolution."""
        return self._given if self._given is not None else self._opened().um_per_pixel

    @property
    def scale_source(self) -> str:
        """Where ``um_per_pixel`` is from."""
        if self._given is not None:
            return "given"
        return "unknown" if self._opened().um_per_pixel is None else "file"

    def read(
        self, x: int, y: int, width: int, height: int, *, downsample: float = 1.0
    ) -> NDArray[np.uint8]:
        """Return a part of the slide as RGB; what lies outside is white.

        Parameters
        ----------
        x, y, width, height : int
            The part, in pixels of full resolution.
        downsample : float, default=1
            How much smaller the result is. It is made from the next finer level by area averaging.

        Returns
        -------
        image : uint8 array (round(height / downsample), round(width / downsample), 3)
        """
        if width < 1 or height < 1 or downsample < 1:
            raise ValueError(
                f"width={width}, height={height}, downsample={downsample} must be at least 1."
            )
        reader = self._opened()
        full = reader.sizes[0]
        factors = [full[0] / w for w, _ in reader.sizes]
        level = max(i for i, f in enumerate(factors) if i == 0 or f <= downsample * 1.001)
        factor = factors[level]
        x0, y0 = (int(np.floor(v / factor)) for v in (x, y))
        x1, y1 = (int(np.ceil(v / factor)) for v in (x + width, y + height))
        image = _inside(reader, level, x0, y0, x1 - x0, y1 - y0)
        size = (max(1, round(width / downsample)), max(1, round(height / downsample)))
        if image.shape[1::-1] == size:
            return image
        import cv2

        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    def thumbnail(self, longest: int = 1024) -> NDArray[np.uint8]:
        """Return the whole slide, reduced so that its longer side has ``longest`` pixels."""
        width, height = self.size
        return self.read(0, 0, width, height, downsample=max(1.0, max(width, height) / longest))


def _inside(
    reader: _Reader, level: int, x: int, y: int, width: int, height: int
) -> NDArray[np.uint8]:
    """Read what lies inside a level and surround it with white."""
    w, h = reader.sizes[level]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + width, w), min(y + height, h)
    if (x0, y0, x1, y1) == (x, y, x + width, y + height):
        return reader.read(level, x, y, width, height)
    image = np.full((height, width, 3), 255, np.uint8)
    if x1 > x0 and y1 > y0:
        image[y0 - y : y1 - y, x0 - x : x1 - x] = reader.read(level, x0, y0, x1 - x0, y1 - y0)
    return image


def _open(path: Path) -> _Reader:
    if not path.exists():
        raise FileNotFoundError(f"there is no slide {path}.")
    try:
        import openslide
    except ImportError:
        raise ImportError(
            'slides need openslide-python and openslide-bin: pip install "hemaest[slides]"'
        ) from None
    problem = "OpenSlide does not know the format"
    try:
        found = _OpenSlideReader(openslide.OpenSlide(path))
    except openslide.OpenSlideError as error:
        problem, found = str(error), None
    if path.suffix.lower() in {".tif", ".tiff"} and (found is None or len(found.sizes) == 1):
        # OpenSlide sees no pyramid in the sub-images of OME-TIFF
        try:
            other = _TiffReader(path)
        except Exception as error:
            problem = f"{problem}; tifffile: {error}"
        else:
            if found is None or len(other.sizes) > 1:
                if found is not None:
                    found.close()
                return other
            other.close()
    if found is None:
        raise ValueError(
            f"{path} cannot be opened as a slide ({problem}). Allowed are the formats of OpenSlide "
            "and tiled TIFF; for a plain image use SmearDetector."
        )
    return found


class _OpenSlideReader:
    """Levels of a slide through OpenSlide."""

    def __init__(self, slide: Any) -> None:
        self._slide = slide
        self.sizes = list(slide.level_dimensions)
        self._factors = [self.sizes[0][0] / w for w, _ in self.sizes]
        value = slide.properties.get("openslide.mpp-x")
        self.um_per_pixel = float(value) if value and 0.01 <= float(value) <= 20 else None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return pixels of a level; what was not scanned is white."""
        factor = self._factors[level]
        corner = (round(x * factor), round(y * factor))
        rgba = np.asarray(self._slide.read_region(corner, level, (width, height)))
        import cv2

        image = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), np.uint8)
        alpha = cv2.extractChannel(rgba, 3)
        if alpha.min() < 255:
            image[alpha == 0] = 255
        return image

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


class _TiffReader:
    """Levels of a tiled TIFF through tifffile, tile by tile."""

    def __init__(self, path: Path) -> None:
        import tifffile

        self._file = tifffile.TiffFile(path)
        series = self._file.series[0]
        pages = [level.keyframe for level in series.levels]
        self._pages = [p for p in pages if p.is_tiled and p.samplesperpixel == 3]
        if not self._pages or self._pages[0] is not pages[0]:
            self._file.close()
            raise ValueError("it has no tiled RGB image")
        self.sizes = [(p.imagewidth, p.imagelength) for p in self._pages]
        self.um_per_pixel = _tiff_scale(self._file, self._pages[0])
        self._lock = Lock()

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return pixels of a level, decoding the tiles that hold them."""
        page = self._pages[level]
        wide, high = page.tilewidth, page.tilelength
        across = -(-page.imagewidth // wide)
        image = np.full((height, width, 3), 255, np.uint8)
        for row in range(y // high, (y + height - 1) // high + 1):
            for column in range(x // wide, (x + width - 1) // wide + 1):
                tile = self._tile(page, row * across + column)
                if tile is None:
                    continue
                top, left = row * high, column * wide
                y0, y1 = max(top, y), min(top + tile.shape[0], y + height)
                x0, x1 = max(left, x), min(left + tile.shape[1], x + width)
                if y1 > y0 and x1 > x0:
                    image[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                        y0 - top : y1 - top, x0 - left : x1 - left
                    ]
        return image

    def _tile(self, page: Any, number: int) -> NDArray[np.uint8] | None:
        count = page.databytecounts[number]
        if count == 0:
            return None
        with self._lock:
            handle = self._file.filehandle
            handle.seek(page.dataoffsets[number])
            data = handle.read(count)
        tile, _, _ = page.decode(data, number, jpegtables=page.jpegtables)
        if tile is None or tile.dtype != np.uint8:
            raise ValueError("tiles must hold 8 bits a channel.")
        return np.asarray(tile).reshape(tile.shape[-3:])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _tiff_scale(file: Any, page: Any) -> float | None:
    """Return micrometers a pixel from OME metadata or the resolution tags."""
    if file.ome_metadata:
        import xml.etree.ElementTree as ET

        for element in ET.fromstring(file.ome_metadata).iter():
            if element.tag.endswith("Pixels") and "PhysicalSizeX" in element.attrib:
                unit = element.attrib.get("PhysicalSizeXUnit", "µm")
                factor = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}.get(unit)
                value = float(element.attrib["PhysicalSizeX"])
                return value * factor if factor and 0.01 <= value * factor <= 20 else None
    tags = page.tags
    if "XResolution" in tags and "ResolutionUnit" in tags:
        above, below = tags["XResolution"].value
        length = {2: 25_400.0, 3: 10_000.0}.get(int(tags["ResolutionUnit"].value))
        if length and above:
            value = length * below / above
            # 72 or 96 dots an inch are what programs write who know nothing
            return value if 0.01 <= value <= 20 else None
    return None
