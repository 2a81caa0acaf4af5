"""Leukocytes of whole fields, in laboratories that nothing was trained or tuned on.

``python -m benchmarks.fields [--small] [--figure folder]``

``--parts`` chooses among real (bccd and the warty pigs, whose leukocytes experts boxed, and what is
found in sets without such boxes), rendered (fields of unseen seeds by severity and scale), trust
(how familiar fields and other images seem) and speed.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_bccd, make_smear
from hemaest.datasets.unrelated import draw_unrelated
from hemaest.images import read_image, rgb
from hemaest.segmentation import SmearDetector
from hemaest.segmentation._smear import match_boxes

PARTS = ("real", "rendered", "trust", "speed")
FLOODED = 5  # more false cells than this
BARS = {"bccd": 0.98, "warty_pig": 0.93}

Item = tuple[str, NDArray[np.uint8], NDArray[np.float64]]


def bccd() -> Iterator[Item]:
    """Yield the fields of bccd with the boxes of their leukocytes."""
    bunch = load_bccd(data_folder() / "bccd")
    for ref, boxes, kinds in zip(bunch.images, bunch.boxes, bunch.box_labels, strict=True):
        yield Path(ref.path).name, read_image(ref.path), boxes[np.asarray(kinds) == "WBC"]


def warty_pig() -> Iterator[Item]:
    """Yield the smartphone fields of warty pigs with the boxes of their leukocytes."""
    folder = data_folder() / "warty_pig"
    table = pd.read_csv(folder / "boxes.csv")
    for path in sorted((folder / "images").iterdir()):
        own = table[table.file == path.name]
        yield path.name, read_image(path), own[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float)


BOXED = {"bccd": bccd, "warty_pig": warty_pig}
UNBOXED = {"chula_rbc12": "chula_rbc12/images/*", "taleqani": "taleqani/*/*.jpg"}


def score(name: str, items: list[Item], figure: Path | None) -> dict:
    """Return one row: precision, recall, F1, errors of the count, flooded fields."""
    detector = SmearDetector(n_jobs=1).fit([items[0][1]])
    detector.predict([items[0][1]])
    hits = false = missed = right = flooded = 0
    errors, worst = [], []
    start = time.process_time()
    for file, image, truth in items:
        (boxes,) = detector.predict([image])
        n = len(match_boxes(boxes, truth))
        hits, false, missed = hits + n, false + len(boxes) - n, missed + len(truth) - n
        right += len(boxes) == len(truth)
        flooded += len(boxes) - n > FLOODED
        errors.append(abs(len(boxes) - len(truth)))
        worst.append((len(boxes) + len(truth) - 2 * n, file, image, boxes, truth))
    spent = 1000 * (time.process_time() - start) / len(items)
    if figure is not None:
        draw_worst(sorted(worst, key=lambda w: -w[0])[:12], figure / f"{name}.png")
    return {
        "set": name, "fields": len(items), "leukocytes": hits + missed, "found": hits,
        "false": false, "precision": hits / max(hits + false, 1),
        "recall": hits / max(hits + missed, 1),
        "F1": 2 * hits / max(2 * hits + false + missed, 1), "bar F1": BARS.get(name, 0.95),
        "count right": right / len(items), "count error": float(np.mean(errors)),
        "flooded": flooded / len(items), "CPU ms": spent,
    }  # fmt: skip


def real(small: bool, figure: Path | None) -> str:
    """Score the sets with boxes; describe what is found in the others."""
    step = 8 if small else 1
    rows = [score(name, list(items())[::step], figure) for name, items in BOXED.items()]
    others = []
    for name, pattern in UNBOXED.items():
        files = sorted(data_folder().glob(pattern))[:: 40 if small else 3]
        images = [read_image(path) for path in files]
        table = SmearDetector(n_jobs=1).fit(images[:1]).quality(images)
        others.append(
            {
                "set": name, "fields": len(images),
                "leukocytes a field, median": table.n_leukocytes.median(),
                "most": table.n_leukocytes.max(),
                "um a pixel, 5%": table.um_per_pixel.quantile(0.05),
                "median": table.um_per_pixel.median(), "95%": table.um_per_pixel.quantile(0.95),
                "warned": (table.warning != "").mean(),
            }
        )  # fmt: skip
    return (
        "Boxes match at an overlap (IoU) of 0.5; flooded: more than 5 false cells. No real image "
        "was trained or tuned on. All fields are test fields."
        f"\n\n{format_table(pd.DataFrame(rows))}\n\nSets without boxes of leukocytes:\n\n"
        f"{format_table(pd.DataFrame(others))}"
    )


def rendered(small: bool) -> str:
    """Score rendered fields of seeds that training never drew, by severity and scale."""
    rows = []
    n = 12 if small else 60
    for severity in (0.0, 0.5, 1.0, 1.3):
        for um in (0.12, 0.25, 0.5):
            items = []
            for k in range(n):
                smear = make_smear(
                    (240, 320) if um > 0.2 else (480, 640), micrometres_per_pixel=um,
                    severity=severity, lab_effect=1.0, random_state=77_000 + k,
                )  # fmt: skip
                large = (smear.boxes[:, 2:] - smear.boxes[:, :2]).min(axis=1) * um > 5
                items.append((str(k), smear.image, smear.boxes[large].astype(float)))
            row = score(f"severity {severity}, {um} um a pixel", items, None)
            rows.append({k: v for k, v in row.items() if k != "bar F1"})
    return (
        "Fields of unseen seeds. Slices of less than 5 um that the border cuts off do not count "
        f"as missed, but as false where they are found.\n\n{format_table(pd.DataFrame(rows))}"
    )


PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "colorwheel", "grass", "gravel",
    "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip


def photographs() -> list[NDArray[np.uint8]]:
    """Return pictures that come with scikit-image, whole and parts: a cat, tissue, writing."""
    from skimage import data

    pictures = []
    for name in PHOTOGRAPHS:
        picture = getattr(data, name)()
        picture = rgb(picture) if picture.ndim == 3 else np.stack(3 * [picture], axis=2)
        height, width = picture.shape[:2]
        pictures += [picture, picture[: height // 2, : width // 2]]
        pictures += [picture[height // 2 :, width // 2 :]]
    return pictures


def unfamiliar(n: int) -> dict[str, list[NDArray[np.uint8]]]:
    """Return images that show no film, or one that cannot be read."""
    import cv2

    rng = np.random.default_rng(5)
    smears = [make_smear(320, lab_effect=1.0, random_state=88_000 + k).image for k in range(n)]
    return {
        "writing, scenes, tissue, noise": [
            cv2.resize(draw_unrelated(160, rng), (320, 320)) for _ in range(n)
        ],
        "photographs": photographs(),
        "out of focus (blur of 2.5 um)": [cv2.GaussianBlur(s, (0, 0), 12.5) for s in smears],
        "inverted": [255 - s for s in smears],
        "noise of 60 levels": [
            np.clip(s + rng.normal(0, 60, s.shape), 0, 255).astype(np.uint8) for s in smears
        ],
    }


def trust(small: bool) -> str:
    """Return how many fields and other images are warned of."""
    n = 10 if small else 40
    sets = {f"rendered, severity {s}": _rendered(n, s) for s in (0.0, 1.0)}
    for name, items in BOXED.items():
        sets[name] = [image for _, image, _ in list(items())[:: 40 if small else 10]]
    for name, pattern in UNBOXED.items():
        files = sorted(data_folder().glob(pattern))
        sets[name] = [read_image(path) for path in files[:: 30 if small else 10]]
    rows = []
    for kind, group in (("familiar", sets), ("unfamiliar", unfamiliar(n))):
        for name, images in group.items():
            table = SmearDetector(n_jobs=1).fit(images[:1]).quality(images)
            rows.append(
                {
                    "images": name, "they are": kind, "fields": len(images),
                    "familiarity, median": table.familiarity.median(),
                    "unlike any film": table.warning.str.contains("unlike").mean(),
                    "warned": (table.warning != "").mean(),
                    "bar": "<= 0.05" if kind == "familiar" else ">= 0.95",
                }
            )  # fmt: skip
    return format_table(pd.DataFrame(rows))


def _rendered(n: int, severity: float) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(9)
    return [
        make_smear(
            (300, 400), severity=severity, lab_effect=1.0, random_state=99_000 + k,
            micrometres_per_pixel=float(np.exp(rng.uniform(np.log(0.12), np.log(0.5)))),
        ).image
        for k in range(n)
    ]  # fmt: skip


def speed(rounds: int = 7) -> str:
    """Return CPU milliseconds of a field, the least of some rounds."""
    rows = []
    for height, width, um in ((480, 640, 0.1), (480, 640, 0.25), (480, 640, 0.5), (900, 1440, 0.2)):
        image = make_smear((height, width), micrometres_per_pixel=um, random_state=0).image
        for known in (None, um):
            detector = SmearDetector(um_per_pixel=known, n_jobs=1).fit([image])
            detector.predict([image])
            spent = []
            for _ in range(rounds):
                start = time.process_time()
                detector.predict([image])
                spent.append(1000 * (time.process_time() - start))
            rows.append(
                {
                    "field": f"{width}x{height}", "um a pixel": um,
                    "scale": "measured" if known is None else "given", "CPU ms": min(spent),
                    "bar": 150.0 if width == 640 else float("nan"),
                }
            )  # fmt: skip
    return format_table(pd.DataFrame(rows))


def draw_worst(worst: list, path: Path, side: int = 420) -> None:
    """Draw the fields with most errors: truth in green, what was found in red."""
    import cv2

    tiles = []
    for _, file, image, boxes, truth in worst:
        scale = side / max(image.shape[:2])
        tile = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for table, color in ((truth, (0, 170, 0)), (boxes[:, :4], (230, 0, 0))):
            for x0, y0, x1, y1 in (table * scale).astype(int).tolist():
                cv2.rectangle(tile, (x0, y0), (x1, y1), color, 2)
        cv2.putText(tile, file, (4, 14), 0, 0.45, (0, 0, 0), 1)
        full = np.full((side, side, 3), 255, np.uint8)
        full[: tile.shape[0], : tile.shape[1]] = tile
        tiles.append(full)
    tiles += [np.full((side, side, 3), 255, np.uint8)] * (-len(tiles) % 4)
    rows = [np.hstack(tiles[k : k + 4]) for k in range(0, len(tiles), 4)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def main() -> None:
    """Read the command line, measure, and write sections of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="an eighth of the fields")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--figure", type=Path, help="folder for the worst fields")
    given = parser.parse_args()
    size = "small" if given.small else "full"
    command = "python -m benchmarks.fields" + (" --small" if given.small else "")
    if "real" in given.parts:
        text = real(given.small, given.figure)
        write_section(f"Fields: leukocytes by laboratory ({size})", text, command=command)
    if "rendered" in given.parts:
        text = rendered(given.small)
        write_section(f"Fields: rendered laboratories ({size})", text, command=command)
    if "trust" in given.parts:
        text = trust(given.small)
        write_section(f"Fields: familiar and unfamiliar images ({size})", text, command=command)
    if "speed" in given.parts:
        write_section("Fields: speed on one core", speed(), command=command)


if __name__ == "__main__":
    main()
