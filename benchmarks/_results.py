"""Write a benchmark's section into RESULTS.md, with date, device and versions."""

import datetime
import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from scipy.stats import t as student

RESULTS = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("numpy", "scikit-learn", "scikit-image", "opencv-python-headless", "torch", "xgboost")


def data_folder() -> Path:
    """Return the folder of the real sets, named by HEMAEST_DATA."""
    folder = os.environ.get("HEMAEST_DATA")
    if not folder or not Path(folder).is_dir():
        raise SystemExit(
            "set HEMAEST_DATA to the folder that holds pbc, taleqani, segmentation_wbc and bccd "
            f"(now: {folder!r})"
        )
    return Path(folder)


def describe_machine() -> str:
    """Return date, processor, accelerator and versions in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    installed = []
    for name in PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            installed.append(f"{name} absent")
    return (
        f"{datetime.date.today()}; {platform.machine()}, {cores} cores; {accelerator()}; "
        f"Python {platform.python_version()}, {', '.join(installed)}"
    )


def accelerator() -> str:
    """Return the GPU's name, or 'no GPU'."""
    try:
        import torch
    except ImportError:
        return "no GPU"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def interval(values: Any) -> str:
    """Return mean and 95% t-interval of some seeds or folds; of one the figure alone."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return f"{values.mean():.3f}"
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():.3f} ± {half:.3f}"


def remembered(file: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, made first where it is not there; half a file never stays."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.part")
        joblib.dump(make(), part)
        part.replace(file)
    return joblib.load(file)


def write_section(name: str, text: str, *, command: str = "") -> None:
    """Replace or append the section ``name`` of RESULTS.md, and print it."""
    how = f"`{command}`; " if command else ""
    section = f"## {name}\n\n{how}{describe_machine()}\n\n{text.strip()}\n"
    old = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nWritten by the benchmarks.\n"
    pattern = re.compile(rf"^## {re.escape(name)}\n.*?(?=^## |\Z)", re.M | re.S)
    if pattern.search(old):
        new = pattern.sub(lambda _: section + "\n", old)
    else:
        new = f"{old.rstrip()}\n\n{section}"
    RESULTS.write_text(new.rstrip() + "\n")
    print(section)
