"""What breaks: odd files, kills and interrupts, hostile models, a read-only installation.

Real processes, real signals, files broken in real ways. ``python -m benchmarks.reliability`` prints
the table of SECURITY.md and writes it into RESULTS.md. ``--small`` takes a quarter of everything.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks._container import run_readme
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
    """Write n files that are odd, each in another way; a folder in it is closed."""
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
    foreign = ["gif", "heic", "svs", "txt", "xyz"]
    folder.mkdir(parents=True)
    (folder / "closed").mkdir()
    (folder / "closed" / "in it.png").write_bytes(stored["png"])
    for i in range(n - 1):
        kind = list(stored)[i % 5]
        content = bytearray(stored[kind])
        way = i // 5 % 12
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
        elif way == 9:
            path.with_suffix(f".{foreign[i % 5]}").write_bytes(bytes(content))
        elif way == 10 and i % 5 < 3:
            os.mkfifo(path)
        elif way == 10:
            path.with_name(f".{path.name}").write_bytes(bytes(content))
        else:
            path.write_bytes(bytes(content))
    (folder / "closed").chmod(0)


def written(path):
    """Return a path as tables and messages show it."""
    return str(path).encode(errors="backslashreplace").decode()


def unaccounted(top, said, table=None):
    """Return how many files below a folder are neither used, nor named with a reason, nor counted.

    Files that are used are a number in the messages, or rows of a table; files that are no images
    are a number; everything else must be named.
    """
    there = [Path(root) / name for root, _, names in os.walk(top) for name in names]
    closed = {path.parent for path in there if path.parent.name == "closed"}
    # nobody but root sees what is in a closed folder: the folder itself is to be named
    there = [path for path in there if path.parent not in closed] + list(closed)
    shown = [written(path.relative_to(top)) for path in there]
    if table is not None:
        rows = {name.removeprefix(f"{top}/") for name in table["file"]}
        named, used = sum(name in rows for name in shown), 0
    else:
        named = sum(name in said for name in shown)
        used = int(re.search(r"(?:at|on|all) (\d+) images", said)[1])
    others = re.search(r"(\d+) other files? ", said)
    return len(there) - named - used - int(others[1] if others else 0)


def odd(work, small):
    """200 odd files in a folder beside sound ones, and four commands over them."""
    n = 50 if small else 200
    folder = sound_folder(work / "odd")
    odd_files(folder / TYPES[0] / "odd", n)
    model = work / "model.hemaest"
    few = ["--folds", 2, "-j", 1]
    runs = {
        "audit": ["audit", folder],
        "compare": ["compare", folder, "-r", "color-knn", *few],
        "train": ["train", folder, "-r", "color-logistic", *few, "-o", work / "odd.hemaest"],
        "predict": [
            *("predict", model, folder, "--input", "cell", "--csv", work / "odd.csv"),
            *("--annotate", work / "drawn"),
        ],
    }
    for name, arguments in runs.items():
        code, out, err = finished(command(*arguments, cwd=work, first=bound()))
        table = pd.read_csv(work / "odd.csv") if name == "predict" else None
        lost = unaccounted(folder, err, table)
        yield {
            "what": f"odd files: {name}",
            "n": n,
            "outcome": f"exit {code}",
            "tracebacks": (out + err).count("Traceback"),
            "besides": f"{lost} files neither used nor named nor counted",
        }
    (folder / TYPES[0] / "odd" / "closed").chmod(0o755)


def bound():
    """Return what to put before a command so that permissions bind root too."""
    rights = "--bounding-set=-dac_override,-dac_read_search,-fowner"
    return ["setpriv", rights] if os.geteuid() == 0 else []


def digest(path):
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"


def weights_of(path):
    """Return the hash of the arrays and weights of a saved model; its card holds times."""
    if not path.exists():
        return "none"
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("weights"))
        return [hashlib.sha256(archive.read(name)).hexdigest() for name in names]


def scores_of(path):
    """Return what a comparison found, without its times."""
    table = pd.read_json(path)
    return table.drop(columns=[c for c in table if c.endswith(("_s", "_ms"))]).to_json()


def killed(work, small, sign):
    """Stop commands in the midst of real work, and go on; compare what comes out in the end."""
    fields = work / "fields"
    if not fields.exists():
        draw_fields(fields)
    sound, model = work / "sound", work / "model.hemaest"
    tasks = {
        # the command, what it writes, how that is compared, what shows that work was done
        "predict": (
            lambda out: ["predict", model, fields, "--input", "field", "-j", 1, "--csv", out],
            digest,
            lambda out: _lines(out.with_name(out.name + ".part")) - 1,
            (2, 4) if small else (2, 12),
        ),
        "train a network": (
            lambda out: [
                *("train", sound, "-r", "deep-small", "--image-size", 32, "--epochs", 12),
                *("--folds", 0, "--cache", f"{out}.cache", "-o", out),
            ],
            weights_of,
            lambda out: len(list(Path(f"{out}.cache").rglob("*.ckpt"))),
            (1, 1) if small else (1, 4),
        ),
        "compare": (
            lambda out: [
                *("compare", sound, "-r", "handcrafted-logistic", "--folds", 3, "-j", 1),
                *("--cache", f"{out}.cache", "--json", "--report", f"{out}.html"),
            ],
            scores_of,
            lambda out: len([p for p in Path(f"{out}.cache").rglob("*") if p.suffix == ".npz"]),
            (1, 1) if small else (1, 4),
        ),
    }
    rng, name = np.random.default_rng(int(sign)), signal.Signals(sign).name
    for task, (arguments, kept, progress, (least, times)) in tasks.items():
        expected = kept(_run(arguments, work / f"once-{sign}-{task[:5]}", work))
        hits, same, codes, left = 0, 0, set(), 0
        for i in range(times):
            out = work / f"cut-{sign}-{task[:5]}-{i}"
            process = command(*arguments(out), cwd=work)
            wanted, end = least + int(rng.integers(0, 3)), time.monotonic() + 600
            while process.poll() is None and time.monotonic() < end:
                if progress(out) >= (wanted if task == "predict" else least):
                    time.sleep(rng.random() / 5)
                    if process.poll() is None:
                        process.send_signal(sign)
                        hits += 1
                    break
                time.sleep(0.005)
            codes.add(finished(process)[0])
            same += kept(_run(arguments, out, work)) == expected
            left += sum(p.name.endswith(".part") for p in work.rglob(f"{out.name}*"))
        yield {
            "what": f"{name} in {task}, resumed",
            "n": hits,
            "outcome": " ".join(f"exit {c}" if c >= 0 else "killed" for c in sorted(codes)),
            "tracebacks": 0,
            "besides": f"{same} of {times} the same result, {left} files left",
        }


def _run(arguments, out, work):
    """Run a command to its end; what compare prints is its result."""
    code, said, err = finished(command(*arguments(out), cwd=work))
    assert code == 0, err
    if "--json" in arguments(out):
        out.write_text(said)
    return out


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def draw_fields(folder):
    """Write fields of a few cells."""
    folder.mkdir()
    for seed in range(8):
        smear = make_smear(360, n_cells=3, random_state=seed)
        Image.fromarray(smear.image).save(folder / f"{seed}.png")


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
    yield {
        "what": "SIGINT in the training of a network",
        "n": times,
        "outcome": " ".join(f"exit {code}" for code in sorted(codes)),
        "tracebacks": 0,
        "besides": f"{saved} models saved",
    }


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
    yield {
        "what": "hostile models",
        "n": len(found),
        "outcome": f"{refused} refused",
        "besides": f"{'code ran' if ran else 'no code ran'}; slowest {slowest:.2f} s of CPU, "
        f"most memory {largest:.0f} MB",
    }


def crafted(work, small):
    """Load models with extreme arrays, and predict with them."""
    size = "small" if small else "full"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._crafted", work, size],
        capture_output=True, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    yield json.loads(done.stdout.splitlines()[-1])


def read_only(work, small):
    """Run the README's commands in a container that is read-only."""
    if not (work / "fields").exists():
        draw_fields(work / "fields")
    yield from run_readme(work, COMMAND, small)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a quarter of everything")
    parts = {
        "odd": odd,
        "kill": lambda work, small: killed(work, small, signal.SIGKILL),
        "interrupt": lambda work, small: killed(work, small, signal.SIGINT),
        "train": interrupted_training,
        "hostile": hostile,
        "crafted": crafted,
        "read": read_only,
    }
    parser.add_argument("--only", nargs="+", choices=list(parts), default=list(parts))
    options = parser.parse_args()
    # a shell starts what runs in the background with interrupts ignored, and so its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = []
    work = Path(tempfile.mkdtemp(prefix="hemaest-reliability-"))
    work.chmod(0o755)
    try:
        sound_folder(work / "sound")
        model = ["train", work / "sound", "-r", "color-logistic", "--folds", 0]
        code, _, err = finished(command(*model, "-o", work / "model.hemaest", cwd=work))
        assert code == 0, err
        for name in options.only:
            for row in parts[name](work, options.small):
                rows.append(row)
                print(row, flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    columns = ["what", "n", "outcome", "tracebacks", "besides"]
    table = format_table(pd.DataFrame(rows, columns=columns).astype(object).fillna(""))
    print(table)
    if options.only == list(parts):
        small = " --small" * options.small
        write_section(
            f"Reliability{' (small)' if options.small else ''}",
            table,
            command=f"python -m benchmarks.reliability{small}",
        )


if __name__ == "__main__":
    main()
