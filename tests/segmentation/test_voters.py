"""The label-free segmenter: drawn cells with known truth, invariants, any input."""

import numpy as np
import pytest

from hemaest.images import check_images
from hemaest.segmentation import CellSegmenter

PLASMA, CYTOPLASM, NUCLEUS, RED_CELL = (
    (245, 228, 208),
    (190, 188, 216),
    (95, 55, 140),
    (225, 165, 160),
)


def disk(size, center, radius):
    yy, xx = np.mgrid[:size, :size]
    return np.hypot(yy - center[0], xx - center[1]) < radius


def draw(size=128, lobes=(((64, 64), 22),), cell=((64, 64), 36), red=(), seed=0):
    """Draw a cell; return the image and its true map."""
    image = np.full((size, size, 3), PLASMA, float)
    truth = np.zeros((size, size), np.uint8)
    for center, radius in red:
        image[disk(size, center, radius)] = RED_CELL
    if cell:
        image[disk(size, *cell)] = CYTOPLASM
        truth[disk(size, *cell)] = 1
    for lobe in lobes:
        image[disk(size, *lobe)] = NUCLEUS
        truth[disk(size, *lobe)] = 2
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), truth


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    "scene",
    [
        {},
        {"red": (((64, 112), 14), ((16, 64), 14), ((100, 20), 14))},
        {"lobes": (((54, 50), 13), ((60, 80), 12), ((86, 66), 12))},
        {"size": 300, "lobes": (((150, 150), 50),), "cell": ((150, 150), 80)},
    ],
    ids=["plain", "red cells touch", "three lobes", "large"],
)
@pytest.mark.parametrize("light", [(1, 1, 1), (1, 0.95, 0.7), (0.85, 0.9, 1)])
def test_drawn_cells_are_found(scene, light):
    image, truth = draw(**scene)
    image = (image * light).astype(np.uint8)
    labels = CellSegmenter().fit([image]).predict([image])[0]
    assert dice(labels == 2, truth == 2) > 0.93
    assert dice(labels > 0, truth > 0) > 0.93


def test_a_black_frame_is_no_nucleus():
    image, truth = draw()
    image[:12] = 0
    image[:, :7] = 0
    labels = CellSegmenter().fit([image]).predict([image])[0]
    assert dice(labels == 2, truth == 2) > 0.93
    assert not labels[:12].any()


@pytest.mark.parametrize("size", [8, 30, 97])
@pytest.mark.parametrize("cells", ["central", "all"])
def test_any_input_has_an_answer(size, cells):
    rng = np.random.default_rng(size)
    half = np.full((size, size, 3), 255, np.uint8)
    half[: size // 2] = 0
    X = np.stack(
        [
            np.zeros((size, size, 3), np.uint8),
            np.full((size, size, 3), 255, np.uint8),
            np.full((size, size, 3), (150, 80, 160), np.uint8),
            rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
            half,
            np.broadcast_to(np.linspace(0, 255, size)[:, None, None], (size, size, 3)).astype(
                np.uint8
            ),
        ]
    )
    segmenter = CellSegmenter(cells).fit(X)
    labels = segmenter.predict(X)
    assert labels.shape == X.shape[:3] and labels.dtype == np.uint8
    assert not labels[:3].any()
    proba = segmenter.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=-1), 1, atol=1e-6)
    table = segmenter.quality(X)
    assert (table["problems"][:3] == "nothing found").all() and not table["trusted"][:3].any()
    check_images(segmenter.transform(X), channels="map")


@pytest.mark.parametrize("shape", [(2, 40), (40, 2), (1, 2), (16, 300)])
def test_odd_shapes(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for cells in ("central", "all"):
        assert CellSegmenter(cells).fit([image]).predict([image])[0].shape == shape


def test_the_map_is_the_larger_probability():
    image, _ = draw()
    segmenter = CellSegmenter().fit(image[None])
    labels, proba = segmenter.predict(image[None])[0], segmenter.predict_proba(image[None])[0]
    np.testing.assert_array_equal(labels == 2, proba[..., 2] > 0.5)
    np.testing.assert_array_equal(labels > 0, proba[..., 1:].sum(axis=-1) > 0.5)


def test_flips_and_turns_move_the_map_along():
    image, _ = draw(lobes=(((54, 50), 13), ((60, 80), 12)), red=(((20, 30), 14),))
    segmenter = CellSegmenter().fit(image[None])
    labels = segmenter.predict(image[None])[0]
    for k in range(1, 4):
        turned = segmenter.predict(np.ascontiguousarray(np.rot90(image, k))[None])[0]
        assert dice(np.rot90(turned, -k) > 0, labels > 0) > 0.98


def test_a_map_that_is_there_is_replaced():
    image, _ = draw()
    segmenter = CellSegmenter().fit(image[None])
    once = segmenter.transform(image[None])
    np.testing.assert_array_equal(segmenter.transform(once), once)
    old = once.copy()
    old[..., 3] = 0
    np.testing.assert_array_equal(segmenter.transform(old), once)


def field(centers, size=240, red=()):
    lobes = tuple((c, 14) for c in centers)
    image, truth = draw(size, lobes, None, red)
    for center in centers:
        ring = disk(size, center, 22) & (truth == 0)
        image[ring] = CYTOPLASM
        truth[ring] = 1
    return image, truth


def test_all_cells_of_a_field():
    image, truth = field([(50, 50), (60, 170), (180, 100)], red=(((120, 40), 17), ((200, 190), 17)))
    labels = CellSegmenter("all").fit([image]).predict([image])[0]
    assert labels.max() == 6
    assert dice(labels > 0, truth > 0) > 0.9
    nuclei = (labels > 0) & (labels % 2 == 0)
    assert dice(nuclei, truth == 2) > 0.93
    for k in (1, 2, 3):
        assert np.isin(labels[labels > 0], (2 * k - 1, 2 * k)).any()


def test_touching_cells_are_parted():
    image, _ = field([(100, 80), (100, 122)])
    labels = CellSegmenter("all").fit([image]).predict([image])[0]
    assert labels[100, 80] != labels[100, 122] and labels[100, 80] > 0 and labels[100, 122] > 0


def test_a_field_without_leukocytes_is_empty():
    image, _ = draw(240, (), None, red=(((60, 60), 20), ((150, 150), 20), ((60, 180), 20)))
    for cells in ("central", "all"):
        assert CellSegmenter(cells).fit([image]).predict([image])[0].shape == image.shape[:2]


def test_quality_names_what_is_wrong():
    good, _ = draw()
    cut, _ = draw(lobes=(((64, 8), 22),), cell=((64, 8), 36))
    table = CellSegmenter().fit([good]).quality([good, cut])
    assert table["trusted"][0] and table["problems"][0] == ""
    assert not table["trusted"][1] and "border" in table["problems"][1]
    assert abs(table["nc_ratio"][0] - (22 / 36) ** 2) < 0.08
