"""The network: what ships, what it learns from masks, what is refused."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from hemaest.datasets import make_cells, make_smear
from hemaest.segmentation import CellSegmenter


@pytest.fixture(scope="module")
def cells():
    return make_cells(24, stain="mixed", n_labs=6, image_size=96, random_state=3)


def test_the_default_finds_synthetic_cells_of_all_stains(cells):
    both = CellSegmenter().fit(cells.images)
    voters = CellSegmenter(method="voters").fit(cells.images)
    assert both.method_ == "both"
    score = both.score(cells.images, cells.masks)
    assert score > 0.9
    assert score > voters.score(cells.images, cells.masks)


def test_quality_follows_truth(cells):
    segmenter = CellSegmenter().fit(cells.images)
    dice = np.array(
        [
            segmenter.score([image], [mask])
            for image, mask in zip(cells.images, cells.masks, strict=True)
        ]
    )
    agreement = segmenter.quality(cells.images)["agreement"].to_numpy()
    assert np.corrcoef(dice, agreement)[0, 1] > 0.1


@pytest.mark.slow
def test_masks_train_it(cells):
    """Another convention of what is nucleus (all of the cell) is taken on."""
    masks = np.where((cells.masks > 0) & (cells.masks < 3), 2, 0).astype(np.uint8)
    segmenter = CellSegmenter(max_epochs=12, random_state=0)
    before = segmenter.fit(cells.images).score(cells.images, masks)
    segmenter.fit(cells.images, masks=masks)
    assert segmenter.method_ == "both"
    after = segmenter.score(cells.images, masks)
    assert after > before + 0.03
    # the voters mean something else by nucleus, and so are not heard
    alone = CellSegmenter(method="network", max_epochs=12, random_state=0)
    assert alone.fit(cells.images, masks=masks).method_ == "network"
    assert after > alone.score(cells.images, masks) - 0.01


@pytest.mark.slow
def test_masks_of_fields_train_it():
    """Another convention of what is nucleus (all of the cell) is taken on, red cells are kept."""
    fields = [make_smear(300, n_cells=4, random_state=seed) for seed in range(3)]
    X = [f.image for f in fields]
    masks = [np.where(f.cell_map > 0, f.cell_map + f.cell_map % 2, 0) for f in fields]
    segmenter = CellSegmenter("all", max_epochs=50, random_state=0)
    before = segmenter.fit(X).score(X, masks=masks)
    fitted = segmenter.fit(X, masks=masks)
    assert fitted.method_ == "network"
    assert fitted.score(X, masks=masks) > before + 0.03
    again = clone(fitted).fit(X, masks=masks)
    for one, two in zip(fitted.predict(X), again.predict(X), strict=True):
        np.testing.assert_array_equal(one, two)
    empty = make_smear(300, n_cells=0, random_state=5).image
    assert (fitted.predict([empty])[0] > 0).mean() < 0.02


@pytest.mark.slow
def test_same_seed_same_maps_and_pickle(cells):
    X, masks = cells.images[:4], np.where(cells.masks[:4] > 2, 0, cells.masks[:4])
    one = CellSegmenter(max_epochs=1, random_state=0).fit(X, masks=masks)
    two = clone(one).fit(X, masks=list(masks))
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    again = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(one.predict_proba(X), again.predict_proba(X))


def test_training_leaves_the_shipped_network_alone(cells):
    X, masks = cells.images[:4], np.where(cells.masks[:4] > 2, 0, cells.masks[:4])
    default = CellSegmenter(method="network").fit(X)
    before = default.predict_proba(X)
    CellSegmenter(max_epochs=1).fit(X, masks=masks)
    np.testing.assert_array_equal(default.predict_proba(X), before)


def test_frozen_in_a_pipeline(cells):
    X, masks = cells.images[:4], np.where(cells.masks[:4] > 2, 0, cells.masks[:4])
    fitted = CellSegmenter(max_epochs=1, random_state=0).fit(X, masks=masks)
    pipeline = make_pipeline(FrozenEstimator(fitted)).fit(X)
    np.testing.assert_array_equal(pipeline.transform(X), fitted.transform(X))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((2, 96, 96), np.uint8), "2 items, X has 3"),
        (np.zeros((3, 90, 96), np.uint8), r"masks\[0\] has shape"),
        (np.zeros((3, 96, 96)), "float64"),
        (np.full((3, 96, 96), 255, np.uint8), "255"),
        (np.ones((3, 96, 96), np.uint8), "no nucleus"),
    ],
)
def test_wrong_masks_are_refused(cells, masks, message):
    with pytest.raises(ValueError, match=message):
        CellSegmenter().fit(cells.images[:3], masks=masks)
    if masks.max() != 1:  # an image without a nucleus has a score
        with pytest.raises(ValueError, match=message):
            CellSegmenter().fit(cells.images).score(cells.images[:3], masks=masks)


def test_a_refused_fit_leaves_what_was_learned(cells):
    X, masks = cells.images[:4], np.where(cells.masks[:4] > 2, 0, cells.masks[:4])
    segmenter = CellSegmenter(max_epochs=1, random_state=0).fit(X, masks=masks)
    before = segmenter.predict_proba(X)
    with pytest.raises(ValueError, match="3 items"):
        segmenter.fit(X, masks=masks[:3])
    np.testing.assert_array_equal(segmenter.predict_proba(X), before)


def test_voters_learn_nothing(cells):
    with pytest.raises(ValueError, match="voters"):
        CellSegmenter(method="voters").fit(cells.images, masks=cells.masks)
    with pytest.raises(ValueError, match="is for single cells"):
        CellSegmenter("all", method="voters").fit(cells.images)


def test_nuclear_share_end_to_end():
    """The ratio of nucleus to cell of segmented cells follows the truth."""
    cells = make_cells(40, random_state=21)
    table = CellSegmenter().fit(cells.images).quality(cells.images)
    assert np.corrcoef(table["nc_ratio"], cells.truth["nc_ratio"])[0, 1] > 0.95
