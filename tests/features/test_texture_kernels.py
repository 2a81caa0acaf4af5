import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import threshold_otsu
from skimage.morphology import dilation, erosion, footprint_rectangle

from hemaest.features import _chromatin, _glcm, _lobes, _patterns

ANGLES = np.arange(4) * np.pi / 4
CROSS = ndi.generate_binary_structure(2, 1).astype(np.uint8)


def grain(seed, smooth, size=64):
    noise = ndi.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), smooth)
    return (128 + 60 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def regions(seed, size=64):
    noise = ndi.gaussian_filter(np.random.default_rng(seed + 50).normal(size=(size, size)), 6)
    return np.digitize(noise, np.quantile(noise, [0.3, 0.6])).astype(np.uint8)


def glcm(gray, region):
    out = np.empty((2, _glcm.SIZE))
    _glcm.measure_glcm(gray, region, *_glcm.TABLES, out)
    return [dict(zip(_glcm.definitions(), row, strict=True)) for row in out]


def matrices(gray, inside):
    """Return the normalized matrices of the pairs inside a mask, by scikit-image."""
    levels = np.where(inside, gray >> 3, 32).astype(np.uint8)
    counts = graycomatrix(levels, _glcm.DISTANCES, ANGLES, levels=33, symmetric=True)
    counts = counts[:32, :32].astype(float)
    return counts / counts.sum((0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_co_occurrence_agrees_with_scikit_image(seed):
    gray, region = grain(seed, seed), regions(seed)
    for k, got in enumerate(glcm(gray, region), start=1):
        want = matrices(gray, region == k)
        for name in _glcm._PROPERTIES:
            for values, d in zip(graycoprops(want, name), _glcm.DISTANCES, strict=True):
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
    for k, got in enumerate(glcm(gray, region), start=1):
        want = matrices(gray, region == k)[:, :, 0]
        rows = [haralick(want[:, :, angle]) for angle in range(4)]
        for name in rows[0]:
            mean = np.mean([row[name] for row in rows])
            assert got[f"haralick_{name}"] == pytest.approx(mean, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("seed", range(4))
def test_bounds_of_co_occurrence(seed):
    for got in glcm(grain(seed, 2), regions(seed)):
        for name, value in got.items():
            if "entropy" in name:
                assert value >= 0
            if "homogeneity" in name or "energy" in name:
                assert 0 <= value <= 1
            if "correlation" in name and name.endswith("mean"):
                assert -1 <= value <= 1


@pytest.mark.parametrize(("points", "radius"), _patterns.CIRCLES)
@pytest.mark.parametrize("smooth", [0, 2, 8])
def test_binary_patterns_agree_with_scikit_image(points, radius, smooth):
    gray = grain(9, smooth) if smooth < 8 else np.full((30, 30), 77, np.uint8)
    corners, weights, bins = dict(zip(_patterns.CIRCLES, _patterns.LBP_TABLES, strict=True))[
        points, radius
    ]
    framed = np.pad(gray, _patterns.PAD).astype(float)
    codes = _patterns.patterns(framed, corners, weights)[3:-3, 3:-3]
    want = local_binary_pattern(gray, points, radius, "uniform")
    inside = np.s_[2:-2, 2:-2]
    np.testing.assert_array_equal(bins[codes][inside], want[inside])


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
    gray, mask = np.pad(grain(seed, 1), 1), np.pad(regions(seed) == 2, 1)
    out = np.empty(_patterns.N_GRANULARITY)
    _patterns.measure_granularity(gray, mask.astype(np.uint8), out)
    got = dict(zip(_patterns.GRANULARITY_DEFINITIONS, out, strict=True))
    for kind, image in (("dark", 255 - gray), ("light", gray)):
        volumes = [int(image[mask].sum())]
        volumes += [int(masked_opening(image, mask, r)[mask].sum()) for r in range(1, 5)]
        for r in range(1, 5):
            want = (volumes[r - 1] - volumes[r]) / volumes[0]
            assert got[f"granules_{kind}_{r}"] == pytest.approx(want, abs=1e-12)


def test_fractal_dimension_grows_with_roughness():
    def dimension(gray):
        out = np.empty(_patterns.N_GRANULARITY)
        mask = np.zeros(gray.shape, np.uint8)
        mask[1:-1, 1:-1] = 1
        _patterns.measure_granularity(gray, mask, out)
        return out[-1]

    flat = dimension(np.full((40, 40), 9, np.uint8))
    smooth, rough, noise = (dimension(grain(0, s)) for s in (4, 1.5, 0))
    assert flat == 2
    assert 1.9 <= smooth < rough < noise <= 3


def test_parts_are_those_of_scipy():
    mask = np.pad(grain(3, 1) > 140, 1)
    labels, areas = _lobes.parts(mask.astype(np.uint8))
    want, n = ndi.label(mask, np.ones((3, 3)))
    assert len(areas) == n + 1
    np.testing.assert_array_equal(labels, want)
    np.testing.assert_array_equal(areas[1:], np.bincount(want.ravel())[1:])


@pytest.mark.parametrize("seed", range(3))
def test_otsu_is_that_of_scikit_image(seed):
    gray = grain(seed, 3)
    counts = np.bincount(gray.ravel(), minlength=256)
    threshold, dark, light, between = _chromatin.otsu(counts)
    assert threshold == threshold_otsu(gray)
    assert dark == pytest.approx(gray[gray <= threshold].mean())
    assert light == pytest.approx(gray[gray > threshold].mean())
    within = sum(
        part.var() * part.size for part in (gray[gray <= threshold], gray[gray > threshold])
    )
    assert between + within / gray.size == pytest.approx(gray.var())
