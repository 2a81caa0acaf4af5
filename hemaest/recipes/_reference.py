"""Five published systems as recipes, with their authors' settings where these are known.

What the authors got wrong around them (what was split, scored or chosen on what) is no part of a
recipe: a recipe learns what it learns inside the training fold.
"""

from dataclasses import replace

from hemaest.recipes._classical import handcrafted_steps
from hemaest.recipes._deep import asked
from hemaest.recipes._ensembles import mixed_vote
from hemaest.recipes._pretrained import enhanced_wpat
from hemaest.recipes._registry import Options, Steps, register

NET = ("image_size", "balance")


@register(
    "r0-reinhard-resnet50",
    "B-ALL subtypes: Reinhard normalization, then ResNet-50 tuned from ImageNet",
    accepts=NET,
    param_grid={"classify__lr": [1e-4, 1e-3]},
)
def _r0(options: Options) -> Steps:
    from hemaest.deep import ResNet50Classifier
    from hemaest.stain import ReinhardNormalizer

    settings = asked(
        options, ResNet50Classifier, pretrained=True, max_epochs=5, batch_size=32, lr=1e-3
    )
    return [
        ("stain", ReinhardNormalizer(n_jobs=options.n_jobs)),
        ("classify", ResNet50Classifier(weight_decay=0.0, **settings)),
    ]


@register(
    "r1-detect-segment-classify",
    "types from smear fields: find the leukocyte, outline it, let a net and its measures vote",
    accepts=("stain", "segmenter", "balance", "image_size"),
    param_grid={"classify__weights": [(1, 1), (2, 1)]},
)
def _r1(options: Options) -> Steps:
    from hemaest.segmentation import SmearDetector

    segment, *features = handcrafted_steps(options)
    # labelled fields are few: on 280 pbc cells more passes and more pixels each helped
    # and in types as unequal as those of fields, SMOTE helped the models of measures
    longer = replace(
        options,
        max_epochs=options.max_epochs or 100,
        image_size=options.image_size or 96,
        balance="smote" if options.balance is None else options.balance,
    )
    return [
        ("detect", SmearDetector(n_jobs=options.n_jobs)),
        segment,
        ("classify", mixed_vote(longer, features)),
    ]


@register(
    "r2-resnet50",
    "marrow types: ResNet-50 from random weights",
    accepts=("stain", *NET),
    param_grid={"classify__lr": [3e-4, 1e-3]},
)
def _r2_resnet50(options: Options) -> Steps:
    from hemaest.deep import ResNet50Classifier

    settings = asked(options, ResNet50Classifier, max_epochs=25)
    return [("classify", ResNet50Classifier(**settings))]


@register(
    "r2-vit",
    "marrow types: a vision transformer tuned from ImageNet",
    accepts=("stain", *NET),
    param_grid={"classify__lr": [1e-4, 3e-4]},
)
def _r2_vit(options: Options) -> Steps:
    from hemaest.deep import ViTClassifier

    settings = asked(options, ViTClassifier, pretrained=True, max_epochs=25, lr=1e-4)
    return [("classify", ViTClassifier("vit_base_patch16_224", **settings))]


@register(
    "r3-resnet24",
    "four types: the residual net of 24 layers, drawn from every class as often",
    accepts=("stain", "image_size"),
    param_grid={"classify__lr": [5e-4, 1e-3]},
)
def _r3(options: Options) -> Steps:
    from hemaest.deep import ResNet24Classifier

    settings = asked(options)
    return [("classify", ResNet24Classifier(resampler="balanced", **settings))]


@register(
    "r4-alhe-acdbgan-fcmae-wpat",
    "leukemias: local enhancement, a GAN for rare classes, masked pretraining, window attention",
    accepts=("stain", *NET),
    param_grid={"classify__lr": [5e-4, 1e-3]},
)
def _r4(options: Options) -> Steps:
    if options.balance is None:
        options = replace(options, balance="acdbgan")
    return enhanced_wpat(options)
