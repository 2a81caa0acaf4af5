"""How fast the handcrafted features are, whom they agree with, and what a segmenter costs them.

Run ``python -m benchmarks.features [--peers] [--small]``. The crops are 256 x 256 with a nucleus
and a cell mask. Times are processor time of one thread, the best of several rounds, so that other
work on the machine counts little; all packages are measured in the same rounds.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops

from benchmarks._results import data_folder, write_section
from hemaest._tables import format_table
from hemaest.datasets import load_segmentation_wbc, make_cells
from hemaest.features import (
    ChromatinTexture,
    ColorFeatures,
    HandcraftedFeatures,
    MorphologyFeatures,
)
from hemaest.images import as_array

ANGLES = np.arange(4) * np.pi / 4


def crops(n: int) -> np.ndarray:
    """Return synthetic crops with maps, the cell about 120 pixels wide in 256."""
    bunch = make_cells(n, image_size=256, random_state=0)
    return np.concatenate([bunch.images, bunch.masks[..., None]], axis=3)


def core(image: np.ndarray) -> None:
    """Measure shape, gray values and co-occurrence: the core families."""
    from hemaest import cellmap
    from hemaest.features import _glcm
    from hemaest.features._cells import cell_table
    from hemaest.features._chromatin import N_GRAY, cut_texture, histogram, measure_gray
    from hemaest.features._shape import shape, shape_definitions

    row = cell_table(image[..., 3])[0]
    out = np.empty(len(shape_definitions()))
    shape(image, int(row[0]), row[1:5], out)
    colors, regions = cut_texture(image, cellmap.codes(int(row[0])), row[1:5])
    gray = colors[1]
    texture = np.empty((2, _glcm.SIZE))
    _glcm.measure_glcm(gray[3:-3, 3:-3], regions[3:-3, 3:-3], *_glcm.TABLES, texture)
    for region in (1, 2):
        measure_gray(histogram(gray, (regions == region).astype(np.uint8)), np.empty(N_GRAY))


def with_scikit_image(image: np.ndarray) -> None:
    """Measure the same core families with scikit-image."""
    labels, gray = image[..., 3], image[..., 1]
    for mask in (labels == 2, labels > 0):
        region = regionprops(mask.astype(np.uint8), gray)[0]
        for name in (
            "area perimeter perimeter_crofton axis_major_length axis_minor_length eccentricity "
            "extent solidity euler_number feret_diameter_max moments_hu intensity_mean"
        ).split():
            region[name]
    for k in (1, 2):
        ys, xs = np.nonzero(labels == k)
        if not len(ys):
            continue
        box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        levels = np.where(labels[box] == k, gray[box] >> 3, 32).astype(np.uint8)
        counts = graycomatrix(levels, (1, 3, 5), ANGLES, levels=33, symmetric=True)[:32, :32]
        counts = counts / np.maximum(counts.sum((0, 1)), 1)
        for name in "contrast dissimilarity homogeneity energy correlation entropy".split():
            graycoprops(counts, name)


def with_mahotas() -> Callable[[np.ndarray], None]:
    """Measure shape, Zernike-free texture with mahotas."""
    import mahotas

    def measure(image: np.ndarray) -> None:
        labels, gray = image[..., 3], image[..., 1]
        for mask in (labels == 2, labels > 0):
            mahotas.features.roundness(mask)
            mahotas.features.eccentricity(mask)
            mahotas.features.ellipse_axes(mask)
        for k in (1, 2):
            # zero is background to mahotas
            levels = np.where(labels == k, (gray >> 3) + 1, 0).astype(np.uint8)
            for distance in (1, 3, 5):
                mahotas.features.haralick(levels, ignore_zeros=True, distance=distance)

    return measure


def with_nyxus() -> Callable[[np.ndarray], None]:
    """Measure shape, intensity and GLCM with nyxus, nucleus and cytoplasm as two labels."""
    import nyxus

    engine = nyxus.Nyxus(
        ["*ALL_MORPHOLOGY*", "*ALL_INTENSITY*", "*ALL_GLCM*"], n_feature_calc_threads=1
    )

    def measure(image: np.ndarray) -> None:
        engine.featurize(image[..., 1].astype(np.uint32), image[..., 3].astype(np.uint32))

    return measure


def with_pyradiomics() -> Callable[[np.ndarray], None]:
    """Measure first order, 2-D shape and GLCM with pyradiomics."""
    import logging

    import SimpleITK
    from radiomics import featureextractor

    logging.getLogger("radiomics").setLevel(logging.ERROR)
    extractor = featureextractor.RadiomicsFeatureExtractor(
        force2D=True, binWidth=8, distances=[1, 3, 5]
    )
    extractor.disableAllFeatures()
    for name in ("firstorder", "shape2D", "glcm"):
        extractor.enableFeatureClassByName(name)

    def measure(image: np.ndarray) -> None:
        gray = SimpleITK.GetImageFromArray(image[None, ..., 1].astype(np.float32))
        for k in (1, 2):
            mask = SimpleITK.GetImageFromArray((image[None, ..., 3] == k).astype(np.uint8))
            extractor.execute(gray, mask)

    return measure


def with_cp_measure() -> Callable[[np.ndarray], None]:
    """Measure shape, intensity and texture with cp_measure."""
    from cp_measure.bulk import get_core_measurements

    tools = get_core_measurements()
    chosen = [tools[name] for name in ("sizeshape", "intensity", "texture") if name in tools]

    def measure(image: np.ndarray) -> None:
        gray = image[..., 1].astype(float) / 255
        for mask in (image[..., 3] == 2, image[..., 3] > 0):
            for tool in chosen:
                tool(mask.astype(np.int32), gray)

    return measure


PEERS = {
    "nyxus": with_nyxus,
    "mahotas": with_mahotas,
    "pyradiomics": with_pyradiomics,
    "cp_measure": with_cp_measure,
}


def cpu_time(measure: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    """Return processor seconds an image."""
    start = time.process_time()
    for image in images:
        measure(image)
    return (time.process_time() - start) / len(images)


def speed(images: np.ndarray, peers: bool, rounds: int) -> pd.DataFrame:
    """Return crops a second of each package, best of the rounds, and the ratio to the core."""
    jobs: dict[str, tuple[Callable, int]] = {"hemaest, core": (core, len(images))}
    jobs["scikit-image, core"] = (with_scikit_image, min(20, len(images)))
    notes = []
    for name, make in PEERS.items() if peers else ():
        try:
            measure = make()
            measure(images[0])
            jobs[f"{name}, core"] = (measure, min(8, len(images)))
        except Exception as error:  # a peer that does not install or run is reported, not hidden
            notes.append(f"{name}: not measured ({type(error).__name__}: {str(error)[:80]})")
    for extractor in (
        MorphologyFeatures(),
        ChromatinTexture(),
        ColorFeatures(),
        HandcraftedFeatures(),
    ):
        extractor.fit(images[:1])
        jobs[f"{type(extractor).__name__} ({len(extractor.get_feature_names_out())})"] = (
            lambda image, extractor=extractor: extractor.transform(image[None]),
            len(images),
        )
    for measure, _ in jobs.values():
        measure(images[0])
    best = dict.fromkeys(jobs, np.inf)
    for _ in range(rounds):
        for name, (measure, n) in jobs.items():
            best[name] = min(best[name], cpu_time(measure, images[:n]))
    table = pd.DataFrame({"crops a second, one core": {n: 1 / t for n, t in best.items()}})
    table["hemaest core is faster by"] = [
        f"{t / best['hemaest, core']:.1f}x" if ", core" in n else "" for n, t in best.items()
    ]
    table.attrs["notes"] = notes
    return table.round(0).reset_index(names="what")


def two_threads(images: np.ndarray, rounds: int) -> float:
    """Return the gain in wall time of two threads, the best of each over the rounds."""
    best = {1: np.inf, 2: np.inf}
    for _ in range(rounds):
        for threads in best:
            extractor = HandcraftedFeatures(n_jobs=threads).fit(images[:1])
            start = time.perf_counter()
            extractor.transform(images)
            best[threads] = min(best[threads], time.perf_counter() - start)
    return best[1] / best[2]


FIRST_CALL = """
import time
start = time.process_time()
import sklearn.base
found = time.process_time()
import numpy as np
from hemaest.features import HandcraftedFeatures
image = np.full((1, 64, 64, 4), 90, np.uint8)
image[..., 3] = 0
image[0, 9:50, 9:50, 3] = 1
image[0, 20:40, 20:40, 3] = 2
HandcraftedFeatures().fit(image).transform(image)
print(time.process_time() - start, found - start)
"""


def first_call(rounds: int) -> tuple[float, float]:
    """Return processor seconds to the first row of features, and of importing scikit-learn."""
    runs = [
        subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True)
        for _ in range(rounds)
    ]
    whole, found = min(tuple(map(float, run.stdout.split())) for run in runs)
    return whole, found


def agreement() -> str:
    """Return the largest relative difference to regionprops over the expert masks."""
    from hemaest.features import _region

    names = {
        "area": "area",
        "perimeter": "perimeter",
        "perimeter_crofton": "perimeter_crofton",
        "major_axis": "axis_major_length",
        "minor_axis": "axis_minor_length",
        "extent": "extent",
        "solidity": "solidity",
        "eccentricity": "eccentricity",
    }
    bunch = load_segmentation_wbc(data_folder() / "segmentation_wbc")
    worst, n = 0.0, 0
    for item in bunch.masks:
        labels = as_array(item)
        labels = labels[..., 0] if labels.ndim == 3 else labels
        for mask in (labels == 2, labels > 0):
            if mask.sum() < 2:
                continue
            out = np.empty(_region.SIZE)
            _region.measure_region(np.pad(mask.astype(np.uint8), 1), *_region.TABLES, out)
            got = dict(zip(_region.DEFINITIONS, out, strict=True))
            want = regionprops(mask.astype(np.uint8))[0]
            n += 1
            for ours, theirs in names.items():
                worst = max(worst, abs(got[ours] - want[theirs]) / max(abs(want[theirs]), 1))
    return f"{n} expert masks of segmentation_wbc: largest relative difference {worst:.1e}"


def truth(n: int) -> str:
    """Return how the features agree with the truth of synthetic cells, with and without masks."""
    from hemaest.segmentation import CellSegmenter

    bunch = make_cells(n, image_size=128, random_state=11)
    X = np.concatenate([bunch.images, bunch.masks[..., None]], axis=3)
    shape = MorphologyFeatures().set_output(transform="pandas").fit(X)
    true = bunch.truth
    exact = shape.transform(X)
    found = shape.transform(CellSegmenter().fit(bunch.images).transform(bunch.images))
    known = found["nc_ratio"].notna().to_numpy()
    r = np.corrcoef(found["nc_ratio"][known], true["nc_ratio"][known])[0, 1]
    lobes = (exact["nucleus_lobe_count"].to_numpy() == true["n_lobes"].to_numpy()).mean()
    areas = (exact["nucleus_area"].to_numpy() == true["nucleus_area"].to_numpy()).mean()
    error = np.abs(exact["nc_ratio"].to_numpy() - true["nc_ratio"].to_numpy()).max()
    return (
        f"{n} synthetic cells, true masks: areas exact {areas:.1%}, N:C largest error "
        f"{error:.1e}, lobe count right {lobes:.1%}. End to end with the label-free segmenter: "
        f"correlation of N:C {r:.3f}, cells found {known.mean():.1%}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    n = 60 if arguments.small else 200
    rounds = 3 if arguments.small else 7
    images = crops(n)
    table = speed(images, arguments.peers, rounds)
    first, imports = first_call(5)
    boxes = [np.ptp(np.nonzero(image[..., 3])[1]) + 1 for image in images]
    lines = [
        f"{n} crops of 256 x 256, cells {np.median(boxes):.0f} pixels wide (median).",
        "",
        format_table(table),
        "",
        *table.attrs["notes"],
        f"Two threads against one (wall time, all features): {two_threads(images, rounds):.2f}x.",
        f"New process to first row, warm cache: {first:.2f} s of processor time, of which "
        f"{imports:.2f} s import scikit-learn.",
        "",
        f"Agreement with scikit-image: {agreement()}.",
        truth(100 if arguments.small else 400),
    ]
    options = " --peers" * arguments.peers + " --small" * arguments.small
    write_section("Features", "\n".join(lines), command=f"python -m benchmarks.features{options}")


if __name__ == "__main__":
    main()
