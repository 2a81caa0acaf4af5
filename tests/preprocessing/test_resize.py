"""Resize against plain descriptions of what it does."""

import numpy as np
import pytest
from square_cell import square_cell

from hemaest.preprocessing import Resize


def test_resize_to_the_same_size_is_the_identity(rng):
    X = rng.integers(0, 256, (3, 20, 30, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Resize((20, 30)).fit_transform(X), X)
    np.testing.assert_array_equal(Resize((20, 30), mode="crop").fit_transform(X), X)


def test_halving_averages_two_by_two(rng):
    X = rng.integers(0, 256, (1, 16, 12, 3)).astype(np.uint8)
    means = X.reshape(1, 8, 2, 6, 2, 3).mean(axis=(2, 4))
    assert np.abs(Resize((8, 6)).fit_transform(X) - means).max() <= 0.5


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (33, 7), (1, 64), (97, 96)])
@pytest.mark.parametrize("mode", ["pad", "crop"])
def test_a_square_stays_a_square(shape, mode):
    image = np.full((*shape, 3), 240, np.uint8)
    result = Resize(64, mode=mode).fit_transform([image])[0]
    assert result.shape == (64, 64, 3)
    # the border is the image's own color, so padding looks like plasma
    assert (result == 240).all()


def test_aspect_is_kept():
    image = square_cell(60, 120, 20, 50, 20)
    padded = Resize(60).fit_transform([image])[0]
    rows, columns = np.nonzero(padded[..., 3])
    assert np.ptp(rows) == np.ptp(columns) == 9
    cropped = Resize(30, mode="crop").fit_transform([image])[0]
    rows, columns = np.nonzero(cropped[..., 3])
    assert np.ptp(rows) == np.ptp(columns) == 9


def test_the_map_moves_by_nearest_neighbor():
    image = square_cell(64, 64, 10, 10, 31)
    for size in (17, 40, 100):
        labels = Resize(size).fit_transform(image[None])[0, ..., 3]
        assert set(np.unique(labels)) == {0, 1, 2}
        share = (labels > 0).mean()
        assert share == pytest.approx((image[..., 3] > 0).mean(), abs=0.08)


def test_padding_is_the_median_color_of_the_border():
    image = np.full((10, 20, 3), (230, 220, 210), np.uint8)
    image[3:7, 5:15] = 0
    image[0, 0] = 0
    assert Resize(20).fit_transform([image])[0][0, 10].tolist() == [230, 220, 210]


def test_resize_wants_a_size_that_makes_sense(cells):
    for size in ((3,), (3, 0), (3, 4, 5), ("a", 2)):
        with pytest.raises(ValueError, match="positive int or a pair"):
            Resize(size).fit(cells[0])
    with pytest.raises(ValueError, match="Did you mean 'crop'"):
        Resize(8, mode="corp").fit_transform(cells[0])
