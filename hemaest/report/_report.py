"""Collect tables, figures and images and write them as one HTML file that needs nothing else.

The pages of the evaluation are made with it. It knows no estimator: it is given tables, figures and
arrays.
"""

from __future__ import annotations

import base64
import io
import os
import platform
import re
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest._files import write_whole
from hemaest._tables import format_cell

PACKAGES = ("hemaest", "numpy", "scikit-learn", "torch")


class Report:
    """A page that is filled from top to bottom.

    Parameters
    ----------
    title : str
        Heading of the page.
    lead : str, default=""
        What the reader must know first; shown under the title.
    command : str, default=""
        Command or folder that the page belongs to; shown under the lead, with the date and the
        versions of the packages.

    Examples
    --------
    >>> import pandas as pd
    >>> page = Report("Two recipes", lead="Split by patient.").section("Scores")
    >>> html = page.table(pd.DataFrame({"recipe": ["a"], "score": [0.5]})).html()
    >>> "Split by patient." in html, "0.500" in html
    (True, True)
    """

    def __init__(self, title: str, lead: str = "", *, command: str = ""):
        self.title = title
        self.lead = lead
        self.command = command
        self._sections: list[dict[str, Any]] = []

    def section(self, title: str, note: str = "") -> Self:
        """Start a section; what is added next goes into it.

        Parameters
        ----------
        title : str
            Heading, also shown in the contents.
        note : str, default=""
            A sentence under the heading.

        Returns
        -------
        self : Report
        """
        anchor = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
        if anchor in {known["anchor"] for known in self._sections}:
            anchor = f"{anchor}-{len(self._sections) + 1}"
        self._sections.append({"title": title, "note": note, "anchor": anchor, "blocks": []})
        return self

    def _add(self, kind: str, **content: Any) -> Self:
        if not self._sections:
            self.section("Results")
        self._sections[-1]["blocks"].append({"kind": kind, **content})
        return self

    def text(self, text: str, tone: str = "plain") -> Self:
        """Add a paragraph.

        Parameters
        ----------
        text : str
            Plain text; it is escaped.
        tone : {"plain", "good", "warn", "bad"}, default="plain"
            The color of the box; plain text has none.

        Returns
        -------
        self : Report
        """
        return self._add("text", text=text, tone=tone)

    def tiles(self, tiles: Iterable[tuple[str, str, str]]) -> Self:
        """Add a row of numbers in large type.

        Parameters
        ----------
        tiles : iterable of (value, label, detail)
            What each tile shows.

        Returns
        -------
        self : Report
        """
        return self._add("tiles", tiles=list(tiles))

    def table(
        self,
        table: pd.DataFrame,
        caption: str = "",
        *,
        title: str = "",
        intervals: Sequence[tuple[str, str, str]] = (),
        limits: tuple[float, float] | None = None,
        digits: int = 3,
        quiet: Sequence[int] = (),
        headings: Mapping[str, str] | None = None,
    ) -> Self:
        """Add a table.

        Parameters
        ----------
        table : DataFrame
            The index is not shown. Columns named ``p`` or ``p_...`` are written as p-values.
        caption : str, default=""
            A line below.
        title : str, default=""
            A line above.
        intervals : sequence of (value, low, high), optional
            Columns to draw as a dot with its interval; low and high are then not columns of their
            own but stand beside the value.
        limits : (float, float), optional
            Ends of the scale that intervals are drawn on; by default round numbers around them.
        digits : int, default=3
            Decimals of floats.
        quiet : sequence of int
            Rows to draw in a quieter color.
        headings : mapping of str to str, optional
            Headings of columns; by default underscores become spaces. An empty mapping keeps the
            names as they are.

        Returns
        -------
        self : Report
        """
        drawn = {triple[0]: (triple, limits or _scale(table, triple)) for triple in intervals}
        hidden = {name for triple in intervals for name in triple[1:]}
        names = [c for c in table.columns if c not in hidden]
        numeric = {c: pd.api.types.is_numeric_dtype(table[c]) and c not in drawn for c in names}
        rows = []
        # column by column: a row of a DataFrame would turn whole numbers beside floats into floats
        for i, values in enumerate(table.itertuples(index=False, name=None)):
            row = dict(zip(table.columns, values, strict=True))
            cells = []
            for name in names:
                cell = {"text": _cell(name, row[name], digits), "number": numeric[name]}
                if name in drawn:
                    triple, scale = drawn[name]
                    cell |= _dot(*(float(row[c]) for c in triple), scale=scale, digits=digits)
                cells.append(cell)
            rows.append({"cells": cells, "quiet": i in set(quiet)})
        header = [
            {
                "text": _heading(c, headings),
                "number": numeric[c],
                "ends": _ends(drawn[c][1]) if c in drawn else (),
            }
            for c in names
        ]
        return self._add("table", header=header, rows=rows, caption=caption, title=title)

    def matrix(self, table: pd.DataFrame, caption: str = "") -> Self:
        """Add a confusion matrix: counts, and shares of each row as numbers and shade.

        Parameters
        ----------
        table : DataFrame
            Square, rows being the true classes.
        caption : str, default=""
            A line above.

        Returns
        -------
        self : Report
        """
        values = table.to_numpy(dtype=float)
        share = values / np.maximum(values.sum(1, keepdims=True), 1e-9)
        rows = [
            {
                "name": str(name),
                "cells": [
                    {
                        "text": f"{v:.0f}",
                        "rate": f"{s:.0%}" if v else "",
                        "share": float(s),
                        "right": i == j,
                    }
                    for j, (v, s) in enumerate(zip(values[i], share[i], strict=True))
                ],
            }
            for i, name in enumerate(table.index)
        ]
        return self._add("matrix", columns=[str(c) for c in table], rows=rows, caption=caption)

    def figure(self, figure: Any, caption: str = "", alt: str = "") -> Self:
        """Add a matplotlib figure, and close it.

        Parameters
        ----------
        figure : matplotlib Figure
            Drawn as SVG.
        caption : str, default=""
            A line below.
        alt : str, default=""
            What a reader who cannot see it must know; the caption by default.

        Returns
        -------
        self : Report
        """
        return self._add("figure", svg=_svg(figure), caption=caption, alt=alt or caption)

    def gallery(
        self,
        images: Sequence[NDArray[np.uint8]],
        captions: Sequence[str],
        caption: str = "",
        size: int = 160,
        *,
        marks: Sequence[str] | None = None,
        beside: Sequence[NDArray[np.uint8] | None] | None = None,
        beside_name: str = "",
        scale: tuple[str, str] | None = None,
    ) -> Self:
        """Add images side by side.

        Parameters
        ----------
        images : sequence of uint8 arrays (height, width, 3)
            Reduced to `size` when larger.
        captions : sequence of str
            One below each image.
        caption : str, default=""
            A line for all.
        size : int, default=160
            Longest side in pixels.
        marks : sequence of {"right", "wrong", ""}, optional
            The frame of each: blue with a tick, or dashed vermilion with a cross.
        beside : sequence of uint8 arrays or None, optional
            A second image beside each, such as the same under a heat map.
        beside_name : str, default=""
            What the second images show, for those who cannot see them.
        scale : (str, str), optional
            What the darkest and the brightest color of heat maps mean; drawn as a color scale.

        Returns
        -------
        self : Report
        """
        n = len(images)
        shown = [
            {
                "source": _picture(image, size),
                "caption": text,
                "mark": mark,
                "beside": "" if other is None else _picture(other, size),
                "beside_name": beside_name,
            }
            for image, text, mark, other in zip(
                images, captions, marks or [""] * n, beside or [None] * n, strict=True
            )
        ]
        return self._add("gallery", images=shown, caption=caption, scale=scale)

    def grid(
        self,
        rows: Mapping[str, Sequence[NDArray[np.uint8]]],
        columns: Sequence[str],
        caption: str = "",
        size: int = 112,
    ) -> Self:
        """Add images in named rows and columns.

        Parameters
        ----------
        rows : mapping of str to sequence of uint8 arrays (height, width, 3)
            The same number of images in each.
        columns : sequence of str
            One name for each column; neighbors of one name share it.
        caption : str, default=""
            A line below.
        size : int, default=112
            Longest side in pixels.

        Returns
        -------
        self : Report
        """
        shown = [
            {
                "name": name,
                "cells": [
                    {"source": _picture(image, size), "alt": f"{name}: {column}"}
                    for image, column in zip(images, columns, strict=True)
                ],
            }
            for name, images in rows.items()
        ]
        heads = [(name, len(list(run))) for name, run in groupby(columns)]
        return self._add("grid", rows=shown, heads=heads, caption=caption)

    def code(self, text: str, caption: str = "") -> Self:
        """Add text in fixed width, folded away until it is opened.

        Parameters
        ----------
        text : str
            Shown as it stands.
        caption : str, default=""
            The line to click.

        Returns
        -------
        self : Report
        """
        return self._add("code", text=text, caption=caption)

    def html(self) -> str:
        """Return the page.

        Returns
        -------
        html : str
        """
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("hemaest.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["groupby_runs"] = _runs
        template = environment.get_template("page.html")
        return template.render(
            title=self.title,
            lead=self.lead,
            command=self.command,
            made=_made(),
            sections=self._sections,
        )

    def save(self, path: Any = None) -> str:
        """Write the page and return it.

        Parameters
        ----------
        path : path, optional
            Where to write; None only returns the page.

        Returns
        -------
        html : str
        """
        html = self.html()
        if path is not None:
            # names of files may hold bytes that are no text
            write_whole(path, html.encode(errors="backslashreplace"))
        return html


def _runs(blocks: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Join neighbors of one kind, so that matrices stand side by side."""
    return [(kind, list(run)) for kind, run in groupby(blocks, key=lambda block: block["kind"])]


def _heading(name: Any, headings: Mapping[str, str] | None) -> str:
    """Return the heading of a column."""
    if headings is None or (headings and str(name) not in headings):
        return str(name).replace("_", " ")
    return headings.get(str(name), str(name))


def _made() -> str:
    """Return the day and the versions; the day can be fixed, for pages that are rebuilt."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(fixed), UTC) if fixed else datetime.now().astimezone()
    parts = [f"{now:%Y-%m-%d}"]
    for name in PACKAGES:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join([*parts, f"Python {platform.python_version()}"])


def _cell(name: Any, value: Any, digits: int) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if re.match(r"p([ _]|$)", str(name)) and isinstance(value, float) and value < 10**-digits:
        return f"<{10**-digits:.{digits}f}"
    return format_cell(value, digits)


def _ends(scale: tuple[float, float]) -> tuple[str, str]:
    return f"{scale[0]:g}", f"{scale[1]:g}"


def _scale(table: pd.DataFrame, interval: tuple[str, str, str]) -> tuple[float, float]:
    """Round limits that hold all intervals."""
    values = table[list(interval)].to_numpy(dtype=float)
    if np.isnan(values).all():
        return 0.0, 1.0
    low, high = np.nanmin(values), np.nanmax(values)
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-3)))
    ends = np.floor(low / step) * step, np.ceil(high / step) * step
    return float(round(ends[0], 6)), float(round(ends[1], 6))


def _dot(
    value: float, low: float, high: float, *, scale: tuple[float, float], digits: int
) -> dict[str, Any]:
    """Positions in percent of a dot and its interval."""
    width = max(scale[1] - scale[0], 1e-12)
    place = [100 * (v - scale[0]) / width for v in (value, low, high)]
    if not np.isfinite(place[0]):
        return {}
    span = "" if not np.isfinite(low) else f"{low:.{digits}f} to {high:.{digits}f}"
    ends = place[1:] if np.isfinite(low) else [place[0], place[0]]
    return {"dot": place[0], "from": ends[0], "to": ends[1], "span": span}


def _svg(figure: Any) -> str:
    import matplotlib
    from matplotlib import pyplot as plt

    buffer = io.StringIO()
    # text stays text: the browser has the letters of scripts that matplotlib's font lacks
    text_stays = matplotlib.rc_context({"svg.hashsalt": "hemaest", "svg.fonttype": "none"})
    with text_stays, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    # several figures on one page must not share the names of their clip paths and glyphs
    svg = text[text.index("<svg") :]
    mark = f"f{zlib.crc32(svg.encode()):08x}-"
    svg = re.sub(r'\bid="', f'id="{mark}', svg)
    svg = re.sub(r'href="#', f'href="#{mark}', svg)
    return re.sub(r"url\(#", f"url(#{mark}", svg)


def _picture(image: NDArray[np.uint8], size: int) -> str:
    """Return an image as text; as JPEG a photograph takes a tenth of the space."""
    from PIL import Image

    thumbnail = Image.fromarray(np.ascontiguousarray(image[..., :3]))
    thumbnail.thumbnail((size, size))
    buffer = io.BytesIO()
    thumbnail.save(buffer, format="JPEG", quality=88, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
