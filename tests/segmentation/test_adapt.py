"""The network's shares fitted to the colors of one image."""

import numpy as np
import pytest

from hemaest.datasets import make_cells
from hemaest.segmentation import CellSegmenter
from hemaest.segmentation._color_models import adapted
from hemaest.segmentation._working_image import dice, standardize

Y, X = np.mgrid[:96, :96]


def disk(radius, shift=0.0):
    return np.hypot(Y - 48, X - 48 - shift) < radius


@pytest.fixture
def drawn():
    """A cell, and shares that are sure where they should not be: the borders are off by pixels."""
    image = np.full((96, 96, 3), (245, 228, 208), float)
    image[disk(34)], image[disk(20)] = (190, 188, 216), (95, 55, 140)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    nucleus = 1 / (1 + np.exp((np.hypot(Y - 48, X - 48) - 17.5) / 1.5))
    cell = 1 / (1 + np.exp((np.hypot(Y - 48, X - 48) - 31.5) / 1.5))
    shares = np.stack([1 - cell, cell * (1 - nucleus), cell * nucleus], axis=-1)
    return standardize(image.clip(0, 255).astype(np.uint8)), shares.astype(np.float32)


def test_borders_move_to_where_the_color_changes(drawn):
    density, shares = drawn
    after = adapted(density, shares, shares[..., 0] < 0.5)
    for part, radius in ((slice(2, 3), 20), (slice(1, 3), 34)):
        before_dice = dice(shares[..., part].sum(-1) > 0.5, disk(radius))
        assert dice(after[..., part].sum(-1) > 0.5, disk(radius)) > before_dice + 0.01


def test_shares_stay_shares(drawn):
    density, shares = drawn
    after = adapted(density, shares, shares[..., 0] < 0.5)
    np.testing.assert_allclose(after.sum(axis=-1), 1, atol=1e-5)
    assert after.min() >= 0 and after.dtype == np.float32
    far = np.hypot(Y - 48, X - 48) > 50
    np.testing.assert_array_equal(after[far], shares[far])


def test_a_cell_without_cytoplasm_is_left_alone(drawn):
    density, shares = drawn
    bare = np.stack([shares[..., 0], 0 * shares[..., 1], 1 - shares[..., 0]], axis=-1)
    np.testing.assert_array_equal(adapted(density, bare, bare[..., 0] < 0.5), bare)


def test_nuclear_share_end_to_end():
    """The ratio of nucleus to cell of segmented cells follows the truth."""
    cells = make_cells(40, random_state=21)
    table = CellSegmenter().fit(cells.images).quality(cells.images)
    assert np.corrcoef(table["nc_ratio"], cells.truth["nc_ratio"])[0, 1] > 0.95
