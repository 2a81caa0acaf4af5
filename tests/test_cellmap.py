"""The coding of cell maps: a plain reference, inverses and widths."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hemaest import cellmap


@pytest.fixture
def numbers_and_nuclei():
    rng = np.random.default_rng(0)
    return rng.integers(0, 6, (30, 40)), rng.random((30, 40)) < 0.4


def test_the_coding_is_that_of_the_documentation(numbers_and_nuclei):
    numbers, inner = numbers_and_nuclei
    labels = cellmap.encode(numbers, inner)
    for (y, x), k in np.ndenumerate(numbers):
        expected = 0 if k == 0 else 2 * k if inner[y, x] else 2 * k - 1
        assert labels[y, x] == expected


def test_decoding_is_the_inverse_of_encoding(numbers_and_nuclei):
    numbers, inner = numbers_and_nuclei
    labels = cellmap.encode(numbers, inner)
    assert_array_equal(cellmap.cells(labels), numbers)
    assert_array_equal(cellmap.nuclei(labels), inner & (numbers > 0))
    assert_array_equal(cellmap.cytoplasm(labels), ~inner & (numbers > 0))
    assert_array_equal(cellmap.encode(cellmap.cells(labels), cellmap.nuclei(labels)), labels)


@pytest.mark.parametrize(
    ("n", "kind"),
    [(127, np.uint8), (128, np.uint16), (32_767, np.uint16), (32_768, np.uint32)],
)
def test_a_map_is_as_wide_as_its_cells_need(n, kind):
    numbers = np.arange(n + 1).reshape(1, -1)
    labels = cellmap.encode(numbers, numbers % 3 == 0)
    assert labels.dtype == kind
    assert_array_equal(cellmap.cells(labels), numbers)
    assert cellmap.n_cells(labels) == n


def test_cells_at_the_end_of_8_bits():
    labels = np.array([[253, 254]], np.uint8)
    assert_array_equal(cellmap.cells(labels), [[127, 127]])
    assert cellmap.codes(cellmap.MAX_CELLS) == (253, 254)


def test_select_takes_one_cell(numbers_and_nuclei):
    numbers, inner = numbers_and_nuclei
    labels = cellmap.encode(numbers, inner)
    one = cellmap.select(labels, 3)
    assert one.dtype == np.uint8
    assert_array_equal(one, cellmap.encode(numbers == 3, inner))
    assert not cellmap.select(labels, 9).any()
    assert not cellmap.select(labels, 0).any()
    wide = labels.astype(np.uint16) + np.where(labels > 0, 2 * 200, 0).astype(np.uint16)
    assert_array_equal(cellmap.select(wide, 203), one)


def test_areas_count_pixels(numbers_and_nuclei):
    numbers, inner = numbers_and_nuclei
    numbers = np.where(numbers == 2, 0, numbers)  # a number may be missing
    table = cellmap.areas(cellmap.encode(numbers, inner))
    assert table.index.tolist() == [1, 3, 4, 5]
    for k, row in table.iterrows():
        assert row["nucleus_area"] == ((numbers == k) & inner).sum()
        assert row["cytoplasm_area"] == ((numbers == k) & ~inner).sum()
        assert row["cell_area"] == (numbers == k).sum()
    assert cellmap.areas(np.zeros((3, 3), np.uint8)).empty
    assert cellmap.n_cells(np.zeros((0, 3), np.uint8)) == 0


def test_a_stack_of_maps_is_decoded_at_once():
    stack = np.array([[[0, 1, 2]], [[4, 3, 0]]], np.uint8)
    assert_array_equal(cellmap.nuclei(stack).sum(axis=(1, 2)), [1, 1])


def test_first_cells_leaves_out_what_8_bits_do_not_hold():
    labels = cellmap.encode(np.arange(300)[None], np.ones((1, 300), bool))
    kept = cellmap.first_cells(labels)
    assert kept.dtype == np.uint8 and cellmap.n_cells(kept) == 127
    assert_array_equal(kept[:, :128], labels[:, :128])


@pytest.mark.parametrize(
    ("cells", "nuclei", "message"),
    [
        ([0, 1], [True], "shape of the image"),
        ([0, -1], [True, False], "integers from 0"),
        ([0.0, 1.0], [True, False], "integers from 0"),
        ([0, 1], [0, 1], "must be a mask"),
    ],
)
def test_encode_refuses_what_it_would_misread(cells, nuclei, message):
    with pytest.raises(ValueError, match=message):
        cellmap.encode(np.array(cells), np.array(nuclei))


def test_check_takes_maps_of_any_integer_type():
    for labels in (np.array([[0, 1]], bool), np.array([[0, 300]], np.int64)):
        checked = cellmap.check(labels)
        assert checked.dtype.kind == "u"
        assert_array_equal(checked, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, -1]], "from -1 to 0"),
        ([[0.0, 1.0]], "holds integers"),
        ([[0, 255]], "looks like alpha"),
        ([[0, 1, 2]], r"truth has shape \(1, 3\), its image \(1, 2\)"),
    ],
)
def test_check_names_what_is_wrong(labels, message):
    with pytest.raises(ValueError, match=message):
        cellmap.check(np.array(labels), shape=(1, 2), name="truth")
