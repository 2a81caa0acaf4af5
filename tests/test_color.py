import numpy as np
import pytest
from skimage.color import rgb2lab

from hemaest._color import (
    STAIN_BASES,
    from_optical_density,
    lab_to_rgb,
    lightness,
    optical_density,
    rgb_to_lab,
    stain_basis,
)


@pytest.fixture(scope="module")
def colors():
    axis = np.r_[np.arange(0, 256, 5), 1, 254].astype(np.uint8)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def test_lab_agrees_with_scikit_image(colors):
    expected = rgb2lab(colors)
    # the tabulated white point differs from that of the matrix in the fourth digit
    np.testing.assert_allclose(rgb_to_lab(colors), expected, atol=0.03)
    np.testing.assert_allclose(lightness(colors), expected[..., 0], atol=0.01)


def test_lab_round_trip_returns_every_color(colors):
    np.testing.assert_array_equal(lab_to_rgb(rgb_to_lab(colors)), colors)


def test_grays_are_neutral():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    assert np.abs(rgb_to_lab(gray)[:, 1:]).max() < 1e-3


def test_lab_out_of_gamut_is_clipped():
    assert lab_to_rgb([[150.0, 0, 0], [-20.0, 0, 0]]).tolist() == [[255] * 3, [0] * 3]


def test_optical_density_round_trip():
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(from_optical_density(optical_density(values)), values)
    assert optical_density(np.uint8([255]))[0] == 0


@pytest.mark.parametrize("name", STAIN_BASES)
def test_named_bases_are_unit_and_residual_is_perpendicular(name):
    basis = stain_basis(name)
    np.testing.assert_allclose(np.linalg.norm(basis, axis=1), 1)
    np.testing.assert_allclose(basis[:2] @ basis[2], 0, atol=1e-12)
    assert np.linalg.det(basis) > 0


@pytest.mark.parametrize(
    ("basis", "message"),
    [
        ("gimsa", "no stain basis 'gimsa'"),
        ([[1, 0, 0]], "2 or 3 rows"),
        ([[1, 0, 0], [2, 0, 0]], "must differ"),
        ([[1, 0, np.nan], [0, 1, 0]], "finite"),
        ([[0, 0, 0], [0, 1, 0]], "must differ"),
    ],
)
def test_bad_bases_are_refused(basis, message):
    with pytest.raises(ValueError, match=message):
        stain_basis(basis)
