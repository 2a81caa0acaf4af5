"""The label-free method for a crop that shows one cell near its middle."""

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._cytoplasm import whole_cell
from hemaest.segmentation._found import Found, agreement_of, nothing, one_cell
from hemaest.segmentation._nucleus import central_nucleus, share_of, voters
from hemaest.segmentation._scene import make_scene
from hemaest.segmentation._standard import stained_like_nuclei

SIDE = 128
SMALLEST = 12


def segment_central(image: NDArray[np.uint8]) -> Found:
    """Segment the nucleus and the cytoplasm of the central cell of an RGB crop."""
    scene = make_scene(image, SIDE)
    masks = [central_nucleus(mask) for mask in voters(scene)]
    votes = share_of(masks)
    nucleus = votes > 0.5
    if nucleus.sum() < SMALLEST:
        return nothing(scene.size)
    if not stained_like_nuclei(scene.raw_density[nucleus].mean(axis=0, keepdims=True))[0]:
        return nothing(scene.size)
    cell = whole_cell(scene, nucleus)
    return one_cell(scene.up(votes), scene.up(cell), agreement_of(masks, nucleus))
