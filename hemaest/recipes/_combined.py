"""Recipes made of others: ensembles of models that err in different ways, and published systems.

No member of an ensemble holds out data for itself (the trees have a fixed number), so the only
inner split is that of the stacking, and it knows the groups. The published systems have their
authors' settings where these are known. What the authors got wrong around them (what was split,
scored or chosen on what) is no part of a recipe: it learns what it learns in the training fold.
"""

from dataclasses import replace
from typing import Any

from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC

from hemaest import deep, segmentation, stain
from hemaest.recipes._classical import HANDCRAFTED, handcrafted_steps, segment_step, to_normal
from hemaest.recipes._deep import cropper, enhanced_wpat, requested, small_net
from hemaest.recipes._models import BoostedTrees, InnerFolds
from hemaest.recipes._pipeline import ImagePipeline
from hemaest.recipes._registry import Options, Steps, feature_sampler, register

PUBLISHED = ("image_size", "balance", "max_epochs")


def _trees(options: Options) -> Any:
    return BoostedTrees(
        n_estimators=250,
        early_stopping=False,
        n_jobs=options.n_jobs,
        random_state=options.random_state,
    )


def _discriminant() -> Any:
    return make_pipeline(to_normal(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


def _kernel_logistic(options: Options) -> Any:
    # with a thousand features a wide kernel: nearly linear
    kernel = RBFSampler(gamma=1e-4, n_components=2000, random_state=options.random_state)
    return make_pipeline(to_normal(), kernel, LogisticRegression(C=100.0, max_iter=3000))


@register(
    "ensemble-voting",
    "boosted trees, a discriminant and a kernel logistic model on handcrafted features, voting",
    accepts=HANDCRAFTED,
    param_grid={"classify__weights": [(1, 1, 1), (2, 1, 1)]},
)
def _ensemble_voting(options: Options) -> Steps:
    return [
        *handcrafted_steps(options),
        *feature_sampler(options),
        ("classify", handcrafted_vote(options)),
    ]


def handcrafted_vote(options: Options) -> VotingClassifier:
    """Return three models on features, whose probabilities are averaged."""
    members = [
        ("trees", _trees(options)),
        ("discriminant", _discriminant()),
        ("kernel", _kernel_logistic(options)),
    ]
    return VotingClassifier(members, voting="soft")


@register(
    "ensemble-mixed",
    "a small network on the cut-out cell and the handcrafted ensemble, voting",
    accepts=("stain", "segmenter", "image_size", "max_epochs"),
    param_grid={"classify__weights": [(1, 1), (2, 1)]},
)
def _ensemble_mixed(options: Options) -> Steps:
    segment, *features = handcrafted_steps(options)
    return [segment, ("classify", mixed_vote(options, features))]


def cell_net(options: Options) -> Pipeline:
    """Return a small network that sees the cut-out cell of an outlined image."""
    return Pipeline([("crop", cropper(options.n_jobs)), ("net", small_net(options))])


def mixed_vote(options: Options, features: Steps) -> VotingClassifier:
    """Return a network that sees the cell alone, and models that read its measures.

    What is balanced are the rows of measures.
    """
    net = cell_net(replace(options, balance=None))
    voters = ("vote", handcrafted_vote(options))
    handcrafted = ImagePipeline([*features, *feature_sampler(options), voters])
    return VotingClassifier([("deep", net), ("handcrafted", handcrafted)], voting="soft")


@register(
    "ensemble-views",
    "two small networks, one on the whole image and one on the cut-out cell, voting",
    accepts=("stain", "segmenter", "image_size", "max_epochs"),
    param_grid={"classify__weights": [(1, 1), (2, 1)]},
)
def _ensemble_views(options: Options) -> Steps:
    members = [("image", small_net(options)), ("cell", cell_net(options))]
    return [segment_step(options), ("classify", VotingClassifier(members, voting="soft"))]


@register(
    "ensemble-stacking",
    "boosted trees, a discriminant and a support vector machine, stacked on group-aware folds",
    accepts=HANDCRAFTED,
    param_grid={"classify__estimator__final_estimator__C": [0.1, 1.0]},
)
def _ensemble_stacking(options: Options) -> Steps:
    members = [
        ("trees", _trees(options)),
        ("discriminant", _discriminant()),
        ("vectors", make_pipeline(to_normal(), SVC(C=10.0))),
    ]
    # each member balances its own training side of an inner fold, so no copy crosses it
    sampler = [step for _, step in feature_sampler(options)]
    if sampler:
        from imblearn.pipeline import make_pipeline as make_resampled

        members = [(name, make_resampled(clone(sampler[0]), model)) for name, model in members]
    stack = StackingClassifier(members, final_estimator=make_final(options))
    return [
        *handcrafted_steps(options),
        ("classify", InnerFolds(stack, random_state=options.random_state)),
    ]


def make_final(options: Options) -> LogisticRegression:
    """Return the model that weighs the members."""
    return LogisticRegression(C=0.1, max_iter=5000, random_state=options.random_state)


@register(
    "r0-reinhard-resnet50",
    "B-ALL subtypes: Reinhard normalization, then ResNet-50 tuned from ImageNet",
    accepts=PUBLISHED,
    param_grid={"classify__lr": [1e-4, 1e-3]},
)
def _r0(options: Options) -> Steps:
    settings = requested(
        options, deep.ResNet50Classifier, pretrained=True, max_epochs=5, batch_size=32, lr=1e-3
    )
    return [
        ("stain", stain.ReinhardNormalizer(n_jobs=options.n_jobs)),
        ("classify", deep.ResNet50Classifier(weight_decay=0.0, **settings)),
    ]


@register(
    "r1-detect-segment-classify",
    "types from smear fields: find the leukocyte, outline it, let a network and its measures vote",
    accepts=("stain", "segmenter", "balance", "image_size", "max_epochs"),
    param_grid={"classify__weights": [(1, 1), (2, 1)]},
)
def _r1(options: Options) -> Steps:
    if isinstance(options.balance, str) and options.balance == "rendered":
        raise ValueError(
            'balance="rendered" draws single cells, and this recipe takes whole fields; balance '
            "the rows of measures, by 'smote' or 'oversample'."
        )
    segment, *features = handcrafted_steps(options)
    # labeled fields are few: on 280 pbc cells more passes and more pixels each helped
    # and in types as unequal as those of fields, SMOTE helped the models of measures
    longer = replace(
        options,
        max_epochs=options.max_epochs or 100,
        image_size=options.image_size or 96,
        balance="smote" if options.balance is None else options.balance,
    )
    return [
        ("detect", segmentation.SmearDetector(n_jobs=options.n_jobs)),
        segment,
        ("classify", mixed_vote(longer, features)),
    ]


@register(
    "r2-resnet50",
    "marrow types: ResNet-50 from random weights",
    accepts=("stain", *PUBLISHED),
    param_grid={"classify__lr": [3e-4, 1e-3]},
)
def _r2_resnet50(options: Options) -> Steps:
    settings = requested(options, deep.ResNet50Classifier, max_epochs=25)
    return [("classify", deep.ResNet50Classifier(**settings))]


@register(
    "r2-vit",
    "marrow types: a vision transformer tuned from ImageNet",
    accepts=("stain", *PUBLISHED),
    param_grid={"classify__lr": [1e-4, 3e-4]},
)
def _r2_vit(options: Options) -> Steps:
    settings = requested(options, deep.ViTClassifier, pretrained=True, max_epochs=25, lr=1e-4)
    return [("classify", deep.ViTClassifier("vit_base_patch16_224", **settings))]


@register(
    "r3-resnet24",
    "four types: the residual network of 24 layers, drawn from every class as often",
    accepts=("stain", "image_size", "max_epochs"),
    param_grid={"classify__lr": [5e-4, 1e-3]},
)
def _r3(options: Options) -> Steps:
    settings = requested(options)
    return [("classify", deep.ResNet24Classifier(resampler="balanced", **settings))]


@register(
    "r4-alhe-acdbgan-fcmae-wpat",
    "leukemias: local enhancement, a GAN for rare classes, masked pretraining, window attention",
    accepts=("stain", *PUBLISHED),
    param_grid={"classify__lr": [5e-4, 1e-3]},
)
def _r4(options: Options) -> Steps:
    if options.balance is None:
        options = replace(options, balance="acdbgan")
    return enhanced_wpat(options)
