"""What all routes share: settings, memory, workers, and the values made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import HTTPException

import hemaest
from hemaest.images import read_image, rgb
from hemaest.web import _review
from hemaest.web._analysis import jpeg
from hemaest.web._safety import Settings
from hemaest.web._slides import OpenSlides
from hemaest.web._store import Store
from hemaest.web._why import Explainer
from hemaest.web._workers import WorkerPool

__all__ = ["Review"]

SLIDE_SIDE = 2048


@dataclass
class Review:
    """What the routes share: settings, memory, workers, and who waits for news.

    Parameters
    ----------
    settings : Settings
        How the page is served.
    folder : path
        The state folder.
    store : Store
        The memory.
    pool : WorkerPool
        The processes.
    counter : DifferentialCounter, optional
        Gives the intervals.
    """

    settings: Settings
    folder: Path
    store: Store
    pool: WorkerPool
    counter: Any = None
    classes: list[str] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    slides: OpenSlides = field(default_factory=OpenSlides)

    def __post_init__(self) -> None:
        """Prepare what starts when it is needed."""
        self.explainer = Explainer(self.settings.model)
        self._last: tuple[Any, Any] = (None, None)

    def changed(self, session: str) -> None:
        """Count a change, which those who wait for news see."""
        self.changes[session] = self.changes.get(session, 0) + 1

    @property
    def types(self) -> list[dict[str, str]]:
        """The types of the page."""
        return _review.page_types(self.classes)

    @property
    def colors(self) -> dict[str, str]:
        """The color of each type."""
        return {t["name"]: t["color"] for t in self.types}

    def known_type(self, name: str) -> str:
        """Return a type of the page, or refuse the name with what is allowed."""
        names = [t["name"] for t in self.types]
        if name not in names:
            raise HTTPException(422, f"{name!r} is no type of this page; allowed: {names}.")
        return name

    def image(self, session: str, number: int, side: int | None) -> Any:
        """Return the pixels of a field, reduced to a longest side; of a slide always reduced."""
        found = self.store.field(session, number)
        if found["kind"] == "slide":
            return self.slides.thumbnail(found["path"], min(side or SLIDE_SIDE, SLIDE_SIDE))
        return self._pixels(found["path"])

    def tile(self, session: str, number: int, level: int, column: int, row: int) -> Any:
        """Return a tile of a slide."""
        found = self.store.field(session, number)
        if found["kind"] != "slide":
            raise HTTPException(404, f"field {number} is no slide: it has no tiles.")
        try:
            return self.slides.tile(found["path"], level=level, column=column, row=row)
        except LookupError as error:
            raise HTTPException(404, str(error)) from None

    def _pixels(self, path: str) -> Any:
        """Return the pixels of an image. The last one is kept: its cells are looked at in turn."""
        key = (path, Path(path).stat().st_mtime_ns)
        kept, pixels = self._last
        if kept != key:
            pixels = rgb(read_image(path, max_pixels=self.settings.max_pixels))
            self._last = key, pixels
        return pixels

    def cut(self, session: str, cell: Mapping[str, Any]) -> Any:
        """Return the pixels of a cell in full resolution, with a little around it."""
        found = self.store.field(session, cell["field"])
        more = 0.15 * max(cell["x1"] - cell["x0"], cell["y1"] - cell["y0"])
        x0, y0 = (max(0, int(cell[k] - more)) for k in ("x0", "y0"))
        x1, y1 = (int(cell[k] + more) + 1 for k in ("x1", "y1"))
        if found["kind"] == "slide":
            return self.slides.read(found["path"], x0, y0, x1 - x0, y1 - y0)
        return self._pixels(found["path"])[y0:y1, x0:x1]

    def crop(self, session: str, cell: Mapping[str, Any], suffix: str = ".jpg") -> bytes:
        """Return the image of a cell in full resolution, with a little around it."""
        import cv2

        part = self.cut(session, cell)
        if suffix == ".jpg":
            return jpeg(part)
        return cv2.imencode(suffix, part[..., ::-1])[1].tobytes()

    def summary(self, session: str, observer: str) -> dict[str, Any]:
        """Return session, differential, flags and signatures for exports."""
        known = self.store.session(session)
        cells = self.store.cells(session, observer)
        created = datetime.fromtimestamp(known["created"], UTC).isoformat(timespec="seconds")
        log = self.store.log(session)
        models = {e["details"].get("model") for e in log if e["event"] == "field analyzed"}
        return {
            "name": known["name"],
            "created": created,
            "observer": observer,
            "version": hemaest.__version__,
            "model": ", ".join(sorted(m for m in models if m)) or "none",
            "differential": self.differential(session, cells),
            "flags": _review.flags(cells),
            "signatures": self.store.signatures(session),
            "colors": self.colors,
        }

    def differential(self, session: str, cells: Any) -> dict[str, Any]:
        """Return the differential of these cells."""
        wbc = self.store.session(session)["settings"].get("wbc")
        return _review.differential(cells, wbc=wbc, counter=self.counter)
