import numpy as np
import pytest
from PIL import Image
from stained import draw_stained

from hemaest._color import from_optical_density, optical_density, stain_basis
from hemaest.images import ImageRef, to_object_array
from hemaest.stain import StainAugmenter


@pytest.fixture(scope="module")
def cells():
    return np.stack([draw_stained(i) for i in range(4)])


def test_the_documented_model_gives_the_same_pixels(cells):
    augmenter = StainAugmenter(random_state=0)
    matrices, offsets = augmenter.draw(len(cells))
    densities = optical_density(cells).astype(float)
    changed = np.einsum("nij,nhwj->nhwi", matrices, densities) + offsets[:, None, None]
    difference = from_optical_density(changed).astype(int) - augmenter.augment(cells)
    assert np.abs(difference).max() <= 1


def test_strength_zero_changes_nothing_and_more_changes_more(cells):
    shifts = [
        np.abs(
            StainAugmenter(strength=s, random_state=3).augment(cells) - cells.astype(float)
        ).mean()
        for s in (0, 0.5, 1, 2)
    ]
    assert shifts[0] == 0
    assert shifts[1] < shifts[2] < shifts[3]


def test_white_stays_white_without_background_jitter():
    white = np.full((3, 4, 4, 3), 255, np.uint8)
    augmenter = StainAugmenter(background=0, strength=3, random_state=1)
    np.testing.assert_array_equal(augmenter.augment(white), white)


def test_gains_are_those_of_the_stains():
    """A change of concentration alone takes each pure stain to a multiple of itself."""
    augmenter = StainAugmenter(basis_angle=0, background=0, random_state=0)
    basis = stain_basis("giemsa")
    for matrix in augmenter.draw(5)[0]:
        for k in range(3):
            moved = matrix @ basis[k]
            gain = float(moved @ basis[k])
            np.testing.assert_allclose(moved, gain * basis[k], atol=1e-5)
            assert np.exp(-0.3) - 1e-5 <= gain <= np.exp(0.3) + 1e-5
        np.testing.assert_allclose(matrix @ basis[2], basis[2], atol=1e-5)


def test_seed_place_and_form_decide(cells):
    augmenter = StainAugmenter(random_state=5)
    once = augmenter.augment(cells)
    np.testing.assert_array_equal(once, augmenter.augment(cells))
    np.testing.assert_array_equal(once[:2], augmenter.augment(cells[:2]))
    assert not np.array_equal(once, augmenter.augment(cells, random_state=6))
    assert not np.array_equal(once[0], augmenter.augment(cells[[1, 0]])[1])
    for one, other in zip(augmenter.augment(to_object_array(list(cells))), once, strict=True):
        np.testing.assert_array_equal(one, other)


def test_fit_resample_adds_marked_copies(cells):
    y = np.array(["a", "b", "a", "b"])
    augmenter = StainAugmenter(n_copies=2, random_state=0)
    X_new, y_new = augmenter.fit_resample(cells, y)
    assert X_new.shape == (12, *cells.shape[1:])
    np.testing.assert_array_equal(X_new[:4], cells)
    np.testing.assert_array_equal(augmenter.sample_indices_, np.tile(np.arange(4), 3))
    np.testing.assert_array_equal(y_new, np.tile(y, 3))
    assert not np.array_equal(X_new[4:8], X_new[8:])
    assert not hasattr(augmenter, "transform")
    with pytest.raises(ValueError, match="3 labels"):
        augmenter.fit_resample(cells, y[:3])
    with pytest.raises(ValueError, match="the target y is None"):
        augmenter.fit_resample(cells, None)


def test_files_stay_files_beside_their_copies(cells, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(cells))]
    for path, image in zip(paths, cells, strict=True):
        Image.fromarray(image).save(path)
    augmenter = StainAugmenter(random_state=0)
    X_new, _ = augmenter.fit_resample(paths, list("abab"))
    assert X_new[:4].tolist() == [ImageRef(path) for path in paths]
    for one, other in zip(X_new[4:], augmenter.augment(cells), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_cell_map_is_copied(cells):
    labels = np.zeros((4, 64, 64, 1), np.uint8)
    labels[:, 10:20, 10:20] = 1
    result = StainAugmenter(random_state=0).augment(np.concatenate([cells, labels], axis=-1))
    np.testing.assert_array_equal(result[..., 3:], labels)
    np.testing.assert_array_equal(result[..., :3], StainAugmenter(random_state=0).augment(cells))


def test_one_pixel():
    assert StainAugmenter(random_state=0).augment(np.zeros((1, 1, 1, 3), np.uint8)).shape
