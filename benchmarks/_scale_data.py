"""Files for ``benchmarks.scaling``: many crops, manifests with broken files, a slide with truth."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hemaest.datasets import make_cells, make_smear

# distinct renderings; further files are moved and recolored copies, so that no two are alike
RENDERED = 400


def write_crops(folder: Path, n: int, side: int, suffix: str = ".jpg", seed: int = 0) -> list[Path]:
    """Write crops of rendered cells: JPEG of quality 90 as microscopes store them, or PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = make_cells(min(n, RENDERED), image_size=96, n_labs=5, n_patients=40, random_state=seed)
    rng = np.random.default_rng(seed)
    paths = []
    for i in range(n):
        path = folder / f"{i:06d}{suffix}"
        image = cells.images[i % len(cells.images)]
        if i >= len(cells.images):
            image = varied(image, rng)
        image = cv2.resize(image[..., ::-1], (side, side), interpolation=cv2.INTER_AREA)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else []
        cv2.imwrite(str(path), image, quality)
        paths.append(path)
    return paths


def varied(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a cell turned by any angle, stretched and recolored: a file of its own, not a copy."""
    side = len(image)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 360), rng.uniform(0.8, 1.3))
    turn[:, 2] += rng.uniform(-0.1, 0.1, 2) * side
    turn[:, :2] += rng.normal(0, 0.12, (2, 2))
    moved = cv2.warpAffine(image, turn, (side, side), borderMode=cv2.BORDER_REFLECT)
    return np.clip(
        moved * rng.uniform(0.75, 1.15, 3) + rng.normal(0, 3, moved.shape), 0, 255
    ).astype(np.uint8)


def write_manifest(folder: Path, n: int, broken: float, seed: int = 0) -> tuple[Path, set[int]]:
    """Write a manifest of n rows over a few hundred tiny files; return it and its broken rows."""
    good = write_crops(folder / "good", 300, 24, ".png", seed)
    bad = folder / "bad"
    bad.mkdir()
    (bad / "text.png").write_text("no image")
    (bad / "cut.png").write_bytes(good[0].read_bytes()[:60])
    (bad / "empty.png").touch()
    kinds = ["bad/text.png", "bad/cut.png", "bad/empty.png", "bad/gone.png"]
    rng = np.random.default_rng(seed)
    names = np.array([f"good/{p.name}" for p in good])[rng.integers(0, len(good), n)].astype(object)
    rows = np.sort(rng.permutation(n)[: round(broken * n)])
    names[rows] = np.array(kinds)[rng.integers(0, len(kinds), len(rows))]
    path = folder / "manifest.csv"
    note = "as it came from the laboratory, film 1 of 2"
    pd.DataFrame({"file": names, "note": note}).to_csv(path, index=False)
    return path, set(rows.tolist())


def write_slide(path: Path, side: int, seed: int = 0) -> Any:
    """Write a tiled slide of 0.2 micrometers a pixel, and return its smear without the image."""
    import tifffile

    pixels = np.memmap(path.with_suffix(".raw"), np.uint8, "w+", shape=(side, side, 3))
    n_cells = min(30_000, side * side // 400_000 * 3)
    smear = make_smear(side, n_cells=n_cells, out=pixels, random_state=seed)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(3):
            small = pixels[:: 2**level, :: 2**level] if level else pixels
            file.write(small, tile=(256, 256), photometric="rgb", subfiletype=int(level > 0))
    boxes = np.asarray(smear.boxes, float)
    del smear
    return boxes
