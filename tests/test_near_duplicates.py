"""Copies are found however they were turned, cut and compressed; look-alikes are not joined."""

import sys
import tracemalloc

import cv2
import numpy as np
import pytest

from hemaest import _near_duplicates
from hemaest._near_duplicates import (
    COARSE_MATCH,
    ENOUGH,
    FINE,
    RADIUS,
    TURNS,
    _first_guess,
    agreement,
    coarse_match,
    connect_pairs,
    gray,
    learn_metric,
    near_duplicate_groups,
    neighbors,
    turned,
)
from hemaest._sketch import SIZE, VIEWS, raw_sketch, shrink, view
from hemaest.datasets import make_cells
from hemaest.images import to_object_array


@pytest.fixture(scope="module")
def cells():
    return make_cells(60, image_size=128, n_patients=6, random_state=0).images


def cut(image, top=0.3, left=0.8):
    return view(image, 0.9, top, left)


def jpeg(image, quality=60):
    code = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(code[1], cv2.IMREAD_COLOR)


def bright(image, factor):
    return np.clip(image * factor, 0, 255).astype(np.uint8)


COPIES = {
    "equal": lambda image: image,
    "turned": lambda image: np.rot90(image),
    "mirrored": lambda image: image[::-1],
    "cut": cut,
    "compressed": jpeg,
    "brighter": lambda image: bright(image, 1.1),
    "darker": lambda image: bright(image, 0.9),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1.0),
    "smaller": lambda image: cv2.resize(image, (90, 90), interpolation=cv2.INTER_AREA),
    "all at once": lambda image: bright(jpeg(cut(np.rot90(image[:, ::-1]))), 0.93),
}


def test_every_kind_of_copy_is_found_and_nothing_else(cells):
    images = list(cells)
    for i, copy in enumerate(COPIES.values()):
        images.append(np.ascontiguousarray(copy(cells[i])))
    groups = near_duplicate_groups(images)
    found = dict(zip(COPIES, groups[len(cells) :] == groups[: len(COPIES)], strict=True))
    assert found == dict.fromkeys(COPIES, True)
    assert len(np.unique(groups[: len(cells)])) == len(cells)


def test_another_cell_on_the_same_background_is_another_image(cells):
    y, x = np.mgrid[:128, :128] - 63.5
    for radius in (30, 40):
        inside = (np.hypot(y, x) < radius)[..., None]
        for i in range(0, 20, 2):
            changed = np.where(inside, np.rot90(cells[i + 20]), cells[i])
            a, b = gray(cells[i], FINE), gray(changed, FINE)
            assert agreement(a, b, VIEWS[0], TURNS[0], (0, 0)) < ENOUGH
            assert agreement(a, a, VIEWS[0], TURNS[0], (0, 0)) == 1


def test_sketches_do_not_move_when_turned(cells):
    for image in cells[:3]:
        small = shrink(image, SIZE)
        rows = raw_sketch([turned(small, turn) for turn in TURNS])
        np.testing.assert_allclose(rows, np.repeat(rows[:1], 8, 0), atol=2e-3)


def test_first_guess_maps_the_copy_onto_the_original(cells):
    image = gray(cells[0], FINE).astype(np.float32)
    for turn in TURNS:
        for where in (VIEWS[0], VIEWS[3]):
            part = view(image, *where)
            copy = turned(cv2.resize(part, (FINE, FINE), interpolation=cv2.INTER_LINEAR), turn)
            back = cv2.warpAffine(
                image,
                _first_guess(FINE, where, turn, (0, 0)),
                (FINE, FINE),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )
            inner = slice(8, -8)
            assert np.corrcoef(back[inner, inner].ravel(), copy[inner, inner].ravel())[0, 1] > 0.98


def test_coarse_match_names_the_turn(cells):
    small = gray(cells[1], 64)
    for turn in TURNS:
        score, found, shift = coarse_match(small, turned(small, turn), VIEWS[0])
        assert score > 0.99 > COARSE_MATCH and found == turn and shift == (0, 0)


def test_groups_are_numbered_in_order_and_need_no_texture():
    white = np.full((3, 32, 32, 3), 255, np.uint8)
    gray_image = np.full((32, 32, 3), 200, np.uint8)
    assert near_duplicate_groups([*white[:2], gray_image, white[2]]).tolist() == [0, 0, 1, 0]
    assert near_duplicate_groups(white[:1]).tolist() == [0]
    assert connect_pairs([], 3).tolist() == [0, 1, 2]


def test_threads_and_files_change_nothing(cells, tmp_path):
    from PIL import Image

    from hemaest.images import ImageRef

    images = [*cells[:12], np.ascontiguousarray(cells[3][::-1]), cells[5]]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i:02d}.png")
    files = [ImageRef(path) for path in sorted(tmp_path.iterdir())]
    alone = near_duplicate_groups(images)
    np.testing.assert_array_equal(alone, near_duplicate_groups(files, n_jobs=2))
    assert alone[12] == 3 and alone[13] == 5 and alone.max() == 11


def test_the_graph_of_large_sets_finds_the_nearest_neighbors(monkeypatch):
    pytest.importorskip("usearch.index")
    rng = np.random.default_rng(0)
    others = rng.normal(0, np.linspace(20, 3, 20), (1_000, 20)).astype(np.float32)
    points = (np.repeat(others, 3, axis=0) + rng.normal(0, 1, (3_000, 20))).astype(np.float32)
    squared = ((others[:, None].astype(float) - points) ** 2).sum(2)
    true = np.argsort(squared, axis=1)[:, :4]
    at = np.sqrt(np.take_along_axis(squared, true, axis=1))
    near = at <= RADIUS
    assert near[:, :3].all() and not near[:, 3].all()
    monkeypatch.setattr(_near_duplicates, "LARGE", 100)
    distance, nearest = neighbors(points, 4)(others)
    again, same = neighbors(points, 4, n_jobs=2)(others)
    np.testing.assert_array_equal(distance, again)
    np.testing.assert_array_equal(nearest, same)
    assert ((distance <= RADIUS) == np.isfinite(distance)).all()
    assert (nearest == true)[near].mean() > 0.99
    right = near & (nearest == true)
    np.testing.assert_allclose(distance[right], at[right], rtol=1e-3)


@pytest.mark.parametrize("installed", [True, False])
def test_large_sets_have_the_groups_of_small_ones(cells, monkeypatch, installed):
    images = [*cells, *(copy(cells[i]) for i, copy in enumerate(COPIES.values()))]
    expected = near_duplicate_groups(images)
    assert expected[len(cells) :].tolist() == list(range(len(COPIES)))
    if not installed:
        monkeypatch.setitem(sys.modules, "usearch.index", None)
    monkeypatch.setattr(_near_duplicates, "LARGE", 10)
    np.testing.assert_array_equal(near_duplicate_groups(images), expected)


def test_large_files_are_not_all_in_memory(cells, tmp_path):
    from PIL import Image

    from hemaest.images import ImageRef

    for i, cell in enumerate(cells[:30]):
        Image.fromarray(cell).resize((900, 900)).save(tmp_path / f"{i:02d}.bmp")
    files = to_object_array([ImageRef(path) for path in sorted(tmp_path.iterdir())])
    tracemalloc.start()
    learn_metric(files)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * len(files) * 900 * 900 * 3
