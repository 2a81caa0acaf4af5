"""Draw cells of known stains."""

import numpy as np

from hemaest._color import from_optical_density, stain_basis


def draw_stained(seed, *, size=64, basis="giemsa", strength=(1.0, 1.0), light=(250, 248, 245)):
    """Draw cells from known stains: plasma, pink red cells, blue cytoplasm, a violet nucleus."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    stains = stain_basis(basis)
    amounts = np.zeros((size, size, 2))
    for _ in range(4):
        middle = rng.uniform(0, size, 2)
        disc = np.hypot(rows - middle[0], columns - middle[1]) < size / 6
        amounts[disc] = (0.03, 0.5)
    middle = rng.uniform(0.4 * size, 0.6 * size, 2)
    distance = np.hypot(rows - middle[0], columns - middle[1])
    amounts[distance < size / 3.2] = (0.45, 0.12)
    amounts[distance < size / 5] = (1.2, 0.6)
    amounts *= rng.normal(1, 0.08, amounts.shape)
    od = (amounts * strength) @ stains[:2] + np.log(256 / (np.array(light) + 1.0))
    return from_optical_density(od + rng.normal(0, 0.01, od.shape))
