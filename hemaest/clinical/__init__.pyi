from . import agreement as agreement
from ._counter import DifferentialCounter as DifferentialCounter
from ._harmonize import harmonize as harmonize
from ._rejecting import RejectingClassifier as RejectingClassifier
from ._risk_coverage import RiskCoverageDisplay as RiskCoverageDisplay
from ._taxonomy import CellTaxonomy as CellTaxonomy

__all__ = [
    "CellTaxonomy",
    "DifferentialCounter",
    "RejectingClassifier",
    "RiskCoverageDisplay",
    "agreement",
    "harmonize",
]
