"""What is unlike the training images is found; new patients of the same lab raise few alarms."""

import pickle

import cv2
import numpy as np
import pytest
from sklearn.preprocessing import FunctionTransformer

from hemaest.clinical import NoveltyDetector
from hemaest.datasets import make_cells


@pytest.fixture(scope="module")
def lab():
    cells = make_cells(120, image_size=48, n_patients=40, random_state=0)
    old = cells.groups < np.unique(cells.groups)[24]
    detector = NoveltyDetector(false_alarms=0.1).fit(cells.images[old], groups=cells.groups[old])
    return detector, cells.images[~old], cells.groups[~old]


def test_few_alarms_on_new_patients(lab):
    detector, images, _ = lab
    assert (detector.predict(images) == -1).mean() < 0.3  # 0.1, of sixteen patients


@pytest.mark.parametrize("what", ["blur", "stain", "negative", "noise", "gray"])
def test_what_is_unlike_is_novel(lab, what):
    detector, images, _ = lab
    rng = np.random.default_rng(0)
    strange = {
        "blur": lambda: np.array([cv2.GaussianBlur(image, (0, 0), 2.5) for image in images]),
        "stain": lambda: np.clip(images * [0.75, 1.0, 1.15], 0, 255).astype(np.uint8),
        "negative": lambda: 255 - images,
        "noise": lambda: rng.integers(0, 256, images.shape).astype(np.uint8),
        "gray": lambda: np.repeat(images.mean(3, keepdims=True), 3, axis=3).astype(np.uint8),
    }[what]()
    assert (detector.predict(strange) == -1).mean() > 0.9
    assert detector.score_samples(strange).max() < np.median(detector.score_samples(images))


def test_the_rate_of_false_alarms_is_the_stated_one():
    """Patients that differ: images of new ones are called novel about as often as stated."""
    alarms = []
    for seed in range(30):
        rng = np.random.default_rng(seed)

        def draw(n, rng=rng):
            own = rng.normal(0, 1, (n, 1, 5))
            return (own + rng.normal(0, 1, (n, 10, 5))).reshape(-1, 5), np.repeat(np.arange(n), 10)

        X, groups = draw(40)
        detector = NoveltyDetector(false_alarms=0.1).fit(X, groups=groups)
        alarms.append((detector.predict(draw(200)[0]) == -1).mean())
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.02)


def test_smears_are_judged_as_a_whole(lab):
    detector, images, groups = lab
    table = detector.smears(np.concatenate([images, 255 - images[:6]]), [*groups, *["neg"] * 6])
    assert table.loc["neg", "novel"] == 1 and table.loc["neg", "p"] == table["p"].min() < 0.05
    assert table["images"].sum() == len(images) + 6
    assert table["p"].drop("neg").median() > 0.1


def test_embeddings_go_in_beside_or_alone(lab):
    _, images, _ = lab
    rng = np.random.default_rng(0)
    table = rng.normal(0, 1, (60, 4))
    detector = NoveltyDetector(false_alarms=0.1).fit(table)
    assert detector.predict([[9.0, 9.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]]).tolist() == [-1, 1]
    middle = FunctionTransformer(lambda X: X[:, 20:28, 20:28].reshape(len(X), -1)[:, :9] / 255)
    both = NoveltyDetector(middle, false_alarms=0.1).fit(images)
    assert len(both.score_samples(images[:3])) == 3
    with pytest.raises(ValueError, match="must be None"):
        both.fit(table)


def test_a_column_that_never_varied_must_not():
    X = np.column_stack([np.random.default_rng(0).normal(0, 1, 50), np.ones(50)])
    detector = NoveltyDetector(false_alarms=0.1).fit(X)
    assert detector.predict([[0.0, 1.0], [0.0, 1.5]]).tolist() == [1, -1]


def test_what_was_never_missing_must_not_be(lab):
    X = np.random.default_rng(0).normal(0, 1, (50, 2))
    detector = NoveltyDetector(false_alarms=0.1).fit(X)
    assert detector.predict([[0.0, 0.0], [np.nan, 0.0], [np.nan, np.nan]]).tolist() == [1, -1, -1]
    X[::5, 1] = np.nan  # a feature that not every cell has
    assert NoveltyDetector(false_alarms=0.1).fit(X).predict([[0.0, np.nan]]).tolist() == [1]
    with pytest.raises(ValueError, match="3 columns, not 2"):
        detector.predict(np.zeros((1, 3)))


def test_few_groups_are_said_and_it_travels(lab):
    X = np.random.default_rng(0).normal(0, 1, (50, 3))
    with pytest.warns(UserWarning, match="5 groups are too few .*at least 19"):
        NoveltyDetector().fit(X, groups=np.arange(50) % 5)
    with pytest.raises(ValueError, match="of one group"):
        NoveltyDetector().fit(X, groups=np.zeros(50))
    with pytest.raises(ValueError, match="at least 3"):
        NoveltyDetector().fit(X[:2])
    detector, images, _ = lab
    scores = detector.score_samples(images)
    np.testing.assert_array_equal(
        scores, pickle.loads(pickle.dumps(detector)).score_samples(images)
    )
    np.testing.assert_allclose(detector.score_samples(images[3:5]), scores[3:5])
    assert len(detector.score_samples(images[:0])) == 0
