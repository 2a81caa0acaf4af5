"""The commands of the README in a container: everything read-only, no HOME, an unknown user.

A mount namespace of this machine: the root is mounted read-only, the working folder alone may be
written to, and the user has neither a name nor a home.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
USER = "12345"
ENTER = """
here=$1; shift
mount --bind "$here" "$here" && mount -o remount,bind,ro / || exit 99
cd "$here" || exit 99
exec env -i PATH="$PATH" LANG=C.UTF-8 PYTHONPATH="$ROOT" "$@"
"""
PORT, TOKEN = "8765", "a-word-of-some-length"


def inside(here: Path) -> list[str]:
    """Return what to put before a command, so that it runs in the container."""
    as_user = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
    first = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        as_user, first = [], [*first, "--map-root-user"]
    return [*first, "bash", "-c", ENTER, "enter", str(here), *as_user]


def can_enter(here: Path) -> bool:
    """Return whether this machine lets us make a container that is read-only."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    probe = 'touch inside && ! touch /beside 2>/dev/null && test -z "$HOME"'
    done = subprocess.run([*inside(here), "bash", "-c", probe], capture_output=True, env=settings())
    return done.returncode == 0


def settings() -> dict[str, str]:
    return {**os.environ, "ROOT": str(ROOT)}


def run_readme(work: Path, command: list[str], small: bool) -> list[dict[str, Any]]:
    """Run the README's commands one after the other, in one working folder.

    Parameters
    ----------
    work : Path
        Holds ``sound`` (cells in folders of classes) and ``fields``.
    command : list of str
        The command line.
    small : bool
        Fewer cells and a faster recipe in the first command.
    """
    here = work / "here"
    here.mkdir(mode=0o777)
    here.chmod(0o777)
    work.chmod(0o755)
    if not can_enter(here):
        return [{"what": "read-only root, no HOME", "n": 0, "outcome": "no namespaces here"}]
    sound, fields = str(work / "sound"), str(work / "fields")
    first = ["compare", "-r", "handcrafted-forest", "--cells", "80"] if small else ["compare"]
    found = ["--annotate", "drawn", "--count"]
    runs = [
        first,
        ["compare", sound, "-r", "color-knn", "--folds", "2"],
        ["audit", sound],
        ["train", sound, "-r", "handcrafted-logistic"],
        ["adapt", sound, "-o", "adapted.hemaest"],
        ["predict", fields, *found],
        ["predict", fields, "--model", "model.hemaest", "--input", "field", *found],
        ["info", "model.hemaest"],
    ]
    rows = []
    for arguments in runs:
        start = time.perf_counter()
        done = subprocess.run(
            [*inside(here), *command, *arguments], capture_output=True, text=True, env=settings()
        )
        said = done.stdout + done.stderr
        if done.returncode:
            print(said[-1500:], file=sys.stderr)
        spent = f"{time.perf_counter() - start:.0f} s"
        outcome = f"exit {done.returncode}"
        rows.append(_row(arguments, outcome, said.count("Traceback"), spent))
        print(rows[-1], flush=True)
    rows.append(_served([*inside(here), *command, "serve", fields]))
    written = {path.name for path in here.iterdir()}
    expected = {"hemaest-report.html", "hemaest-audit.html", "model.hemaest", "drawn"}
    assert expected <= written, expected - written
    return rows


def _served(command: list[str]) -> dict[str, Any]:
    """Start the page, fetch it, stop it."""
    process = subprocess.Popen(
        [*command, "--port", PORT, "--no-browser", "--token", TOKEN],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings(),
    )  # fmt: skip
    status, end = "no answer", time.monotonic() + 300
    while process.poll() is None and time.monotonic() < end and status == "no answer":
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{PORT}/?token={TOKEN}", timeout=20
            ) as page:
                status = f"page {page.status}"
        except OSError:
            time.sleep(0.5)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    if status == "no answer":
        print(said[-1500:], file=sys.stderr)
    return _row(["serve", "fields"], status, said.count("Traceback"), "")


def _row(arguments: list[str], outcome: str, traces: int, besides: str) -> dict[str, Any]:
    named = " ".join(Path(a).name if a.startswith("/") else a for a in arguments)
    return {
        "what": f"read-only root, no HOME: {named}",
        "n": 1,
        "outcome": outcome,
        "tracebacks": traces,
        "besides": besides,
    }
