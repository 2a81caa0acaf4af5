from ._audit import audit as audit
from ._compare import compare as compare
from ._groups import (
    infer_groups as infer_groups,
    near_duplicate_groups as near_duplicate_groups,
    split as split,
)
from ._statistics import corrected_ttest as corrected_ttest

__all__ = ["audit", "compare", "corrected_ttest", "infer_groups", "near_duplicate_groups", "split"]
