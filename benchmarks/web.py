"""The review page under load: real servers, real processes, a real Chromium.

``python -m benchmarks.web`` measures every bar of the page and writes the table into RESULTS.md.
``--small`` takes a fraction of everything, ``--only NAME`` one part. Needs the extra ``test`` and
Chromium.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks._api_cases import attack
from benchmarks._results import write_section
from hemaest._tables import format_table
from hemaest.datasets import make_cells, make_smear

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from hemaest.cli import main; main()", "serve", "--no-browser"]
CHANGE = {"X-Hemaest": "1"}
TYPES = ["segmented neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil", "blast"]
KEYS = dict(zip(TYPES, "134560", strict=True))


class Server:
    """``hemaest serve`` in a process of its own."""

    def __init__(self, state, port=0, **environment):
        self._command = [*COMMAND, "--state", str(state), "--port", str(port)]
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline()
        self.port = int(re.search(r":(\d+)/", line).group(1))
        self.address = f"http://127.0.0.1:{self.port}"

    def kill(self):
        """Leave it no time for anything."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def answers(server, seconds=120):
    """Wait until the server answers."""
    import httpx

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.address}/api/config", timeout=5).status_code == 200:
                return
        time.sleep(0.02)
    raise SystemExit("the server does not answer")


@contextlib.contextmanager
def browser():
    """Give a function that opens a page in Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])

        def new_page(script=""):
            page = found.new_context(viewport={"width": 1280, "height": 860}).new_page()
            page.set_default_timeout(120_000)
            page.add_init_script(f"localStorage.setItem('hemaest-observer', 'Dr. Bench');{script}")
            return page

        yield new_page
        found.close()


def holds(page, expression, seconds=120):
    """Wait for an expression; Playwright's own wait needs eval, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise TimeoutError(expression)
        time.sleep(0.02)


def write_fields(folder, n, side=640, n_cells=9):
    """Write n fields; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"field {i}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), make_smear(side, n_cells=n_cells, random_state=i).image[..., ::-1])
    return paths


def prepared(state, truth, seed=0):
    """Write a session of analyzed cells whose names are partly wrong; return its name."""
    from hemaest.web._store import Store

    rng = np.random.default_rng(seed)
    cells = make_cells(48, classes=["lymphocyte", "monocyte", "neutrophil"], random_state=seed)
    crops = [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in cells.images]
    state.mkdir(parents=True, exist_ok=True)
    field = state / "field.jpg"
    cv2.imwrite(str(field), make_smear((700, 900), random_state=seed).image[..., ::-1])
    store = Store(state / "review.sqlite")
    session = store.new_session("benchmark")
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    round_ = 30 + 30 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for start in range(0, len(truth), 100):
        store.add_field(session, f"field {start}.jpg", field)
        rows = []
        for i, name in enumerate(truth[start : start + 100]):
            kind = name if rng.random() < 0.7 else TYPES[rng.integers(len(TYPES))]
            x, y = 10.0 + 85 * (i % 10), 10.0 + 65 * (i // 10)
            rows.append(
                {"x0": x, "y0": y, "x1": x + 60, "y1": y + 60,
                 "outline": (round_ + (x, y)).round(1).tolist(),
                 "nucleus": (round_ * 0.6 + (x + 12, y + 12)).round(1).tolist(),
                 "type": kind, "confidence": float(rng.uniform(0.4, 1)), "nc_ratio": 0.5,
                 "probabilities": {kind: 0.8}, "crop": crops[rng.integers(len(crops))]}
            )  # fmt: skip
        job = store.next_job()
        store.finish(job["id"], {"width": 900, "height": 700, "warnings": [], "cells": rows})
    store.close()
    return session


# --------------------------------------------------------------------------- from start to field


def cold_start(work, small):
    """Time from the command to a field with its outlines, in a browser that is open already.

    pip leaves every package with its bytecode. So does the start that is not measured here, which
    also loads everything from the disk once.
    """
    field = write_fields(work / "cold", 1)[0]
    installed = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(work / "bytecode")}
    starts = [("", {}), ("every start", {}),
              ("no compiled kernels", {"NUMBA_CACHE_DIR": str(work / "kernels")})]  # fmt: skip
    rows = []
    with browser() as new_page:
        for name, environment in starts:
            page = new_page()
            began = time.perf_counter()
            with Server(work / f"cold {name}", **installed, **environment) as server:
                answers(server)
                page.goto(f"{server.address}/")
                page.wait_for_selector("body[data-ready]")
                open_ = time.perf_counter() - began
                page.set_input_files("#files", field)
                page.locator("#file-list button", has_text="Open").click()
                page.wait_for_selector("#view[aria-busy='false']")
                page.wait_for_selector(".tile", state="attached")
                total = time.perf_counter() - began
            if name:
                rows.append((f"page open, {name}", f"{open_:.1f} s", "", True))
                rows.append((f"first annotated field, {name}", f"{total:.1f} s", "30 s",
                             total <= 30))  # fmt: skip
    return rows


# ------------------------------------------------------------------------------ a large gallery

WATCH = """
window.effects = [];
const later = (f) => requestAnimationFrame(() => { const c = new MessageChannel();
  c.port1.onmessage = f; c.port2.postMessage(0); });
addEventListener('keydown', (event) => { const began = event.timeStamp;
  later(() => effects.push(performance.now() - began)); }, true);
window.shown = new Map(); // when each picture was drawn; asking for it all the time would cost much
document.addEventListener('load', ({ target }) => {
  const tile = target.closest?.('.tile');
  if (tile) target.decode().then(() => later(() => shown.set(tile, performance.now())));
}, true);
window.times = () => [...document.querySelectorAll('.tile')].filter((x) => {
  const box = x.getBoundingClientRect();
  return box.height && box.bottom > 0 && box.top < innerHeight;
}).map((x) => shown.get(x) ?? Infinity);
"""


def gallery(work, small):
    """Time a gallery of 2,000 cells: until cells are seen, and from a key to its effect.

    The next key comes when the effect of the last one is drawn, as with a person; undo is a key
    like the others. The server loads its model at the same time.
    """
    n = 400 if small else 2000
    rng = np.random.default_rng(1)
    session = prepared(work / "gallery", [TYPES[i] for i in rng.integers(len(TYPES), size=n)])
    first, screen, effects = [], [], []
    with Server(work / "gallery") as server, browser() as new_page:
        answers(server)
        for _ in range(2 if small else 5):
            page = new_page(WATCH)
            page.goto(f"{server.address}/#{session}/gallery")
            time.sleep(6)  # the browser alone is at work
            seen = page.evaluate("times()")
            first.append(min(seen))
            screen.append(max(seen))
            page.focus(".tile")
            page.keyboard.press("Home")
            holds(page, "window.effects.length === 1")
            page.evaluate("window.effects.length = 0")
            keys = [*["ArrowRight", "ArrowDown"] * 10, *"134560" * 4, *["Control+z"] * 10]
            for i, key in enumerate(keys):
                page.keyboard.press(key)
                # a modifier is a key too: its event comes first
                holds(page, f"window.effects.length > {i}")
                time.sleep(0.05)
            effects += page.evaluate("window.effects")
            page.context.close()
    return [
        (f"{n} cells: first cell visible, median / most",
         " / ".join(f"{v / 1000:.2f}" for v in (np.median(first), max(first))) + " s", "1.5 s",
         max(first) <= 1500),
        (f"{n} cells: first screen complete, median / most",
         " / ".join(f"{v / 1000:.2f}" for v in (np.median(screen), max(screen))) + " s", "1.5 s",
         max(screen) <= 1500),
        (f"{n} cells: from a key to its effect ({len(effects)}), median / 95% / most",
         " / ".join(f"{v:.0f}" for v in (np.median(effects), np.quantile(effects, 0.95),
                                         max(effects)))
         + " ms", "100 ms", np.quantile(effects, 0.95) <= 100),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------- many users


def users(work, small):
    """Let many users work at once, each with fields, corrections and downloads of their own."""
    n = 6 if small else 32
    fields = write_fields(work / "fields", 12)
    with Server(work / "users") as server:
        answers(server)
        found = asyncio.run(_all_users(server.address, fields, n))
    times = np.array([t for user in found for t in user["times"]])
    wrong = [w for user in found for w in user["wrong"]]
    # the same field gave the same cells to everybody: nothing came from another session
    seen: dict[str, set] = {}
    for user in found:
        for name, boxes in user["boxes"].items():
            seen.setdefault(name, set()).add(boxes)
    mixed = [name for name, kinds in seen.items() if len(kinds) > 1]
    mixed += [w for user in found for w in user["mixed"]]
    p95 = np.quantile(times, 0.95)
    uploads = np.array([t for user in found for t in user["uploads"]])
    waited = [user["waited"] for user in found]
    return [
        (f"{n} users: errors", str(len(wrong)), "0", not wrong),
        (f"{n} users: mixed results", str(len(mixed)), "0", not mixed),
        (f"{n} users: page requests ({len(times):,}), median / 95% / most",
         f"{np.median(times):.0f} / {p95:.0f} / {times.max():.0f} ms", "95%: 500 ms", p95 <= 500),
        (f"{n} users: uploads, median / 95%",
         f"{np.median(uploads):.0f} / {np.quantile(uploads, 0.95):.0f} ms", "", True),
        (f"{n} users: {3 * n} fields analyzed after", f"{max(waited):.0f} s", "", True),
    ]  # fmt: skip


async def _all_users(address, fields, n):
    import httpx

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=f"{address}/api", headers=CHANGE, limits=limits, timeout=120
    ) as client:
        return await asyncio.gather(*(_one_user(client, fields, i) for i in range(n)))


async def _one_user(client, fields, number):
    """Do what a person does, faster than a person; note every time and every surprise."""
    seen = {"times": [], "uploads": [], "wrong": [], "mixed": [], "boxes": {}, "waited": 0.0}
    who = {"observer": f"user {number}"}
    rng = np.random.default_rng(number)

    async def ask(method, path, kept="times", **what):
        began = time.perf_counter()
        answer = await client.request(method, path, **what)
        seen[kept].append(1000 * (time.perf_counter() - began))
        if answer.status_code >= 400:
            seen["wrong"].append((method, path, answer.status_code, answer.text[:200]))
        return answer

    session = (await ask("POST", "/sessions", json={"name": f"smear {number}"})).json()["id"]
    at = f"/sessions/{session}"
    mine = [fields[i] for i in rng.choice(len(fields), 3, replace=False)]
    for path in mine:
        files = [("files", (path.name, path.read_bytes(), "image/jpeg"))]
        await ask("POST", f"{at}/fields", "uploads", files=files)
    began = time.perf_counter()
    while True:
        known = (await ask("GET", at)).json()["fields"]
        if not any(f["state"] in {"queued", "working"} for f in known):
            break
        await ask("GET", f"{at}/cells", params=who)
        await asyncio.sleep(1)
    seen["waited"] = time.perf_counter() - began
    seen["wrong"] += [(f["name"], f["reason"]) for f in known if f["state"] != "done"]
    cells = (await ask("GET", f"{at}/cells", params=who)).json()["cells"]
    names = {f["id"]: f["name"] for f in known}
    if {f["name"] for f in known} != {p.name for p in mine} or len(cells) < 20:
        seen["mixed"].append(("fields", session, len(cells)))
    for field in known:
        own = [c for c in cells if c["field"] == field["id"]]
        seen["boxes"][names[field["id"]]] = json.dumps([[c["x0"], c["y1"], c["type"]] for c in own])
    wanted = {c["id"]: c["label"] for c in cells}
    for cell in cells[:20]:
        await ask("GET", f"{at}/cells/{cell['id']}/image")
        kind = TYPES[rng.integers(len(TYPES))]
        wanted[cell["id"]] = kind
        await ask("POST", f"{at}/labels", json={**who, "cells": [cell["id"]], "type": kind})
        await asyncio.sleep(0.5)
    await ask("GET", f"{at}/differential", params=who)
    table = await ask("GET", f"{at}/export/csv", params=who)
    await ask("GET", f"{at}/export/pdf", "uploads", params=who)
    got = pd.read_csv(io.BytesIO(table.content))
    if dict(zip(got["cell"].tolist(), got["label"].tolist(), strict=True)) != wanted:
        seen["mixed"].append(("labels", session))
    return seen


# --------------------------------------------------------------------------------- killed servers


def kills(work, small):
    """Kill the server while labels arrive; every label that was acknowledged must be there."""
    import httpx

    n = 3 if small else 10
    session = prepared(work / "kills", [TYPES[0]] * 200)
    rng = np.random.default_rng(0)
    acknowledged, lost, sent = {}, 0, 0
    port, who = 0, {"observer": "A"}
    for _ in range(n):
        server = Server(work / "kills", port)
        answers(server)
        at = f"{server.address}/api/sessions/{session}"
        client = httpx.Client(headers=CHANGE, timeout=30)
        cells = client.get(f"{at}/cells", params=who).json()["cells"]
        labels = {c["id"]: c["label"] for c in cells}
        lost += sum(labels[i] not in kinds for i, kinds in acknowledged.items())
        timer = threading.Timer(rng.uniform(0.3, 2.0), server.kill)
        timer.start()
        with contextlib.suppress(httpx.TransportError):
            while True:
                number, kind = int(rng.choice(list(labels))), TYPES[rng.integers(len(TYPES))]
                # a label on the way may have arrived or not
                acknowledged.setdefault(number, {labels[number]}).add(kind)
                body = {**who, "cells": [number], "type": kind}
                if client.post(f"{at}/labels", json=body).status_code == 200:
                    acknowledged[number] = {kind}
                    sent += 1
        timer.join()
        client.close()
    with Server(work / "kills") as server:
        answers(server)
        got = httpx.get(f"{server.address}/api/sessions/{session}/cells", params=who).json()
        labels = {c["id"]: c["label"] for c in got["cells"]}
        lost += sum(labels[i] not in kinds for i, kinds in acknowledged.items())
        log = httpx.get(f"{server.address}/api/sessions/{session}/log").json()
    logged = sum(e["event"] == "labeled" for e in log)
    return [
        (f"{n} kills: acknowledged labels of {sent:,} lost", str(lost), "0", lost == 0),
        (f"{n} kills: labels in the log", f"{logged:,}", f"{sent:,} or up to {n} more",
         sent <= logged <= sent + n),
    ]  # fmt: skip


# ------------------------------------------------------------------------------ by keyboard alone


def keyboard(work, small):
    """Review cells by keys, with the truth at hand; compare the differential and the log."""
    import httpx

    n = 60 if small else 300
    rng = np.random.default_rng(2)
    truth = [TYPES[i] for i in rng.integers(len(TYPES), size=n)]
    session = prepared(work / "keyboard", truth)
    began = time.perf_counter()
    with Server(work / "keyboard") as server, browser() as new_page:
        answers(server)
        page = new_page()
        page.goto(f"{server.address}/#{session}/gallery")
        page.wait_for_selector(".tile")
        who = {"observer": "Dr. Bench"}
        at = f"{server.address}/api/sessions/{session}"
        numbers = [c["id"] for c in httpx.get(f"{at}/cells", params=who).json()["cells"]]
        wanted = dict(zip(numbers, truth, strict=True))
        page.focus(".tile")
        page.keyboard.press("Home")
        done = set()
        while len(done) < n:
            here, seen = page.evaluate(
                "[Number(document.activeElement.dataset.cell),"
                " document.activeElement.querySelector('.mark').textContent === '✓']"
            )
            if seen:
                page.keyboard.press("ArrowRight")
                if here == page.evaluate("Number(document.activeElement.dataset.cell)"):
                    page.keyboard.press("Home")
                continue
            page.keyboard.press(KEYS[wanted[here]])
            done.add(here)
        page.click("#tab-differential")
        page.wait_for_selector("#differential-content table")
        table = httpx.get(f"{at}/differential", params=who).json()
        log = httpx.get(f"{at}/log").json()
    got = {row["type"]: row["n"] for row in table["rows"] if row["n"]}
    steps = {c: e["details"]["type"] for e in log if e["event"] == "labeled"
             for c in e["details"]["cells"]}  # fmt: skip
    same = got == dict(Counter(truth))
    return [
        (f"{n} cells by keyboard: differential", "the truth" if same else f"differs: {got}",
         "the truth", same),
        (f"{n} cells by keyboard: steps in the log that are right",
         str(sum(steps.get(c) == t for c, t in wanted.items())), str(n), steps == wanted),
        (f"{n} cells by keyboard: time", f"{time.perf_counter() - began:.0f} s", "", True),
    ]  # fmt: skip


# ------------------------------------------------------------------------- what is sent against it


def cases(work, small):
    """Send cases of the OpenAPI document, valid and not, and files that are no fields."""
    import httpx
    import schemathesis

    state = work / "cases"
    lasting = prepared(state, [TYPES[i % 6] for i in range(12)])
    with Server(state) as server:
        answers(server)
        client = httpx.Client(base_url=f"{server.address}/api", headers=CHANGE, timeout=60)
        for _ in range(600):  # reference cells are there when the model is loaded
            if references := client.get("/references").json():
                break
            time.sleep(0.2)
        field = client.get(f"/sessions/{lasting}").json()["fields"][0]["id"]

        def known(path, method):
            ends = method.lower() == "delete" or "sign" in path or "reopen" in path
            session = lasting
            if ends:
                session = client.post("/sessions", json={"name": "x"}).json()["id"]
            return {"session": session, "number": field if "fields" in path else 1,
                    "name": next(iter(references), "r"), "kind": "coco"}  # fmt: skip

        schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
        # the first question why loads a model
        outcome = attack(schema, known, 9 if small else 84, timeout=120)
        refused, other = _hostile(client)
    for name, status, sent in outcome.failures[:5]:
        print(status, name, sent)
    enough = 150 if small else 2000
    statuses = ", ".join(f"{k}: {v}" for k, v in sorted(outcome.statuses.items()))
    return [
        (f"{outcome.n:,} cases of the API: answers of 5xx ({statuses})",
         str(len(outcome.failures)), f"0 of {enough:,}",
         not outcome.failures and outcome.n >= enough),
        (f"{refused + len(other)} hostile uploads: refused with 4xx", str(refused), "all",
         not other),
    ]  # fmt: skip


def _hostile(client):
    """Upload what is no field; return how many were refused with 4xx, and what was not."""
    session = client.post("/sessions", json={"name": "hostile"}).json()["id"]
    refused, other = 0, []
    for name, content in hostile_files().items():
        for shown in (name, f"../../{name}", f"/etc/{name}", "a\x00b.png", "x" * 4000):
            files = [("files", (shown, content, "image/png"))]
            status = client.post(f"/sessions/{session}/fields", files=files).status_code
            refused += 400 <= status < 500
            if not 400 <= status < 500:
                other.append((name, shown[:20], status))
    print(*other, sep="\n")
    return refused, other


def hostile_files():
    """Return bombs, polyglots, cut files and wrong types by name."""
    import struct
    import zlib

    from PIL import Image

    def png(width, height, data):
        def chunk(kind, part):
            crc = struct.pack(">I", zlib.crc32(kind + part))
            return struct.pack(">I", len(part)) + kind + part + crc

        head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data, 9))
            + chunk(b"IEND", b"")
        )  # fmt: skip

    def stored(kind, size=(64, 64), **how):
        file = io.BytesIO()
        Image.new("RGB", size, (200, 180, 190)).save(file, kind, **how)
        return file.getvalue()

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(10_000_000))
    tiff = stored("TIFF")
    several = [Image.new("RGB", (32, 32))] * 2
    animation = io.BytesIO()
    several[0].save(animation, "PNG", save_all=True, append_images=several[1:])
    return {
        "bomb.png": png(60_000, 60_000, bytes(1_000_000)),
        "tall.png": png(1, 2**31 - 1, b""),
        "nothing.png": b"",
        "text.png": b"hello",
        "cut.png": stored("PNG")[:60],
        "cut.jpg": stored("JPEG", (300, 300))[:200],
        "cut.tif": tiff[:40],
        "loop.tif": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
        "big.tif": b"II+\x00\x08\x00\x00\x00" + b"\xff" * 64,
        "page.html": b"<html><script>alert(1)</script></html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "polyglot.gif": stored("GIF") + b"<script>alert(1)</script>",
        "polyglot.pdf": b"%PDF-1.7\n" + stored("JPEG"),
        "archive.zip": archive.getvalue(),
        "program": b"\x7fELF" + bytes(2000),
        "pickle.png": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "animation.png": animation.getvalue(),
        "icon.ico": stored("ICO"),
        "dot.png": stored("PNG", (2, 2)),
        "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run",
    }


# --------------------------------------------------------------------------------------- packages


def packages(work, small):
    """Count the packages that the extra ``web`` installs beyond those of the core."""
    core, web = _closure("hemaest", ""), _closure("hemaest", "web")
    more = sorted(web - core)
    return [(f"packages beyond the core: {', '.join(more)}", str(len(more)), "25", len(more) <= 25)]


def _closure(name, extra):
    """Return everything that a package needs, as installed here."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found, open_ = set(), [(name, extra)]
    while open_:
        package, extra = open_.pop()
        for line in distribution(package).requires or []:
            need = Requirement(line)
            if need.marker and not need.marker.evaluate({"extra": extra}):
                continue
            key = canonicalize_name(need.name)
            for one in ("", *need.extras):
                if (key, one) not in found:
                    found.add((key, one))
                    open_.append((key, one))
    return {key for key, _ in found}


PARTS = {f.__name__: f for f in (cold_start, gallery, users, kills, keyboard, cases, packages)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    given = parser.parse_args()
    title = "Review page (small)" if given.small else "Review page"
    for name in given.only:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="hemaest-web-", ignore_cleanup_errors=True) as work:
            rows = PARTS[name](Path(work), given.small)
        table = pd.DataFrame(rows, columns=["what", "measured", "bar", "holds"])
        table["holds"] = [("yes" if h else "NO") if b else "" for h, b in
                          zip(table["holds"], table["bar"], strict=True)]  # fmt: skip
        text = f"{format_table(table)}\n\nTook {time.perf_counter() - began:.0f} s."
        command = f"python -m benchmarks.web{' --small' * given.small} --only {name}"
        write_section(f"{title}: {name.replace('_', ' ')}", text, command=command)


if __name__ == "__main__":
    main()
