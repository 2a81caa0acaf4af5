"""Files for ``benchmarks.scaling``: many crops, manifests with broken files, a slide with truth."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from benchmarks.evaluation import planted_copies
from hemaest.datasets import make_cells, make_smear

# distinct renderings; further files are moved and recolored copies, so that no two are alike
RENDERED = 400
# of a slide: how many fields, and their side in pixels
N_FIELDS, FIELD, TILE = 6, 2_000, 256


def write_crops(folder: Path, n: int, side: int, suffix: str = ".jpg", seed: int = 0) -> list[Path]:
    """Write crops of rendered cells: JPEG of quality 90 as microscopes store them, or PNG.

    Where the last of them is there, they are taken as they are.
    """
    paths = [folder / f"{i:06d}{suffix}" for i in range(n)]
    if paths[-1].exists():
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    cells = make_cells(min(n, RENDERED), image_size=96, n_labs=5, n_patients=40, random_state=seed)
    rng = np.random.default_rng(seed)
    for i, path in enumerate(paths):
        image = cells.images[i % len(cells.images)]
        if i >= len(cells.images):
            image = varied(image, rng)
        image = cv2.resize(image[..., ::-1], (side, side), interpolation=cv2.INTER_AREA)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == ".jpg" else []
        cv2.imwrite(str(path), image, quality)
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


def write_distinct(folder: Path, n: int, n_copies: int, seed: int = 0) -> None:
    """Write n rendered cells of 360 pixels, no two related, and copies of some of them.

    A copy, ``copies/NUMBER-KIND.png``, is turned, mirrored, cut, compressed, brightened, or all of
    these. Thousands that are there are taken as they are.
    """
    (folder / "copies").mkdir(parents=True, exist_ok=True)
    for start in range(0, n, 1_000):
        paths = [folder / f"{i:06d}.jpg" for i in range(start, min(start + 1_000, n))]
        if paths[-1].exists():
            continue
        rng = np.random.default_rng([seed, start])
        options = {"n_labs": 5, "n_patients": 200, "random_state": seed + start}
        cells = make_cells(len(paths), image_size=96, **options)
        copied = set(rng.choice(len(paths), n_copies * len(paths) // n, replace=False).tolist())
        for i, (path, image) in enumerate(zip(paths, cells.images, strict=True)):
            large = cv2.resize(image, (360, 360), interpolation=cv2.INTER_CUBIC)
            if i in copied:
                kinds = planted_copies(large, rng)
                kind = list(kinds)[rng.integers(len(kinds))]
                copy = np.ascontiguousarray(kinds[kind][..., ::-1])
                cv2.imwrite(str(folder / "copies" / f"{path.stem}-{kind[:3]}.png"), copy)
            cv2.imwrite(str(path), large[..., ::-1])


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


def write_slide(path: Path, side: int, seed: int = 0) -> NDArray[np.float64]:
    """Write a tiled pyramid of 0.2 micrometers a pixel; return the boxes of its leukocytes.

    A few rendered fields are laid side by side, each turned and mirrored in its own way.
    """
    part = min(side, FIELD)
    n_cells = part * part // 130_000
    fields = [make_smear(part, n_cells=n_cells, random_state=seed + i) for i in range(N_FIELDS)]
    rng = np.random.default_rng(seed)
    pixels = np.empty((side, side, 3), np.uint8)
    boxes = []
    for top in range(0, side - part + 1, part):
        for left in range(0, side - part + 1, part):
            field = fields[rng.integers(N_FIELDS)]
            image, own = turned(field.image, np.asarray(field.boxes, float)[:, :4], rng)
            pixels[top : top + part, left : left + part] = image
            boxes.append(own + [left, top, left, top])
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(4):
            file.write(
                pixels, tile=(TILE, TILE), photometric="rgb", metadata=None,
                subfiletype=int(level > 0),
            )  # fmt: skip
            half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
            pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
    return np.concatenate(boxes)


def turned(
    image: NDArray[np.uint8], boxes: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Turn a square field by quarters and mirror it, and the boxes in it."""
    n = len(image)
    for _ in range(rng.integers(4)):
        image = np.rot90(image)
        boxes = np.column_stack([boxes[:, 1], n - boxes[:, 2], boxes[:, 3], n - boxes[:, 0]])
    if rng.integers(2):
        image = image[:, ::-1]
        boxes = np.column_stack([n - boxes[:, 2], boxes[:, 1], n - boxes[:, 0], boxes[:, 3]])
    return image, boxes
