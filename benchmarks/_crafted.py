"""Models whose fitted numbers were made extreme: none may crash the process that predicts.

Every array of a saved model is changed in turn (indices far out of range, negative, not a number,
cut short), each in a file with a right checksum. A process of its own loads the file and predicts.
To be refused, to raise, or to predict nonsense is all right; to die by a signal is not.
"""

import json
import multiprocessing
import os
import signal
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as read_arrays, save as write_arrays

from hemaest.datasets import make_cells
from hemaest.persistence import load, save
from hemaest.persistence._container import pack
from hemaest.recipes import make_recipe

RECIPES = ("handcrafted-xgboost", "handcrafted-forest", "handcrafted-svm", "color-knn", "lbp-svm")
STAINS = ("macenko", "reinhard", "vahadane")
SECONDS = 60
PER_MODEL = 60


def changes(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array of bytes made extreme, read as integers and as floats."""
    yield np.full_like(values, 0xFF)
    yield np.full_like(values, 0x7F)
    yield values[: len(values) // 2]
    for dtype, extremes in (("<f8", (np.nan, np.inf, -1e300)), ("<i8", (2**40, -(2**40), 7))):
        if values.size % 8 == 0:
            for extreme in extremes:
                yield np.full(values.size // 8, extreme, dtype).view(np.uint8)


def crafted(path: Path, rng: np.random.Generator) -> Iterator[bytes]:
    """Yield files that differ from a saved model in one array."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    arrays = {k: np.array(v) for k, v in read_arrays(entries["arrays.safetensors"]).items()}
    cases = [(k, c) for k, v in arrays.items() for c in changes(v.reshape(-1).view(np.uint8))]
    for k in rng.permutation(len(cases))[:PER_MODEL]:
        name, changed = cases[k]
        content = write_arrays({**arrays, name: changed})
        yield pack({**entries, "arrays.safetensors": content})


def attempt(path: Path, images: Any, outcome: Any) -> None:
    """Load a file and predict; the outcome is 1 refused, 2 raised, 3 predicted."""
    signal.alarm(SECONDS)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        model = load(path)
    except ValueError:
        outcome.value = 1
        return
    outcome.value = 2
    model.predict(images)
    outcome.value = 3


def try_all(work: Path, small: bool) -> dict[str, Any]:
    """Return a row: how many crafted models were refused, raised, predicted or killed us."""
    cells = make_cells(40, classes=["lymphocyte", "neutrophil"], image_size=64, random_state=0)
    context = multiprocessing.get_context("fork")
    rng, found = np.random.default_rng(0), Counter()
    recipes = RECIPES[:2] if small else RECIPES
    for i, name in enumerate(recipes):
        recipe = make_recipe(name, stain=STAINS[i % 3], n_jobs=1, random_state=0)
        path = save(recipe.fit(cells.images, cells.target), work / "whole.hemaest")
        for content in crafted(path, rng):
            file = work / "crafted.hemaest"
            file.write_bytes(content)
            outcome = context.Value("i", 0)
            process = context.Process(target=attempt, args=(file, cells.images[:4], outcome))
            process.start()
            process.join()
            code = process.exitcode or 0
            kind = ("", "refused", "raised", "predicted")[outcome.value]
            slow = code == -signal.SIGALRM
            found["too long" if slow else f"signal {-code}" if code < 0 else kind] += 1
    return {
        "what": "models with extreme arrays, loaded and used",
        "n": found.total(),
        "outcome": ", ".join(f"{n} {what}" for what, n in found.most_common()),
        "besides": f"{', '.join(recipes)}, with stain normalizers",
    }


if __name__ == "__main__":  # in a process of one thread, since it forks
    print(json.dumps(try_all(Path(sys.argv[1]), sys.argv[2] == "small")))
