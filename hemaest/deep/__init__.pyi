from . import (
    augmentation as augmentation,
    batches as batches,
    checkpoints as checkpoints,
    optimization as optimization,
    training as training,
)
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
