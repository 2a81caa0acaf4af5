import numpy as np
import pytest
from scipy import ndimage as ndi

from hemaest.datasets import make_cells


@pytest.fixture(scope="session")
def cells():
    """Synthetic cells with their true maps, and the truth."""
    bunch = make_cells(120, image_size=128, random_state=3)
    return np.concatenate([bunch.images, bunch.masks[..., None]], axis=3), bunch.truth


@pytest.fixture(scope="session")
def masks(cells):
    """Masks of all sorts: random blobs with holes and parts, thin lines, nuclei, cells."""
    rng = np.random.default_rng(0)
    found = [np.ones((1, 1), bool), np.ones((1, 5), bool), np.eye(6, dtype=bool)]
    for _ in range(200):
        noise = ndi.gaussian_filter(rng.normal(size=rng.integers(6, 70, 2)), rng.uniform(0.4, 6))
        found.append(noise >= np.quantile(noise, rng.uniform(0.1, 0.9)))
    for image in cells[0][:100]:
        found += [image[..., 3] == 2, image[..., 3] > 0]
    return [mask for mask in found if mask.any()]
