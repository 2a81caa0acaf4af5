"""scikit-learn's own estimator checks, through the adapter; a failure names its replacement."""

import pytest
from public import estimator_classes, make
from rows_as_images import adapt
from sklearn.utils.estimator_checks import parametrize_with_checks

# check -> the check of ours that stands for it, for all estimators
REPLACED: dict[str, str] = {}
# the same for one estimator
REPLACED_FOR: dict[str, dict[str, str]] = {
    "ImageClassifier": {
        "check_classifiers_train": "test_it_learns_what_is_easy: one epoch on rows is short",
    }
}
# the same for what needs more of float32 than it holds: 1e-7 between batches of different sizes is
# met by one build of torch and not by the next, so these are not run at all
BELOW_ROUNDING = {
    "check_methods_sample_order_invariance": "test_an_answer_does_not_depend_on_the_other_images",
    "check_methods_subset_invariance": "test_an_answer_does_not_depend_on_the_other_images",
}
NETS = {"ImageClassifier", "FCMAEPretrainer"}
# the code of ImageClassifier with other defaults
SAME_CODE = {"ResNet24Classifier", "ResNet50Classifier", "ViTClassifier", "WPATClassifier"}


def adapters(networks):
    for name in sorted(set(estimator_classes()) - SAME_CODE):
        if (name in NETS) != networks:
            continue
        estimator = make(name)
        adapter = adapt(estimator, 4 if estimator._channels == "map" else 3)
        if adapter is not None:
            yield adapter


def expected(adapter):
    name = type(adapter.estimator).__name__
    return {**REPLACED, **REPLACED_FOR.get(name, {})}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    list(adapters(networks=False)), expected_failed_checks=expected, xfail_strict=True
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    list(adapters(networks=True)), expected_failed_checks=expected, xfail_strict=True
)
def test_scikit_learn_check_of_networks(estimator, check):
    name = getattr(check, "func", check).__name__
    if name in BELOW_ROUNDING:
        pytest.xfail(f"replaced by {BELOW_ROUNDING[name]}")
    check(estimator)
