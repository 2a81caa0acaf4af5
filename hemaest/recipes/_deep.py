"""Deep recipes: nets from images to labels, embeddings, and a net beside handcrafted features."""

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hemaest.base import did_you_mean
from hemaest.recipes._registry import Options, Steps, register

ACCEPTS = ("stain", "balance", "image_size")
TRANSFORMER: dict[str, list[Any]] = {
    "classify__lr": [1e-4, 3e-4],
    "classify__drop_path": [0.0, 0.1],
}
CONVOLUTIONAL: dict[str, list[Any]] = {
    "classify__lr": [5e-4, 1e-3],
    "classify__augment": ["standard", "strong"],
}


def balance_parameters(balance: Any) -> dict[str, Any]:
    """Return how a net balances classes itself, after it held out what it validates on.

    Examples
    --------
    >>> balance_parameters("weights")
    {'class_weight': 'balanced'}
    """
    known = {"oversample": {"resampler": "balanced"}, "weights": {"class_weight": "balanced"}}
    if balance is None:
        return {}
    if not isinstance(balance, str):
        return {"resampler": balance}
    if balance not in known:
        raise ValueError(
            f"balance={balance!r}; it must be one of {', '.join(known)}, or a sampler."
            f"{did_you_mean(balance, known)}"
        )
    return known[balance]


def asked(options: Options, **defaults: Any) -> dict[str, Any]:
    """Return the parameters of a net: the recipe's own, then what the user asked for."""
    parameters = {
        **defaults,
        **balance_parameters(options.balance),
        "device": options.device,
        "random_state": options.random_state,
    }
    if options.image_size is not None:
        parameters["image_size"] = options.image_size
    if options.max_epochs is not None:
        parameters["max_epochs"] = options.max_epochs
    return parameters


def small_net(options: Options) -> Any:
    """Return the net that trains on a CPU while one waits."""
    from hemaest.deep import ImageClassifier

    return ImageClassifier(
        "cellnet", **asked(options, image_size=64, max_epochs=15, batch_size=16, lr=2e-3, tta=True)
    )


@register(
    "deep-small",
    "a small residual net, quick on a CPU",
    accepts=ACCEPTS,
    param_grid={"classify__lr": [1e-3, 2e-3], "classify__augment": ["standard", "strong"]},
)
def _deep_small(options: Options) -> Steps:
    return [("classify", small_net(options))]


@register("resnet24", "the residual net of 24 layers", accepts=ACCEPTS, param_grid=CONVOLUTIONAL)
def _resnet24(options: Options) -> Steps:
    from hemaest.deep import ResNet24Classifier

    return [("classify", ResNet24Classifier(**asked(options)))]


@register("resnet50", "ResNet-50 at 224 pixels", accepts=ACCEPTS, param_grid=CONVOLUTIONAL)
def _resnet50(options: Options) -> Steps:
    from hemaest.deep import ResNet50Classifier

    return [("classify", ResNet50Classifier(**asked(options)))]


@register("vit", "a small vision transformer", accepts=ACCEPTS, param_grid=TRANSFORMER)
def _vit(options: Options) -> Steps:
    from hemaest.deep import ViTClassifier

    return [("classify", ViTClassifier(**asked(options)))]


@register("convnext", "ConvNeXt V2 (atto) at 224 pixels", accepts=ACCEPTS, param_grid=TRANSFORMER)
def _convnext(options: Options) -> Steps:
    from hemaest.deep import ImageClassifier

    defaults = {"image_size": 224, "max_epochs": 50, "lr": 1e-3, "drop_path": 0.1, "warmup": 0.1}
    return [("classify", ImageClassifier("convnextv2_atto", **asked(options, **defaults)))]


@register(
    "embedding-logistic",
    "logistic regression on what a pretrained ResNet-50 sees (its weights are fetched once)",
    accepts=("stain", "image_size"),
    param_grid={"classify__C": [0.01, 0.1, 1.0]},
)
def _embedding_logistic(options: Options) -> Steps:
    from hemaest.deep import DeepEmbedding

    size = 224 if options.image_size is None else options.image_size
    embedding = DeepEmbedding(
        image_size=size, device=options.device, random_state=options.random_state
    )
    model = LogisticRegression(C=0.1, max_iter=5000, random_state=options.random_state)
    return [("embed", embedding), ("scale", StandardScaler()), ("classify", model)]
