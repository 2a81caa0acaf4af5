"""Recipes that begin with the network of rendered cells, and what adapts it to a laboratory.

The network that ships (:mod:`hemaest.pretrained`) has seen cells of every type in laboratories of
every kind, all of them rendered. A few labeled cells of a real laboratory then go a long way:
beside handcrafted measurements they need a linear model only. The command line calls
:func:`adapt` and :func:`default_recipe`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler

from hemaest import deep, pretrained, stain
from hemaest._labels import check_labels
from hemaest.images import check_images
from hemaest.recipes._classical import HANDCRAFTED, handcrafted_steps
from hemaest.recipes._deep import requested, with_net
from hemaest.recipes._pipeline import ImagePipeline
from hemaest.recipes._registry import (
    Options,
    Steps,
    class_weight,
    feature_sampler,
    make_recipe,
    register,
)

__all__ = ["adapt", "default_recipe"]

FEW = 100  # cells of a class, below which a network trained from nothing is worse
FINETUNE_ACCEPTS = ("stain", "segmenter", "balance", "image_size", "max_epochs")


def seen_and_measured(options: Options) -> FeatureUnion:
    """Return what the shipped network sees of a crop, beside what is measured of the cell."""
    return FeatureUnion(
        [
            ("embedding", pretrained.cells.BloodCellClassifier(n_jobs=options.n_jobs)),
            ("handcrafted", Pipeline(handcrafted_steps(options))),
        ]
    )


@register(
    "synthetic-linear",
    "logistic regression on the shipped network of rendered cells and handcrafted features",
    accepts=HANDCRAFTED,
    param_grid={"classify__C": [0.003, 0.03, 0.3]},
)
def _synthetic_linear(options: Options) -> Steps:
    model = LogisticRegression(
        C=0.03,
        class_weight=class_weight(options),
        max_iter=5000,
        random_state=options.random_state,
    )
    return [
        ("features", seen_and_measured(options)),
        ("scale", StandardScaler()),
        *feature_sampler(options, weights=True),
        ("classify", model),
    ]


@register(
    "synthetic-finetune",
    "the shipped network of rendered cells, trained further",
    accepts=FINETUNE_ACCEPTS,
    param_grid={"classify__lr": [3e-4, 1e-3], "classify__augment": ["standard", "strong"]},
)
def _synthetic_finetune(options: Options) -> Steps:
    defaults: dict[str, Any] = {"image_size": 96, "max_epochs": 20, "batch_size": 16, "lr": 1e-3}
    net = deep.ImageClassifier(
        "cellnet",
        pretrained="synthetic",
        augment="strong",
        tta=True,
        **requested(options, **defaults),
    )
    return with_net(options, net)


def default_recipe(y: ArrayLike) -> str:
    """Return the recipe to train with where none is named.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    name : str
        ``"synthetic-linear"`` where a class has fewer than 100 cells, else
        ``"handcrafted-xgboost"``.

    Examples
    --------
    >>> from hemaest.recipes import default_recipe
    >>> default_recipe(["monocyte"] * 500 + ["basophil"] * 12)
    'synthetic-linear'
    """
    _, counts = np.unique(np.asarray(y).astype(str), return_counts=True)
    return "synthetic-linear" if counts.min() < FEW else "handcrafted-xgboost"


def adapt(
    X: Any,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    augment: bool = False,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> ImagePipeline:
    """Adapt the shipped network to a laboratory with a few labeled cells of its own.

    Five to a hundred cells a class are enough, and take seconds to two minutes.

    Parameters
    ----------
    X : images
        As :func:`hemaest.images.check_images` takes them: crops of single cells.
    y : array-like of shape (n_samples,)
        Their types, in any words; the model answers in the same.
    groups : array-like of shape (n_samples,), optional
        Patients or smears.
    augment : bool, default=False
        Whether the cells are also learned in other stains, drawn by
        :class:`hemaest.stain.StainAugmenter`: for a laboratory whose stain varies.
    n_jobs : int, optional
        Threads.
    random_state : int or RandomState, optional
        Seed.

    Returns
    -------
    model : ImagePipeline
        The recipe ``"synthetic-linear"``, fitted; :func:`hemaest.persistence.save` keeps it.

    See Also
    --------
    make_recipe : ``"synthetic-finetune"`` trains the network itself, for more labels.

    Examples
    --------
    >>> from hemaest.datasets import make_cells
    >>> from hemaest.recipes import adapt
    >>> cells = make_cells(20, classes=["eosinophil", "lymphocyte"], random_state=0)
    >>> adapt(cells.images, cells.target, random_state=0).score(cells.images, cells.target)
    1.0
    """
    X = check_images(X)
    y = check_labels(y, len(X), "adapt", min_classes=2)
    model = make_recipe("synthetic-linear", n_jobs=n_jobs, random_state=random_state)
    if augment:
        steps = [("augment", stain.StainAugmenter(random_state=random_state)), *model.steps]
        model = ImagePipeline(steps)
    return model.fit(X, y, groups=groups)
