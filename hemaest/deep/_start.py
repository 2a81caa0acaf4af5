"""What a net begins with: nothing, published weights, a file, or what another net has learnt."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from hemaest.base import refuse_bare_fitted
from hemaest.deep._arrays import to_arrays

# under which a file of weights says how its encoder is built
KEY = "hemaest"


@dataclass
class Start:
    """Weights to begin with, and how the encoder they belong to is built where that is known.

    Parameters
    ----------
    pretrained : bool, path or dict of Tensors
        As ``build_net`` takes it.
    backbone : str, optional
        The encoder's name.
    options : dict
        What the encoder is built with.
    """

    pretrained: Any = False
    backbone: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def structure(self) -> dict[str, Any]:
        """Return the part that is needed to build the same net again, without the weights."""
        return {"backbone": self.backbone, "options": dict(self.options)}

    def fitting(self, backbone: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options of a net that is to begin with this encoder.

        Parameters
        ----------
        backbone : str
            The net: that which was learnt with, or ``"wpat"`` around it.
        options : dict
            What the user asked for; it goes first.
        """
        if self.backbone is None:
            return options
        if backbone == self.backbone:
            asked = {name: value for name, value in options.items() if value is not None}
            return {**self.options, **asked}
        if backbone == "wpat":
            if options.get("encoder") not in (None, self.backbone):
                raise ValueError(
                    f"encoder={options['encoder']!r}, but what was pretrained is a "
                    f"{self.backbone!r}; give encoder=None or that name."
                )
            inner = {**self.options, **(options.get("encoder_options") or {})}
            return {**options, "encoder": self.backbone, "encoder_options": inner}
        around = "" if self.backbone == "wpat" else ", or 'wpat' to put attention on top of it"
        raise ValueError(
            f"backbone={backbone!r}, but what was pretrained is a {self.backbone!r}; give "
            f"backbone={self.backbone!r}{around}."
        )


def is_estimator(pretrained: Any) -> bool:
    """Return whether weights come from an estimator, not from a file."""
    return hasattr(pretrained, "fit")


def learns_alone(pretrained: Any) -> bool:
    """Return whether an estimator needs no labels to begin with."""
    return not is_classifier(pretrained)


def refuse_fitted(pretrained: Any) -> None:
    """Refuse a fitted estimator as ``pretrained``, which ``clone`` would silently empty."""
    if not is_estimator(pretrained):
        return
    path = "the path of pretrainer.save(path), or an unfitted one to fit it on each training fold"
    refuse_bare_fitted(pretrained, "pretrained", path if learns_alone(pretrained) else "")


def check_pretrained(pretrained: Any) -> None:
    """Refuse, before anything is fitted, an estimator that no net can begin with."""
    if not is_estimator(pretrained):
        return
    frozen = isinstance(pretrained, FrozenEstimator)
    inner = pretrained.estimator if frozen else pretrained
    if not hasattr(inner, "_as_start"):
        raise ValueError(
            f"pretrained is a {'FrozenEstimator of ' if frozen else ''}{type(inner).__name__}; "
            "what can be begun with is an FCMAEPretrainer, or a FrozenEstimator of one or of an "
            "ImageClassifier and its kind."
        )
    if frozen:
        check_is_fitted(inner)
        return
    refuse_fitted(inner)
    if not learns_alone(inner):
        raise ValueError(
            f"pretrained is an unfitted {type(inner).__name__}, which would need labels of its "
            "own; fit it on other images and give FrozenEstimator(classifier)."
        )


def start_from(pretrained: Any, X: Any = None, *, device: str = "auto", seed: int = 0) -> Start:
    """Return what to begin with; an unfitted pretrainer learns from the given images now."""
    if isinstance(pretrained, bool):
        return Start(pretrained)
    if not is_estimator(pretrained):
        return Start(str(pretrained), **described(pretrained))
    check_pretrained(pretrained)
    if isinstance(pretrained, FrozenEstimator):
        return pretrained.estimator._as_start()
    fitted = clone(pretrained)
    mine: dict[str, Any] = {"device": device} if fitted.device == "auto" else {}
    if fitted.random_state is None:
        mine["random_state"] = seed
    return fitted.set_params(**mine).fit(X)._as_start()


def described(path: str | Path) -> dict[str, Any]:
    """Return what a file says of the encoder whose weights it holds; most files say nothing."""
    if Path(path).suffix != ".safetensors" or not Path(path).is_file():
        return {}
    from safetensors import safe_open

    with safe_open(str(path), framework="np") as file:
        text = (file.metadata() or {}).get(KEY)
    return json.loads(text) if text else {}


def write_encoder(path: str | Path, encoder: Any, structure: dict[str, Any]) -> Path:
    """Write weights together with how the encoder is built."""
    from safetensors.numpy import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: weights are written as .safetensors; let the name end so.")
    arrays = {name: value.copy() for name, value in to_arrays(encoder).items()}
    try:
        text = json.dumps(structure)
    except TypeError as error:
        raise ValueError(f"backbone_options cannot be written to a file: {error}.") from error
    save_file(arrays, path, metadata={KEY: text})
    return path
