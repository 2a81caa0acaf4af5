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

__all__ = ["HEADERS", "Settings", "is_loopback", "refusal", "safe_name", "upload_problem"]

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

    def __post_init__(self) -> None:
        """Refuse settings that cannot work, and make a token where one is needed."""
        for name in ("state", "model", "counter"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        for name in ("workers", "max_bytes", "max_pixels", "max_files"):
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
    >>> safe_name("../../etc/pass\x00wd.png")
    'passwd.png'
    """
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in last if c.isprintable() and c not in '<>:"|?*').strip(" .")
    return clean[:longest] or "unnamed"


def upload_problem(path: Path, settings: Settings) -> str | None:
    """Return why a file is refused as an image, or None. The content decides, not the name."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=sorted(FORMATS)) as image:
            width, height = image.size
            if getattr(image, "n_frames", 1) > 1 and image.format != "TIFF":
                return "it holds several frames; give one still image."
            if width * height <= settings.max_pixels:
                image.load()  # a file that was cut off shows only here
    except UnidentifiedImageError:
        return f"it is no image of a kind that is read here ({', '.join(sorted(FORMATS))})."
    except Image.DecompressionBombError:
        return f"it has more than the {settings.max_pixels:,} pixels that are allowed."
    except Exception as error:  # the reader's errors for broken files are of every kind
        return f"it cannot be read ({error})."
    if width * height > settings.max_pixels:
        return f"it has {width * height:,} pixels; {settings.max_pixels:,} are allowed."
    if min(width, height) < 16:
        return f"it is {width} x {height} pixels; a field has at least 16 on each side."
    return None
