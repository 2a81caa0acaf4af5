"""The claim card: how a score was obtained, and the faults that would make it worthless.

``Comparison.claim()`` makes it; saved models carry it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import hemaest

PACKAGES = ("numpy", "scikit-learn", "scikit-image", "torch", "timm", "xgboost", "imbalanced-learn")

Flag = dict[str, str]


@dataclass
class ClaimCard:
    """How one comparison was made.

    Attributes
    ----------
    facts : dict
        Everything on the card, ready for JSON.
    flags : list of dict
        Each with `severity` ("fault" or "caution"), `name` and `text`.
    """

    facts: dict[str, Any]
    flags: list[Flag] = field(default_factory=list)

    def rows(self) -> list[tuple[str, str]]:
        """Return the facts as (what, how) lines."""
        return [(name, _words(value)) for name, value in self.facts.items()]

    def to_markdown(self, path: Any = None) -> str:
        """Return the card as Markdown, and write it where a path is given."""
        lines = ["# Claim card", ""]
        lines += [f"- **{name}**: {words}" for name, words in self.rows()]
        lines += ["", "## Flags", ""]
        lines += [f"- {f['severity']}: {f['text']}" for f in self.flags] or ["- none found"]
        return _write("\n".join(lines) + "\n", path)

    def to_json(self, path: Any = None) -> str:
        """Return the card as JSON, and write it where a path is given."""
        card = {"facts": self.facts, "flags": self.flags}
        return _write(json.dumps(card, indent=2, default=str) + "\n", path)

    def __repr__(self) -> str:
        return self.to_markdown()


def _write(text: str, path: Any) -> str:
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
    return text


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_words(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(v) for v in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def protocol_faults(
    train: Any,
    test: Any,
    *,
    validation: Any = None,
    groups: Any = None,
    reported_on: str = "test",
    random_state: Any = 0,
    estimator: Any = None,
    train_data: Any = None,
    validation_data: Any = None,
) -> list[Flag]:
    """Return the faults of an evaluation that have made published scores worthless.

    Parameters
    ----------
    train, test : int array
        Positions of the images trained on and reported on.
    validation : int array, optional
        Positions that chose the epoch, the parameters or the threshold.
    groups : array, optional
        Patient or smear of every image.
    reported_on : {"test", "validation"}
        Which part the reported score comes from.
    random_state : int or None
        Seed of the split; None is an unsaved seed.
    estimator : estimator, optional
        Checked for class weights together with a sampler.
    train_data, validation_data : object, optional
        torch data sets; one object behind both shares its augmentation.

    Returns
    -------
    flags : list of dict
        Each with `severity`, `name` and `text`.

    Examples
    --------
    >>> from hemaest.evaluation import protocol_faults
    >>> [flag["name"] for flag in protocol_faults([0, 1, 2], [3], validation=[2, 3])]
    ['validation reported as test', 'validation inside training']
    """
    train, test = np.unique(train), np.unique(test)
    flags: list[Flag] = []

    def fault(name: str, text: str) -> None:
        flags.append({"severity": "fault", "name": name, "text": text})

    shared = np.intersect1d(train, test)
    if len(shared):
        fault("test inside training", f"{len(shared)} test images were also trained on.")
    if validation is not None and len(validation):
        validation = np.unique(validation)
        chosen = np.intersect1d(validation, test)
        if reported_on == "validation" or len(chosen):
            fault(
                "validation reported as test",
                "The score comes from images that also chose the epoch, the parameters or the "
                "threshold; it is too high by an unknown amount.",
            )
        inside = np.intersect1d(validation, train)
        if len(inside):
            fault(
                "validation inside training",
                f"{len(inside)} validation images were also trained on: validation says nothing.",
            )
    elif reported_on == "validation":
        fault("validation reported as test", "The score is a validation score.")
    if groups is not None:
        groups = np.asarray(groups)
        shared = np.intersect1d(groups[train], groups[test])
        if len(shared):
            fault("groups split", f"{len(shared)} group(s) lie both in training and in test.")
    if estimator is not None:
        flags += _double_balance(estimator)
    if train_data is not None and _root(train_data) is _root(validation_data):
        fault(
            "one shared data set object",
            "Training and validation read one data set object: setting the transform of one sets "
            "that of the other, so augmentation is either off in training or on in validation.",
        )
    if random_state is None:
        fault("unsaved seed", "The split has no saved seed and cannot be repeated.")
    return flags


def _root(data: Any) -> Any:
    while hasattr(data, "dataset"):
        data = data.dataset
    return data


def parts(estimator: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Walk through an estimator and all estimators inside it."""
    yield name, estimator
    if hasattr(estimator, "get_params") and not isinstance(estimator, type):
        inside = estimator.get_params(deep=False)
        for key, value in inside.items():
            items = value if isinstance(value, (list, tuple)) else [(key, value)]
            for item in items:
                label, child = (
                    item[:2] if isinstance(item, tuple) and len(item) > 1 else (key, item)
                )
                if hasattr(child, "get_params") and not isinstance(child, type):
                    yield from parts(child, f"{name}.{label}" if name else str(label))


def _double_balance(estimator: Any) -> list[Flag]:
    weighted, sampled = [], []
    for name, part in parts(estimator):
        if hasattr(part, "fit_resample"):
            sampled.append(name or type(part).__name__)
        if hasattr(part, "get_params") and part.get_params(deep=False).get("class_weight"):
            weighted.append(name or type(part).__name__)
    if not (weighted and sampled):
        return []
    text = f"Imbalance is corrected twice: weights in {weighted[0]}, a sampler in {sampled[0]}."
    return [{"severity": "fault", "name": "both weights and sampler", "text": text}]


def weights_used(estimator: Any) -> dict[str, Any]:
    """Name, license and hash of every set of ready-made weights inside an estimator."""
    found: dict[str, Any] = {}
    for name, part in parts(estimator):
        params = part.get_params(deep=False) if hasattr(part, "get_params") else {}
        weights = params.get("pretrained")
        if isinstance(weights, (str, Path)):
            path = Path(weights)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
            found[name or "weights"] = {"file": path.name, "sha256": digest}
        elif weights is True:
            backbone = params.get("convnet") or params.get("backbone")
            found[name or "weights"] = _timm_weights(str(backbone))
        elif type(part).__name__ == "FrozenEstimator":
            found[name or "part"] = f"{type(part.estimator).__name__}, fitted before the split"
    for name, part in _pools(estimator).items():
        pool = f"trained on the same {len(part.extra_images)} extra images in every fold"
        found[name] = f"{type(part).__name__}, {pool}"
    return found


def _pools(estimator: Any) -> dict[str, Any]:
    """Return the parts that are trained on a pool of images beside those of ``fit``."""
    return {
        name or "pool": part
        for name, part in parts(estimator)
        if hasattr(part, "get_params")
        and part.get_params(deep=False).get("extra_images") is not None
    }


def _timm_weights(backbone: str) -> dict[str, str]:
    try:
        from timm.models import get_pretrained_cfg

        config = get_pretrained_cfg(backbone)
        return {
            "backbone": backbone,
            "source": str(config.hf_hub_id or config.url or "unknown"),
            "license": str(config.license or "unknown"),
        }
    except Exception:  # an unknown name must not spoil the card
        return {"backbone": backbone, "source": "unknown", "license": "unknown"}


def claim_card(comparison: Any) -> ClaimCard:
    """Make the card of a comparison."""
    design, table = comparison.design, comparison.table
    best = table.iloc[0]
    control = table[table["recipe"] == design.control]
    estimators = design.estimators
    sizes = [(len(train), len(test)) for train, test in design.folds]
    facts: dict[str, Any] = {
        "Claim": f"{best['recipe']}: balanced accuracy {best['balanced_accuracy']:.3f} "
        f"({best['low']:.3f} to {best['high']:.3f}), accuracy {best['accuracy']:.3f}",
        "Split unit": design.unit,
        "Protocol": f"{design.protocol}; about {np.mean(sizes, 0)[0]:.0f} images to train and "
        f"{np.mean(sizes, 0)[1]:.0f} to test",
        "Seed": design.seed,
        "Images": f"{len(comparison.true)}, of {len(comparison.classes)} classes",
        "Groups": "none" if design.groups is None else int(len(np.unique(design.groups))),
        "Data hash": f"sha256 {design.data_hash}",
        "Color alone": "not run"
        if not len(control)
        else f"balanced accuracy {control.iloc[0]['balanced_accuracy']:.3f}",
        "Fitted where": {
            name: _fitted_where(estimator, name in design.searched)
            for name, estimator in estimators.items()
        },
        "Test used to choose": "no: epochs, parameters and thresholds were chosen inside training; "
        + _chosen_among(table, design.control),
        "Weights": {n: w for n, e in estimators.items() if (w := weights_used(e))} or "none",
        "Versions": {"hemaest": hemaest.__version__, **_versions()},
    }
    return ClaimCard(facts, _flags(comparison, estimators))


def _chosen_among(table: Any, control: str | None) -> str:
    """Say whether the best was picked from several by the scores shown."""
    rivals = table["recipe"] != control
    if rivals.sum() > 1:
        best = table.iloc[0]["recipe"]
        return f"but {best} was named best of {len(table)} recipes on these same folds"
    return "one recipe was scored" if rivals.all() else "one recipe was scored beside the control"


def _fitted_where(estimator: Any, searched: bool) -> str:
    frozen = [name for name, part in parts(estimator) if type(part).__name__ == "FrozenEstimator"]
    words = "all steps inside each training part"
    if frozen:
        words = f"{', '.join(frozen)} before the split, the rest inside each training part"
    if pooled := list(_pools(estimator)):
        words += f", {', '.join(pooled)} on extra images too"
    return words + (", parameters tuned there too" if searched else "")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _flags(comparison: Any, estimators: dict[str, Any]) -> list[Flag]:
    design, table = comparison.design, comparison.table
    flags: list[Flag] = []
    for train, test in design.folds:
        flags += protocol_faults(
            train,
            test,
            validation=design.validation,
            groups=design.groups,
            random_state=design.seed,
        )

    def caution(name: str, text: str) -> None:
        flags.append({"severity": "caution", "name": name, "text": text})

    for name, estimator in estimators.items():
        flags += [{**f, "text": f"{name}: {f['text']}"} for f in _double_balance(estimator)]
        for part, used in weights_used(estimator).items():
            if "before the split" in str(used):
                caution(
                    "fitted before the split",
                    f"{name}: {part} was fitted before the split; if it saw test images, the score "
                    "is too high.",
                )
        for part, pool in _pools(estimator).items():
            caution(
                "trained on extra images",
                f"{name}: {part} was trained on {len(pool.extra_images)} extra images in every "
                "fold; if test images are among them, the score is too high.",
            )
    if design.unit == "image":
        caution(
            "split by image",
            "The split is image by image: images of one patient or photograph may lie on both "
            "sides, and such scores have been far too high before.",
        )
    elif not design.knows_patients:
        caution(
            "no patients",
            f"No patient or smear is known. Images of one {design.unit_name} were kept together, "
            "but those of one patient may still lie on both sides.",
        )
    groups = comparison.group_codes[comparison.tested]
    if design.groups is not None and (n := len(np.unique(groups))) < 10:
        caution("few groups", f"Only {n} groups were tested: intervals are wide and rough.")
    best, control = table["recipe"].iloc[0], design.control
    if control is None:
        caution("no control", "The color-only control was left out.")
    elif len(table) == 1:
        caution("color only", "Only the color-only control was scored: it sees no morphology.")
    elif best == control or not comparison.clearly_better(best, control):
        caution(
            "color shortcut",
            "The best recipe is not clearly better than a logistic regression on color alone: "
            "the score does not show that morphology is used.",
        )
    failed = [name for name in comparison.recipes if comparison.failed(name)]
    if failed:
        caution("failures", f"These recipes failed and have no score: {', '.join(failed)}.")
    seen, unique = set(), []
    for flag in flags:
        if flag["text"] not in seen:
            seen.add(flag["text"])
            unique.append(flag)
    return unique
