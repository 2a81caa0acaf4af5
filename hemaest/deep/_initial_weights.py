"""Initial weights of a network: random, published, from a file, or from another estimator."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from hemaest import nets
from hemaest.base import refuse_bare_fitted

# key in the metadata of a file of weights that describes the architecture of the encoder
METADATA_KEY = "hemaest"
# value of ``pretrained`` for the encoder that ships with the package
SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Weights to start from, with the architecture that they belong to where it is known.

    Parameters
    ----------
    weights : bool, path or dict of Tensors
        As ``build_net`` takes them.
    backbone : str, optional
        Name of the network that the weights belong to.
    options : dict
        Options that this network was built with.
    """

    weights: Any = False
    backbone: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def architecture(self) -> dict[str, Any]:
        """Return what is needed to build the same network again, without the weights."""
        return {"backbone": self.backbone, "options": dict(self.options)}

    def options_for(self, backbone: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a network that starts from these weights.

        Parameters
        ----------
        backbone : str
            The network: the same, or ``"wpat"`` around it.
        options : dict
            Options of the user, which take precedence.
        """
        if self.backbone is None:
            return options
        if backbone == self.backbone:
            given = {name: value for name, value in options.items() if value is not None}
            return {**self.options, **given}
        if backbone == "wpat":
            if options.get("convnet") not in (None, self.backbone):
                raise ValueError(
                    f"convnet={options['convnet']!r}, but the pretrained network is a "
                    f"{self.backbone!r}; give convnet=None or that name."
                )
            inner = {**self.options, **(options.get("convnet_options") or {})}
            return {**options, "convnet": self.backbone, "convnet_options": inner}
        around = "" if self.backbone == "wpat" else ", or 'wpat' to put attention on top of it"
        raise ValueError(
            f"backbone={backbone!r}, but the pretrained network is a {self.backbone!r}; give "
            f"backbone={self.backbone!r}{around}."
        )


def is_estimator(pretrained: Any) -> bool:
    """Return whether weights come from an estimator, not from a file."""
    return hasattr(pretrained, "fit")


def needs_no_labels(pretrained: Any) -> bool:
    """Return whether an estimator can be fitted on images alone."""
    return not is_classifier(pretrained)


def refuse_fitted(pretrained: Any) -> None:
    """Refuse a fitted estimator as ``pretrained``: ``clone`` would silently empty it."""
    if not is_estimator(pretrained):
        return
    ways = "the path of pretrainer.save(path), or an unfitted one to fit it on each training fold"
    refuse_bare_fitted(pretrained, "pretrained", ways if needs_no_labels(pretrained) else "")


def check_pretrained(pretrained: Any) -> None:
    """Refuse an estimator that no network can start from, before anything is fitted."""
    if not is_estimator(pretrained):
        return
    frozen = isinstance(pretrained, FrozenEstimator)
    inner = pretrained.estimator if frozen else pretrained
    if not hasattr(inner, "_as_initial_weights"):
        raise ValueError(
            f"pretrained is a {'FrozenEstimator of ' if frozen else ''}{type(inner).__name__}; "
            "allowed are an FCMAEPretrainer, and a FrozenEstimator of one or of an ImageClassifier "
            "or named classifier."
        )
    if frozen:
        check_is_fitted(inner)
        return
    refuse_fitted(inner)
    if not needs_no_labels(inner):
        raise ValueError(
            f"pretrained is an unfitted {type(inner).__name__}, which needs labels of its own; "
            "fit it on other images and give FrozenEstimator(classifier)."
        )


def resolve_pretrained(
    pretrained: Any, X: Any = None, *, device: str = "auto", seed: int = 0
) -> InitialWeights:
    """Return the weights to start from; an unfitted pretrainer is fitted on the images now."""
    if isinstance(pretrained, bool):
        return InitialWeights(pretrained)
    if pretrained == SYNTHETIC:
        return shipped_encoder()
    if not is_estimator(pretrained):
        return InitialWeights(str(pretrained), **read_architecture(pretrained))
    check_pretrained(pretrained)
    if isinstance(pretrained, FrozenEstimator):
        return pretrained.estimator._as_initial_weights()
    pretrainer = clone(pretrained)
    defaults: dict[str, Any] = {"device": device} if pretrainer.device == "auto" else {}
    if pretrainer.random_state is None:
        defaults["random_state"] = seed
    return pretrainer.set_params(**defaults).fit(X)._as_initial_weights()


def shipped_encoder() -> InitialWeights:
    """Return the encoder of the shipped cell classifier, which saw rendered cells alone."""
    part = "encoder."
    weights = {
        name.removeprefix(part): value.float()
        for name, value in nets.weights.read_weights(
            nets.cards.shipped_weights("blood-cells")
        ).items()
        if name.startswith(part)
    }
    settings = nets.cards.read_card("blood-cells").settings
    options = {name: tuple(settings[name]) for name in ("channels", "depths")}
    return InitialWeights(weights, "cellnet", {**options, "per_image": True})


def read_architecture(path: str | Path) -> dict[str, Any]:
    """Return the architecture that a file of weights describes; empty for most files."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return {}
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    return json.loads(text) if text else {}


def write_encoder(path: str | Path, encoder: Any, architecture: dict[str, Any]) -> Path:
    """Write the weights of an encoder together with its architecture."""
    from safetensors.numpy import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: weights are written as .safetensors; the name must end so.")
    arrays = {name: value.copy() for name, value in nets.weights.to_arrays(encoder).items()}
    try:
        text = json.dumps(architecture)
    except TypeError as error:
        raise ValueError(f"backbone_options cannot be written to a file: {error}.") from error
    save_file(arrays, path, metadata={METADATA_KEY: text})
    return path
