from ._augment import StainAugmenter as StainAugmenter
from ._normalizer import normalize_together as normalize_together
from ._optical_density import (
    MacenkoNormalizer as MacenkoNormalizer,
    VahadaneNormalizer as VahadaneNormalizer,
)
from ._reinhard import ReinhardNormalizer as ReinhardNormalizer

__all__ = [
    "MacenkoNormalizer",
    "ReinhardNormalizer",
    "StainAugmenter",
    "VahadaneNormalizer",
    "normalize_together",
]
