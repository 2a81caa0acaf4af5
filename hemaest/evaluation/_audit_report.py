"""The HTML page of an audit, with images of what was found; ``Audit.to_html`` calls it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest.evaluation._audit_measures import SIDE
from hemaest.images import ImageRef, as_array
from hemaest.report import Report

SHOWN = 12
TONES = {"fault": "bad", "caution": "warn", "note": "plain"}


def audit_report(audit: Any, unreadable: Any = None, command: str = "") -> Report:
    """Build the page: findings, then images and tables of each, then shortcuts."""
    table = audit.table
    page = Report("Audit of the images", lead=audit.summary(), command=command)
    page.section("Findings")
    findings(page, audit)
    if len(audit.shortcuts):
        page.section(
            "Shortcuts",
            "What is scored without looking at a cell, by the better of two simple models. A model "
            "that does not clearly beat these shows nothing about morphology.",
        )
        page.table(audit.shortcuts, intervals=[("balanced_accuracy", "low", "high")], limits=(0, 1))
    for row in table.itertuples(index=False):
        if row.finding in audit.items:
            _details(page, audit, row)
    if unreadable is not None and len(unreadable):
        page.section("Files that could not be read", "They were left out of everything above.")
        page.table(unreadable.head(200))
        if len(unreadable) > 200:
            page.text(f"{len(unreadable) - 200} more are not listed.")
    return page


def findings(page: Report, audit: Any) -> None:
    """Add what was found, the most severe first, to the current section."""
    table = audit.table
    if not len(table):
        page.text("Nothing was found.", "good")
    elif not (table["severity"] == "fault").any():
        page.text("No fault was found; read the cautions before you split.", "good")
    counts = table["severity"].value_counts()
    page.tiles(
        [
            (str(int(counts.get(s, 0))), f"{s}s", meaning)
            for s, meaning in (
                ("fault", "a score would be worthless"),
                ("caution", "a score needs this beside it"),
                ("note", "worth a look"),
            )
        ]
    )
    if len(table):
        page.table(table)


def _details(page: Report, audit: Any, row: Any) -> None:
    items = audit.items[row.finding]
    page.section(row.finding[0].upper() + row.finding[1:], row.advice)
    if "copy" in items:
        for pair in items.head(SHOWN).itertuples(index=False):
            _gallery(page, audit, [pair.image, pair.copy], [pair.label, pair.label_of_copy])
    elif row.finding == "marks burned into the images":
        _overlay(page, audit)
        page.table(items, headings={})
    elif "image" in items and "why" not in items:
        shown = items.head(2 * SHOWN)
        extra = [c for c in ("suggested", "kind", "group") if c in shown]
        notes = [
            "; ".join(f"{c}: {getattr(r, c)}" for c in extra) for r in shown.itertuples(index=False)
        ]
        _gallery(page, audit, shown["image"].tolist(), notes)
    else:
        page.table(items.head(200), headings={})
    if len(items) > SHOWN and "copy" in items:
        page.text(f"{len(items) - SHOWN} more are in .items[{row.finding!r}].")


def _gallery(page: Report, audit: Any, index: list[int], notes: list[Any]) -> None:
    images, captions = [], []
    for i, note in zip(index, notes, strict=True):
        item = audit.X_[i]
        name = Path(item.path).name if isinstance(item, ImageRef) else f"image {i}"
        images.append(as_array(item)[..., :3])
        captions.append(f"{name} ({audit.y_[i]})" + (f"; {note}" if note != audit.y_[i] else ""))
    page.gallery(images, captions)


def _overlay(page: Report, audit: Any) -> None:
    images, captions = [], []
    for name, spots in audit.overlays_.items():
        images.append(_paint(spots))
        captions.append(f"where the mark lies: {name}")
        example = _example(audit, name, spots)
        images.append(example)
        captions.append(f"one of {name}")
    page.gallery(images[:SHOWN], captions[:SHOWN])


def _paint(spots: NDArray[np.bool_]) -> NDArray[np.uint8]:
    image = np.full((SIDE, SIDE, 3), 245, np.uint8)
    image[spots] = (179, 38, 30)
    return image


def _example(audit: Any, name: str, spots: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the image among the first of its class that is darkest where the mark lies."""
    import cv2

    own = (
        np.flatnonzero(audit.y_.astype(str) == name) if name != "all" else np.arange(len(audit.y_))
    )
    bad = set(audit.items.get("unreadable files", pd.DataFrame({"image": []}))["image"])
    best, darkest = None, 256.0
    for i in [i for i in own[:60] if i not in bad]:
        image = as_array(audit.X_[i])[..., :3]
        small = cv2.resize(
            np.ascontiguousarray(image), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST
        )
        dark = float(small[spots].mean())
        if dark < darkest:
            best, darkest = image, dark
    return _paint(spots) if best is None else best
