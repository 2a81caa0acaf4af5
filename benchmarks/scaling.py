"""How the library grows: streams, clusters, slides, and each stage from 100 files on.

``python -m benchmarks.scaling`` measures every part and writes its table into RESULTS.md;
``--small`` takes a fraction of everything, ``--only NAME`` one part. Needs the extras ``scale`` and
``slides``; all data are rendered.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._results import remembered, write_section
from benchmarks._scale_data import write_crops, write_distinct, write_manifest, write_slide
from hemaest._tables import format_table

HEAD = """
import sys, time, resource
from pathlib import Path
import numpy as np
from hemaest.images import ImageRef, to_object_array
def refs(folder, n=None):
    return to_object_array([ImageRef(p) for p in sorted(Path(folder).glob("*.*"))[:n]])
def steps(X):
    from sklearn.pipeline import make_pipeline
    from hemaest.features import HandcraftedFeatures
    from hemaest.segmentation import CellSegmenter
    return make_pipeline(CellSegmenter(), HandcraftedFeatures()).fit(X[:2])
def shipped():
    from hemaest.pretrained import load_pretrained
    return load_pretrained("blood-cells")
"""
TAIL = """
used = time.process_time() - cpu
print(time.perf_counter() - start, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def process(work: str, *arguments: Any, before: str = "") -> tuple[float, float, float]:
    """Run work in a process of its own; return seconds, CPU seconds and the most megabytes."""
    return measured(work, *arguments, before=before)[0]


def measured(
    work: str, *arguments: Any, before: str = ""
) -> tuple[tuple[float, float, float], str]:
    """Return what :func:`process` does, and what the work printed."""
    clock = "\nstart, cpu = time.perf_counter(), time.process_time()\n"
    done = subprocess.run(
        [sys.executable, "-c", HEAD + before + clock + work + TAIL, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    said, _, last = done.stdout.rstrip().rpartition("\n")
    seconds, used, most = map(float, last.split())
    return (seconds, used, most), said


# ------------------------------------------------------------------------------ prediction


def prediction(folder: Path, small: bool) -> pd.DataFrame:
    """Compare prediction from files with the bare model on decoded images, the sides in turn."""
    from hemaest.cli._readers import CellFiles
    from hemaest.images import read_image, to_object_array
    from hemaest.pretrained import load_pretrained
    from hemaest.scale import predict_stream

    files = write_crops(folder / "crops360", 256 if small else 768, 360)
    model = load_pretrained("blood-cells")
    X = to_object_array([read_image(file) for file in files])
    count = iter(range(1000))
    sides: dict[str, Callable[[], Any]] = {
        "the bare model, decoded images": lambda: model.predict_proba(X),
        "reading alone, one thread": lambda: [read_image(file) for file in files],
        "predict": lambda: list(CellFiles(model, {}).read(files)),
        "predict_stream": lambda: predict_stream(model, files, folder / f"out{next(count)}"),
    }
    model.predict_proba(X[:64])
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(2 if small else 3):
        for name, work in sides.items():
            start, used = time.perf_counter(), time.process_time()
            work()
            times[name].append((time.perf_counter() - start, time.process_time() - used))
    wall = {name: min(w for w, _ in found) for name, found in times.items()}
    cpu = {name: min(c for _, c in found) for name, found in times.items()}
    bare, reading = list(sides)[:2]
    return pd.DataFrame(
        [
            {
                "what": name,
                "images/s": len(files) / wall[name],
                "CPU ms an image": 1000 * cpu[name] / len(files),
                "of the bare model": wall[bare] / wall[name],
                "CPU, bare and reading over it": (cpu[bare] + cpu[reading]) / cpu[name],
            }
            for name in sides
        ]
    )


# --------------------------------------------------------------------------------- streams

STREAM = """
from hemaest.features import ColorFeatures
from hemaest.scale import predict_stream
fitted = ColorFeatures().fit(np.zeros((2, 24, 24, 3), np.uint8) + 90)
"""


def memory(folder: Path, small: bool) -> pd.DataFrame:
    """Compare the memory of a stream of many files and of one of few."""
    few, many = (1_000, 10_000) if small else (10_000, 100_000)
    files = write_crops(folder / "tiny", 500, 24, ".png")
    rows = []
    for n in (few, many):
        manifest = folder / f"{n}.csv"
        pd.DataFrame({"file": [files[i % len(files)] for i in range(n)]}).to_csv(manifest)
        work = "predict_stream(fitted, sys.argv[1], sys.argv[2], kind='transform')"
        seconds, used, most = process(work, manifest, folder / f"out{n}", before=STREAM)
        rows.append({"files": n, "seconds": seconds, "CPU seconds": used, "peak MB": most})
    table = pd.DataFrame(rows)
    table["of the first"] = table["peak MB"] / table["peak MB"].iloc[0]
    return table


def digest(folder: Path) -> str:
    """Return a hash of all files below a folder, names and content."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        whole.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def kills(folder: Path, small: bool) -> pd.DataFrame:
    """Kill a stream at random moments between its first and its last part; let it go on."""
    n, part = (1_500, 100) if small else (6_000, 200)
    write_crops(folder / "many", n, 24, ".png")
    work = f"predict_stream(fitted, sys.argv[1], sys.argv[2], kind='transform', part_size={part})"
    code = HEAD + STREAM + work
    process(work, folder / "many", folder / "whole", before=STREAM)
    truth, rng, rows = digest(folder / "whole"), random.Random(0), []
    for number in range(3 if small else 10):
        out = folder / f"killed{number}"
        wanted = rng.randint(1, n // part - 1)
        running = subprocess.Popen([sys.executable, "-c", code, folder / "many", out])
        while running.poll() is None and len(list(out.glob("part-*.parquet"))) < wanted:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        running.send_signal(signal.SIGKILL)
        running.wait()
        parts = len(list(out.glob("part-*.parquet")))
        process(work, folder / "many", out, before=STREAM)
        rows.append({"kill": number + 1, "parts there": parts, "of": n // part,
                     "killed": running.returncode == -signal.SIGKILL,
                     "equal by hash": digest(out) == truth})  # fmt: skip
    return pd.DataFrame(rows)


def manifest(folder: Path, small: bool) -> pd.DataFrame:
    """Run the command over a manifest of which one row in a hundred is broken."""
    n = 20_000 if small else 500_000
    path, broken = write_manifest(folder, n, 0.01)
    from hemaest.datasets import make_cells
    from hemaest.persistence import save
    from hemaest.recipes import make_recipe
    from hemaest.scale import StreamResult

    cells = make_cells(40, classes=["lymphocyte", "neutrophil"], image_size=48, random_state=0)
    save(make_recipe("color-logistic").fit(cells.images, cells.target), folder / "model.hemaest")
    command = [
        sys.executable, "-c", "from hemaest.cli import main; main()", "predict",
        str(folder / "model.hemaest"), str(path), "--parquet", str(folder / "out"),
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    written = StreamResult(folder / "out", n, len(broken))
    failures, rows = written.failures(), written.table(["row"])["row"]
    return pd.DataFrame([{
        "rows": n, "MB": path.stat().st_size / 1e6, "seconds": time.perf_counter() - start,
        "exit code": done.returncode, "broken": len(broken),
        "listed": len(broken & set(failures["row"])),
        "wrongly listed": len(set(failures["row"]) - broken),
        "predicted": len(set(rows) - broken),
    }])  # fmt: skip


# --------------------------------------------------------------------------------- cluster

CLUSTER = """
from distributed import LocalCluster
from hemaest.scale import on_cluster
cluster = LocalCluster(
    n_workers=int(sys.argv[2]), threads_per_worker=1, processes=True, dashboard_address=None
)
chosen = on_cluster(cluster)
client = chosen.__enter__()
from hemaest.scale import predict_stream
X = refs(sys.argv[1])
fitted = steps(X)
def work(files, out):
    predict_stream(fitted, [x.path for x in files], out, kind="transform")
work(X[:64], sys.argv[3] + "-first")
"""


def workers(folder: Path, small: bool) -> pd.DataFrame:
    """Stream features of the same files through one worker and through two."""
    n = 200 if small else 5_000
    write_crops(folder / "crops160", n, 160)
    rows = []
    for count in (1, 2):
        out = folder / f"by-{count}"
        seconds, _, _ = process(
            "work(X, sys.argv[3])", folder / "crops160", count, out, before=CLUSTER
        )
        rows.append({"cells": n, "workers": count, "seconds": seconds})
    table = pd.DataFrame(rows)
    table["times as fast"] = table["seconds"].iloc[0] / table["seconds"]
    return table


COMPARE = """
from hemaest.datasets import make_cells
from hemaest.evaluation import compare
cells = make_cells(int(sys.argv[1]), n_patients=20, image_size=96, random_state=0)
def work(n=None):
    compare(["color-logistic", "handcrafted-logistic"], cells.images[:n], cells.target[:n],
            groups=cells.groups[:n], cv=4, n_jobs=2)
"""
START = "work(80)"  # the processes start, and load what they need
ON_TWO = COMPARE + CLUSTER.split("from hemaest.scale import predict")[0]


def comparison(folder: Path, small: bool) -> pd.DataFrame:
    """Compare with processes of joblib and with two workers of dask, both started before."""
    n = 120 if small else 400
    rows = []
    for name, before in (("processes of joblib", COMPARE), ("two workers of dask", ON_TWO)):
        seconds, _, _ = process("work()", n, 2, before=before + START)
        rows.append({"images": n, "engine": name, "seconds": seconds})
    table = pd.DataFrame(rows)
    table["of the first"] = table["seconds"] / table["seconds"].iloc[0]
    return table


# ---------------------------------------------------------------------------------- slides


SLIDE = """
from hemaest.scale import Slide, count_slide
from hemaest.segmentation import SmearDetector
import hemaest.segmentation._fields
opened = Slide(sys.argv[1], um_per_pixel=0.2)
"""
COUNT = """
result = count_slide(opened)
result.cells.to_pickle(sys.argv[2])
result.tiles.to_pickle(sys.argv[3])
"""


def slide(folder: Path, small: bool) -> pd.DataFrame:
    """Count a slide; compare with truth, and with the field detector on fields around its seams."""
    from hemaest.images import to_object_array
    from hemaest.scale import Slide
    from hemaest.segmentation import SmearDetector

    side, path = (4_000 if small else 20_000), folder / "slide.tif"
    boxes = write_slide(path, side)
    files = folder / "cells.pkl", folder / "tiles.pkl"
    seconds, used, peak = process(COUNT, path, *files, before=SLIDE)
    found = pd.read_pickle(files[0])[["x0", "y0", "x1", "y1"]].to_numpy()
    tile, width = int(pd.read_pickle(files[1])["width"].iloc[0]), 1_600
    # fields of the camera, each around a corner of four tiles; the cells on their edges are left
    # out on both sides
    corners = [
        (x, y)
        for y in range(tile - width // 2, side - width + 1, tile)
        for x in range(tile - width // 2, side - width + 1, tile)
    ]
    detector = SmearDetector(um_per_pixel=0.2).fit(np.full((1, 64, 64, 3), 235, np.uint8))
    with Slide(path) as opened:
        fields = to_object_array([opened.read(x, y, width, width) for x, y in corners])
    plain, inside_truth, inside_found, lost = [], [], [], 0
    for (x, y), field in zip(corners, detector.predict(fields), strict=True):
        plain.append(within(field[:, :4] + [x, y, x, y], x, y, width))
        inside_truth.append(within(boxes, x, y, width))
        inside_found.append(within(found, x, y, width))
        seen = inside_truth[-1][matched(plain[-1], inside_truth[-1])]
        lost += int((~matched(found, seen[to_seam(seen, tile) < 60])).sum())
    hit, near = matched(found, boxes), to_seam(boxes, tile) < 60
    return pd.DataFrame([{
        "side": side, "cells": len(boxes), "recall": hit.mean(),
        "near a seam": hit[near].mean(), "elsewhere": hit[~near].mean(),
        "doubled": len(found) - len(distinct(found)), "fields": len(fields),
        "lost at seams": lost,
        "recall of it": share(inside_found, inside_truth) / share(plain, inside_truth),
        "precision of it": share(inside_truth, inside_found) / share(inside_truth, plain),
        "MP a CPU second": side**2 / 1e6 / used, "MP a second": side**2 / 1e6 / seconds,
        "peak MB": peak,
    }])  # fmt: skip


def to_seam(boxes: np.ndarray, tile: int) -> np.ndarray:
    """Return how far the middle of each box is from the nearest edge of a tile."""
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return np.minimum(middle % tile, tile - middle % tile).min(axis=1)


def within(boxes: np.ndarray, x: int, y: int, width: int, rim: int = 80) -> np.ndarray:
    """Return the boxes whose middle lies in a window, away from its edge."""
    middle = (boxes[:, :2] + boxes[:, 2:4]) / 2 - [x, y]
    return boxes[((middle > rim) & (middle < width - rim)).all(axis=1)]


def matched(found: np.ndarray, truth: np.ndarray, near: float = 15) -> np.ndarray:
    """Return which true boxes have a found one with nearly the same middle."""
    from scipy.spatial import cKDTree

    if not len(found) or not len(truth):
        return np.zeros(len(truth), bool)
    middle = [(b[:, :2] + b[:, 2:4]) / 2 for b in (found, truth)]
    return cKDTree(middle[0]).query(middle[1])[0] < near


def share(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Return the share of the true boxes of all fields that were found."""
    return float(np.concatenate([matched(f, t) for f, t in zip(found, truth, strict=True)]).mean())


def distinct(found: np.ndarray) -> np.ndarray:
    """Return the boxes without those whose middle nearly equals that of one before."""
    from scipy.spatial import cKDTree

    middle = (found[:, :2] + found[:, 2:4]) / 2
    pairs = cKDTree(middle).query_pairs(15, output_type="ndarray")
    return np.delete(found, np.unique(pairs[:, 1]), axis=0) if len(pairs) else found


# ---------------------------------------------------------------------------------- growth

AUDIT = """
from hemaest.evaluation import audit
n = int(sys.argv[2])
copies = [p for p in sorted(Path(sys.argv[1], "copies").iterdir()) if int(p.name[:6]) < n]
source = np.array([int(p.name[:6]) for p in copies])
X = np.concatenate([refs(sys.argv[1], n), to_object_array([ImageRef(p) for p in copies])])
y = np.random.default_rng(1).integers(0, 4, len(X))
"""
FIND = """
groups = audit(X, y, n_jobs=2).groups_
print((groups[n:] == groups[source]).mean(), n - len(np.unique(groups[:n])), len(copies))
"""


def copies(folder: Path, small: bool) -> pd.DataFrame:
    """Audit more and more files, of which a few have a copy; the exponent is that of the step."""
    sizes = [500, 2_000] if small else [1_000, 10_000, 100_000]
    write_distinct(folder / "distinct", sizes[-1], sizes[-1] // 50)
    rows: list[dict[str, Any]] = []
    for n in sizes:
        (seconds, used, most), said = measured(FIND, folder / "distinct", n, before=AUDIT)
        recall, false, planted = (float(word) for word in said.split())
        rows.append({
            "files": n, "copies": int(planted), "seconds": seconds, "CPU seconds": used,
            "exponent": slope(rows, n, used), "CPU ms a file": 1000 * used / n, "peak MB": most,
            "recall of the copies": recall, "wrongly joined": int(false),
        })  # fmt: skip
    return pd.DataFrame(rows)


# work, and the most files of it that two cores do in some minutes
STAGES = {
    "read": ("for x in X: x.read()", 100_000),
    "sketches and search": ("near_duplicate_groups(X)", 100_000),
    "predict": ("run(model, 'predict')", 10_000),
    "features": ("run(fitted, 'transform')", 10_000),
}
PLOT = Path(__file__).parents[1] / "docs/images/growth.png"
READY = """
X = refs(sys.argv[1], int(sys.argv[2]))
from hemaest.groups import near_duplicate_groups
fitted, model = steps(X), shipped()
for _ in (fitted.transform(X[:8]), model.predict_proba(X[:8])): pass
import tempfile
from hemaest.scale import predict_stream
def run(what, kind):
    with tempfile.TemporaryDirectory() as folder:
        predict_stream(what, [x.path for x in X], folder, kind=kind)
"""


def growth(folder: Path, small: bool) -> pd.DataFrame:
    """Measure each stage at more and more files of 360 pixels; the exponent is that of the step."""
    sizes = [100, 300] if small else [100, 1_000, 10_000, 100_000]
    write_distinct(folder / "distinct", sizes[-1], sizes[-1] // 50)
    rows = []
    for stage, (work, most_files) in STAGES.items():
        own: list[dict[str, Any]] = []
        for n in (size for size in sizes if size <= most_files):
            seconds, used, most = remembered(
                folder / f"growth-{stage}-{n}.joblib",
                partial(process, work, folder / "distinct", n, before=READY),
            )
            own.append({"stage": stage, "files": n, "seconds": seconds, "CPU seconds": used,
                        "exponent": slope(own, n, used), "CPU ms a file": 1000 * used / n,
                        "peak MB": most})  # fmt: skip
        rows += own
    table = pd.DataFrame(rows)
    if not small:
        draw(table, PLOT)
    return table


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw CPU time by number of files, with the line along which time grows as the files do."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    ax = figure.add_subplot(xscale="log", yscale="log")
    n = np.array([table["files"].min(), table["files"].max()])
    for cost in (1e-4, 1e-3, 1e-2, 1e-1):
        ax.plot(n, cost * n, color="0.9", linewidth=1, zorder=0)
    for stage, own in table.groupby("stage", sort=False):
        ax.plot(own["files"], own["CPU seconds"], marker="o", markersize=4)
        cost = f"{own['CPU ms a file'].iloc[-1]:.1f} ms a file"
        ax.annotate(
            f"{stage}\n{cost}", (own["files"].iloc[-1], own["CPU seconds"].iloc[-1]),
            xytext=(8, 0), textcoords="offset points", fontsize=8, va="center",
        )  # fmt: skip
    ax.set(xlabel="files", ylabel="CPU seconds", xlim=(n[0] * 0.8, n[1] * 9))
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def slope(rows: Sequence[dict[str, Any]], n: int, used: float) -> float:
    """Return the exponent of growth since the last row."""
    if not rows:
        return np.nan
    return float(np.log(used / rows[-1]["CPU seconds"]) / np.log(n / rows[-1]["files"]))


PARTS: dict[str, Callable[[Path, bool], pd.DataFrame]] = {
    "prediction": prediction,
    "memory": memory,
    "kills": kills,
    "manifest": manifest,
    "workers": workers,
    "comparison": comparison,
    "slide": slide,
    "copies": copies,
    "growth": growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a fraction of everything")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--folder", type=Path, help="keep the files here, to run a part again")
    given = parser.parse_args()
    for part in given.only:
        start, busy = time.perf_counter(), os.getloadavg()[0]
        with tempfile.TemporaryDirectory(dir=given.folder) as new:
            table = PARTS[part](given.folder or Path(new), given.small)
        text = (
            f"{PARTS[part].__doc__}\n\n{format_table(table)}\n\n"
            f"Took {time.perf_counter() - start:.0f} s; load average {busy:.0f} before."
        )
        title = f"Scaling: {part}" + (" (small)" if given.small else "")
        command = f"python -m benchmarks.scaling{' --small' * given.small} --only {part}"
        write_section(title, text, command=command)


if __name__ == "__main__":
    main()
