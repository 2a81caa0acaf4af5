"""CropToCell and MaskBackground against plain descriptions of what they do."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from square_cell import square_cell

from hemaest.images import to_object_array
from hemaest.preprocessing import CropToCell, MaskBackground


def test_the_crop_holds_the_whole_cell_in_the_middle():
    image = square_cell(100, 120, 40, 50, 20)
    crop = CropToCell(margin=0.25).fit_transform(image[None])[0]
    assert crop.shape == (30, 30, 4)
    np.testing.assert_array_equal(crop[5:25, 5:25], image[40:60, 50:70])


def test_the_crop_stays_inside_the_image():
    image = square_cell(50, 40, 0, 25, 15)
    crop = CropToCell(margin=0.2).fit_transform(image[None])[0]
    assert crop.shape == (21, 21, 4)
    assert (crop[..., 3] > 0).sum() == 15 * 15
    whole = CropToCell(margin=9).fit_transform(image[None])[0]
    np.testing.assert_array_equal(whole, image)


def test_of_several_cells_the_central_one_is_taken():
    image = square_cell(100, 100, 45, 45, 10)
    image[0:10, 0:10, 3] = 3
    assert CropToCell(margin=0).fit_transform(image[None])[0].shape == (10, 10, 4)


def test_without_a_cell_nothing_is_cut_or_painted():
    image = np.dstack([np.full((9, 9, 3), 90, np.uint8), np.zeros((9, 9), np.uint8)])
    for step in (CropToCell(), MaskBackground()):
        np.testing.assert_array_equal(step.fit_transform(image[None])[0], image)


def test_a_common_square_leaves_every_cell_its_size(rng):
    sides = rng.integers(8, 30, 40)
    X = np.stack([square_cell(90, 100, 31, 42, side) for side in sides])
    crop = CropToCell(margin=0.1, side="common").fit(X)
    own = [image.shape[0] for image in CropToCell(margin=0.1).fit_transform(to_object_array(X))]
    assert crop.side_ == np.ceil(np.quantile(own, 0.95))
    cut = crop.transform(X)
    assert cut.shape == (40, crop.side_, crop.side_, 4)
    room = sides <= crop.side_
    np.testing.assert_array_equal((cut[room][..., 3] > 0).sum((1, 2)), sides[room] ** 2)


def test_a_common_square_is_learned_once_and_cuts_what_is_larger():
    small, large = square_cell(60, 60, 20, 20, 10), square_cell(60, 60, 10, 10, 40)
    crop = CropToCell(margin=0, side="common")
    with pytest.raises(NotFittedError):
        crop.transform(small[None])
    crop.fit(small[None])
    np.testing.assert_array_equal(crop.transform(large[None])[0], large[25:35, 25:35])
    blank = small * np.uint8([1, 1, 1, 0])
    np.testing.assert_array_equal(crop.transform(blank[None])[0], blank[25:35, 25:35])


def test_a_common_square_moves_inside_and_is_filled_where_the_image_ends():
    corner = square_cell(60, 60, 0, 50, 10)
    tiny = square_cell(14, 12, 2, 1, 10)
    crop = CropToCell(margin=0.5, side="common").fit(corner[None])
    moved, filled = crop.transform([corner, tiny])
    np.testing.assert_array_equal(moved, corner[:20, 40:])
    np.testing.assert_array_equal(filled[3:17, 4:16], tiny)
    outside = np.ones((20, 20), bool)
    outside[3:17, 4:16] = False
    assert (filled[outside] == (200, 200, 200, 0)).all()


def test_a_common_side_needs_a_fit_of_its_own():
    """A common side is learned in fit: ``set_params`` after another fit does not provide it."""
    image = square_cell(60, 60, 10, 10, 20)
    crop = CropToCell(margin=0).fit(image[None]).set_params(side="common")
    with pytest.raises(NotFittedError):
        crop.transform(image[None])
    assert crop.fit(image[None]).transform(image[None]).shape == (1, 20, 20, 4)
    crop.set_params(side="cell").fit(image[None]).set_params(side="common")
    with pytest.raises(NotFittedError):  # the side of the fit before the last is gone
        crop.transform(image[None])


def test_where_no_training_image_holds_a_cell_none_is_cut():
    blank = square_cell(30, 40, 0, 0, 1) * np.uint8([1, 1, 1, 0])
    crop = CropToCell(side="common").fit(blank[None])
    assert crop.side_ is None
    cell = square_cell(30, 40, 10, 10, 8)
    np.testing.assert_array_equal(crop.transform(cell[None])[0], cell)


@pytest.mark.parametrize(("keep", "seen"), [("cell", {1, 2}), ("nucleus", {2}), ("cytoplasm", {1})])
def test_only_what_is_kept_shows(keep, seen):
    image = square_cell(40, 40, 10, 10, 16)
    result = MaskBackground(keep=keep).fit_transform(image[None])[0]
    kept = np.isin(image[..., 3], list(seen))
    np.testing.assert_array_equal(result[kept], image[kept])
    assert (result[~kept][:, :3] == 255).all()
    np.testing.assert_array_equal(result[..., 3], image[..., 3])
    plasma = MaskBackground(keep=keep, fill="border").fit_transform(image[None])[0]
    assert (plasma[~kept][:, :3] == 200).all()


def test_ragged_in_ragged_out(mapped_cells):
    X = mapped_cells[0][:3]
    assert CropToCell().fit_transform(to_object_array(list(X))).dtype == object
    assert MaskBackground().fit_transform(X).shape == X.shape
