"""What ``balance=`` of a recipe means, for models of features and for nets."""

import inspect
from typing import Any

from hemaest.base import did_you_mean
from hemaest.recipes._registry import Options, Steps

ON_FEATURES = ("oversample", "smote", "borderline-smote", "adasyn", "smote-tomek")
OF_NETS: dict[str, dict[str, Any]] = {
    "oversample": {"resampler": "balanced"},
    "weights": {"class_weight": "balanced"},
    "focal": {"loss": "focal"},
    "logit-adjusted": {"loss": "logit-adjusted"},
    "acdbgan": {},
}


def feature_sampler(options: Options, *, weights: bool = False) -> Steps:
    """Return the step that balances rows of features, if one is asked for.

    Parameters
    ----------
    options : Options
    weights : bool, default=False
        Whether the model takes ``class_weight``, and so ``balance="weights"`` (no step then).
    """
    balance = options.balance
    if balance is None or (weights and balance == "weights"):
        return []
    if not isinstance(balance, str):
        return [("balance", balance)]
    known = [*ON_FEATURES, *(["weights"] if weights else [])]
    if balance not in known:
        # "weights" is for most models of features as well
        nets_only = balance in OF_NETS and balance != "weights"
        of_net = " That is for recipes of nets." if nets_only else ""
        raise ValueError(
            f"balance={balance!r}; it must be one of {', '.join(known)}, or a sampler."
            f"{of_net or did_you_mean(balance, known)}"
        )
    from hemaest.balance._feature_sampler import FeatureSampler

    return [("balance", FeatureSampler(balance, random_state=options.random_state))]


def class_weight(options: Options) -> str | None:
    """Return the ``class_weight`` of a model of features."""
    return "balanced" if options.balance == "weights" else None


def net_parameters(options: Options, image_size: int = 64) -> dict[str, Any]:
    """Return how a net balances classes itself, after it held out what it validates on.

    Examples
    --------
    >>> net_parameters(Options(balance="weights"))
    {'class_weight': 'balanced'}
    """
    balance = options.balance
    if balance is None:
        return {}
    if not isinstance(balance, str):
        return {"resampler": balance}
    if balance not in OF_NETS:
        of_features = " That is for recipes of features." if balance in ON_FEATURES else ""
        raise ValueError(
            f"balance={balance!r}; it must be one of {', '.join(OF_NETS)}, or a sampler."
            f"{of_features or did_you_mean(balance, OF_NETS)}"
        )
    if balance != "acdbgan":
        return OF_NETS[balance]
    from hemaest.balance import ACDBGAN

    gan = ACDBGAN(
        image_size=gan_size(image_size), device=options.device, random_state=options.random_state
    )
    return {"resampler": gan}


def gan_size(image_size: int) -> int:
    """Return the largest side that the GAN can make for a net of some size.

    Examples
    --------
    >>> gan_size(128), gan_size(224), gan_size(100), gan_size(384)
    (128, 224, 96, 256)
    """
    sizes = [start << k for start in (4, 5, 6, 7) for k in range(2, 7)]
    return max(size for size in sizes if size <= max(16, min(image_size, 256)))


def default_size(net: type) -> int:
    """Return the side of the images that a classifier sees if nothing else is said."""
    return int(inspect.signature(net).parameters["image_size"].default)
