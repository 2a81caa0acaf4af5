import numpy as np
import pytest

from hemaest.datasets import unrelated
from hemaest.datasets.unrelated import draw_unrelated


def test_unrelated_images_are_of_many_kinds():
    rng = np.random.default_rng(0)
    images = [draw_unrelated(32, rng) for _ in range(30)]
    assert all(i.shape == (32, 32, 3) and i.dtype == np.uint8 for i in images)
    assert np.std([i.mean() for i in images]) > 20


@pytest.mark.parametrize("drawer", [d for d, _ in unrelated._DRAWERS], ids=lambda d: d.__name__)
@pytest.mark.parametrize("size", [7, 33, 200])
def test_each_kind_is_drawn_at_any_size_and_follows_its_seed(drawer, size):
    one, again, other = (drawer(size, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one.shape[:2] == (size, size) and np.isfinite(one).all()
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_scenes_have_the_spectrum_of_photographs():
    # power falls with about the square of the frequency, whatever is shown
    falls = []
    f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    ring = (f > 0.03) & (f < 0.3)
    for seed in range(40):
        gray = unrelated._scene(128, np.random.default_rng(seed)).mean(axis=2)
        window = np.hanning(128)[:, None] * np.hanning(128)
        power = np.abs(np.fft.fft2((gray - gray.mean()) * window)) ** 2
        falls.append(-np.polyfit(np.log(f[ring]), np.log(power[ring] + 1e-9), 1)[0])
    assert 1.3 < np.median(falls) < 2.7
