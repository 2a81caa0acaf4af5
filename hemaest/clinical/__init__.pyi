from ._counter import DifferentialCounter as DifferentialCounter
from ._harmonize import harmonize as harmonize
from ._taxonomy import CellTaxonomy as CellTaxonomy

__all__ = ["CellTaxonomy", "DifferentialCounter", "harmonize"]
