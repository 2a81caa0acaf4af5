"""scikit-learn's own estimator checks, through the adapter; a failure names its replacement."""

import pytest
from public import estimator_classes, make
from rows_as_images import adapt
from sklearn.utils.estimator_checks import parametrize_with_checks

# check -> the check of ours that stands for it, for all estimators
REPLACED: dict[str, str] = {}
# the same for one estimator
REPLACED_FOR: dict[str, dict[str, str]] = {}


def adapters():
    for name in sorted(estimator_classes()):
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
