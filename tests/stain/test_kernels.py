"""The compiled kernels against the same in NumPy, and both against brute force."""

import numpy as np
import pytest
import reference_kernels

from hemaest._color import OPTICAL_DENSITY, lightness, optical_density
from hemaest.stain import _kernels, _optical_density, _pixels

MODULES = [_kernels, reference_kernels]
EYE, STILL = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
OFF = np.float32(0)


@pytest.fixture(scope="module")
def colors():
    axis = np.r_[np.arange(0, 256, 6), 1, 2, 3, 254, 255].astype(np.uint8)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(1, -1, 3)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["apply_density", "apply_lab"])
def test_the_identity_returns_every_color(module, name, colors):
    flat, step, _ = _pixels.flatten(colors).where
    out = np.empty_like(flat)
    getattr(module, name)(flat, step, EYE, STILL, OFF, OFF, out)
    np.testing.assert_array_equal(out, flat)


@pytest.mark.parametrize("name", ["apply_density", "apply_lab"])
@pytest.mark.parametrize("limits", [(OFF, OFF), (np.float32(0.1), np.float32(0.3))])
def test_compiled_and_plain_write_the_same_within_a_level(name, limits, colors):
    matrix = np.float32([[0.9, 0.1, -0.05], [0.02, 1.15, -0.1], [-0.03, 0.05, 0.95]])
    move = np.float32([0.03, -0.02, 0.01])
    flat, step, _ = _pixels.flatten(colors).where
    results = []
    for module in MODULES:
        results.append(np.empty_like(flat))
        getattr(module, name)(flat, step, matrix, move, *limits, results[-1])
    assert np.abs(np.subtract(*results, dtype=int)).max() <= 1


@pytest.mark.parametrize("step", [3, 4])
def test_measures_agree(step, tiles):
    image = tiles["giemsa"]
    image = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])[..., :step]
    whole = _pixels.flatten(image)
    found = [m.foreground(*whole.where, *_pixels.LIMITS["od"]) for m in MODULES]
    expected = image[..., :3][optical_density(image[..., :3]).mean(axis=-1) >= 0.15]
    frame = np.float32([[0.5, 0.8, 0.3], [0.8, -0.5, 0.1], [0, 0, 0]])
    for module, (kept, n) in zip(MODULES, found, strict=True):
        chosen = _pixels.Pixels(kept, 4, n)
        assert n == len(expected)
        np.testing.assert_array_equal(kept[: 4 * n].reshape(n, 4)[:, :3], expected)
        x = OPTICAL_DENSITY[expected]
        sums = module.density_moments(*chosen.where, STILL)
        # the logarithm is within 2e-5 of itself
        np.testing.assert_allclose(sums[:4], [n, *x.sum(axis=0)], atol=2e-5 * n)
        np.testing.assert_allclose(sums[4:], (x.T @ x)[np.triu_indices(3)], atol=4e-5 * n)
        angles = np.arctan2(x @ frame[1], x @ frame[0])
        counts = module.angle_counts(*chosen.where, frame, STILL, 1 << 12)
        assert counts.sum() == n
        (place, _), _ = _optical_density.quantiles(counts, n, np.array([0.5]))
        t = (place + 0.5) * 4 / (1 << 12) - 2
        assert abs(np.arctan2(t, 1 - abs(t)) - np.median(angles)) < 2e-3
    moments = [m.lab_moments(*whole.where) for m in MODULES]
    np.testing.assert_allclose(*moments, rtol=2e-4)
    counts = [
        m.concentration_counts(*whole.where, frame, STILL, np.float32(2**-7), 12, 14 << 11)
        for m in MODULES
    ]
    # a value on the edge of a bin may fall on either side
    assert (
        np.abs(np.cumsum(counts[0], axis=1) - np.cumsum(counts[1], axis=1)).max() <= 0.01 * whole.n
    )


@pytest.mark.parametrize("module", MODULES)
def test_luminosity_keeps_what_is_darker_than_lightness_80(module, colors):
    kept, n = module.foreground(*_pixels.flatten(colors).where, *_pixels.LIMITS["luminosity"])
    grade = lightness(colors[0])
    clear = np.abs(grade - 80) > 0.01
    inside = {tuple(c) for c in kept[: 4 * n].reshape(n, 4)[:, :3].tolist()}
    for color, dark in zip(colors[0][clear][::50], (grade < 80)[clear][::50], strict=True):
        assert (tuple(color.tolist()) in inside) == dark


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("stride", [1, 3])
def test_bright_levels_are_order_statistics(module, stride, tiles):
    image = tiles["giemsa"]
    flat, step, _ = _pixels.flatten(image).where
    some = np.sort(image[::stride, ::stride].reshape(-1, 3), axis=0)
    found = module.bright_levels(flat, step, image.shape[1], stride, 50)
    np.testing.assert_array_equal(found, some[len(some) - 1 - len(some) // 50])


@pytest.mark.parametrize("size", [1, 7, 200, 5000])
def test_spread_densities_take_one_pixel_of_each_stretch(size):
    n = 1000
    # the place of a pixel, written as its color
    flat = np.stack([np.arange(n) // 250, np.arange(n) % 250, np.zeros(n)], axis=1)
    flat = flat.astype(np.uint8).ravel()
    for module in MODULES:
        whole = module.spread_densities(flat, 3, n, 0, n, size)
        levels = np.rint(256 * np.exp(-whole.astype(float)) - 1).astype(int)
        places = levels[0] * 250 + levels[1]
        stretch = max(n / size, 1)
        np.testing.assert_array_equal((places / stretch).astype(int), np.arange(min(n, size)))
        # a pool of two images gives the same pixels
        parts = [
            module.spread_densities(flat[:900], 3, 300, 0, n, size),
            module.spread_densities(flat[900:], 3, 700, 300, n, size),
        ]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_quantiles_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for n in (3, 4, 50, 999):
        values = np.sort(rng.integers(0, 500, n))
        counts = np.bincount(values, minlength=500)
        (low, high), share = _optical_density.quantiles(counts, n, np.array([0.01, 0.5, 0.99]))
        np.testing.assert_allclose(low + share * (high - low), np.percentile(values, [1, 50, 99]))


def test_sparse_factorization_agrees_and_lowers_the_loss():
    rng = np.random.default_rng(0)
    W = np.array([[0.8, 0.55, 0.24], [0.1, 0.95, 0.3]])
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    V = (rng.exponential(0.5, (5000, 2)) * (rng.random((5000, 2)) < 0.6)) @ W
    start = np.array([[0.6, 0.6, 0.53], [0.3, 0.9, 0.32]])
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    planes = np.ascontiguousarray(V.T, dtype=np.float32)
    found = [m.sparse_basis(planes, start, 0.02, 200, 1e-5) for m in MODULES]
    np.testing.assert_allclose(*found, atol=2e-3)

    def loss(basis, sparsity=0.02):
        from scipy.optimize import nnls

        total = 0.0
        for v in V[:300]:
            # non-negative lasso as plain least squares: complete the square
            gram = np.linalg.cholesky(basis @ basis.T + 1e-12 * np.eye(2))
            h, _ = nnls(gram.T, np.linalg.solve(gram, basis @ v - sparsity))
            total += 0.5 * ((v - h @ basis) ** 2).sum() + sparsity * h.sum()
        return total

    assert loss(found[0]) < loss(start)
    assert loss(found[0]) <= loss(W) * 1.02
    np.testing.assert_allclose(found[0], W, atol=0.05)
