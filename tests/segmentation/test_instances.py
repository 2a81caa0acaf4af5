"""Parts of a mask that lie far apart are split each for itself, and as if they were not."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from hemaest.segmentation._field import _grown
from hemaest.segmentation._instances import _split_island, islands, split_by_depth


@pytest.fixture(scope="module")
def scene():
    """Discs at random places, some of which touch; depth from 0 at the edge to 1 in the middle."""
    rng = np.random.default_rng(0)
    depth = np.zeros((300, 400), np.float32)
    y, x = np.mgrid[:300, :400]
    for _ in range(60):
        row, column, radius = rng.uniform(0, 300), rng.uniform(0, 400), rng.uniform(4, 16)
        depth = np.maximum(depth, 1 - np.hypot(y - row, x - column) / radius)
    return (depth > 0.1), depth.clip(0).astype(np.float32)


def partition(labels):
    """Return the objects as sets of pixels."""
    return {tuple(np.flatnonzero(labels == k)) for k in np.unique(labels[labels > 0])}


def test_islands_are_split_as_the_whole_mask_is(scene):
    mask, depth = scene
    labels = split_by_depth(mask, depth, apart=8)
    assert len(list(islands(mask, 8))) > 3
    assert partition(labels) == partition(_split_island(mask, depth, 8))
    assert ((labels > 0) == mask).all()


def test_small_islands_may_be_left_out(scene):
    mask, depth = scene
    labels = split_by_depth(mask, depth, apart=8, least=400)
    for window, own in islands(mask, 8):
        assert (labels[window][own] > 0).all() == (own.sum() >= 400)


def test_islands_part_the_mask(scene):
    mask, _ = scene
    seen = np.zeros(mask.shape, int)
    for window, own in islands(mask, 3):
        seen[window] += own
    np.testing.assert_array_equal(seen, mask)


def test_labels_grow_to_the_nearest(scene):
    mask, depth = scene
    labels = split_by_depth(mask, depth, apart=8).astype(np.uint16)
    distance = distance_transform_edt(labels == 0)
    near = distance <= 2
    grown = _grown(labels)
    assert (grown[~near] == 0).all()
    # of two labels that are equally near either may be taken
    as_near = [
        distance_transform_edt(labels != k)[near & (grown == k)] for k in np.unique(grown[near])
    ]
    own = [distance[near & (grown == k)] for k in np.unique(grown[near])]
    np.testing.assert_allclose(np.concatenate(as_near), np.concatenate(own))
    assert (grown[labels > 0] == labels[labels > 0]).all()
    assert cv2.countNonZero(grown) > cv2.countNonZero(labels)
