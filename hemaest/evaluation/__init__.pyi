import hemaest.groups

from ._audit import LeakError as LeakError, audit as audit
from ._claim import protocol_faults as protocol_faults
from ._compare import compare as compare, leak_inflation as leak_inflation
from ._conformal import ConformalClassifier as ConformalClassifier
from ._folds import hash_images as hash_images
from ._significance import (
    corrected_ttest as corrected_ttest,
    paired_group_test as paired_group_test,
)
from ._stain_shift import shift_images as shift_images, stain_shift_curve as stain_shift_curve

infer_groups = hemaest.groups.infer_groups
near_duplicate_groups = hemaest.groups.near_duplicate_groups
split = hemaest.groups.split

__all__ = [
    "ConformalClassifier",
    "LeakError",
    "audit",
    "compare",
    "corrected_ttest",
    "hash_images",
    "infer_groups",
    "leak_inflation",
    "near_duplicate_groups",
    "paired_group_test",
    "protocol_faults",
    "shift_images",
    "split",
    "stain_shift_curve",
]
