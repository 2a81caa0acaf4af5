"""What a request may do: settings, limits, who is let in, and which files are images.

Called by the app for every request and by the routes for every upload.
"""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = [
    "HEADERS",
    "Settings",
    "examine",
    "is_loopback",
    "is_tiff",
    "refusal",
    "safe_name",
]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FORMATS = {"PNG", "JPEG", "TIFF", "BMP", "WEBP"}
COOKIE = "hemaest_token"
LARGEST_TILE = 4096 * 4096
LARGEST_STEP = 17  # between the levels of a slide
MOST_PAGES = 64


@dataclass(frozen=True)
class Settings:
    """How the review page is served.

    Parameters
    ----------
    state : path, optional
        Folder of the database and of uploaded images. None: ``hemaest-review`` in the working
        folder.
    ephemeral : bool
        Keep nothing: the state lies in a temporary folder that is removed at the end.
    model : path, optional
        A saved classifier of single cells. None: the shipped models.
    counter : path, optional
        A saved :class:`hemaest.clinical.DifferentialCounter` for the classes of the model. Its
        intervals hold the errors of the classifier; without one they hold that of counting.
    paths : tuple of paths
        Fields on this machine that a first session opens where they are.
    copy_images : bool
        Copy the images of ``paths`` into the state folder instead of reading them where they are.
    host, port : str and int
        Where the page listens. Any host but this machine needs a token.
    token : str, optional
        The password of the page. None makes one for hosts other than this machine.
    workers : int
        Processes that analyze fields.
    max_bytes, max_pixels, max_files : int
        Limits of one file, of one image and of one session.
    max_slide_bytes, max_slide_pixels : int
        Limits of a whole slide.

    Examples
    --------
    >>> from hemaest.web import Settings
    >>> Settings(port=9000).port
    9000
    >>> Settings(host="0.0.0.0").token is None
    False
    """

    state: Path | None = None
    ephemeral: bool = False
    model: Path | None = None
    counter: Path | None = None
    paths: tuple[Path, ...] = ()
    copy_images: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    workers: int = 1
    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    max_files: int = 500
    max_slide_bytes: int = 4 * 2**30
    max_slide_pixels: int = 40_000_000_000

    def __post_init__(self) -> None:
        """Refuse settings that cannot work, and make a token where one is needed."""
        for name in ("state", "model", "counter"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        limits = ("max_bytes", "max_pixels", "max_files", "max_slide_bytes", "max_slide_pixels")
        for name in ("workers", *limits):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; it must be 0 to 65535 (0: any free one).")
        if self.token is not None and len(self.token) < 12:
            raise ValueError("the token must have at least 12 characters.")
        if self.token is None and not is_loopback(self.host):
            object.__setattr__(self, "token", secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Return whether a host name means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(request: Any, settings: Settings) -> tuple[int, str] | None:
    """Return why a request is not let in as (status, message), or None.

    A page of another site may send requests to this one from the user's browser. So the host must
    be one of ours, the origin of a change must be this page, and a change must carry a header that
    forms cannot send.
    """
    host = (request.headers.get("host") or "").rsplit(":", 1)[0]
    if is_loopback(settings.host) and not is_loopback(host):
        return 421, f"this page is served to this machine only, not as {host[:80]!r}."
    if settings.token is not None and not _has_token(request, settings.token):
        return 401, "a token is needed: open the address that `hemaest serve` printed."
    if request.method not in {"GET", "HEAD", "OPTIONS"}:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return 403, "changes are accepted from this page only (the origin is another site)."
        if request.headers.get("x-hemaest") is None:
            return 403, "changes need the header 'X-Hemaest: 1', which keeps other sites out."
    return None


def _has_token(request: Any, token: str) -> bool:
    header = request.headers.get("authorization") or ""
    given = [
        header.removeprefix("Bearer ") if header.startswith("Bearer ") else "",
        request.cookies.get(COOKIE, ""),
        request.query_params.get("token", ""),
    ]
    return any(hmac.compare_digest(g.encode(), token.encode()) for g in given if g)


def safe_name(name: str | None, longest: int = 120) -> str:
    r"""Return a file name from a client as text to show. It is never used as a path.

    Examples
    --------
    >>> from hemaest.web._safety import safe_name
    >>> names = ["../../etc/pass\x00wd", "C:\\temp\\a.png", "", "..", "a\x00b\n.png"]
    >>> [safe_name(name) for name in names]
    ['passwd', 'a.png', 'unnamed', 'unnamed', 'ab.png']
    >>> len(safe_name("x" * 500))
    120
    """
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in last if c.isprintable() and c not in '<>:"|?*').strip(" .")
    return clean[:longest] or "unnamed"


def is_tiff(head: bytes) -> bool:
    r"""Return whether a file that starts like this is a TIFF, as most slides are.

    Examples
    --------
    >>> is_tiff(b"II*\x00"), is_tiff(b"\x89PNG")
    (True, False)
    """
    return head[:4] in {b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"}


def examine(path: Path, settings: Settings, *, own: bool = False) -> tuple[str, str | None]:
    """Return what a file is, "image" or "slide", and why it is refused, or None.

    The content decides, not the name.

    Parameters
    ----------
    path : path
        The file.
    settings : Settings
        Its limits hold.
    own : bool
        Whether the file is on this machine. Then every format of OpenSlide may be a slide; of what
        was uploaded only TIFF may, since the others consist of several files.
    """
    several, problem = _image_problem(path, settings)
    with path.open("rb") as file:
        tiff = is_tiff(file.read(4))
    if (tiff and (several or problem is not None)) or (own and problem is not None):
        levels, reason = _slide_levels(path, settings)
        if levels > 1 or (levels and problem is not None):
            return "slide", reason
    if problem is None and not own and path.stat().st_size > settings.max_bytes:
        problem = f"it is larger than {settings.max_bytes / 2**20:g} MB."
    return "image", problem


def _image_problem(path: Path, settings: Settings) -> tuple[bool, str | None]:
    """Return whether a file has several pages, and why it is no image that is read here."""
    from PIL import Image, UnidentifiedImageError

    several = False
    try:
        with Image.open(path, formats=sorted(FORMATS)) as image:
            width, height = image.size
            several = getattr(image, "n_frames", 1) > 1
            if several and image.format != "TIFF":
                return several, "it holds several frames; give one still image."
            if width * height <= settings.max_pixels:
                image.load()  # a file that was cut off shows only here
    except UnidentifiedImageError:
        kinds = ", ".join(sorted(FORMATS))
        return several, f"it is no image of a kind that is read here ({kinds})."
    except Image.DecompressionBombError:
        return several, f"it has more than the {settings.max_pixels:,} pixels that are allowed."
    except Exception as error:  # the reader's errors for broken files are of every kind
        return several, f"it cannot be read ({error})."
    if width * height > settings.max_pixels:
        return several, f"it has {width * height:,} pixels; {settings.max_pixels:,} are allowed."
    if min(width, height) < 16:
        return several, f"it is {width} x {height} pixels; a field has at least 16 on each side."
    return several, None


def _slide_levels(path: Path, settings: Settings) -> tuple[int, str | None]:
    """Return how many levels a slide has (0: it is none), and why it is refused, or None."""
    from hemaest.scale import Slide

    try:
        if reason := _tile_problem(path):
            return 1, reason
        with Slide(path) as slide:
            sizes = slide.level_sizes
    except ImportError as error:
        return 0, str(error)
    except Exception:  # no slide; what is wrong with it as an image is said instead
        return 0, None
    width, height = sizes[0]
    steps = [a[0] / b[0] for a, b in zip(sizes, sizes[1:], strict=False)]
    if width * height > settings.max_slide_pixels:
        most = f"{settings.max_slide_pixels:,}"
        return len(sizes), f"it has {width * height:,} pixels; {most} are allowed in a slide."
    if sizes[-1][0] * sizes[-1][1] > settings.max_pixels or max(steps, default=1) > LARGEST_STEP:
        return len(sizes), "the slide lacks reduced copies of itself (a pyramid), so it is slow."
    return len(sizes), None


def _tile_problem(path: Path) -> str | None:
    """Return why the tiles of a TIFF are refused: they are read whole."""
    import tifffile

    with path.open("rb") as file:
        if not is_tiff(file.read(4)):
            return None
    with tifffile.TiffFile(path) as file:
        for page in file.pages[:MOST_PAGES]:
            page = page.aspage()
            if page.is_tiled and page.tilewidth * page.tilelength > LARGEST_TILE:
                return f"it has tiles of {page.tilewidth} x {page.tilelength} pixels."
    return None
