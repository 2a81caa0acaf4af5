"""The shipped classifier of cells: loading, two looks, any framing, files for other programs."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from hemaest.clinical import CellTaxonomy
from hemaest.datasets import make_cells, make_smear
from hemaest.datasets.unrelated import draw_unrelated
from hemaest.images import to_object_array
from hemaest.nets.cellnet import NUCLEUS
from hemaest.pretrained import list_pretrained, load_pretrained
from hemaest.pretrained.cells import SIZE, letterbox, middle_box
from hemaest.segmentation import SmearDetector


@pytest.fixture(scope="module")
def model():
    return load_pretrained("blood-cells")


@pytest.fixture(scope="module")
def cells():
    return make_cells(18, image_size=96, random_state=3)


def test_its_types_are_those_of_the_taxonomy(model):
    blood = CellTaxonomy.blood()
    assert len(model.classes_) >= 15
    assert all(blood.resolve(name) == name for name in model.classes_)
    assert sorted(model.card_.classes) == list(model.classes_)


def test_probabilities_are_those_of_the_answers(model, cells):
    p = model.predict_proba(cells.images)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_array_equal(model.predict(cells.images), model.classes_[p.argmax(axis=1)])


def test_common_types_of_rendered_cells_are_distinguished(model):
    names = {"eosinophil": "eosinophil", "lymphocyte": "lymphocyte", "monocyte": "monocyte",
             "neutrophil": "segmented neutrophil"}  # fmt: skip
    drawn = make_cells(80, classes=list(names), image_size=128, random_state=11)
    found = model.predict_proba(drawn.images)[
        :, np.searchsorted(model.classes_, list(names.values()))
    ]
    right = np.array(list(names))[found.argmax(axis=1)] == drawn.target
    # four types: chance has 0.25, and 0.6 is more than 7 standard errors above it
    assert right.mean() > 0.6


def test_an_answer_depends_on_nothing_else_in_the_call(model, cells):
    whole = model.predict_proba(cells.images)
    alone = np.vstack([model.predict_proba(cells.images[[k]]) for k in range(len(whole))])
    np.testing.assert_allclose(whole, alone, atol=1e-4)
    threads = load_pretrained("blood-cells").set_params(batch_size=4, n_jobs=2)
    np.testing.assert_allclose(whole, threads.predict_proba(cells.images), atol=1e-4)


def test_no_side_of_a_film_is_up(model, cells):
    turned = np.rot90(cells.images, 1, (1, 2))
    first, again = (model.look(X, um_per_pixel=0.15)[0] for X in (cells.images, turned))
    np.testing.assert_allclose(first.logits, again.logits, atol=1e-4)
    np.testing.assert_allclose(first.embedding, again.embedding, atol=1e-4)


def test_one_look_says_what_three_methods_say(model, cells):
    seen = model.assess(cells.images)
    np.testing.assert_array_equal(seen.labels, model.predict(cells.images))
    np.testing.assert_allclose(seen.probabilities, model.predict_proba(cells.images), atol=1e-6)
    np.testing.assert_allclose(seen.familiar, model.score_samples(cells.images), atol=1e-5)


def test_the_scale_may_be_given_to_the_model_or_with_the_images(model, cells):
    scaled = load_pretrained("blood-cells").set_params(um_per_pixel=0.15)
    probabilities = model.predict_proba(cells.images, um_per_pixel=0.15)
    np.testing.assert_array_equal(scaled.predict_proba(cells.images), probabilities)
    # what the model was made with is obeyed
    np.testing.assert_array_equal(
        scaled.predict_proba(cells.images, um_per_pixel=0.3), probabilities
    )


def test_lamp_and_gain_hardly_matter(model, cells):
    dim = np.clip(cells.images * np.array([0.8, 0.7, 0.6]) + 10, 0, 255).astype(np.uint8)
    agree = model.predict(dim) == model.predict(cells.images)
    assert agree.mean() > 0.8


def test_sizes_may_differ_and_a_map_is_not_looked_at(model, cells):
    ragged = to_object_array([cells.images[0][:, :70], cells.images[1][:50]])
    assert model.predict(ragged).shape == (2,)
    mapped = np.concatenate([cells.images, cells.masks[..., None]], axis=3)
    np.testing.assert_array_equal(model.predict_proba(mapped), model.predict_proba(cells.images))


def test_a_pickle_needs_no_file_and_a_clone_is_unfitted(model, cells):
    back = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(back.transform(cells.images), model.transform(cells.images))
    assert not hasattr(clone(model), "classes_")
    assert len(model.get_feature_names_out()) == model.transform(cells.images[:1]).shape[1]


def test_what_shows_no_film_is_unfamiliar(model, cells):
    rng = np.random.default_rng(5)
    other = np.stack([draw_unrelated(96, rng) for _ in range(40)])
    assert (model.score_samples(cells.images) > 0).mean() > 0.9
    assert (model.score_samples(other) < 0).mean() > 0.9


def test_the_second_look_finds_the_cell_in_the_middle(model):
    drawn = make_cells(10, classes=["neutrophil"], image_size=96, random_state=2)
    boxes = model.look(drawn.images)[0].box
    ratios = []
    for box, mask in zip(boxes, drawn.masks, strict=True):
        rows, columns = np.nonzero(mask)
        x0, y0, x1, y1 = box * 96
        inside = (x0 - 3 <= columns) & (columns <= x1 + 3) & (y0 - 3 <= rows) & (rows <= y1 + 3)
        ratios.append(inside.mean())
    assert np.median(ratios) > 0.9


def test_the_box_is_that_of_the_part_nearest_the_middle():
    cell = np.zeros((24, 24), np.float32)
    cell[10:14, 9:15] = 1
    cell[0:5, 0:4] = 1
    x0, y0, x1, y1 = middle_box(cell) * 24
    assert (x0 + x1) / 2 == pytest.approx(12) and (y0 + y1) / 2 == pytest.approx(12)
    assert x1 - x0 == pytest.approx(1.3 * 6)
    np.testing.assert_array_equal(middle_box(np.zeros((24, 24), np.float32)), [0, 0, 1, 1])


def test_a_letterbox_keeps_the_shape_of_a_cell():
    image = np.full((40, 80, 3), 200, np.uint8)
    image[10:30, 30:50] = 0
    square = letterbox(image, None)
    rows, columns = np.nonzero(square[..., 0] < 100)
    assert square.shape == (SIZE, SIZE, 3)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 1
    # the box of the dark part, in shares of the square around the image
    closer = letterbox(image, np.array([30 / 80, 30 / 80, 50 / 80, 50 / 80]))
    assert (closer < 100).mean() > 0.9


@pytest.mark.slow
def test_an_onnx_file_gives_the_same_numbers(model, cells, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    path = model.to_onnx(tmp_path / "cells.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.stack([letterbox(image, None) for image in cells.images])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32) / 255
    turned = [np.rot90(x, k, (2, 3)) for k in range(4)]  # a look of the model is their mean
    width = np.array([0.1 * max(image.shape) for image in cells.images], np.float32)
    answers = [
        session.run(None, {"image": np.ascontiguousarray(one), "width": width})[:2]
        for one in turned
    ]
    logits, embedding = (np.mean(part, axis=0) for part in zip(*answers, strict=True))
    model = copy.copy(model).set_params(um_per_pixel=0.1)
    first, _ = model.look(cells.images)
    np.testing.assert_allclose(logits, first.logits[:, model._order], atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(embedding, first.embedding, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="end in .onnx"):
        model.to_onnx(tmp_path / "cells.bin")


def test_the_list_names_every_model_that_loads():
    models = list_pretrained()
    assert "blood-cells" in models.index and (models.megabytes <= 2).all()
    with pytest.raises(ValueError, match="Did you mean 'blood-cells'"):
        load_pretrained("blood-cell")


def test_the_detector_that_ships_is_the_default_one():
    smear = make_smear(256, n_cells=2, random_state=0)
    fields = smear.image[None]
    shipped = load_pretrained("blood-fields")
    assert shipped.card_.name == "blood-fields"
    np.testing.assert_array_equal(
        shipped.predict(fields)[0], SmearDetector().fit(fields).predict(fields)[0]
    )


def test_cells_of_one_microscope_change_the_network_and_not_its_types(model, cells):
    own = model.adapt_batchnorm(cells.images)
    before, after = model.predict_proba(cells.images), own.predict_proba(cells.images)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_array_equal(own.classes_, model.classes_)
    np.testing.assert_array_equal(before, model.predict_proba(cells.images))  # it is a copy
    kept = pickle.loads(pickle.dumps(own))
    np.testing.assert_allclose(kept.predict_proba(cells.images), after, atol=5e-3)  # float16
    # statistics do not depend on the order of the images
    again = model.adapt_batchnorm(cells.images[::-1]).predict_proba(cells.images)
    np.testing.assert_allclose(again, after, atol=2e-3)


def test_no_image_of_a_microscope_counts_for_many(model, cells):
    images = cells.images.copy()
    images[-1] = np.random.default_rng(0).integers(0, 256, images[-1].shape)
    # one more than a batch holds: in a batch of its own the noise would count for half
    sides = [
        load_pretrained("blood-cells").set_params(batch_size=n).adapt_batchnorm(images)
        for n in (17, 18)
    ]
    one, other = (own.predict_proba(images[:-1]) for own in sides)
    assert np.abs(one - other).max() < 0.06


def test_a_laboratory_of_its_own_is_known_better_after_its_cells_were_seen(model):
    names = {"eosinophil": "eosinophil", "lymphocyte": "lymphocyte", "monocyte": "monocyte",
             "neutrophil": "segmented neutrophil"}  # fmt: skip
    columns = np.searchsorted(model.classes_, list(names.values()))
    gains = []
    for seed in range(4):
        drawn = make_cells(64, classes=list(names), image_size=96, lab_effect=3, random_state=seed)
        # a camera that mixes colors: far from what the network was trained with
        mixed = drawn.images @ np.array([[0.5, 0.1, 0.4], [0.3, 0.6, 0.1], [0.1, 0.4, 0.5]])
        images = np.clip(mixed, 0, 255).astype(np.uint8)
        truth = np.searchsorted(list(names), drawn.target)
        likely = []
        for one in (model, model.adapt_batchnorm(images)):
            odds = one.predict_proba(images)[:, columns]
            odds /= odds.sum(axis=1, keepdims=True)
            likely.append(np.log(odds[np.arange(len(truth)), truth]).mean())
        gains.append(likely[1] - likely[0])
    assert min(gains) > 0


def test_the_closer_look_has_glass_that_is_white_and_a_violet_nucleus(model):
    drawn = make_cells(12, classes=["lymphocyte"], image_size=96, random_state=2)
    yellow = (drawn.images * np.array([1.0, 0.9, 0.5])).astype(np.uint8)
    closer = model.squares(yellow)[1].astype(float)
    assert np.median(np.percentile(closer, 95, axis=(1, 2))) > 245
    middle = closer[:, 40:56, 40:56].mean((1, 2))
    aim = 255 * np.exp(-np.array(NUCLEUS))
    np.testing.assert_allclose(np.median(middle, axis=0), aim, atol=25)
