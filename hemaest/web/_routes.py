"""The HTTP API. The page uses nothing else, and scripts may use it too.

Every path names its session; what belongs to another session is not found.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    HTTPException,
    Path as PathParameter,
    Query,
    Request,
    Response,
    UploadFile,
)
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

import hemaest
from hemaest.web import _export, _review
from hemaest.web._analysis import CROP_SIDE, jpeg
from hemaest.web._pdf import write_pdf
from hemaest.web._safety import examine, is_tiff, safe_name
from hemaest.web._shared import Review
from hemaest.web._store import NOT_COUNTED, UNIDENTIFIED

__all__ = ["make_router"]

Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
Number = Annotated[int, Field(ge=1, le=2**53)]
Level = Annotated[int, PathParameter(ge=0, le=12)]
Place = Annotated[int, PathParameter(ge=0, le=2**31)]
Observer = Annotated[Name, Query(description="who looks: each observer has labels of their own")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSession(_Body):
    """A session to open."""

    name: Name = "Smear"


class SessionSettings(_Body):
    """What is known of the smear beside its images."""

    observer: Name
    wbc: float | None = Field(None, gt=0, le=2000, allow_inf_nan=False)


class Labels(_Body):
    """Cells and the type that an observer gives them; None takes the label back."""

    observer: Name
    cells: list[Number] = Field(min_length=1, max_length=10_000)
    type: Name | None = None


class Cells(_Body):
    """Cells that an observer looked at."""

    observer: Name
    cells: list[Number] = Field(min_length=1, max_length=10_000)


class MissedCell(_Body):
    """A cell that the model missed: its center, its side in pixels, its type."""

    observer: Name
    field: Number
    x: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    y: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    side: float | None = Field(None, ge=4, le=1e5, allow_inf_nan=False)
    type: Name = UNIDENTIFIED


class Who(_Body):
    """An observer."""

    observer: Name


class Signature(_Body):
    """What an observer signs."""

    observer: Name
    note: str = Field("", max_length=2000)
    accept_unidentified: bool = False


class Reason(_Body):
    """Why a signature is taken back."""

    observer: Name
    reason: Name


def make_router(review: Review) -> APIRouter:
    """Return the routes over one state."""
    api = APIRouter(prefix="/api")
    store, settings = review.store, review.settings
    _add_sessions(api, review)
    _add_fields(api, review)
    _add_review(api, review)
    _add_results(api, review)

    @api.get("/config", tags=["page"])
    def config() -> dict[str, Any]:
        """Return what the page needs to know: types with key and color, limits, the model."""
        return {
            "types": review.types,
            "unidentified": UNIDENTIFIED,
            "not_counted": NOT_COUNTED,
            "max_bytes": settings.max_bytes,
            "max_files": settings.max_files,
            "model": settings.model.name if settings.model else "blood-cells",
            "model_problem": review.pool.model_problem,
            "version": hemaest.__version__,
            "exports": [*_export.FORMATS, "folder", "pdf"],
        }

    @api.get("/references", tags=["cells"])
    def references() -> dict[str, str]:
        """Return the type of each reference cell."""
        return store.references()

    @api.get("/references/{name}", tags=["cells"], response_class=Response)
    def reference(name: Name) -> Response:
        """Return the image of a reference cell."""
        return _jpeg(store.reference(name)["crop"])

    return api


def _jpeg(data: bytes) -> Response:
    return Response(
        data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
    )


def _add_sessions(api: APIRouter, review: Review) -> None:
    store = review.store

    @api.get("/sessions", tags=["sessions"])
    def sessions() -> list[dict[str, Any]]:
        """Return all sessions, newest first."""
        return store.sessions()

    @api.post("/sessions", status_code=201, tags=["sessions"])
    def new_session(body: NewSession) -> dict[str, str]:
        """Open a session."""
        return {"id": store.new_session(body.name), "name": body.name}

    @api.get("/sessions/{session}", tags=["sessions"])
    def one_session(session: Name) -> dict[str, Any]:
        """Return a session with its fields, observers and signatures."""
        return {
            **store.session(session),
            "fields": [_shown(f, review) for f in store.fields(session)],
            "observers": store.observers(session),
            "signatures": store.signatures(session),
        }

    @api.patch("/sessions/{session}", tags=["sessions"])
    def change_session(session: Name, body: SessionSettings) -> dict[str, Any]:
        """Set the leukocyte count."""
        store.set_settings(session, body.observer, {"wbc": body.wbc})
        return store.session(session)["settings"]

    @api.delete("/sessions/{session}", status_code=204, tags=["sessions"])
    def delete_session(session: Name, observer: Observer) -> None:
        """Forget the images, cells and labels of a session; the log keeps that it was there."""
        for path in map(Path, store.delete_session(session, observer)):
            if path.is_relative_to(review.folder):
                path.unlink(missing_ok=True)

    @api.get("/sessions/{session}/events", tags=["sessions"])
    async def events(session: Name, request: Request) -> StreamingResponse:
        """Send news of the fields as server-sent events, until all are done or failed."""
        store.session(session)
        return StreamingResponse(_news(review, session, request), media_type="text/event-stream")

    @api.get("/sessions/{session}/log", tags=["sessions"])
    def log(session: Name) -> list[dict[str, Any]]:
        """Return every event: who, when, what."""
        store.session(session)
        return store.log(session)


def _shown(known: Mapping[str, Any], review: Review) -> dict[str, Any]:
    """Return a field without its path on this machine."""
    shown = {k: v for k, v in known.items() if k not in {"path", "session"}}
    return shown | {"tiles_done": review.pool.progress.get(known["id"], 0)}


async def _news(review: Review, session: str, request: Request) -> AsyncIterator[str]:
    seen, silent = -1, 0.0
    while not await request.is_disconnected():
        count = review.changes.get(session, 0)
        if count != seen:
            seen, silent = count, 0.0
            fields = await asyncio.to_thread(review.store.fields, session)
            yield f"data: {json.dumps([_shown(f, review) for f in fields])}\n\n"
            if not any(f["state"] in {"queued", "working"} for f in fields):
                yield "event: idle\ndata: {}\n\n"
        elif silent > 10:
            silent = 0.0
            yield ": still here\n\n"
        silent += 0.25
        await asyncio.sleep(0.25)


def _add_fields(api: APIRouter, review: Review) -> None:
    store, settings = review.store, review.settings

    @api.post("/sessions/{session}/fields", status_code=201, tags=["fields"])
    def upload(session: Name, files: list[UploadFile]) -> dict[str, Any]:
        """Add images. Those that are none are refused one by one; the others are queued."""
        store.session(session)
        room = settings.max_files - len(store.fields(session))
        accepted: list[dict[str, Any]] = []
        refused: list[dict[str, str]] = []
        for file in files:
            name = safe_name(file.filename)
            if len(accepted) >= room:
                refused.append(
                    {"name": name, "reason": f"a session holds {settings.max_files} images."}
                )
                continue
            path, kind, problem = _received(file, review)
            if problem is None:
                number = store.add_field(session, name, path, kind)
                accepted.append({"id": number, "name": name, "kind": kind})
            else:
                path.unlink(missing_ok=True)
                refused.append({"name": name, "reason": problem})
        review.pool.wake()
        review.changed(session)
        if not accepted:
            raise HTTPException(422, {"accepted": [], "refused": refused})
        return {"accepted": accepted, "refused": refused}

    @api.get("/sessions/{session}/fields/{number}/image", tags=["fields"], response_class=Response)
    def field_image(
        session: Name, number: Number, side: Annotated[int | None, Query(ge=16, le=20000)] = None
    ) -> Response:
        """Return the image of a field as JPEG, in full or reduced to a longest side.

        A slide is always reduced; its tiles show it in full.
        """
        return _jpeg(jpeg(review.image(session, number, side), side, quality=92))

    @api.get(
        "/sessions/{session}/fields/{number}/tiles/{level}/{column}/{row}",
        tags=["fields"],
        response_class=Response,
    )
    def tile(session: Name, number: Number, level: Level, column: Place, row: Place) -> Response:
        """Return 512 x 512 pixels of a slide as JPEG, reduced by 2 to the power of the level."""
        return _jpeg(jpeg(review.tile(session, number, level, column, row), quality=85))

    @api.post("/sessions/{session}/fields/{number}/retry", status_code=202, tags=["fields"])
    def retry(session: Name, number: Number, body: Who) -> dict[str, str]:
        """Try a failed field again."""
        store.retry(session, number, body.observer)
        review.pool.wake()
        review.changed(session)
        return {"state": "queued"}


def _received(file: UploadFile, review: Review) -> tuple[Path, str, str | None]:
    """Write an upload under a name of our own; return it, its kind and why it is refused."""
    settings = review.settings
    folder = review.folder / "images"
    folder.mkdir(parents=True, exist_ok=True)
    tiff = is_tiff(file.file.read(4))
    file.file.seek(0)
    most = settings.max_slide_bytes if tiff else settings.max_bytes
    path, size = folder / f"{uuid.uuid4().hex}{'.tif' if tiff else ''}", 0
    with path.open("wb") as target:
        while chunk := file.file.read(2**20):
            size += len(chunk)
            if size > most:
                return path, "image", f"it is larger than {most / 2**20:g} MB."
            target.write(chunk)
    return path, *examine(path, settings)


def _add_review(api: APIRouter, review: Review) -> None:
    store = review.store

    @api.get("/sessions/{session}/cells", tags=["cells"])
    def cells(
        session: Name, observer: Observer, field: Number | None = None, outlines: bool = True
    ) -> JSONResponse:
        """Return the cells as this observer sees them, and how many steps can be undone.

        Without ``outlines`` the answer is much shorter.
        """
        store.session(session)
        # thousands of rows that are plain already need no look at each of their values
        return JSONResponse(
            {
                "cells": store.cells(session, observer, field, outlines=outlines),
                "steps": store.steps(session, observer),
                "signed": any(s["observer"] == observer for s in store.signatures(session)),
            }
        )

    @api.get("/sessions/{session}/cells/{number}/image", tags=["cells"], response_class=Response)
    def cell_image(session: Name, number: Number, full: bool = False) -> Response:
        """Return the image of a cell: as in the gallery, or in full resolution."""
        cell = store.cell(session, number)
        return _jpeg(review.crop(session, cell) if full else cell["crop"])

    @api.get("/sessions/{session}/cells/{number}/why", tags=["cells"], response_class=Response)
    def why(session: Name, number: Number) -> Response:
        """Return the cell under a heat map: where the model looks for the type that it gave.

        The header ``Hemaest-Largest-Fall`` says by how much the probability of the type falls when
        the most telling part is covered.
        """
        cell = store.cell(session, number)
        if not cell["probabilities"] or cell["type"] not in cell["probabilities"]:
            raise HTTPException(409, "the model has not named this cell.")
        heated, fall = review.explainer.why(review.cut(session, cell), cell["type"])
        response = _jpeg(heated)
        response.headers["Hemaest-Largest-Fall"] = f"{fall:.4f}"
        return response

    @api.post("/sessions/{session}/cells", status_code=201, tags=["cells"])
    def add(session: Name, body: MissedCell) -> dict[str, int]:
        """Add a cell that the model missed."""
        found = store.field(session, body.field)
        if found["state"] != "done":
            raise HTTPException(409, f"field {body.field} is {found['state']}, not done.")
        if body.x >= found["width"] or body.y >= found["height"]:
            raise HTTPException(422, f"the field ends at {found['width']} x {found['height']}.")
        half = (
            body.side or _usual_side(store.cells(session, body.observer, body.field), found)
        ) / 2
        cell: dict[str, Any] = {
            "x0": max(0.0, body.x - half), "y0": max(0.0, body.y - half),
            "x1": min(float(found["width"]), body.x + half),
            "y1": min(float(found["height"]), body.y + half),
            "type": review.known_type(body.type), "field": body.field,
            "outline": [], "nucleus": [], "probabilities": {},
            "confidence": None, "nc_ratio": None,
        }  # fmt: skip
        cell["crop"] = jpeg(review.cut(session, cell), CROP_SIDE)
        return {"id": store.add_cell(session, body.observer, body.field, cell)}

    @api.post("/sessions/{session}/labels", tags=["review"])
    def label(session: Name, body: Labels) -> dict[str, int]:
        """Give cells a type; one step of undo."""
        store.session(session)
        kind = None if body.type is None else review.known_type(body.type)
        store.review(session, body.observer, list(dict.fromkeys(body.cells)), kind)
        return store.steps(session, body.observer)

    @api.post("/sessions/{session}/seen", status_code=204, tags=["review"])
    def seen(session: Name, body: Cells) -> None:
        """Record that cells were looked at."""
        store.session(session)
        store.see(session, body.observer, body.cells)

    def step(session: str, observer: str, *, redo: bool = False) -> dict[str, Any]:
        store.session(session)
        changed = store.undo(session, observer, redo=redo)
        return {
            "cells": list(changed),
            "types": list(changed.values()),
            "steps": store.steps(session, observer),
        }

    @api.post("/sessions/{session}/undo", tags=["review"])
    def undo(session: Name, body: Who) -> dict[str, Any]:
        """Take the last step back; return its cells and the types that they have now."""
        return step(session, body.observer)

    @api.post("/sessions/{session}/redo", tags=["review"])
    def redo(session: Name, body: Who) -> dict[str, Any]:
        """Do the last step again that was taken back; return its cells and their types."""
        return step(session, body.observer, redo=True)

    @api.get("/sessions/{session}/suggest", tags=["review"])
    def suggest(
        session: Name,
        observer: Observer,
        k: Annotated[int, Query(ge=1, le=500)] = 12,
        target: Name | None = None,
    ) -> dict[str, list[int]]:
        """Return the cells whose review says most, of all types or of one."""
        store.session(session)
        seen_by = store.cells(session, observer)
        return {"cells": _review.suggest(seen_by, k, target=target, counter=review.counter)}

    @api.post("/sessions/{session}/import", tags=["review"])
    def read_back(session: Name, observer: Observer, file: UploadFile) -> dict[str, Any]:
        """Take labels from a corrected GeoJSON or COCO file."""
        content = file.file.read(review.settings.max_bytes + 1)
        if len(content) > review.settings.max_bytes:
            raise HTTPException(413, "the file is too large.")
        known = store.cells(session, observer)
        labels = _export.read_corrections(content, store.fields(session), known)
        now = {c["id"]: c["label"] for c in known}
        changes: dict[str, list[int]] = {}
        for number, kind in labels.items():
            if kind != now[number]:
                changes.setdefault(review.known_type(kind), []).append(number)
        for kind, numbers in changes.items():
            store.review(session, observer, numbers, kind, reason="import")
        return {"recognized": len(labels), "changed": sum(map(len, changes.values()))}


def _usual_side(cells: Any, found: Mapping[str, Any]) -> float:
    """Return the median side of the cells of a field, or a tenth of the field (64 in a slide)."""
    sides = sorted(max(c["x1"] - c["x0"], c["y1"] - c["y0"]) for c in cells)
    if sides:
        return sides[len(sides) // 2]
    return 64.0 if found["kind"] == "slide" else min(found["width"], found["height"]) / 10


def _add_results(api: APIRouter, review: Review) -> None:
    store = review.store

    @api.get("/sessions/{session}/differential", tags=["results"])
    def differential(session: Name, observer: Observer) -> dict[str, Any]:
        """Return the differential before and after review, flags, and what is still to be done."""
        cells = store.cells(session, observer)
        return {
            **review.differential(session, cells),
            "flags": _review.flags(cells),
            "to_do": _review.sign_off(cells, store.fields(session)),
            "signed": [s["observer"] for s in store.signatures(session)],
        }

    @api.post("/sessions/{session}/signature", status_code=201, tags=["results"])
    def sign(session: Name, body: Signature) -> dict[str, Any]:
        """Sign. Refused until nothing is left to do."""
        cells = store.cells(session, body.observer)
        problems = _review.sign_off(
            cells, store.fields(session), accept_unidentified=body.accept_unidentified
        )
        if problems:
            raise HTTPException(409, {"to_do": problems})
        details = {
            "note": body.note,
            "accepted_unidentified": body.accept_unidentified,
            "differential": review.differential(session, cells),
        }
        store.sign(session, body.observer, details)
        return {"signed": body.observer}

    @api.post("/sessions/{session}/reopen", tags=["results"])
    def reopen(session: Name, body: Reason) -> dict[str, str]:
        """Take a signature back, with the reason."""
        store.session(session)
        store.reopen(session, body.observer, body.reason)
        return {"reopened": body.observer}

    @api.get("/sessions/{session}/agreement", tags=["results"])
    def agreement(session: Name, first: Observer, second: Observer) -> dict[str, Any]:
        """Compare two observers; only after both signed, so that the second review is blind."""
        store.session(session)
        signed = {s["observer"] for s in store.signatures(session)}
        missing = [o for o in (first, second) if o not in signed]
        if missing:
            raise HTTPException(409, f"not signed yet: {', '.join(missing)}.")
        return _review.agreement(store.cells(session, first), store.cells(session, second))

    @api.get("/sessions/{session}/export/{kind}", tags=["results"], response_class=Response)
    def export(session: Name, kind: Name, observer: Observer) -> Response:
        """Return the result as csv, json, coco, yolo, geojson, pdf, or as a labeled folder."""
        allowed = [*_export.FORMATS, "folder", "pdf"]
        if kind not in allowed:
            raise HTTPException(404, f"{kind!r} is no format; allowed: {allowed}.")
        summary = review.summary(session, observer)
        fields = store.fields(session)
        cells = store.cells(session, observer, outlines=True)
        if kind == "pdf":
            content = write_pdf(
                summary, fields, cells, lambda c: store.cell(session, c["id"])["crop"]
            )
            media, suffix = "application/pdf", "pdf"
        elif kind == "folder":
            content = _export.labeled_folder(
                fields, cells, lambda c: review.crop(session, c, ".png")
            )
            media, suffix = "application/zip", "cells.zip"
        else:
            media, suffix = _export.FORMATS[kind][1:]
            content = _export.write(kind, summary, fields, cells)
        name = (
            "".join(c if c.isascii() and c.isalnum() else "_" for c in summary["name"]) or "smear"
        )
        return Response(
            content,
            media_type=media,
            headers={"Content-Disposition": f'attachment; filename="{name[:60]}.{suffix}"'},
        )
