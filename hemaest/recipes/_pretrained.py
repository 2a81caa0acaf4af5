"""Recipes that learn from images without labels first, inside the training fold."""

from typing import Any

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hemaest.recipes._deep import asked, cut_out
from hemaest.recipes._registry import Options, Steps, register


def pretrainer(options: Options) -> Any:
    """Return the unfitted pretrainer of both recipes."""
    from hemaest.deep import FCMAEPretrainer

    wanted = {"image_size": options.image_size, "max_epochs": options.max_epochs}
    return FCMAEPretrainer(
        device=options.device,
        random_state=options.random_state,
        **{name: value for name, value in wanted.items() if value is not None},
    )


@register(
    "fcmae-wpat",
    "local histogram enhancement, masked pretraining, windowed patch attention",
    accepts=("stain", "segmenter", "balance", "image_size"),
    param_grid={"classify__lr": [5e-4, 1e-3], "classify__layer_decay": [0.65, 0.75]},
)
def enhanced_wpat(options: Options) -> Steps:
    """Return enhancement and a windowed transformer that begins with masked pretraining."""
    from hemaest.deep import WPATClassifier
    from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer

    model = WPATClassifier(pretrained=pretrainer(options), **asked(options, WPATClassifier))
    enhancer = AdaptiveLocalHistogramEnhancer(n_jobs=options.n_jobs)
    return [*cut_out(options), ("enhance", enhancer), ("classify", model)]


@register(
    "fcmae-linear",
    "logistic regression on what masked pretraining sees",
    accepts=("stain", "segmenter", "image_size"),
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
