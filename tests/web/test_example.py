"""The script of the gallery that counts a smear over HTTP, as a user runs it."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import pytest

from hemaest.datasets import make_smear

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "count_over_http.py"


def run(*arguments):
    # -I: without the packages of this folder, as where hemaest is not installed
    command = [sys.executable, "-I", "-S", SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_the_example_counts_what_the_page_counts(server, tmp_path):
    fields = [tmp_path / f"field {i}.png" for i in range(2)]
    for i, path in enumerate(fields):
        cv2.imwrite(str(path), make_smear((420, 520), random_state=i).image[..., ::-1])
    name = "counted over HTTP"
    done = run(*fields, "--address", server.address, "--name", name)
    assert done.returncode == 0, done.stderr
    sessions = json.load(urllib.request.urlopen(f"{server.address}api/sessions"))
    (session,) = (s for s in sessions if s["name"] == name)
    at = f"{server.address}api/sessions/{session['id']}/differential?observer=script"
    found = json.load(urllib.request.urlopen(at))
    first, *rows = done.stdout.splitlines()
    assert first == f"{found['n']} leukocytes, intervals of counting" and found["n"] >= 2
    shown = {row[:24].strip(): int(row[24:30]) for row in rows}
    assert shown == {row["type"]: row["n"] for row in found["rows"] if row["n"]}


def test_the_example_says_why_a_file_is_refused(server, tmp_path):
    notes = tmp_path / "notes.png"
    notes.write_text("no image")
    done = run(notes, "--address", server.address)
    assert done.returncode != 0 and "no image of a kind" in done.stderr
