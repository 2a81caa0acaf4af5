"""The group functions, under the name where a user of the evaluation looks for them."""

from hemaest._near_duplicates import near_duplicate_groups
from hemaest.groups import infer_groups, split

__all__ = ["infer_groups", "near_duplicate_groups", "split"]
