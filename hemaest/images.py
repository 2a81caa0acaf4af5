"""The one image type: the gate that every estimator calls, lazy references, reading files.

A set of images is either dense, ``uint8 (n, H, W, C)``, or ragged, a 1-D object array whose items
are ``uint8 (H, W, C)`` arrays or :class:`ImageRef`. ``C`` is 3 (RGB) or 4: RGB and a cell map (see
:mod:`hemaest.cellmap`).
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap

__all__ = ["ImageRef", "check_images", "read_image"]

MAX_PIXELS = 100_000_000
GRAY, RGB = 1, 2  # what tiff files say of their colors (PhotometricInterpretation)
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp"})

Channels = Literal["any", "rgb", "map"]


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A file that is read when it is needed.

    The time of the last change and the size are part of the reference, so a changed file has
    another hash and no cache goes stale.

    Parameters
    ----------
    path : str or path-like
        The image file.
    mtime_ns, size : int, optional
        Looked up when not given.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cell.png"
    >>> Image.new("RGB", (6, 4), "white").save(path)
    >>> ref = ImageRef(path)
    >>> ref.read().shape
    (4, 6, 3)
    """

    path: str | os.PathLike[str]
    mtime_ns: int = -1
    size: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", os.fspath(self.path))
        if self.mtime_ns < 0 or self.size < 0:
            mtime_ns, size = _stat(self.path)
            object.__setattr__(self, "mtime_ns", mtime_ns)
            object.__setattr__(self, "size", size)

    def read(self) -> NDArray[np.uint8]:
        """Return the pixels; refuse a file that changed since the reference was made."""
        if _stat(self.path) != (self.mtime_ns, self.size):
            raise ValueError(
                f"{self.path} was changed after its ImageRef was made; make the reference "
                "again (load the folder again) so that no cached result of the old file is used."
            )
        return read_image(self.path)


def _stat(path: str | os.PathLike[str]) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}.") from error
    return found.st_mtime_ns, found.st_size


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read one RGB image from a JPEG, PNG, BMP, WebP or TIFF file.

    The EXIF orientation is applied. 16-bit values are scaled to 8 bits over their full range. An
    alpha channel is dropped: colors stay as they are stored, and pixels that are wholly
    transparent become white, since their stored color means nothing.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_pixels : int, default=100_000_000
        Larger images are refused after reading their header only.

    Returns
    -------
    image : uint8 array of shape (height, width, 3)

    Raises
    ------
    ValueError
        With the file's name, when it is no readable color image of a sensible size.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cell.png"
    >>> Image.new("RGBA", (2, 1), (200, 0, 0, 0)).save(path)
    >>> read_image(path).tolist()
    [[[255, 255, 255], [255, 255, 255]]]
    """
    name = os.fspath(path)
    if _stat(name)[1] == 0:
        raise ValueError(f"{name} is empty (0 bytes); remove it or copy it again.")
    is_tiff = Path(name).suffix.lower() in {".tif", ".tiff"}
    try:
        pixels = (_read_tiff if is_tiff else _read_with_pillow)(name, max_pixels)
    except Exception as error:  # decoders raise many kinds for broken files
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name} is broken and cannot be decoded: {error}") from error
    return _to_rgb8(pixels, name)


def _refuse_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(
            f"{name} is {width} x {height} pixels, more than the limit of {max_pixels:,}; cut it "
            "into tiles, or call read_image(path, max_pixels=...) if you mean it."
        )
    if width * height < 2:
        raise ValueError(f"{name} is 1 pixel; that is no image of a cell.")


def _read_with_pillow(name: str, max_pixels: int) -> NDArray[Any]:
    import warnings

    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(name) as image:
                _refuse_size(name, *image.size, max_pixels)
                # in place and without a change of mode, no pixel is copied twice
                ImageOps.exif_transpose(image, in_place=True)
                mode = image.mode
                if mode in {"1", "L", "LA", "I", "F"} or mode.startswith("I;"):
                    raise ValueError(
                        f"{name} is a gray image (mode {mode}); hemaest reads stained color "
                        "images. If it is a mask, keep it out of the image folder."
                    )
                has_alpha = mode in {"RGBA", "PA"} or "transparency" in image.info
                if mode == "RGB" and not has_alpha:
                    return np.asarray(image)
                return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is larger than any limit allows: {error}") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name} is no image that can be read; save it as RGB in a JPEG, PNG, BMP, WebP or "
            "TIFF file."
        ) from error


def _read_tiff(name: str, max_pixels: int) -> NDArray[Any]:
    """Read TIFF through tifffile: Pillow cannot read 16-bit color."""
    import tifffile

    try:
        with tifffile.TiffFile(name) as tiff:
            page = tiff.pages[0]
            _refuse_size(name, page.imagewidth, page.imagelength, max_pixels)  # type: ignore[union-attr]
            photometric = int(page.photometric)  # type: ignore[union-attr]
            if page.compression in {6, 7} or photometric not in {GRAY, RGB}:  # type: ignore[union-attr]
                # JPEG inside needs a codec in tifffile, which leaves palettes, CMYK, YCbCr and
                # CIELab as they are stored; Pillow turns them into RGB
                return _read_with_pillow(name, max_pixels)
            pixels = page.asarray()
            tag = page.tags.get("Orientation")  # type: ignore[union-attr]
            if page.planarconfig == 2 and pixels.ndim == 3:  # type: ignore[union-attr]
                pixels = np.moveaxis(pixels, 0, -1)
            return _upright(pixels, int(tag.value) if tag is not None else 1)
    except ValueError as error:
        if str(error).startswith(name):
            raise
        # a compression that tifffile has no codec for
        return _read_with_pillow(name, max_pixels)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation (1 to 8)."""
    if pixels.ndim != 3:
        return pixels
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.transpose(1, 0, 2)
    rows = slice(None, None, -1 if orientation in {3, 4, 7, 8} else 1)
    columns = slice(None, None, -1 if orientation in {2, 3, 6, 7} else 1)
    return pixels[rows, columns]


def _to_rgb8(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] not in {3, 4}:
        raise ValueError(
            f"{name} has shape {pixels.shape}, which is gray or no color image; hemaest reads "
            "RGB (or RGBA) images."
        )
    if pixels.dtype == np.uint16:
        # rounds value / 257 without floats: 65535 -> 255
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise ValueError(
            f"{name} holds {pixels.dtype} values; hemaest reads 8 and 16 bit unsigned integers."
        )
    rgb = np.ascontiguousarray(pixels[..., :3])
    if pixels.shape[2] == 4:
        transparent = pixels[..., 3] == 0
        if transparent.any():
            rgb[transparent] = 255
    return rgb


def as_array(item: Any) -> NDArray[np.uint8]:
    """Return the pixels of one item of X: the array itself, or the referenced file's."""
    return item.read() if isinstance(item, ImageRef) else item


def iter_arrays(X: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of checked X one after the other; files are read as they come."""
    return (as_array(item) for item in X)


def to_object_array(items: Sequence[Any]) -> NDArray[Any]:
    """Return a 1-D object array of the items, also when they are arrays of one shape."""
    result = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        result[i] = item
    return result


def pack(images: Sequence[NDArray[np.uint8]], *, dense: bool) -> NDArray[Any]:
    """Return images as one dense array where ``dense`` says so and sizes allow, else ragged."""
    if dense and len(images) and len({image.shape for image in images}) == 1:
        return np.stack(images)
    return to_object_array(images)


def rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colors of one image (a view)."""
    return image[..., :3]


def cell_map(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the cell map of one image (a view), or None where it has none."""
    return image[..., 3] if image.shape[-1] == 4 else None


def check_images(
    X: Any,
    *,
    channels: Channels = "any",
    min_pixels: int = 2,
    allow_empty: bool = False,
    estimator: object | str | None = None,
) -> NDArray[Any]:
    """Check a set of images and return it in one of the two forms that hemaest uses.

    Parameters
    ----------
    X : array of shape (n, H, W, C), or a sequence of images, ImageRefs or paths
        uint8, with 3 channels (RGB) or 4 (RGB and a cell map).
    channels : {"any", "rgb", "map"}, default="any"
        What the caller can use. ``"map"`` needs the cell map; ``"rgb"`` refuses it. Files count
        as RGB.
    min_pixels : int, default=2
        The smallest image allowed.
    allow_empty : bool, default=False
        Whether no image at all is fine.
    estimator : object or str, optional
        Named in errors.

    Returns
    -------
    X : uint8 array (n, H, W, C) or 1-D object array
        The input itself where it is already in form; never a changed input.

    Examples
    --------
    >>> import numpy as np
    >>> check_images([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]).shape
    (2,)
    >>> check_images(np.zeros((2, 4, 4), np.uint8))
    Traceback (most recent call last):
    ...
    ValueError: X has shape (2, 4, 4)...
    """
    where = _where(estimator)
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUT":
        X = _check_dense(X, where)
        shape = X.shape[1:] if len(X) else None
        items: Any = X
    else:
        X = items = _as_ragged(X, where)
        shape = None
    if len(X) == 0:
        if allow_empty:
            return X
        raise ValueError(f"{where}X holds no image (0 samples); a minimum of 1 is required.")
    if shape is not None:
        _check_shape(shape, min_pixels, f"{where}each image")
        _check_channels(shape[2], channels, where, "X")
        if shape[2] == 4:
            for i, image in enumerate(X):
                _check_map(image, f"{where}image {i}")
        return X
    _check_items(items, channels, min_pixels, where)
    return X


def _where(estimator: object | str | None) -> str:
    if estimator is None:
        return ""
    name = estimator if isinstance(estimator, str) else type(estimator).__name__
    return f"{name}: "


def _check_dense(X: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if X.ndim != 4:
        hint = " One image alone goes in as image[None]." if X.ndim == 3 else ""
        raise ValueError(
            f"{where}X has shape {X.shape}; images come as (n, height, width, channels), or as a "
            f"sequence of (height, width, channels).{hint}"
        )
    return _check_dtype(X, f"{where}X")


def _check_dtype(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            raise ValueError(f"{name} contains NaN and is {array.dtype}; images are uint8.")
        scale = " (values seem to be 0 to 1: multiply by 255)" if array.max(initial=0) <= 1 else ""
        raise ValueError(
            f"{name} is {array.dtype}; images are uint8, 0 to 255{scale}. "
            "Convert with np.round(...).astype(np.uint8)."
        )
    raise ValueError(f"{name} is {array.dtype}; images are uint8, 0 to 255.")


def _as_ragged(X: Any, where: str) -> NDArray[Any]:
    if isinstance(X, np.ndarray):
        if X.ndim != 1:
            kind = "an object array" if X.dtype == object else "an array of paths"
            raise ValueError(f"{where}X is {kind} of shape {X.shape}; it must be 1-D.")
        if X.dtype == object and not any(isinstance(item, (str, os.PathLike)) for item in X):
            return X
    elif isinstance(X, (str, os.PathLike, ImageRef)) or not hasattr(X, "__len__"):
        raise TypeError(
            f"{where}X is {type(X).__name__}; images come as an array (n, height, width, channels) "
            "or as a sequence of images. One image alone goes in as [image]; "
            "a folder goes through hemaest.datasets.load_image_folder."
        )
    elif not hasattr(X, "__getitem__") or hasattr(X, "toarray"):
        raise TypeError(f"{where}X is {type(X).__name__}, which is no sequence of images.")
    items = X.tolist() if hasattr(X, "tolist") else list(X)
    return to_object_array([ImageRef(i) if isinstance(i, (str, os.PathLike)) else i for i in items])


def _check_items(X: NDArray[Any], channels: Channels, min_pixels: int, where: str) -> None:
    seen: dict[int, int] = {}
    for i, item in enumerate(X):
        name = f"{where}image {i}"
        if isinstance(item, ImageRef):
            seen.setdefault(3, i)
            continue
        if not isinstance(item, np.ndarray):
            raise TypeError(
                f"{name} is {type(item).__name__}; each item is a uint8 array (height, width, "
                "channels) or an ImageRef."
            )
        if item.ndim != 3:
            hint = " (gray? stack it to RGB first)" if item.ndim == 2 else ""
            raise ValueError(
                f"{name} has shape {item.shape}{hint}; it must be (height, width, channels)."
            )
        _check_dtype(item, name)
        _check_shape(item.shape, min_pixels, name)
        if item.shape[2] == 4:
            _check_map(item, name)
        seen.setdefault(item.shape[2], i)
    if len(seen) > 1:
        raise ValueError(
            f"{where}image {seen[3]} has 3 channels and image {seen[4]} has 4; all images of a "
            "set have a cell map, or none has."
        )
    _check_channels(next(iter(seen)), channels, where, "X")


def _check_shape(shape: tuple[int, ...], min_pixels: int, name: str) -> None:
    height, width, count = shape
    if count == 1:
        raise ValueError(f"{name} is gray (1 channel); hemaest works on stained RGB images.")
    if count not in {3, 4}:
        raise ValueError(
            f"{name} has {count} channels; allowed are 3 (RGB) and 4 (RGB and a cell map)."
        )
    if height * width < max(min_pixels, 1):
        raise ValueError(
            f"{name} is {height} x {width}; at least {max(min_pixels, 1)} pixels are needed."
        )


def _check_channels(count: int, channels: Channels, where: str, name: str) -> None:
    if channels == "map" and count != 4:
        raise ValueError(
            f"{where}{name} has no cell map (3 channels); put a hemaest.segmentation.CellSegmenter "
            "before this step, or append your own map as a fourth channel."
        )
    if channels == "rgb" and count != 3:
        raise ValueError(f"{where}{name} has {count} channels; only RGB is allowed here.")


def _check_map(image: NDArray[np.uint8], name: str) -> None:
    cellmap.check(image[..., 3], name=f"{name}: the fourth channel")
