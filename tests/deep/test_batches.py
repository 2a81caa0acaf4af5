import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from hemaest.deep.batches import LetterboxedImages, ordered, prefetch, shuffled
from hemaest.deep.letterbox import letterbox, placement
from hemaest.images import ImageRef, to_object_array


def test_an_epoch_holds_each_image_once():
    for n, size in ((40, 8), (45, 8), (3, 8), (17, 16)):
        rows = np.concatenate(shuffled(n, size, np.random.default_rng(0)))
        assert len(set(rows.tolist())) == len(rows)
        assert n - len(rows) < size / 2
    assert all(len(b) > 1 for b in shuffled(3, 2, np.random.default_rng(0)))


def test_each_epoch_has_another_order():
    first, second = (shuffled(32, 8, np.random.default_rng([0, e])) for e in (0, 1))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("room", [0, 5, 100])
def test_batches_come_in_order_whoever_made_them(workers, room, monkeypatch):
    monkeypatch.setattr("hemaest.deep.batches.CACHE_BYTES", room * 16 * 16 * 3)
    rng = np.random.default_rng(0)
    X = to_object_array([rng.integers(0, 255, (20, 9 + i, 3)).astype(np.uint8) for i in range(11)])
    squares = LetterboxedImages(X, 16, cache=True)
    for _ in range(2):  # the second time from the disk
        seen = list(prefetch(squares, ordered(11, 4), workers=workers))
        assert np.concatenate([rows for rows, _ in seen]).tolist() == list(range(11))
        expected = np.stack([letterbox(image, 16) for image in X])
        assert np.array_equal(torch.cat([images for _, images in seen]).numpy(), expected)
    assert sum(squares.cache.known) == min(room, 11)


def test_a_full_disk_only_costs_time(monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    X = to_object_array([np.full((9, 9, 3), 7, np.uint8)] * 3)
    squares = LetterboxedImages(X, 16, cache=True)
    for _ in range(2):
        assert (squares.take(np.arange(3)) == 7).all()
    assert not squares.cache.known


def test_a_broken_file_names_itself(tmp_path):
    for i in range(4):
        Image.new("RGB", (20, 20), (9 * i, 0, 0)).save(tmp_path / f"{i}.png")
    X = to_object_array([ImageRef(tmp_path / f"{i}.png") for i in range(4)])
    (tmp_path / "2.png").write_bytes(b"broken, and of another size")
    with pytest.raises(ValueError, match=r"2\.png"):
        list(prefetch(LetterboxedImages(X, 16), ordered(4, 2)))


class Counted(LetterboxedImages):
    """LetterboxedImages that know how many of the batches they made are still in memory."""

    alive = most = 0

    def take(self, rows):
        batch = super().take(rows)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(batch, self._gone)
        return batch

    def _gone(self):
        self.alive -= 1


@pytest.mark.parametrize("n", [40, 400])
def test_memory_does_not_grow_with_the_number_of_files(tmp_path, n):
    Image.new("RGB", (20, 20), (200, 100, 50)).save(tmp_path / "0.png")
    squares = Counted(to_object_array([ImageRef(tmp_path / "0.png")] * n), 16, cache=True)
    for _ in prefetch(squares, ordered(n, 4), workers=2):
        pass
    # one in use, one just made for each place in the queue
    assert squares.most <= 2 + 3
    assert sum(squares.cache.known) == n


def test_the_placement_is_where_the_image_lies():
    image = np.full((30, 60, 3), 10, np.uint8)
    image[1:-1, 1:-1] = 200
    square = letterbox(image, 64)
    top, left, height, width = placement(30, 60, 64)
    inside = square[top : top + height, left : left + width]
    assert inside[4:-4, 4:-4].min() > 190
    outside = np.delete(square, np.s_[top : top + height], axis=0)
    assert (outside == 10).all()
