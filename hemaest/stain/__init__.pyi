from ._augment import StainAugmenter as StainAugmenter
from ._macenko import MacenkoNormalizer as MacenkoNormalizer
from ._reinhard import ReinhardNormalizer as ReinhardNormalizer
from ._together import normalize_together as normalize_together
from ._vahadane import VahadaneNormalizer as VahadaneNormalizer

__all__ = [
    "MacenkoNormalizer",
    "ReinhardNormalizer",
    "StainAugmenter",
    "VahadaneNormalizer",
    "normalize_together",
]
