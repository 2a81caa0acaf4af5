"""The first run of an installation compiles its kernels: here with a second process's help.

Only that run does so, and only where there is a second core. The helper begins with what is needed
last and leaves its work on disk, so that the two meet in the middle instead of waiting for each
other.
"""

import atexit
import os
import subprocess
import sys
from pathlib import Path

import hemaest
from hemaest import features

CODE = "from hemaest.cli._warm import compile_kernels; compile_kernels()"


def compile_ahead() -> "subprocess.Popen[bytes] | None":
    """Start compiling in another process, where this is the first run; return that process."""
    if (os.cpu_count() or 1) < 2 or not is_cold(Path(hemaest.__file__).parent / "features"):
        return None
    nowhere = subprocess.DEVNULL
    helper = subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=nowhere, stdout=nowhere, stderr=nowhere
    )
    atexit.register(helper.terminate)
    return helper


def is_cold(package: Path) -> bool:
    """Return whether a package's kernels were not compiled yet, and may be kept beside it.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> is_cold(folder), is_cold(folder / "absent")
    (True, False)
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, NUMBA_CACHE_DIR="elsewhere"):
    ...     is_cold(folder)
    False
    >>> (folder / "__pycache__").mkdir()
    >>> (folder / "__pycache__" / "kernel.py311.nbi").touch()
    >>> is_cold(folder)
    False
    """
    if os.environ.get("NUMBA_CACHE_DIR") or not os.access(package, os.W_OK):
        return False
    kept = [file.stat().st_mtime for file in (package / "__pycache__").glob("*.nbi")]
    written = [file.stat().st_mtime for file in package.glob("*.py")]
    # a new version was put over an old one, whose machine code it does not take
    return max(kept, default=-1.0) < max(written, default=0.0)


def compile_kernels() -> None:
    """Compile all feature kernels on one small cell, the last to be needed first.

    Examples
    --------
    >>> compile_kernels()
    """
    import numpy as np

    cell = np.random.default_rng(0).integers(0, 255, (1, 48, 48, 4)).astype(np.uint8)
    cell[..., 3] = 0
    cell[0, 10:38, 10:38, 3] = 1
    cell[0, 18:30, 18:30, 3] = 2
    for extractor in (
        features.ChromatinTexture(),
        features.MorphologyFeatures(),
        features.ColorFeatures(),
    ):
        extractor.fit_transform(cell)
