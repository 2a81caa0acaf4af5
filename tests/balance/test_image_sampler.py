import numpy as np
import pytest
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import EditedNearestNeighbours, NearMiss, RandomUnderSampler
from sklearn.base import BaseEstimator, ClassifierMixin

from hemaest.balance import ImageSampler
from hemaest.features import ColorFeatures
from hemaest.images import to_object_array
from hemaest.recipes import ImagePipeline


@pytest.fixture
def uneven(cells):
    X, y, groups = cells
    keep = np.r_[np.flatnonzero(y == "blast"), np.flatnonzero(y != "blast")[:3]]
    return X[keep], y[keep], groups[keep]


def test_every_class_becomes_as_large_and_rows_say_where_from(uneven):
    X, y, _ = uneven
    sampler = ImageSampler(RandomOverSampler(), random_state=0)
    X_new, y_new = sampler.fit_resample(X, y)
    assert (y_new == "blast").sum() == (y_new == "lymphocyte").sum() == 12
    np.testing.assert_array_equal(X_new, X[sampler.sample_indices_])
    np.testing.assert_array_equal(y_new, y[sampler.sample_indices_])


def test_files_stay_files_and_are_not_read(uneven, as_refs, tmp_path):
    X, y, _ = uneven
    refs = as_refs(X)
    for path in tmp_path.iterdir():
        path.unlink()
    X_new, _ = ImageSampler(RandomUnderSampler(), random_state=0).fit_resample(refs, y)
    assert len(X_new) == 6 and {id(r) for r in X_new} <= {id(r) for r in refs}


def test_the_same_rows_as_the_sampler_alone(uneven):
    X, y, _ = uneven
    plain = RandomUnderSampler(random_state=3)
    plain.fit_resample(np.arange(len(y))[:, None], y)
    sampler = ImageSampler(RandomUnderSampler(random_state=3))
    sampler.fit_resample(to_object_array(list(X)), y)
    np.testing.assert_array_equal(sampler.sample_indices_, plain.sample_indices_)


def test_cell_maps_go_along(mapped_cells):
    X, y, _ = mapped_cells
    X_new, _ = ImageSampler(random_state=0).fit_resample(X[:9], y[:9])
    assert X_new.shape == (10, 32, 32, 4)


@pytest.mark.parametrize("sampler", [EditedNearestNeighbours(n_neighbors=3), NearMiss()])
def test_samplers_that_look_at_neighbors_need_features(uneven, sampler):
    X, y, _ = uneven
    with pytest.raises(ValueError, match=r"chooses by neighbors.*features="):
        ImageSampler(sampler).fit_resample(X, y)
    found = ImageSampler(sampler, features=ColorFeatures())
    X_new, y_new = found.fit_resample(X, y)
    assert 0 < len(X_new) == len(y_new) <= len(X)


@pytest.mark.parametrize("features", [None, ColorFeatures()])
def test_samplers_that_make_rows_are_refused(uneven, features):
    X, y, _ = uneven
    with pytest.raises(ValueError, match="SMOTE makes new rows"):
        ImageSampler(SMOTE(k_neighbors=1), features=features).fit_resample(X, y)
    with pytest.raises(ValueError, match="shrinkage"):
        ImageSampler(RandomOverSampler(shrinkage=0.1)).fit_resample(X, y)


class Listener(ClassifierMixin, BaseEstimator):
    """Keeps what its fit was given."""

    def fit(self, X, y, groups=None, sample_indices=None):
        self.classes_ = np.unique(y)
        self.given_ = (X, y, groups, sample_indices)
        return self

    def predict(self, X):
        self.asked_ = X
        return np.repeat(self.classes_[:1], len(X))


def test_groups_follow_the_images_in_a_pipeline(uneven):
    X, y, groups = uneven
    pipeline = ImagePipeline(
        [("balance", ImageSampler(random_state=0)), ("classify", Listener())]
    ).fit(X, y, groups=groups)
    X_new, _, given, rows = pipeline[-1].given_
    names = np.unique(groups, return_inverse=True)[1]
    np.testing.assert_array_equal(given, names[rows])
    np.testing.assert_array_equal(X_new, X[rows])
    pipeline.predict(X[:2])
    np.testing.assert_array_equal(pipeline[-1].asked_, X[:2])
