"""Paint over what is not the cell."""

from numbers import Integral
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._frame import border_color
from hemaest.base import ImageTransformer, StrOptions


class MaskBackground(ImageTransformer):
    """Paint everything outside the cells in one colour, so that no step can look there.

    An image without a cell is left as it is: painting all of it would say more than is known.

    Parameters
    ----------
    keep : {"cell", "nucleus", "cytoplasm"}, default="cell"
        What stays visible.
    fill : {"white", "border"}, default="white"
        The colour: white, or the median colour of the image's border.
    n_jobs : int, optional
        Threads.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((1, 1, 3, 4), 9, np.uint8)
    >>> image[..., 3] = [[0, 1, 2]]
    >>> MaskBackground().fit_transform(image)[0, 0, :, 0].tolist()
    [255, 9, 9]
    """

    _stateless = True
    _channels = "map"
    _parameter_constraints = {
        "keep": [StrOptions({"cell", "nucleus", "cytoplasm"})],
        "fill": [StrOptions({"white", "border"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        keep: Literal["cell", "nucleus", "cytoplasm"] = "cell",
        fill: Literal["white", "border"] = "white",
        n_jobs: int | None = None,
    ):
        self.keep = keep
        self.fill = fill
        self.n_jobs = n_jobs

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        labels = image[..., 3]
        result = image.copy()
        if not labels.any():
            return result
        parts = {
            "cell": labels > 0,
            "nucleus": cellmap.nuclei(labels),
            "cytoplasm": cellmap.cytoplasm(labels),
        }
        color = border_color(image) if self.fill == "border" else np.full(3, 255, np.uint8)
        result[~parts[self.keep], :3] = color
        return result
