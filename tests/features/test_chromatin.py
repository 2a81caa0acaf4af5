"""Texture features against scikit-image, SciPy and their definitions."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import threshold_otsu
from skimage.morphology import dilation, erosion, footprint_rectangle

from hemaest.features import ChromatinTexture, PatternHistogram

DISTANCES = (1, 3, 5)
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
ANGLES = np.arange(4) * np.pi / 4
CROSS = ndi.generate_binary_structure(2, 1).astype(np.uint8)


def grain(seed, smooth, size=64):
    noise = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), smooth)
    return (128 + 60 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def regions(seed, size=64):
    noise = ndi.gaussian_filter(np.random.default_rng(seed + 50).normal(size=(size, size)), 6)
    return np.digitize(noise, np.quantile(noise, [0.3, 0.6])).astype(np.uint8)


def measured(gray, region):
    """Return the texture of cytoplasm (1) and nucleus (2) of a gray image, without their names."""
    image = np.dstack([gray, gray, gray, region])[None]
    row = ChromatinTexture().fit(image).table(image).iloc[0]
    return [
        {name.removeprefix(part): v for name, v in row.items() if name.startswith(part)}
        for part in ("cytoplasm_", "nucleus_")
    ]


def matrices(gray, inside):
    """Return the normalized matrices of the pairs inside a mask, by scikit-image."""
    levels = np.where(inside, gray >> 3, 32).astype(np.uint8)
    counts = graycomatrix(levels, DISTANCES, ANGLES, levels=33, symmetric=True)
    counts = counts[:32, :32].astype(float)
    return counts / counts.sum((0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_co_occurrence_agrees_with_scikit_image(seed):
    gray, region = grain(seed, seed), regions(seed)
    for k, got in enumerate(measured(gray, region), start=1):
        want = matrices(gray, region == k)
        for name in PROPERTIES:
            for values, d in zip(graycoprops(want, name), DISTANCES, strict=True):
                assert got[f"glcm_{name}_d{d}_mean"] == pytest.approx(values.mean(), abs=1e-9)
                assert got[f"glcm_{name}_d{d}_range"] == pytest.approx(np.ptp(values), abs=1e-9)


def haralick(p):
    """Return Haralick's features by their definitions, in plain sums."""

    def entropy(q):
        q = q[q > 0]
        return -(q * np.log(q)).sum()

    i, j = np.indices(p.shape)
    px = p.sum(1)
    levels = np.arange(len(p))
    mean = (px * levels).sum()
    ps = np.bincount((i + j).ravel(), p.ravel())
    pd = np.bincount(abs(i - j).ravel(), p.ravel())
    outer = np.outer(px, px)
    known = outer > 0
    hxy1 = -(p[known] * np.log(outer[known])).sum()
    average = (ps * np.arange(len(ps))).sum()
    steps = np.arange(len(pd))
    return {
        "variance": ((i - mean) ** 2 * p).sum(),
        "sum_average": average,
        "sum_variance": ((np.arange(len(ps)) - average) ** 2 * ps).sum(),
        "sum_entropy": entropy(ps),
        "difference_variance": (steps**2 * pd).sum() - (steps * pd).sum() ** 2,
        "difference_entropy": entropy(pd),
        "imc_1": (entropy(p) - hxy1) / entropy(px),
        "imc_2": np.sqrt(1 - np.exp(-2 * (entropy(outer) - entropy(p)))),
        "second_moment": (p**2).sum(),
    }


@pytest.mark.parametrize("seed", range(3))
def test_haralick_by_definition(seed):
    gray, region = grain(seed, 1 + seed), regions(seed)
    for k, got in enumerate(measured(gray, region), start=1):
        want = matrices(gray, region == k)[:, :, 0]
        rows = [haralick(want[:, :, angle]) for angle in range(4)]
        for name in rows[0]:
            mean = np.mean([row[name] for row in rows])
            assert got[f"haralick_{name}"] == pytest.approx(mean, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_co_occurrence(seed):
    for got in measured(grain(seed, 2), regions(seed)):
        for name, value in got.items():
            if "entropy" in name:
                assert value >= 0
            if "homogeneity" in name or "energy" in name:
                assert 0 <= value <= 1
            if "correlation" in name and name.endswith("mean"):
                assert -1 <= value <= 1


@pytest.mark.parametrize("smooth", [0, 2, 8])
def test_binary_patterns_agree_with_scikit_image(smooth):
    gray = grain(9, smooth) if smooth < 8 else np.full((30, 30), 77, np.uint8)
    image = np.dstack([gray] * 3)[None]
    got = PatternHistogram().fit(image).transform(image)[0]
    framed = np.pad(gray, 3, mode="edge")
    want = []
    for points, radius in ((8, 1), (16, 2)):
        codes = local_binary_pattern(framed, points, radius, "uniform")[3:-3, 3:-3]
        want.append(np.bincount(codes.ravel().astype(int), minlength=points + 2) / codes.size)
    np.testing.assert_allclose(got, np.concatenate(want), atol=1e-12)


def masked_opening(gray, mask, radius):
    """Return an opening with an octagon that sees the mask alone, by scikit-image."""
    shapes = [footprint_rectangle((3, 3)) if r % 2 == 0 else CROSS for r in range(1, radius + 1)]
    low = np.where(mask, gray, 255).astype(np.uint8)
    for shape in shapes:
        low = np.where(mask, erosion(low, shape), 255).astype(np.uint8)
    up = np.where(mask, low, 0).astype(np.uint8)
    for shape in shapes[::-1]:
        up = np.where(mask, dilation(up, shape), 0).astype(np.uint8)
    return up


@pytest.mark.parametrize("seed", range(3))
def test_granularity_against_plain_openings(seed):
    gray, region = grain(seed, 1), regions(seed)
    _, got = measured(gray, region)
    gray, mask = np.pad(gray, 1), np.pad(region == 2, 1)
    for kind, image in (("dark", 255 - gray), ("light", gray)):
        volumes = [int(image[mask].sum())]
        volumes += [int(masked_opening(image, mask, r)[mask].sum()) for r in range(1, 5)]
        for r in range(1, 5):
            want = (volumes[r - 1] - volumes[r]) / volumes[0]
            assert got[f"granules_{kind}_{r}"] == pytest.approx(want, abs=1e-12)


def test_fractal_dimension_grows_with_roughness():
    def dimension(gray):
        return measured(gray, np.full(gray.shape, 2, np.uint8))[1]["fractal_dimension"]

    flat = dimension(np.full((40, 40), 9, np.uint8))
    smooth, rough, noise = (dimension(grain(0, s)) for s in (4, 1.5, 0))
    assert flat == 2
    assert 1.9 <= smooth < rough < noise <= 3


@pytest.mark.parametrize("seed", range(3))
def test_dark_chromatin_is_that_of_otsu_and_its_clumps_those_of_scipy(seed):
    gray, region = grain(seed, 3), regions(seed)
    values = gray[region == 2].astype(float)
    _, got = measured(gray, region)
    dark = (gray <= threshold_otsu(gray[region == 2])) & (region == 2)
    low, high = gray[dark].astype(float), gray[~dark & (region == 2)].astype(float)
    assert got["heterochromatin_fraction"] == pytest.approx(len(low) / len(values))
    assert got["heterochromatin_contrast"] == pytest.approx(high.mean() - low.mean())
    within = sum(part.var() * part.size for part in (low, high)) / len(values)
    separability = 1 - within / values.var()
    assert got["heterochromatin_separability"] == pytest.approx(separability)
    labels, _ = ndi.label(dark, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())[1:]
    clumps = areas[areas >= 4]
    assert got["clump_count"] == len(clumps)
    assert got["clump_size"] == pytest.approx(clumps.mean() / len(values))
    assert got["clump_largest"] == pytest.approx(clumps.max() / len(values))


@pytest.mark.parametrize("shape", [(8, 10), (7, 9), (7, 10)])
def test_halving_is_symmetric_and_keeps_the_mean(shape):
    gray = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    region = np.full(shape, 2, np.uint8)

    def coarse(gray, region):
        nucleus = measured(gray, region)[1]
        return {name: v for name, v in nucleus.items() if name.startswith(("half", "quarter"))}

    want = coarse(gray, region)
    assert len(want) > 100
    for turn in (np.flipud, np.fliplr, np.transpose):
        turned = coarse(turn(gray), turn(region))
        np.testing.assert_allclose(list(turned.values()), list(want.values()), atol=1e-9)
    flat = measured(np.full(shape, 90, np.uint8), region)[1]
    sums = {v for name, v in flat.items() if name.endswith("sum_average")}
    assert sums == {2 * (90 // 8)}
