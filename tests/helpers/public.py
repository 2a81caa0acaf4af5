"""The one discovered list of public names and estimators."""

import importlib
import inspect
import pkgutil

from sklearn.base import BaseEstimator

import hemaest

# meta-estimators and pipelines need parts to be made; their own tests cover them
NEEDS_PARTS = {"ImagePipeline", "ConformalClassifier", "DifferentialCounter", "InnerFolds"}
NEEDS_PARTS |= {"RejectingClassifier", "PatientClassifier"}
# they take rows of features, not images: scikit-learn's own checks run on them in their tests
OF_FEATURES = {"BoostedTrees", "FeatureSampler"}

# parameters that make an estimator quick enough to be fitted in every check
_TINY = {
    "backbone": "cellnet",
    "backbone_options": {"channels": (8, 8, 16, 16)},
    "image_size": 32,
    "device": "cpu",
    "random_state": 0,
}
_SHORT = {"max_epochs": 1, "batch_size": 8, "lr": 3e-3}
_TRANSFORMER = {
    "backbone": "vit_tiny_patch16_224",
    "backbone_options": {"depth": 2, "embed_dim": 32, "num_heads": 2},
}
_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
QUICK: dict[str, dict] = {
    "ImageClassifier": {**_TINY, **_SHORT},
    "ResNet50Classifier": {**_TINY, **_SHORT},
    "ResNet24Classifier": {
        **_TINY,
        **_SHORT,
        "backbone": "resnet24",
        "backbone_options": {"width": 8},
    },
    "ViTClassifier": {**_TINY, **_SHORT, **_TRANSFORMER},
    "WPATClassifier": {
        **_TINY,
        **_SHORT,
        "backbone": "wpat",
        "backbone_options": {"convnet_options": _CONVNEXT, "dim": 16, "heads": 2},
    },
    "FCMAEPretrainer": {
        **_TINY,
        **_SHORT,
        "backbone": "convnextv2_atto",
        "backbone_options": _CONVNEXT,
        "decoder_dim": 16,
    },
    "DeepEmbedding": {**_TINY, "pretrained": False},
    "StainAugmenter": {"random_state": 0},
    "ImageSampler": {"random_state": 0},
    "RenderedCellSampler": {"random_state": 0},
    "ACDBGAN": {
        "image_size": 16,
        "max_steps": 3,
        "batch_size": 4,
        "width": 4,
        "min_images": 3,
        "adaptive": False,
        "realism_filter": False,
        "device": "cpu",
        "random_state": 0,
    },
    "CellSegmenter": {"random_state": 0},
    # twelve images: a rate of 5% could not be promised
    "NoveltyDetector": {"false_alarms": 0.2, "random_state": 0},
    # the side that learns; of the other its own tests speak
    "CropToCell": {"side": "common"},
}


def public_names():
    """Yield (module, name, object) of each class and function in a subpackage's ``__all__``."""
    for info in pkgutil.iter_modules(hemaest.__path__, "hemaest."):
        if info.name.split(".")[-1].startswith("_"):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            item = getattr(module, name)
            if not inspect.ismodule(item):  # those are listed to be loaded when they are used
                yield info.name, name, item


def estimator_classes():
    """Return the public estimator classes that can be made without parts, by name."""
    found = {}
    for module, name, item in public_names():
        private_base = module in {"hemaest.base", "hemaest.groups"}
        is_estimator = inspect.isclass(item) and issubclass(item, BaseEstimator)
        if is_estimator and not private_base and name not in NEEDS_PARTS | OF_FEATURES:
            found[name] = item
    return found


def make(name):
    """Return a quick instance of a public estimator."""
    return estimator_classes()[name](**QUICK.get(name, {}))
