"""Classical recipes: the shortcut controls, and handcrafted features with a classical model."""

from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC

from hemaest import features, segmentation
from hemaest.recipes._models import BoostedTrees, InnerFolds
from hemaest.recipes._registry import (
    Options,
    Steps,
    class_weight,
    feature_sampler,
    register,
    rendered_cells,
)

HANDCRAFTED = ("stain", "segmenter", "balance")


def color_steps(options: Options) -> Steps:
    """Return color statistics of the whole image, scaled: nothing about shape."""
    return [
        ("features", features.ColorFeatures(n_jobs=options.n_jobs)),
        ("scale", StandardScaler()),
    ]


def segment_step(options: Options) -> tuple[str, Any]:
    """Return the step that outlines the cell: the one requested, or the label-free one."""
    if options.segmenter is None:
        return "segment", segmentation.CellSegmenter(n_jobs=options.n_jobs)
    return "segment", options.segmenter


def handcrafted_steps(options: Options) -> Steps:
    """Return segmentation, all handcrafted features, and a value where a mask was empty."""
    return [
        *rendered_cells(options),
        segment_step(options),
        ("features", named(features.HandcraftedFeatures(n_jobs=options.n_jobs))),
        ("impute", named(SimpleImputer(strategy="median", keep_empty_features=True))),
    ]


def to_normal() -> QuantileTransformer:
    """Return a scaler by ranks: moments and counts have long tails that a plain scaler keeps."""
    return QuantileTransformer(n_quantiles=20, output_distribution="normal", subsample=None)


def named(step: Any) -> Any:
    """Return the step with DataFrames as output, so that models know the names of features."""
    return step.set_output(transform="pandas")


@register(
    "color-knn",
    "control: 5 nearest neighbors on color statistics of the whole image",
    accepts=("stain",),
    param_grid={"classify__n_neighbors": [1, 5, 15]},
    control=True,
)
def _color_knn(options: Options) -> Steps:
    return [*color_steps(options), ("classify", KNeighborsClassifier(5))]


@register(
    "color-logistic",
    "control: logistic regression on color statistics of the whole image",
    accepts=("stain",),
    param_grid={"classify__C": [0.1, 1.0, 10.0]},
    control=True,
)
def _color_logistic(options: Options) -> Steps:
    model = LogisticRegression(max_iter=5000, random_state=options.random_state)
    return [*color_steps(options), ("classify", model)]


@register(
    "handcrafted-forest",
    "random forest on shape, chromatin and color of the segmented cell",
    accepts=HANDCRAFTED,
    param_grid={"classify__max_features": ["sqrt", 0.2], "classify__min_samples_leaf": [1, 3]},
)
def _handcrafted_forest(options: Options) -> Steps:
    model = RandomForestClassifier(
        300,
        class_weight=class_weight(options),
        n_jobs=options.n_jobs,
        random_state=options.random_state,
    )
    sampler = feature_sampler(options, weights=True)
    return [*handcrafted_steps(options), *sampler, ("classify", model)]


@register(
    "handcrafted-xgboost",
    "boosted trees over a logistic regression on handcrafted features: the default baseline",
    accepts=HANDCRAFTED,
    param_grid={"classify__max_depth": [3, 5], "classify__colsample": [0.05, 0.2]},
)
def _handcrafted_xgboost(options: Options) -> Steps:
    # the sampler goes into the model, which splits first and resamples after
    sampler = [step for _, step in feature_sampler(options, weights=True)]
    # 1,267 smooth features of few cells: a linear model alone errs less than trees alone
    settings: dict[str, Any] = {
        "linear_start": True,
        "n_estimators": 60,
        "max_depth": 3,
        "colsample": 0.05,
        "patience": 10,
    }
    model = BoostedTrees(
        **({} if sampler else settings),
        class_weight=class_weight(options),
        resampler=sampler[0] if sampler else None,
        # behind rendered cells nothing can be held out
        early_stopping=not rendered_cells(options),
        n_jobs=options.n_jobs,
        random_state=options.random_state,
    )
    return [*handcrafted_steps(options), ("classify", model)]


@register(
    "handcrafted-svm",
    "support vector machine on shape, chromatin and color of the segmented cell",
    accepts=HANDCRAFTED,
    param_grid={
        "classify__estimator__estimator__C": [1.0, 10.0, 100.0],
        "classify__estimator__estimator__gamma": ["scale", 1e-4],
    },
)
def _handcrafted_svm(options: Options) -> Steps:
    return [
        *handcrafted_steps(options),
        ("scale", named(to_normal())),
        ("classify", support_vectors(options)),
    ]


def support_vectors(options: Options) -> InnerFolds:
    """Return the support vector machine of both recipes, calibrated on group-aware folds.

    What is balanced is the training side of each fold, so the probabilities are calibrated on the
    frequencies of the classes as they are.
    """
    machine = SVC(C=10.0, class_weight=class_weight(options), random_state=options.random_state)
    sampler = [step for _, step in feature_sampler(options, weights=True)]
    if sampler:
        from imblearn.pipeline import make_pipeline as make_resampled

        machine = make_resampled(sampler[0], machine)
    calibrated = CalibratedClassifierCV(machine, ensemble=False)
    return InnerFolds(calibrated, n_folds=3, random_state=options.random_state)


@register(
    "handcrafted-logistic",
    "logistic regression on shape, chromatin and color of the segmented cell",
    accepts=HANDCRAFTED,
    param_grid={"classify__C": [0.003, 0.03, 0.3]},
)
def _handcrafted_logistic(options: Options) -> Steps:
    return [
        *handcrafted_steps(options),
        ("scale", named(StandardScaler())),
        *feature_sampler(options, weights=True),
        (
            "classify",
            LogisticRegression(
                C=0.03,
                class_weight=class_weight(options),
                max_iter=5000,
                random_state=options.random_state,
            ),
        ),
    ]


@register(
    "lbp-svm",
    "support vector machine on binary patterns of the whole image, without segmentation",
    accepts=("stain", "balance"),
    param_grid={"classify__estimator__estimator__C": [1.0, 10.0, 100.0]},
)
def _lbp_svm(options: Options) -> Steps:
    return [
        *rendered_cells(options),
        ("features", features.PatternHistogram(n_jobs=options.n_jobs)),
        ("scale", StandardScaler()),
        ("classify", support_vectors(options)),
    ]
