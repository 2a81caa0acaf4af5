"""Deep recipes: networks from images to labels, embeddings, and pretraining without labels."""

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hemaest import deep, preprocessing
from hemaest.recipes._registry import Options, Steps, default_size, net_parameters, register

ACCEPTS = ("stain", "segmenter", "balance", "image_size", "max_epochs")
# side at which the shipped network was trained, and epochs that adapt it to a laboratory
SHIPPED_SIZE, ADAPTING_EPOCHS = 96, 10
TRANSFORMER: dict[str, list[Any]] = {
    "classify__lr": [1e-4, 3e-4],
    "classify__drop_path": [0.0, 0.1],
}
CONVOLUTIONAL: dict[str, list[Any]] = {
    "classify__lr": [5e-4, 1e-3],
    "classify__augment": ["standard", "strong"],
}


def requested(options: Options, net: type | None = None, **defaults: Any) -> dict[str, Any]:
    """Return the parameters of a network: the recipe's own, then what the user requested.

    The class of the net says for which size a GAN makes images, where nothing else does.
    """
    parameters = {
        **defaults,
        "device": options.device,
        "random_state": options.random_state,
    }
    if options.image_size is not None:
        parameters["image_size"] = options.image_size
    size = parameters.get("image_size") or (default_size(net) if net is not None else 64)
    parameters |= net_parameters(options, size)
    if options.max_epochs is not None:
        parameters["max_epochs"] = options.max_epochs
    return parameters


def with_net(options: Options, net: Any) -> Steps:
    """Return a network, which sees the cell cut out where a segmenter was given."""
    return [*cut_out(options), ("classify", net)]


def cut_out(options: Options) -> Steps:
    """Return the steps that leave of each image its cell, where a segmenter was given."""
    if options.segmenter is None:
        return []
    return [("segment", options.segmenter), ("crop", cropper(options.n_jobs))]


def cropper(n_jobs: int | None) -> Any:
    """Return the step that cuts outlined cells out, all to one scale: size says what a cell is."""
    return preprocessing.CropToCell(margin=0.05, side="common", n_jobs=n_jobs)


def small_net(options: Options) -> Any:
    """Return the network that trains on a CPU while one waits: it has seen rendered cells before.

    From random weights it takes twice the epochs and is worse.
    """
    return deep.ImageClassifier(
        "cellnet",
        pretrained="synthetic",
        **requested(options, image_size=64, max_epochs=8, batch_size=16, lr=2e-3, tta=True),
    )


@register(
    "deep-small",
    "the shipped network of rendered cells, trained further at 64 pixels: quick on a CPU",
    accepts=ACCEPTS,
    param_grid={"classify__lr": [1e-3, 2e-3], "classify__augment": ["standard", "strong"]},
)
def _deep_small(options: Options) -> Steps:
    return with_net(options, small_net(options))


@register(
    "resnet24", "the residual network of 24 layers", accepts=ACCEPTS, param_grid=CONVOLUTIONAL
)
def _resnet24(options: Options) -> Steps:
    return with_net(options, deep.ResNet24Classifier(**requested(options, deep.ResNet24Classifier)))


@register("resnet50", "ResNet-50 at 224 pixels", accepts=ACCEPTS, param_grid=CONVOLUTIONAL)
def _resnet50(options: Options) -> Steps:
    return with_net(options, deep.ResNet50Classifier(**requested(options, deep.ResNet50Classifier)))


@register("vit", "a small vision transformer", accepts=ACCEPTS, param_grid=TRANSFORMER)
def _vit(options: Options) -> Steps:
    return with_net(options, deep.ViTClassifier(**requested(options, deep.ViTClassifier)))


@register("convnext", "ConvNeXt V2 (atto) at 224 pixels", accepts=ACCEPTS, param_grid=TRANSFORMER)
def _convnext(options: Options) -> Steps:
    defaults: dict[str, Any] = {
        "image_size": 224,
        "max_epochs": 50,
        "lr": 1e-3,
        "drop_path": 0.1,
        "warmup": 0.1,
    }
    return with_net(
        options, deep.ImageClassifier("convnextv2_atto", **requested(options, **defaults))
    )


@register(
    "embedding-logistic",
    "logistic regression on what a pretrained ResNet-50 sees (its weights are fetched once)",
    accepts=("stain", "image_size"),
    param_grid={"classify__C": [0.01, 0.1, 1.0]},
)
def _embedding_logistic(options: Options) -> Steps:
    size = 224 if options.image_size is None else options.image_size
    embedding = deep.DeepEmbedding(
        image_size=size, device=options.device, random_state=options.random_state
    )
    model = LogisticRegression(C=0.1, max_iter=5000, random_state=options.random_state)
    return [("embed", embedding), ("scale", StandardScaler()), ("classify", model)]


def pretrainer(options: Options) -> Any:
    """Return the unfitted pretrainer of both recipes, which adapts the shipped network.

    From random weights it would need a GPU and hundreds of epochs to be worth its time.
    """
    epochs = ADAPTING_EPOCHS if options.max_epochs is None else options.max_epochs
    return deep.FCMAEPretrainer(
        "cellnet",
        pretrained="synthetic",
        image_size=options.image_size or SHIPPED_SIZE,
        max_epochs=epochs,
        device=options.device,
        random_state=options.random_state,
    )


@register(
    "fcmae-wpat",
    "local histogram enhancement, the shipped network adapted, windowed patch attention",
    accepts=ACCEPTS,
    param_grid={"classify__lr": [5e-4, 1e-3], "classify__layer_decay": [0.65, 0.75]},
)
def enhanced_wpat(options: Options) -> Steps:
    """Return enhancement and a windowed transformer that begins with masked pretraining."""
    defaults = {"image_size": SHIPPED_SIZE, "max_epochs": 20, "batch_size": 16}
    model = deep.WPATClassifier(
        pretrained=pretrainer(options), **requested(options, deep.WPATClassifier, **defaults)
    )
    enhancer = preprocessing.AdaptiveLocalHistogramEnhancer(n_jobs=options.n_jobs)
    return [*cut_out(options), ("enhance", enhancer), ("classify", model)]


@register(
    "fcmae-linear",
    "logistic regression on what the shipped network sees, adapted without labels",
    accepts=("stain", "segmenter", "image_size", "max_epochs"),
    param_grid={"classify__C": [0.01, 0.1, 1.0]},
)
def _fcmae_linear(options: Options) -> Steps:
    model = LogisticRegression(C=0.1, max_iter=5000, random_state=options.random_state)
    return [
        *cut_out(options),
        ("embed", pretrainer(options)),
        ("scale", StandardScaler()),
        ("classify", model),
    ]
