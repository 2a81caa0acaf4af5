"""The helper that compiles ahead leaves behind what the first run needs."""

import os
import subprocess
import sys

from hemaest.cli._warm import CODE, is_cold


def test_the_helper_compiles_every_family_of_features(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_a_place_that_cannot_be_written_is_never_cold(tmp_path, monkeypatch):
    assert not is_cold(tmp_path / "absent")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert not is_cold(tmp_path)
