"""Synthetic cells: the truth they promise, and bytes that depend on the seed alone."""

import subprocess
import sys

import numpy as np
import pytest

from hemaest.datasets import iter_cells, make_cells
from hemaest.images import check_images

COMMON = ["basophil", "eosinophil", "lymphoblast", "lymphocyte", "monocyte", "neutrophil"]


@pytest.fixture(scope="module")
def cells():
    return make_cells(60, image_size=96, random_state=0)


def test_forms(cells):
    assert cells.images.shape == (60, 96, 96, 3)
    assert cells.images.dtype == cells.masks.dtype == np.uint8
    assert cells.masks.shape == (60, 96, 96)
    assert len(cells.target) == len(cells.groups) == len(cells.truth) == 60
    assert sorted(set(cells.target)) == COMMON
    with_map = np.concatenate([cells.images, cells.masks[..., None]], axis=-1)
    check_images(with_map, channels="map")


def test_truth_agrees_with_the_map(cells):
    nucleus = (cells.masks == 2).sum(axis=(1, 2))
    cell = (cells.masks > 0).sum(axis=(1, 2))
    np.testing.assert_array_equal(cells.truth.nucleus_area, nucleus)
    np.testing.assert_array_equal(cells.truth.cell_area, cell)
    np.testing.assert_array_equal(cells.truth.cytoplasm_area, cell - nucleus)
    np.testing.assert_allclose(cells.truth.nc_ratio, nucleus / cell)
    np.testing.assert_array_equal(cells.truth.patient, cells.groups)
    np.testing.assert_array_equal(cells.truth.cell_type, cells.target)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_same_seed_same_bytes(cells, n_jobs):
    again = make_cells(60, image_size=96, random_state=0, n_jobs=n_jobs)
    np.testing.assert_array_equal(again.images, cells.images)
    np.testing.assert_array_equal(again.masks, cells.masks)
    assert again.truth.equals(cells.truth)
    other = make_cells(60, image_size=96, random_state=1)
    assert (other.images != cells.images).any()


def test_batches_are_the_same_cells(cells):
    batches = list(iter_cells(60, batch_size=17, image_size=96, random_state=0))
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), cells.images)
    np.testing.assert_array_equal(np.concatenate([b.target for b in batches]), cells.target)


def test_class_weights_are_exact():
    cells = make_cells(
        20, classes=["monocyte", "basophil"], class_weights={"monocyte": 3, "basophil": 1},
        image_size=32, random_state=0,
    )  # fmt: skip
    names, counts = np.unique(cells.target, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {
        "basophil": 5,
        "monocyte": 15,
    }


def test_label_noise_and_duplicates_have_their_share():
    cells = make_cells(50, label_noise=0.2, near_duplicates=0.3, image_size=32, random_state=0)
    assert (cells.target != cells.truth.cell_type).sum() == 10
    copies = cells.truth.index[cells.truth.duplicate_of >= 0]
    assert len(copies) == 15
    originals = cells.truth.loc[cells.truth.loc[copies, "duplicate_of"]]
    assert (originals.duplicate_of == -1).all()
    assert originals.patient.tolist() == cells.truth.loc[copies, "patient"].tolist()
    assert (cells.images[copies] != cells.images[originals.index]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_where_nearly_all_are_copies_each_class_keeps_an_original(share):
    truth = make_cells(60, near_duplicates=share, image_size=16, random_state=0).truth
    originals = truth[truth.duplicate_of < 0]
    assert set(originals.cell_type) == set(truth.cell_type)
    assert set(truth.duplicate_of[truth.duplicate_of >= 0]) <= set(originals.index)
    assert len(originals) <= max(60 - round(60 * share), 0) + truth.cell_type.nunique()


def test_import_is_light():
    code = (
        "import sys; import hemaest.datasets; from hemaest.datasets import make_cells;"
        "heavy = {'torch', 'cv2', 'numba', 'matplotlib', 'xgboost'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": ["neutrofil"]}, "Did you mean 'neutrophil'"),
        ({"stain": "writ"}, "unknown stain 'writ'"),
        ({"n_samples": 0}, "n_samples must be a whole number >= 1; got 0"),
        ({"label_noise": 1.5}, "label_noise must be a number from 0 to 1"),
        ({"class_weights": [1, 2]}, "one number >= 0 for each"),
        ({"classes": ["monocyte"], "class_weights": [np.nan]}, "one number >= 0 for each"),
        ({"stain": []}, "stain names no style"),
        ({"field": (20, 30, 40)}, "a width or a pair of widths"),
        ({"field": [30, 20]}, "field must be a number from 30 to 500"),
    ],
)
def test_errors_say_what_to_do(given, message):
    with pytest.raises(ValueError, match=message):
        make_cells(**given)


def test_truth_is_of_the_cell_alone_where_a_neighbor_is_drawn_too():
    cells = make_cells(30, neighbors=1.0, random_state=0)
    both = cells.masks > 2
    assert both.any(axis=(1, 2)).mean() > 0.5
    for mask, (_, row) in zip(cells.masks, cells.truth.iterrows(), strict=True):
        assert row["nucleus_area"] == (mask == 2).sum()
        assert row["cytoplasm_area"] == (mask == 1).sum()
