"""The report as PDF: differential, flags, images of the cells, who signed and when.

Drawn with matplotlib, which is there anyway. Called by the routes.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from hemaest.web._store import NOT_COUNTED

__all__ = ["write_pdf"]

A4 = (8.27, 11.69)
LEFT, RIGHT, TOP, BOTTOM = 0.08, 0.92, 0.94, 0.07
INK, SOFT, LINE = "#1b1f24", "#5b6470", "#c9ced6"
COLUMNS = 10
PER_TYPE = 40


def write_pdf(
    summary: Mapping[str, Any],
    fields: Sequence[Mapping[str, Any]],
    cells: Sequence[Mapping[str, Any]],
    crop: Callable[[Mapping[str, Any]], bytes],
) -> bytes:
    """Return the report of one observer.

    Parameters
    ----------
    summary : dict
        ``name``, ``observer``, ``differential``, ``flags``, ``signatures``, ``colors``, ``model``
        and ``version``.
    fields, cells : sequences of rows
        As the store gives them to this observer.
    crop : callable
        Gives the JPEG of a cell.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    data = io.BytesIO()
    title = f"Differential count: {summary['name']}"
    with PdfPages(data, metadata={"Title": title, "Creator": "hemaest"}) as pdf:
        pages = [_first_page(summary, fields), *_gallery_pages(cells, crop, summary["colors"])]
        for number, page in enumerate(pages, 1):
            _footer(page, summary, number, len(pages))
            pdf.savefig(page)
    return data.getvalue()


def _page() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=A4, facecolor="white")


def _text(page: Any, x: float, y: float, text: str, **how: Any) -> None:
    how = {"color": INK, "fontsize": 9, "va": "top", "parse_math": False} | how
    page.text(x, y, text, **how)


def _rule(page: Any, y: float, color: str = LINE) -> None:
    from matplotlib.lines import Line2D

    page.add_artist(Line2D([LEFT, RIGHT], [y, y], color=color, linewidth=0.7))


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _first_page(summary: Mapping[str, Any], fields: Sequence[Mapping[str, Any]]) -> Any:
    page, table = _page(), summary["differential"]
    y = TOP
    _text(page, LEFT, y, _short(summary["name"], 60), fontsize=17, fontweight="bold")
    y -= 0.032
    done = sum(f["state"] == "done" for f in fields)
    counted = (
        f"Leukocytes counted: {table['n']}, in fields: {done}; cells reviewed by "
        f"{_short(summary['observer'], 40)}: {table['n_reviewed']}"
    )
    _text(page, LEFT, y, counted, color=SOFT)
    y -= 0.022
    signed = [s for s in summary["signatures"] if s["observer"] == summary["observer"]]
    state = f"Signed {_when(signed[0]['time'])}" if signed else "Draft: not signed"
    color = INK if signed else "#b3261e"
    _text(page, LEFT, y, state, fontweight="bold", color=color)
    y -= 0.035
    y = _differential_table(page, y, table)
    y = _remarks(page, y, summary, fields)
    _text(
        page, LEFT, BOTTOM + 0.045,
        "95% intervals of " + (
            "counting and of the classifier's errors."
            if table["intervals"] == "counting and classifier"
            else "counting alone; errors of the classifier in cells that nobody reviewed are not "
            "in them."
        ),
        color=SOFT, fontsize=8,
    )  # fmt: skip
    _text(
        page, LEFT, BOTTOM + 0.03,
        "For research. This software is not a medical device, and this page is no diagnosis.",
        color=SOFT, fontsize=8,
    )  # fmt: skip
    return page


def _differential_table(page: Any, y: float, table: Mapping[str, Any]) -> float:
    heads = ["Type", "Cells", "%", "95% interval", "Reference %", "10⁹/L", "Before review %"]
    places = [LEFT, 0.4, 0.47, 0.59, 0.71, 0.78, RIGHT]
    for place, head in zip(places, heads, strict=True):
        _text(page, place, y, head, fontweight="bold", fontsize=8,
              ha="left" if place == LEFT else "right")  # fmt: skip
    y -= 0.018
    _rule(page, y + 0.003, INK)
    for row in table["rows"]:
        normal = row["reference"]
        values = [
            _short(row["type"], 38),
            str(row["n"]),
            _number(row["percent"]),
            f"{_number(row['low'])} to {_number(row['high'])}" if row["low"] is not None else "",
            (f"{normal[0]:g} to {normal[1]:g}" if normal else "")
            + "*" * (row["outside"] == "perhaps"),
            _number(row["absolute"], 2),
            _number(row["percent_before"]),
        ]
        bold = {LEFT, places[2]} if row["outside"] == "yes" else set()
        for place, value in zip(places, values, strict=True):
            _text(
                page, place, y, value, ha="left" if place == LEFT else "right",
                fontweight="bold" if place in bold else "normal",
            )  # fmt: skip
        y -= 0.0185
        _rule(page, y + 0.003)
    if not table["rows"]:
        _text(page, LEFT, y, "No leukocyte was counted.")
        y -= 0.02
    return y - 0.012


def _remarks(
    page: Any, y: float, summary: Mapping[str, Any], fields: Sequence[Mapping[str, Any]]
) -> float:
    table = summary["differential"]
    lines = []
    outside = {row["outside"] for row in table["rows"]}
    if "yes" in outside:
        lines.append("Bold: outside the reference range.")
    if "perhaps" in outside:
        lines.append("* Outside the reference range, but the interval reaches into it.")
    if table["nrbc_per_100"]:
        lines.append(f"Nucleated red cells: {table['nrbc_per_100']:.1f} per 100 leukocytes.")
    if table["corrected_wbc"] is not None:
        lines.append(
            f"Leukocytes: {table['wbc']:g} x 10⁹/L, corrected for nucleated red cells "
            f"{table['corrected_wbc']:.2f}."
        )
    lines += [f"{f['flag']}: {len(f['cells'])} ({f['seen']} seen)." for f in summary["flags"]]
    if table["unidentified"]:
        lines.append(f"{table['unidentified']} cells are unidentified.")
    failed = [f for f in fields if f["state"] == "failed"]
    lines += [f"Not analyzed: {_short(f['name'], 40)}: {_short(f['reason'], 60)}" for f in failed]
    lines += [f"{_short(f['name'], 40)}: {_short(w, 70)}" for f in fields for w in f["warnings"]]
    for s in summary["signatures"]:
        if s["observer"] != summary["observer"]:
            lines.append(f"Also signed by {_short(s['observer'], 40)}, {_when(s['time'])}.")
    most = max(0, int((y - BOTTOM - 0.07) / 0.0175))
    if len(lines) > most:
        lines = [*lines[: max(most - 1, 0)], f"... and {len(lines) - most + 1} more remarks."]
    for line in lines:
        _text(page, LEFT, y, line)
        y -= 0.0175
    return y


def _gallery_pages(
    cells: Sequence[Mapping[str, Any]],
    crop: Callable[[Mapping[str, Any]], bytes],
    colors: Mapping[str, str],
) -> Iterator[Any]:
    """Yield pages with the cells of each type, at most ``PER_TYPE`` of them."""
    from PIL import Image

    kept = sorted(
        (c for c in cells if c["label"] != NOT_COUNTED), key=lambda c: (c["label"], c["id"])
    )
    side = (RIGHT - LEFT) / COLUMNS
    high = side * A4[0] / A4[1]
    page, y = None, 0.0
    for label, group in groupby(kept, key=lambda c: c["label"]):
        members = list(group)
        shown = members[:PER_TYPE]
        more = f" (the first {PER_TYPE})" if len(members) > PER_TYPE else ""
        if page is None or y - high - 0.03 < BOTTOM + 0.02:
            if page is not None:
                yield page
            page, y = _page(), TOP
        _text(page, LEFT, y, f"{_short(label, 60)}: {len(members)}{more}", fontweight="bold",
              fontsize=10)  # fmt: skip
        y -= 0.022
        for start in range(0, len(shown), COLUMNS):
            if y - high < BOTTOM + 0.02:
                yield page
                page, y = _page(), TOP
            for i, cell in enumerate(shown[start : start + COLUMNS]):
                axes = page.add_axes((LEFT + i * side, y - high, side * 0.94, high * 0.94))
                axes.imshow(Image.open(io.BytesIO(crop(cell))))
                axes.set(xticks=[], yticks=[])
                for spine in axes.spines.values():
                    spine.set(color=colors.get(label, SOFT), linewidth=1.2)
            y -= high
        y -= 0.012
    if page is not None:
        yield page


def _footer(page: Any, summary: Mapping[str, Any], number: int, total: int) -> None:
    _rule(page, BOTTOM)
    left = f"hemaest {summary['version']}, model {_short(summary['model'], 30)}"
    _text(page, LEFT, BOTTOM - 0.008, left, color=SOFT, fontsize=8)
    _text(page, 0.5, BOTTOM - 0.008, f"made {_when(time.time())}", color=SOFT, fontsize=8,
          ha="center")  # fmt: skip
    _text(page, RIGHT, BOTTOM - 0.008, f"page {number} of {total}", color=SOFT, fontsize=8,
          ha="right")  # fmt: skip


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"
