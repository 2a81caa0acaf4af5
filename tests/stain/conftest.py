import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stained import draw_stained  # noqa: E402


@pytest.fixture(scope="session")
def tiles():
    """Tiles of many kinds: stained cells of two styles, noise, gradients; odd sizes too."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(20, 250, 48)
    ramps = np.broadcast_arrays(ramp[:, None], ramp, ramp[::-1])
    blocks = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    return {
        "giemsa": draw_stained(0),
        "wright": draw_stained(1, basis="wright", strength=(0.7, 1.3)),
        "yellow": draw_stained(2, light=(235, 225, 180)),
        "pale": draw_stained(3, strength=(0.4, 0.4)),
        "noise": rng.integers(0, 256, (50, 47, 3)).astype(np.uint8),
        "dim noise": rng.integers(80, 140, (31, 33, 3)).astype(np.uint8),
        "ramps": np.stack(ramps, axis=-1).astype(np.uint8),
        "blocks": blocks.repeat(8, axis=0).repeat(8, axis=1),
        "large": draw_stained(4, size=257),
    }
