"""The group functions, under the name where a user of the evaluation looks for them."""

from hemaest.groups import infer_groups, split

__all__ = ["infer_groups", "split"]
