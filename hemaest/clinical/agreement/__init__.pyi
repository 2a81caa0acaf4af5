from ._comparison import (
    Agreement as Agreement,
    compare_methods as compare_methods,
    read_counts as read_counts,
)
from ._differences import (
    BlandAltman as BlandAltman,
    bland_altman as bland_altman,
    cohen_kappa as cohen_kappa,
    flags as flags,
    reference_limits as reference_limits,
)
from ._displays import (
    BlandAltmanDisplay as BlandAltmanDisplay,
    MethodComparisonDisplay as MethodComparisonDisplay,
)
from ._lines import Line as Line, deming as deming, passing_bablok as passing_bablok

__all__ = [
    "Agreement",
    "BlandAltman",
    "BlandAltmanDisplay",
    "Line",
    "MethodComparisonDisplay",
    "bland_altman",
    "cohen_kappa",
    "compare_methods",
    "deming",
    "flags",
    "passing_bablok",
    "read_counts",
    "reference_limits",
]
