from ._bloodmnist import fetch_bloodmnist as fetch_bloodmnist
from ._boxed_fields import load_bccd as load_bccd
from ._class_folder_sets import (
    load_aml_matek as load_aml_matek,
    load_bone_marrow as load_bone_marrow,
    load_kaggle_wbc as load_kaggle_wbc,
    load_leukemia_folders as load_leukemia_folders,
    load_raabin as load_raabin,
)
from ._class_folders import load_image_folder as load_image_folder
from ._image_files import image_files as image_files, list_files as list_files
from ._masked_cells import load_segmentation_wbc as load_segmentation_wbc
from ._smear import make_smear as make_smear
from ._synthetic import (
    iter_cells as iter_cells,
    list_cell_types as list_cell_types,
    make_cells as make_cells,
)
from ._table_sets import (
    load_cnmc as load_cnmc,
    load_pbc as load_pbc,
    load_taleqani as load_taleqani,
)

__all__ = [
    "fetch_bloodmnist",
    "image_files",
    "iter_cells",
    "list_cell_types",
    "list_files",
    "load_aml_matek",
    "load_bccd",
    "load_bone_marrow",
    "load_cnmc",
    "load_image_folder",
    "load_kaggle_wbc",
    "load_leukemia_folders",
    "load_pbc",
    "load_raabin",
    "load_segmentation_wbc",
    "load_taleqani",
    "make_cells",
    "make_smear",
]
