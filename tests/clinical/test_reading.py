"""Reading cells and fields: what is cut out, and that no image depends on another."""

import numpy as np
import pandas as pd
import pytest

from hemaest import cellmap
from hemaest.clinical import FieldReader, looks_like_field
from hemaest.clinical.reading import crop_at, default_detector, found_in_field
from hemaest.datasets import make_cells, make_smear
from hemaest.recipes import make_recipe


@pytest.fixture(scope="module")
def model():
    cells = make_cells(16, classes=["lymphocyte", "neutrophil"], random_state=0)
    return make_recipe("color-logistic").fit(cells.images, cells.target)


def test_a_crop_is_centred_scaled_and_padded():
    rng = np.random.default_rng(0)
    field = rng.integers(0, 255, (40, 60, 3)).astype(np.uint8)
    cut = crop_at(field, (20, 10, 40, 30), (20, 20), 1)
    np.testing.assert_array_equal(cut, field[10:30, 20:40])
    corner = crop_at(field, (0, 0, 4, 4), (20, 20), 1)
    np.testing.assert_array_equal(corner[8:, 8:], field[:12, :12])
    assert len(np.unique(corner[:8].reshape(-1, 3), axis=0)) == 1
    assert crop_at(field, (0, 0, 60, 40), (30, 30), 2.5).shape == (30, 30, 3)


def test_a_reading_holds_what_its_map_shows(model):
    field = make_smear(420, n_cells=3, random_state=0).image
    reading = FieldReader(model).read(field)
    areas = cellmap.areas(reading.cell_map)
    assert cellmap.n_cells(reading.cell_map) == len(reading.table) == len(areas)
    assert (reading.table["nucleus_area"] <= reading.table["cell_area"]).all()
    assert reading.table["error"].eq("").all()


def test_a_field_is_read_by_itself_at_its_own_magnification(model):
    fields = [make_smear(420, n_cells=3, random_state=seed).image for seed in range(2)]
    reader = FieldReader(model, trained_size=(128, 128), trained_radius=20.0)
    alone = [reader.read(field) for field in fields]
    again = [reader.read(field) for field in reversed(fields)][::-1]
    for one, other in zip(alone, again, strict=True):
        pd.testing.assert_frame_equal(one.table, other.table)
        assert one.red_cell_radius > 0
    known = reader.read(fields[0], red_cell_radius=alone[0].red_cell_radius)
    pd.testing.assert_frame_equal(known.table, alone[0].table)


class KeepsScale:
    """Keeps the scale that it gets."""

    classes_ = np.array(["cell"])
    um_per_pixel = None

    def predict_proba(self, X, um_per_pixel=None):
        self.scale = um_per_pixel
        return np.ones((len(X), 1))

    def predict(self, X):
        return self.classes_[np.zeros(len(X), int)]


def test_a_classifier_gets_the_scale_of_the_field():
    drawn = make_smear(420, n_cells=3, micrometres_per_pixel=0.2, random_state=0)
    plain, scaled = KeepsScale(), KeepsScale()
    FieldReader(plain).read(drawn.image)
    assert plain.scale == pytest.approx(0.2, rel=0.1)
    # its cells are at the scale of the training images
    FieldReader(scaled, trained_size=(128, 128), trained_radius=20.0).read(drawn.image)
    assert scaled.scale is None


@pytest.mark.parametrize("side", [64, 128, 256])
def test_fields_and_cells_are_distinguished_at_any_size(side):
    cells = make_cells(6, image_size=side, random_state=1).images
    fields = [make_smear(side * 3, random_state=seed).image for seed in range(4)]
    assert sum(map(looks_like_field, cells)) <= 1
    assert all(map(looks_like_field, fields)) or side == 64


@pytest.mark.parametrize("scale", [0.08, 0.2])
def test_a_field_is_distinguished_from_a_crop_at_any_magnification(scale):
    """At 0.08 micrometers a pixel a field is no wider than ten red cells."""
    fields = [
        make_smear((480, 640), n_cells=2, micrometres_per_pixel=scale, random_state=i).image
        for i in range(3)
    ]
    assert [looks_like_field(image) for image in fields] == [True] * 3
    crops = make_cells(4, classes=["monocyte", "neutrophil"], random_state=0).images
    assert [looks_like_field(image) for image in crops] == [False] * 4


def test_what_was_found_in_a_field_spares_the_second_search(model):
    field = make_smear(420, n_cells=3, random_state=0).image
    reader = FieldReader(model)
    found = found_in_field(field, reader.detector)
    with_it, without = reader.read(field, found=found), reader.read(field)
    pd.testing.assert_frame_equal(with_it.table, without.table)
    assert with_it.warnings == without.warnings
    negative = reader.read(255 - field)
    quality = default_detector().quality([255 - field])
    assert "; ".join(negative.warnings) == quality["warning"].iloc[0] != ""
