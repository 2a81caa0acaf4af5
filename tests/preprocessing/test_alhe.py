import colorsys

import numpy as np
import pytest

from hemaest.images import to_object_array
from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer
from hemaest.preprocessing._alhe import (
    apply_curves,
    between,
    enhancement_curves,
    tile_counts,
    tile_edges,
)


@pytest.fixture(scope="module")
def cell():
    """Draw a dull violet cell with fine structure on plain glass."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :104]
    image = np.full((96, 104, 3), (236, 228, 224), float)
    inside = np.hypot(rows - 45, columns - 50) < 30
    texture = 12 * np.sin(rows / 3) * np.cos(columns / 4)
    image[inside] = np.array([[140, 110, 170]]) + texture[inside][:, None]
    return np.clip(image + rng.normal(0, 1.5, image.shape), 0, 255).astype(np.uint8)


def integer_luma(image):
    """Return the luma, 0 to 255, in the integer arithmetic of the compiled passes."""
    r, g, b = np.moveaxis(image[..., :3].astype(np.int32), -1, 0)
    return (77 * r + 150 * g + 29 * b + 128) >> 8


def plain_tile_counts(image, tops, lefts):
    """Return the histogram of the luma of each tile."""
    values = integer_luma(image)
    return np.array(
        [
            [
                np.bincount(values[t0:t1, l0:l1].ravel(), minlength=256)
                for l0, l1 in zip(lefts[:-1], lefts[1:], strict=True)
            ]
            for t0, t1 in zip(tops[:-1], tops[1:], strict=True)
        ]
    )


def plain_apply_curves(image, curves, upper, down, left, right, out):
    """Write the image with each pixel's luma taken through the curves of the tiles around it."""
    values = integer_luma(image)
    lower = np.minimum(upper + 1, curves.shape[0] - 1)[:, None]
    after = np.minimum(left + 1, curves.shape[1] - 1)
    upper, share = upper[:, None], down[:, None]
    one = curves[upper, left, values]
    one = one + share * (curves[lower, left, values] - one)
    other = curves[upper, after, values]
    other = other + share * (curves[lower, after, values] - other)
    new = one + right * (other - one)
    brightest = image[..., :3].max(axis=-1)
    factor = np.minimum(new / np.maximum(values, 1), 255 / np.maximum(brightest, 1))
    out[...] = image
    out[..., :3] = (image[..., :3] * factor[..., None] + 0.5).astype(np.uint8)


def luma(image):
    return image[..., :3] @ np.array([77, 150, 29]) / 256


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (90, 40, 130), (255, 0, 0)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3), (40, 64)])
def test_one_color_stays(color, shape):
    image = np.full((1, *shape, 3), color, np.uint8)
    np.testing.assert_array_equal(AdaptiveLocalHistogramEnhancer().fit_transform(image), image)


def test_structure_gains_contrast_and_plain_glass_does_not(cell):
    result = AdaptiveLocalHistogramEnhancer().fit_transform([cell])[0]
    inside, glass = (slice(30, 60), slice(35, 65)), (slice(80, 96), slice(0, 24))
    assert luma(result[inside]).std() > 1.3 * luma(cell[inside]).std()
    assert luma(result[glass]).std() < 1.3 * luma(cell[glass]).std()


def test_hue_and_saturation_are_kept(cell):
    result = AdaptiveLocalHistogramEnhancer().fit_transform([cell])[0]
    assert np.abs(result.astype(int) - cell).max() > 15
    for before, after in zip(cell.reshape(-1, 3)[::37], result.reshape(-1, 3)[::37], strict=True):
        # one ratio for all channels, each rounded to a whole level
        ratio = after.astype(float).max() / before.max()
        assert np.abs(after - before * ratio).max() <= 1
        if before.min() + 20 < before.max() < 250:
            hue = [colorsys.rgb_to_hsv(*(c / 255.0))[0] for c in (before, after)]
            assert abs(hue[0] - hue[1]) < 0.03


@pytest.mark.parametrize("channels", [3, 4])
def test_compiled_and_plain_agree_within_a_level(cell, channels):
    image = np.dstack([cell, np.zeros(cell.shape[:2], np.uint8)])[..., :channels]
    image = np.ascontiguousarray(image)
    tops, lefts = tile_edges(96, 5), tile_edges(104, 7)
    counts = [count(image, tops, lefts) for count in (tile_counts, plain_tile_counts)]
    np.testing.assert_array_equal(*counts)
    curves = enhancement_curves(counts[0], 3.0, 6.0)
    results = [np.empty_like(image) for _ in range(2)]
    for apply, out in zip((apply_curves, plain_apply_curves), results, strict=True):
        apply(image, curves, *between(tops), *between(lefts), out)
    assert np.abs(np.subtract(*results, dtype=int)).max() <= 1


def test_a_pixel_lies_between_the_curves_of_its_four_tiles(cell):
    """Compute single pixels from the definition, in floats, one by one."""
    result = AdaptiveLocalHistogramEnhancer(tiles=4).fit_transform([cell])[0]
    rng = np.random.default_rng(0)
    gray = luma(cell)
    level = np.floor(gray + 0.5).astype(int)
    curves = np.empty((4, 4, 256))
    for i in range(4):
        for j in range(4):
            tile = level[24 * i : 24 * (i + 1), 26 * j : 26 * (j + 1)]
            curves[i, j] = enhancement_curves(np.bincount(tile.ravel(), minlength=256), 3.0, 6.0)
    for y, x in rng.integers(0, 96, (60, 2)):
        v = np.clip((y + 0.5 - 12) / 24, 0, 3)
        u = np.clip((x + 0.5 - 13) / 26, 0, 3)
        i, j = min(int(v), 2), min(int(u), 2)
        v, u = v - i, u - j
        four = curves[i : i + 2, j : j + 2, level[y, x]]
        new = np.array([1 - v, v]) @ four @ np.array([1 - u, u])
        ratio = min(new / level[y, x], 255 / cell[y, x].max())
        assert np.abs(result[y, x] - cell[y, x] * ratio).max() <= 1


def test_curves_rise_and_stay_in_range():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (20, 256)) * (rng.random((20, 256)) < 0.2)
    counts[0] = 0
    curves = enhancement_curves(counts, 4.0, 6.0)
    assert (np.diff(curves, axis=-1) >= -1e-3).all()
    assert curves.min() >= 0 and curves.max() <= 255
    np.testing.assert_allclose(curves[0], np.arange(256))
    np.testing.assert_allclose(
        enhancement_curves(np.full(256, 9), 4.0, 6.0), np.arange(256), atol=0.01
    )


def test_low_contrast_and_rich_tiles_get_more():
    levels = np.arange(256)

    def slope(center, spread, noise=6.0):
        counts = np.exp(-0.5 * ((levels - center) / spread) ** 2) * 1000
        curve = enhancement_curves(counts, 3.0, noise)
        return (curve[center + 4] - curve[center - 4]) / 8

    assert slope(128, 12) > slope(128, 60)
    assert slope(128, 12) > slope(128, 2)
    assert slope(128, 12, noise=30.0) < slope(128, 12)


def test_one_tile_is_the_whole_image_and_together_with_itself(cell):
    enhancer = AdaptiveLocalHistogramEnhancer(tiles=1)
    whole = enhancer.fit_transform([cell])[0]
    np.testing.assert_array_equal(enhancer.enhance_together([cell])[0], whole)
    before, after = cell.reshape(-1, 3), whole.reshape(-1, 3)
    _, first, which = np.unique(before, axis=0, return_index=True, return_inverse=True)
    np.testing.assert_array_equal(after, after[first][which.ravel()])


def test_neighboring_tiles_agree_together(cell):
    enhancer = AdaptiveLocalHistogramEnhancer()
    halves = to_object_array([cell[:60], cell[40:]])
    one, other = enhancer.enhance_together(halves)
    np.testing.assert_array_equal(one[40:], other[:20])
    one, other = enhancer.fit_transform(halves)
    assert not np.array_equal(one[40:], other[:20])


def test_the_cell_map_is_copied(cell):
    labels = np.zeros((96, 104), np.uint8)
    labels[20:60, 20:60] = 1
    result = AdaptiveLocalHistogramEnhancer().fit_transform([np.dstack([cell, labels])])[0]
    np.testing.assert_array_equal(result[..., 3], labels)
    np.testing.assert_array_equal(
        result[..., :3], AdaptiveLocalHistogramEnhancer().fit_transform([cell])[0]
    )
