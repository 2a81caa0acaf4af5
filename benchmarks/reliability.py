"""What breaks: odd files, kills and interrupts, hostile models, a read-only installation.

Real processes, real signals, files broken in real ways. ``python -m benchmarks.reliability`` prints
the table of SECURITY.md and writes it into RESULTS.md. ``--small`` takes a quarter of everything.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks._results import write_section
from hemaest._tables import format_table
from hemaest.datasets import make_cells, make_smear

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from hemaest.cli import main; main()"]
TYPES = ["lymphocyte", "neutrophil"]


def command(*arguments, cwd, **more):
    """Return a started process of the command line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("env", {})}
    return subprocess.Popen(
        [*more.pop("first", ()), *COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def finished(process, timeout=900):
    """Return exit code and messages of a process."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def sound_folder(folder, n=24):
    """Write cells of two types and six patients."""
    cells = make_cells(n, classes=TYPES, n_patients=6, image_size=64, random_state=0)
    for i, (image, label) in enumerate(zip(cells.images, cells.target, strict=True)):
        path = folder / label / f"patient{cells.groups[i]}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def odd_files(folder, n):
    """Write n files that are no good images, each in another way; return how many are images."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8))
    stored = {}
    for kind in ("png", "jpeg", "bmp", "tiff", "webp"):
        path = folder.parent / f"one.{kind}"
        image.save(path)
        stored[kind] = path.read_bytes()
        path.unlink()
    endings = {"jpeg": "jpg"}
    names = ["a b", "ä", "日本", "a$b$", "'q'", "-dash", "%20", "a;b", "a\nb", "x" * 180]
    folder.mkdir(parents=True)
    for i in range(n):
        kind = list(stored)[i % 5]
        content = bytearray(stored[kind])
        way = i // 5 % 10
        if way == 0:
            content = content[: len(content) // 2]
        elif way == 1:
            content[10:14] = rng.bytes(4)
        elif way == 2:
            content = content[:0]
        elif way == 3:
            content = bytearray(rng.bytes(400))
        elif way == 4:
            at = rng.integers(0, len(content), 20)
            for place in at:
                content[place] ^= 0xFF
        path = folder / f"{names[i % len(names)]}{i}.{endings.get(kind, kind)}"
        if way == 5:
            image.convert(["L", "1", "I", "LA", "CMYK"][i % 5]).save(path.with_suffix(".tiff"))
        elif way == 6:
            image.resize([(1, 1), (1, 400), (2, 2), (4000, 40), (3, 5000)][i % 5]).save(path)
        elif way == 7:
            path.symlink_to("nowhere")
        elif way == 8:
            path = os.fsencode(folder) + b"/\xff" + str(i).encode() + b"." + kind.encode()
            with open(path, "wb") as file:
                file.write(content)
        else:
            path.write_bytes(bytes(content))
    return n


def odd(work, small):
    """200 odd files in a folder beside sound ones, and four commands over them."""
    n = 50 if small else 200
    folder = sound_folder(work / "odd")
    odd_files(folder / TYPES[0] / "odd", n)
    model = work / "model.hemaest"
    sound = sound_folder(work / "sound")
    few = ["--folds", 2, "-j", 1]
    code, _, err = finished(
        command("train", sound, "-r", "color-logistic", "-o", model, "--folds", 0, cwd=work)
    )
    assert code == 0, err
    rows = []
    runs = {
        "audit": ["audit", folder],
        "compare": ["compare", folder, "-r", "color-knn", *few],
        "train": ["train", folder, "-r", "color-logistic", *few, "-o", work / "odd.hemaest"],
        "predict": [
            *("predict", model, folder, "--input", "cell", "--csv", work / "odd.csv"),
            *("--annotate", work / "drawn"),
        ],
    }
    n_files = sum(len(files) for _, _, files in os.walk(folder))
    for name, arguments in runs.items():
        start = time.perf_counter()
        code, out, err = finished(command(*arguments, cwd=work))
        traces = (out + err).count("Traceback")
        missing = ""
        if name == "predict":
            table = pd.read_csv(work / "odd.csv")
            missing = n_files - table["file"].nunique()
        rows.append((f"odd files: {name}", n, code, traces, missing, time.perf_counter() - start))
    return rows


def digest(path):
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


def killed(work, small, sign):
    """Interrupt predictions in their midst until they are done; compare the final bytes."""
    times = 5 if small else 20
    fields = work / f"fields{sign}"
    fields.mkdir()
    for seed in range(8):
        smear = make_smear(360, n_cells=3, random_state=seed)
        Image.fromarray(smear.image).save(fields / f"{seed}.png")
    model = work / "model.hemaest"
    arguments = ["predict", model, fields, "--input", "field", "-j", 1, "--csv"]
    once = work / f"once{sign}.csv"
    code, _, err = finished(command(*arguments, once, cwd=work))
    assert code == 0, err
    expected = digest(once)
    hits, same, codes, left = 0, 0, set(), 0
    rng = np.random.default_rng(int(sign))
    for i in range(times):
        csv = work / f"cut{sign}-{i}.csv"
        ledger = csv.with_name(csv.name + ".part")
        process = command(*arguments, csv, cwd=work)
        wanted = 2 + int(rng.integers(1, 6))  # lines: the settings and some finished fields
        end = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < end:
            if ledger.exists() and ledger.read_bytes().count(b"\n") >= wanted:
                process.send_signal(sign)
                hits += 1
                break
            time.sleep(0.005)
        codes.add(finished(process)[0])
        code, _, err = finished(command(*arguments, csv, cwd=work))
        assert code == 0, err
        same += digest(csv) == expected
        left += sum(p.name.endswith(".part") for p in work.iterdir())
    name = signal.Signals(sign).name
    return [(f"{name} in predict: hits, same bytes, files left", f"{hits} of {times}", same, left,
             " ".join(map(str, sorted(codes))), "")]  # fmt: skip


def interrupted_training(work, small):
    """Interrupt the training of a network, and see that nothing is saved as finished."""
    times = 2 if small else 5
    sound, codes, saved = work / "sound", set(), 0
    for i in range(times):
        model = work / f"cut{i}.hemaest"
        arguments = ["train", sound, "-r", "deep-small", "--epochs", 5000, "--folds", 0]
        process = command(*arguments, "-o", model, cwd=work)
        for line in process.stderr:
            if b"Fitting" in line:
                break
        time.sleep(8 + i)
        process.send_signal(signal.SIGINT)
        codes.add(finished(process)[0])
        saved += model.exists()
    told = " ".join(map(str, sorted(codes)))
    return [("SIGINT in training: models saved", times, told, "", saved, "")]


HOSTILE = """
import json, sys, time, warnings
from pathlib import Path
import pandas, torch, timm, xgboost, sklearn.ensemble, sklearn.neighbors, imblearn.pipeline
import hemaest.deep
from hemaest.persistence import load
warnings.simplefilter("ignore")
def status(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) / 1024
found = []
for name, path in json.loads(sys.argv[1]).items():
    Path("/proc/self/clear_refs").write_text("5")
    before, start, outcome = status("VmRSS"), time.process_time(), "loaded"
    try:
        load(path)
    except (ValueError, FileNotFoundError):
        outcome = "refused"
    except BaseException as error:
        outcome = type(error).__name__
    found.append((name, outcome, time.process_time() - start, status("VmHWM") - before))
print(json.dumps(found))
"""


def hostile(work, small):
    """Load every hostile file in one process."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from hostile import corpus

    folder = work / "hostile"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = corpus(folder, folder / "canary")
    argument = json.dumps({name: str(path) for name, path in files.items()})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, argument], capture_output=True, text=True, env=environment
    )
    found = json.loads(done.stdout.splitlines()[-1])
    refused = sum(row[1] == "refused" for row in found)
    slowest, largest = max(row[2] for row in found), max(row[3] for row in found)
    ran = (folder / "canary").exists()
    return [
        ("hostile models: refused, code that ran", len(found), refused, int(ran), "", ""),
        ("hostile models: slowest (CPU s), most memory (MB)", "", slowest, largest, "", ""),
    ]


def read_only(work, small):
    """Run the first commands of the README from an installation that may not be written to."""
    place = work / "installed"
    shutil.copytree(
        ROOT / "hemaest", place / "hemaest", ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in [*place.rglob("*"), place]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    here = work / "reader"
    here.mkdir()
    os.chmod(work, 0o755)
    os.chmod(here, 0o777)
    sound = work / "sound"
    # root writes anywhere: without these capabilities permissions bind it too
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]
    first = bound if os.geteuid() == 0 else []
    environment = {"PYTHONPATH": str(place), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
    rows = []
    for name, arguments in {
        "compare": ["compare", sound, "-r", "handcrafted-forest", "--folds", 2, "-j", 1],
        "train": ["train", sound, "-r", "color-logistic", "--folds", 0],
        "predict": ["predict", "model.hemaest", sound, "--csv", "p.csv"],
    }.items():
        start = time.perf_counter()
        code, out, err = finished(command(*arguments, cwd=here, env=environment, first=first))
        traces = (out + err).count("Traceback")
        rows.append(
            (f"read-only, no HOME: {name}", 1, code, traces, "", time.perf_counter() - start)
        )
        if code:
            print(err[-800:], file=sys.stderr)
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quarter of everything")
    parser.add_argument("--only", choices=["odd", "kill", "interrupt", "train", "hostile", "read"])
    options = parser.parse_args()
    parts = {
        "odd": odd,
        "kill": lambda work, small: killed(work, small, signal.SIGKILL),
        "interrupt": lambda work, small: killed(work, small, signal.SIGINT),
        "train": interrupted_training,
        "hostile": hostile,
        "read": read_only,
    }
    rows = []
    work = Path(tempfile.mkdtemp(prefix="hemaest-reliability-"))
    try:
        sound_folder(work / "sound")
        if options.only not in (None, "odd"):
            model = ["train", work / "sound", "-r", "color-logistic", "--folds", 0]
            finished(command(*model, "-o", work / "model.hemaest", cwd=work))
        for name, part in parts.items():
            if options.only in (None, name):
                rows += part(work, options.small)
                print(rows[-1], flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    columns = ["what", "n", "code or count", "tracebacks", "lost or codes", "seconds"]
    table = pd.DataFrame(rows, columns=columns).astype(object)
    print(format_table(table))
    if options.only is None:
        small = " --small" * options.small
        write_section(
            f"Reliability{' (small)' if options.small else ''}",
            format_table(table),
            command=f"python -m benchmarks.reliability{small}",
        )


if __name__ == "__main__":
    main()
