"""scikit-learn's own estimator checks, through the adapter; a failure names its replacement."""

import pytest
from public import estimator_classes, make
from rows_as_images import adapt
from sklearn.utils.estimator_checks import parametrize_with_checks

# check -> the check of ours that stands for it, for all estimators
REPLACED: dict[str, str] = {}
# the same for one estimator
_TINY_NET = {
    "check_classifiers_train": "test_it_learns_what_is_easy: one epoch on rows of pixels is short",
    "check_methods_sample_order_invariance": "test_an_answer_does_not_depend_on_the_other_images",
    "check_methods_subset_invariance": "test_an_answer_does_not_depend_on_the_other_images: 1e-7 "
    "is below the rounding of float32 convolutions",
}
REPLACED_FOR: dict[str, dict[str, str]] = {"ImageClassifier": _TINY_NET}
# the code of ImageClassifier with other defaults
SAME_CODE = {"ResNet24Classifier", "ResNet50Classifier", "ViTClassifier"}


def adapters():
    for name in sorted(set(estimator_classes()) - SAME_CODE):
        estimator = make(name)
        adapter = adapt(estimator, 4 if estimator._channels == "map" else 3)
        if adapter is not None:
            yield adapter


def expected(adapter):
    name = type(adapter.estimator).__name__
    return {**REPLACED, **REPLACED_FOR.get(name, {})}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(list(adapters()), expected_failed_checks=expected, xfail_strict=True)
def test_scikit_learn_check(estimator, check):
    check(estimator)
