"""Kernels where nothing can be written beside the code: a real read-only copy of the package."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from permissions import UNTESTABLE, limited

import hemaest
from hemaest import _numba

PACKAGE = Path(hemaest.__file__).parent


def with_kernels():
    """Return the names of all modules that compile something."""
    files = [f for f in PACKAGE.rglob("*.py") if "_numba import kernel" in f.read_text("utf8")]
    return sorted(".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts) for f in files)


def test_every_kernel_goes_through_the_one_helper():
    raw = re.compile(r"from numba import .*njit|numba\.njit|@njit")
    own = [f.name for f in PACKAGE.rglob("*.py") if raw.search(f.read_text("utf8"))]
    assert own == ["_numba.py"]
    assert len(with_kernels()) > 8


@pytest.fixture
def as_service(tmp_path):
    """Run code in a read-only copy of the package, with a home that is read-only too."""
    if UNTESTABLE:
        pytest.skip(UNTESTABLE)
    copy = tmp_path / "site" / "hemaest"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def run(code, tmp):
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(copy.parent), "TMPDIR": str(tmp)}
        env["HOME"] = str(copy)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=env, cwd=copy, capture_output=True, text=True, **limited(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755)


COMPILES = (
    "import numpy as np; from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer as Alhe;"
    "print(Alhe(n_jobs=1).fit_transform(np.full((1, 8, 8, 3), 200, np.uint8)).mean())"
)


@pytest.mark.slow
def test_a_read_only_installation_keeps_code_in_a_private_folder(as_service, tmp_path):
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    assert as_service(COMPILES, tmp).strip() == "200.0"
    (folder,) = tmp.glob("hemaest-kernels-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = {f: f.stat().st_mtime_ns for f in folder.rglob("*.nbc")}
    assert kept
    assert as_service(COMPILES, tmp).strip() == "200.0"
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*.nbc")} == kept


@pytest.mark.slow
def test_every_module_loads_and_computes_where_nothing_can_be_written(as_service, tmp_path):
    tmp = tmp_path / "full"
    tmp.mkdir()
    tmp.chmod(0o555)
    imports = "\n".join(f"import {name}" for name in with_kernels())
    # tempfile falls back to the working folder, which is read-only too
    code = f"import tempfile; tempfile.tempdir = {str(tmp)!r}\n{imports}\n{COMPILES}"
    assert as_service(code, tmp).strip() == "200.0"
    assert not list(tmp.iterdir())


def test_a_folder_of_another_user_is_not_trusted(monkeypatch, tmp_path):
    monkeypatch.setattr(_numba.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = Path(_numba.private_folder())
    assert folder.is_dir() and _numba.private_folder() == str(folder)
    if hasattr(os, "getuid"):
        folder.chmod(0o777)
        assert _numba.private_folder() is None
        folder.rmdir()
        folder.symlink_to(tmp_path)
        assert _numba.private_folder() is None


def test_a_cache_that_cannot_be_used_is_passed_over():
    @_numba.kernel
    def triple(x):
        return 3 * x

    def full(*args):
        raise OSError(28, "No space left on device")

    cache = triple._cache
    cache._save_overload = full
    assert triple(2) == 6
    cache._load_overload = full
    assert triple(2.5) == 7.5
