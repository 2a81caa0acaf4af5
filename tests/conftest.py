"""Fixtures that many tests share: small synthetic images in every form that hemaest takes."""

import os
import signal
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each process of `pytest -n`
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from hemaest.images import ImageRef, to_object_array


def draw_cell(rng, size=32, tint=0, with_map=False):
    """Draw a plain round cell: pale plasma, cytoplasm, and a dark nucleus."""
    rows, columns = np.mgrid[:size, :size]
    middle = size / 2 + rng.uniform(-2, 2, 2)
    distance = np.hypot(rows - middle[0], columns - middle[1])
    nucleus = distance < size * rng.uniform(0.16, 0.22)
    cell = distance < size * rng.uniform(0.3, 0.36)
    image = np.full((size, size, 3), (236, 228, 224), float)
    image[cell] = (190 - tint, 170, 205)
    image[nucleus] = (100 - tint, 60, 140)
    image += rng.normal(0, 4, image.shape)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if not with_map:
        return image
    return np.dstack([image, (cell.astype(np.uint8) + nucleus).astype(np.uint8)])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cells():
    """24 RGB cells (n, 32, 32, 3), two classes that differ in color, six patients."""
    generator = np.random.default_rng(1)
    y = np.array(["blast", "lymphocyte"] * 12)
    X = np.stack([draw_cell(generator, tint=40 * (label == "blast")) for label in y])
    return X, y, np.arange(24) // 4


@pytest.fixture(scope="session")
def mapped_cells():
    """The same kind of cells, with their true cell maps as fourth channel."""
    generator = np.random.default_rng(2)
    y = np.array(["blast", "lymphocyte"] * 12)
    X = [draw_cell(generator, tint=40 * (label == "blast"), with_map=True) for label in y]
    return np.stack(X), y, np.arange(24) // 4


@pytest.fixture
def as_refs(tmp_path):
    """Return a function that writes RGB images to files and returns references to them."""

    def write(X):
        refs = []
        for i, image in enumerate(X):
            path = tmp_path / f"{i:03d}.png"
            Image.fromarray(image).save(path)
            refs.append(ImageRef(path))
        return to_object_array(refs)

    return write


@pytest.fixture(autouse=True)
def _close_figures():
    """Close what a test drew: displays draw on pyplot's figures, which stay open otherwise."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session", autouse=True)
def _interrupts():
    """Let SIGINT reach the processes that tests start: jobs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
