import hemaest.groups

from ._audit import audit as audit
from ._compare import compare as compare
from ._conformal import ConformalClassifier as ConformalClassifier
from ._inflation import leak_inflation as leak_inflation
from ._stain_shift import stain_shift_curve as stain_shift_curve
from ._statistics import corrected_ttest as corrected_ttest

infer_groups = hemaest.groups.infer_groups
near_duplicate_groups = hemaest.groups.near_duplicate_groups
split = hemaest.groups.split

__all__ = [
    "ConformalClassifier",
    "audit",
    "compare",
    "corrected_ttest",
    "infer_groups",
    "leak_inflation",
    "near_duplicate_groups",
    "split",
    "stain_shift_curve",
]
