"""Which method answers for which kind of picture."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._central import segment_central
from hemaest.segmentation._combined import with_voters
from hemaest.segmentation._field import segment_field
from hemaest.segmentation._found import Found


def find(image: NDArray[np.uint8], cells: str, method: str, net: Any = None) -> Found:
    """Segment one RGB image by the named method; ``net`` is one that masks taught."""
    if method == "voters":
        return (segment_central if cells == "central" else segment_field)(image)
    from hemaest.segmentation._learned import learned_central
    from hemaest.segmentation._network import shipped_fused

    net = shipped_fused() if net is None else net
    if cells == "all":
        return segment_field(image, net, alone=method != "both")
    found = learned_central(net, image)
    return found if method == "network" else with_voters(image, found)
