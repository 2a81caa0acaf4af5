from ._bccd import load_bccd as load_bccd
from ._folder import load_image_folder as load_image_folder
from ._pbc import load_pbc as load_pbc
from ._segmentation_wbc import load_segmentation_wbc as load_segmentation_wbc
from ._smear import make_smear as make_smear
from ._synthetic import iter_cells as iter_cells, make_cells as make_cells
from ._taleqani import load_taleqani as load_taleqani

__all__ = [
    "iter_cells",
    "load_bccd",
    "load_image_folder",
    "load_pbc",
    "load_segmentation_wbc",
    "load_taleqani",
    "make_cells",
    "make_smear",
]
