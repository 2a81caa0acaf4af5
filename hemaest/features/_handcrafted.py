"""All handcrafted features at once."""

from collections.abc import Sequence
from typing import Any, ClassVar

from hemaest.base import did_you_mean
from hemaest.features._cells import CellFeatures, Family
from hemaest.features._chromatin import chromatin_family
from hemaest.features._color import color_family
from hemaest.features._shape import shape_family

FAMILIES = {"shape": shape_family, "chromatin": chromatin_family, "color": color_family}


class HandcraftedFeatures(CellFeatures):
    """Shape, chromatin texture and colour of a cell: every handcrafted feature, named.

    Parameters
    ----------
    groups : sequence of {"shape", "chromatin", "color"}
        The families to measure, in this order; all of them by default.
    cells : {"central", "all"}, default="central"
        Which cells of a map to measure: the one nearest to the middle, or all of them, summed up
        as count, area-weighted mean, spread and maximum.
    n_jobs : int, optional
        Threads; None means all that are available.

    See Also
    --------
    MorphologyFeatures : The family "shape".
    ChromatinTexture : The family "chromatin".
    ColorFeatures : The family "color".

    Examples
    --------
    >>> import numpy as np
    >>> from hemaest.features import HandcraftedFeatures
    >>> image = np.full((24, 24, 4), 90, np.uint8)
    >>> image[..., 3] = 0
    >>> image[4:20, 4:20, 3] = 1
    >>> image[8:16, 8:16, 3] = 2
    >>> features = HandcraftedFeatures(groups=("shape", "color")).fit(image[None])
    >>> row = dict(zip(features.get_feature_names_out(), features.transform(image[None])[0]))
    >>> float(row["nc_ratio"]), float(row["nucleus_g_mean"])
    (0.25, 90.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "groups": ["array-like"],
        **CellFeatures._parameter_constraints,
    }

    def __init__(
        self,
        groups: Sequence[str] = ("shape", "chromatin", "color"),
        *,
        cells: str = "central",
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(cells=cells, n_jobs=n_jobs)
        self.groups = groups

    def _families(self) -> list[Family]:
        chosen = [self.groups] if isinstance(self.groups, str) else list(self.groups)
        for name in chosen:
            if name not in FAMILIES:
                raise ValueError(
                    f"HandcraftedFeatures: groups has {name!r}; allowed are {sorted(FAMILIES)}."
                    f"{did_you_mean(name, FAMILIES)}"
                )
        if not chosen:
            raise ValueError(f"HandcraftedFeatures: groups is empty; choose of {sorted(FAMILIES)}.")
        return [FAMILIES[name]() for name in dict.fromkeys(chosen)]

    def _validate_params(self) -> None:
        super()._validate_params()
        self._families()
