"""Take the result away, and bring corrections back.

CSV, JSON, COCO, YOLO, GeoJSON for QuPath, a labeled folder for training; COCO and GeoJSON are
read again. Called by the routes.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from hemaest.web._store import NOT_COUNTED, UNIDENTIFIED

__all__ = ["FORMATS", "labeled_folder", "read_corrections", "write"]

Rows = Sequence[Mapping[str, Any]]
COLUMNS = [
    "field", "cell", "x0", "y0", "x1", "y1", "label", "predicted", "confidence", "nc_ratio",
    "reviewed", "added_by",
]  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _csv(summary: Mapping[str, Any], fields: Rows, cells: Rows) -> bytes:
    names = {f["id"]: f["name"] for f in fields}
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for c in cells:
        row = [
            names[c["field"]], c["id"], c["x0"], c["y0"], c["x1"], c["y1"], c["label"], c["type"],
            c["confidence"], c["nc_ratio"], int(bool(c["reviewed"])), c["author"],
        ]  # fmt: skip
        # a spreadsheet would run a name that starts like a formula
        table.writerow("'" + v if isinstance(v, str) and v.startswith(_FORMULA) else v for v in row)
    return file.getvalue().encode("utf-8-sig")


def _json(summary: Mapping[str, Any], fields: Rows, cells: Rows) -> bytes:
    keep = ("id", "name", "state", "reason", "width", "height", "warnings")
    content = {
        **summary,
        "fields": [{k: f[k] for k in keep} for f in fields],
        "cells": [{k: v for k, v in c.items() if k != "reference_cells"} for c in cells],
    }
    return json.dumps(content, indent=1).encode()


def _kept(cells: Rows) -> list[Mapping[str, Any]]:
    return [c for c in cells if c["label"] != NOT_COUNTED]


def _classes(cells: Rows) -> list[str]:
    return sorted({c["label"] for c in _kept(cells)})


def _coco(summary: Mapping[str, Any], fields: Rows, cells: Rows) -> bytes:
    numbers = {name: i + 1 for i, name in enumerate(_classes(cells))}
    content = {
        "info": {"description": summary["name"], "date_created": summary["created"]},
        "images": [
            {"id": f["id"], "file_name": f["name"], "width": f["width"], "height": f["height"]}
            for f in fields
            if f["state"] == "done"
        ],
        "categories": [{"id": i, "name": name} for name, i in numbers.items()],
        "annotations": [
            {
                "id": c["id"],
                "image_id": c["field"],
                "category_id": numbers[c["label"]],
                "bbox": [c["x0"], c["y0"], c["x1"] - c["x0"], c["y1"] - c["y0"]],
                "area": (c["x1"] - c["x0"]) * (c["y1"] - c["y0"]),
                "segmentation": [[v for point in c["outline"] for v in point]]
                if c["outline"]
                else [],
                "iscrowd": 0,
            }
            for c in _kept(cells)
        ],
    }
    return json.dumps(content, indent=1).encode()


def _ring(cell: Mapping[str, Any]) -> list[list[float]]:
    """Return the outline as a closed ring, or the box where there is none."""
    points = cell["outline"] or [
        [cell["x0"], cell["y0"]],
        [cell["x1"], cell["y0"]],
        [cell["x1"], cell["y1"]],
        [cell["x0"], cell["y1"]],
    ]
    return [*points, points[0]]


def _geojson_of(cells: Rows, colors: Mapping[str, str]) -> dict[str, Any]:
    """Return cells as QuPath opens them: one detection a cell with its class and measurements."""
    features = []
    for c in _kept(cells):
        color = colors.get(c["label"], "#777777").lstrip("#")
        features.append(
            {
                "type": "Feature",
                "id": str(c["id"]),
                "geometry": {"type": "Polygon", "coordinates": [_ring(c)]},
                "properties": {
                    "objectType": "detection",
                    "classification": {
                        "name": c["label"],
                        "color": [int(color[i : i + 2], 16) for i in (0, 2, 4)],
                    },
                    "measurements": {
                        "confidence": c["confidence"],
                        "nc_ratio": c["nc_ratio"],
                    },
                    "hemaest_cell": c["id"],
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _archive(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def _unique_stems(fields: Rows) -> dict[int, str]:
    """Return a file name for each field that no other field has."""
    return {f["id"]: f"{f['id']:05d}_{_slug(PurePosixPath(f['name']).stem)}" for f in fields}


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._") or "x"


def _geojson(summary: Mapping[str, Any], fields: Rows, cells: Rows) -> bytes:
    stems, colors = _unique_stems(fields), summary["colors"]
    return _archive(
        {
            f"{stems[f['id']]}.geojson": json.dumps(
                _geojson_of([c for c in cells if c["field"] == f["id"]], colors), indent=1
            ).encode()
            for f in fields
            if f["state"] == "done"
        }
    )


def _yolo(summary: Mapping[str, Any], fields: Rows, cells: Rows) -> bytes:
    numbers = {name: i for i, name in enumerate(_classes(cells))}
    stems = _unique_stems(fields)
    files = {"classes.txt": ("\n".join(numbers) + "\n").encode()}
    for f in fields:
        if f["state"] != "done":
            continue
        lines = []
        for c in _kept(cells):
            if c["field"] != f["id"]:
                continue
            box = (
                (c["x0"] + c["x1"]) / 2 / f["width"],
                (c["y0"] + c["y1"]) / 2 / f["height"],
                (c["x1"] - c["x0"]) / f["width"],
                (c["y1"] - c["y0"]) / f["height"],
            )
            lines.append(f"{numbers[c['label']]} " + " ".join(f"{v:.6f}" for v in box))
        files[f"labels/{stems[f['id']]}.txt"] = "".join(line + "\n" for line in lines).encode()
    return _archive(files)


Writer = Callable[[Mapping[str, Any], Rows, Rows], bytes]
FORMATS: dict[str, tuple[Writer, str, str]] = {
    "csv": (_csv, "text/csv", "csv"),
    "json": (_json, "application/json", "json"),
    "coco": (_coco, "application/json", "coco.json"),
    "yolo": (_yolo, "application/zip", "yolo.zip"),
    "geojson": (_geojson, "application/zip", "geojson.zip"),
}


def write(kind: str, summary: Mapping[str, Any], fields: Rows, cells: Rows) -> bytes:
    """Return the bytes of one format.

    Parameters
    ----------
    kind : str
        One of ``FORMATS``.
    summary : dict
        ``name``, ``created`` and ``colors`` of the session, and what JSON shall hold besides.
    fields, cells : sequences of rows
        As the store gives them.
    """
    return FORMATS[kind][0](summary, fields, cells)


def labeled_folder(fields: Rows, cells: Rows, crop: Callable[[Mapping[str, Any]], bytes]) -> bytes:
    """Return an archive with one folder for each type, as ``hemaest train`` takes it.

    Cells that were not identified are left out: a classifier learns nothing from them. Names start
    with the field, so that cells of one field stay on one side of a split.
    """
    stems = _unique_stems(fields)
    folders: dict[str, str] = {}
    for c in cells:
        label = c["label"]
        if label not in folders:
            slug, taken = _slug(label.replace(" ", "_")), set(folders.values())
            folders[label] = slug if slug not in taken else f"{slug}-{len(taken)}"
    return _archive(
        {
            f"{folders[c['label']]}/{stems[c['field']]}_cell{c['id']}.png": crop(c)
            for c in cells
            if c["label"] not in {UNIDENTIFIED, NOT_COUNTED}
        }
    )


def read_corrections(content: bytes, fields: Rows, cells: Rows) -> dict[int, str]:
    """Return the label of each cell in a corrected GeoJSON or COCO file.

    Cells are recognized by their number, which both exports hold, else by their box.

    Parameters
    ----------
    content : bytes
        The file.
    fields, cells : sequences of rows
        What is known.
    """
    try:
        data = json.loads(content)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError(f"the file is no JSON ({error}).") from None
    if not isinstance(data, dict):
        raise ValueError("the file is JSON, but neither GeoJSON nor COCO.")
    try:
        if "features" in data:
            return _from_geojson(data, cells)
        if "annotations" in data:
            return _from_coco(data, fields, cells)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"an entry is not as GeoJSON or COCO has it ({error!r}).") from None
    raise ValueError("the file has neither 'features' (GeoJSON) nor 'annotations' (COCO).")


def _from_geojson(data: Mapping[str, Any], cells: Rows) -> dict[int, str]:
    known = {c["id"] for c in cells}
    labels = {}
    for feature in data["features"]:
        properties = feature.get("properties") or {}
        name = (properties.get("classification") or {}).get("name")
        number = properties.get("hemaest_cell", feature.get("id"))
        number = int(number) if str(number).isdecimal() else None
        if number not in known:
            number = _cell_of_ring(feature["geometry"]["coordinates"][0], cells)
        if number is not None and isinstance(name, str):
            labels[number] = name
    return labels


def _cell_of_ring(ring: Sequence[Sequence[float]], cells: Rows) -> int | None:
    xs, ys = [float(p[0]) for p in ring], [float(p[1]) for p in ring]
    return _cell_of_box((min(xs), min(ys), max(xs), max(ys)), cells)


def _cell_of_box(box: tuple[float, float, float, float], cells: Rows) -> int | None:
    """Return the cell whose box overlaps most (at least half of the union)."""

    def overlap(c: Mapping[str, Any]) -> float:
        wide = min(box[2], c["x1"]) - max(box[0], c["x0"])
        high = min(box[3], c["y1"]) - max(box[1], c["y0"])
        both = max(wide, 0) * max(high, 0)
        area = (box[2] - box[0]) * (box[3] - box[1]) + (c["x1"] - c["x0"]) * (c["y1"] - c["y0"])
        return both / max(area - both, 1e-9)

    best = max(cells, key=overlap, default=None)
    return best["id"] if best is not None and overlap(best) >= 0.5 else None


def _from_coco(data: Mapping[str, Any], fields: Rows, cells: Rows) -> dict[int, str]:
    names = {c["id"]: c["name"] for c in data["categories"]}
    files = {i["id"]: i["file_name"] for i in data["images"]}
    known = {c["id"]: c for c in cells}
    by_name = {f["name"]: f["id"] for f in fields}
    labels = {}
    for a in data["annotations"]:
        field = by_name.get(files.get(a["image_id"]), a["image_id"])
        number = a.get("id")
        if number not in known or known[number]["field"] != field:
            x, y, w, h = map(float, a["bbox"])
            number = _cell_of_box((x, y, x + w, y + h), [c for c in cells if c["field"] == field])
        if number is not None:
            labels[number] = str(names[a["category_id"]])
    return labels
