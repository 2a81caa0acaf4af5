from . import agreement as agreement
from ._counter import DifferentialCounter as DifferentialCounter
from ._harmonize import harmonize as harmonize
from ._rejecting import RejectingClassifier as RejectingClassifier
from ._risk_coverage import RiskCoverageDisplay as RiskCoverageDisplay
from ._scores import (
    METRICS as METRICS,
    lineage_accuracy as lineage_accuracy,
    mean_cost as mean_cost,
    one_stage_accuracy as one_stage_accuracy,
    per_type as per_type,
    usual_accuracy as usual_accuracy,
)
from ._taxonomy import CellTaxonomy as CellTaxonomy

__all__ = [
    "METRICS",
    "CellTaxonomy",
    "DifferentialCounter",
    "RejectingClassifier",
    "RiskCoverageDisplay",
    "agreement",
    "harmonize",
    "lineage_accuracy",
    "mean_cost",
    "one_stage_accuracy",
    "per_type",
    "usual_accuracy",
]
