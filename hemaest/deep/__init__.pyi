from ._classifier import ImageClassifier as ImageClassifier
from ._embedding import DeepEmbedding as DeepEmbedding
from ._named import (
    ResNet24Classifier as ResNet24Classifier,
    ResNet50Classifier as ResNet50Classifier,
    ViTClassifier as ViTClassifier,
    WPATClassifier as WPATClassifier,
)
from ._pretrainer import FCMAEPretrainer as FCMAEPretrainer

__all__ = [
    "DeepEmbedding",
    "FCMAEPretrainer",
    "ImageClassifier",
    "ResNet24Classifier",
    "ResNet50Classifier",
    "ViTClassifier",
    "WPATClassifier",
]
