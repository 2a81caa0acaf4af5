from . import agreement as agreement
from ._counter import DifferentialCounter as DifferentialCounter
from ._differential_display import DifferentialDisplay as DifferentialDisplay
from ._harmonize import harmonize as harmonize
from ._novelty import NoveltyDetector as NoveltyDetector
from ._patients import PatientClassifier as PatientClassifier
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
from .reading import (
    FieldReader as FieldReader,
    FieldReading as FieldReading,
    NamedCell as NamedCell,
    looks_like_field as looks_like_field,
    name_cells as name_cells,
)

__all__ = [
    "METRICS",
    "CellTaxonomy",
    "DifferentialCounter",
    "DifferentialDisplay",
    "FieldReader",
    "FieldReading",
    "NamedCell",
    "NoveltyDetector",
    "PatientClassifier",
    "RejectingClassifier",
    "RiskCoverageDisplay",
    "agreement",
    "harmonize",
    "lineage_accuracy",
    "looks_like_field",
    "mean_cost",
    "name_cells",
    "one_stage_accuracy",
    "per_type",
    "usual_accuracy",
]
