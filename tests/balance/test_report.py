import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from hemaest.balance import generative_report
from hemaest.deep import DeepEmbedding, FCMAEPretrainer, ImageClassifier, WPATClassifier


def draw(n, color, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    images = np.full((n, 16, 16, 3), 230, float)
    for image in images:
        middle = 8 + rng.uniform(-2, 2, 2)
        image[np.hypot(rows - middle[0], columns - middle[1]) < rng.uniform(3, 6)] = color
    return np.clip(images + rng.normal(0, 6, images.shape), 0, 255).astype(np.uint8)


BLUE, RED = (90, 60, 150), (190, 80, 60)
LABELS = np.repeat(["blue", "red"], 30)


def two(seed):
    return np.concatenate([draw(30, BLUE, seed), draw(30, RED, seed + 50)])


@pytest.fixture(scope="module")
def encoder():
    options = {"channels": (8, 8, 16, 16)}
    model = ImageClassifier(
        "cellnet",
        backbone_options=options,
        image_size=16,
        max_epochs=6,
        batch_size=8,
        lr=3e-3,
        precision="float32",
        device="cpu",
        random_state=0,
    )
    return model.fit(two(0), LABELS)


def report(synthetic, encoder, **changes):
    given = {"training": two(0), "training_labels": LABELS, "random_state": 0} | changes
    return generative_report(two(1), synthetic, LABELS, LABELS, encoder=encoder, **given)


def test_real_cells_pass_and_copies_and_noise_are_reported(encoder):
    fresh = report(two(2), encoder).table.set_index("class")
    assert list(fresh.index) == ["blue", "red", "all"]
    assert fresh.loc["all", "memorized"] < 0.1
    assert fresh.loc["all", "memorized_by_chance"] == pytest.approx(1 / 61)
    copies = report(two(0), encoder).table.set_index("class")
    assert (copies["memorized"] == 1).all()
    noise = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3)).astype(np.uint8)
    noisy = report(noise, encoder).table.set_index("class")
    assert noisy.loc["all", "kid"] > 5 * abs(fresh.loc["all", "kid"])
    assert noisy.loc["all", "fid"] > 2 * fresh.loc["all", "fid"]
    assert noisy.loc["all", "precision"] < 0.5 < fresh.loc["all", "precision"]


def test_one_image_again_and_again_has_no_variety(encoder):
    once = np.concatenate([np.repeat(two(3)[i : i + 1], 30, axis=0) for i in (0, 30)])
    table = report(once, encoder).table.set_index("class")
    assert table.loc["blue", "ssim_synthetic"] == pytest.approx(1, abs=1e-4)
    assert table.loc["blue", "distance_synthetic"] == pytest.approx(0, abs=1e-6)
    assert table.loc["blue", "ssim_real"] < 0.9 and table.loc["blue", "distance_real"] > 0.01


@pytest.mark.slow
def test_variety_of_all_looks_at_all_classes_however_they_are_sorted(encoder):
    X = np.concatenate([np.repeat(two(3)[i : i + 1], 210, axis=0) for i in (0, 30)])
    y = np.repeat(["blue", "red"], 210)
    mixed = np.random.default_rng(0).permutation(420)
    given = {"training": two(0), "training_labels": LABELS, "encoder": encoder, "random_state": 0}
    found = [
        generative_report(two(1), X[rows], LABELS, y[rows], **given).table.iloc[-1]
        for rows in (np.arange(420), mixed)
    ]
    # half of the pairs are of two classes
    assert found[0]["distance_synthetic"] > 0.1
    for name in ("ssim_synthetic", "distance_synthetic"):
        assert found[0][name] == pytest.approx(found[1][name], rel=0.3)


def test_real_images_that_were_learned_from_are_reported_and_hide_no_copies(encoder):
    real = two(1)
    real[:2] = two(0)[:2]
    with pytest.warns(UserWarning, match="2 of 60 real images are training images too"):
        found = generative_report(
            real, two(0), LABELS, LABELS, encoder=encoder, training=two(0), training_labels=LABELS
        )
    assert (found.table["memorized"] == 1).all()
    assert found.table["memorized_by_chance"].tolist() == pytest.approx([1 / 59] * 3)


SMALL = {"image_size": 16, "batch_size": 8, "device": "cpu", "random_state": 0}
TINY = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
OF_YOUR_OWN = {
    "resnet24": ImageClassifier("resnet24", max_epochs=1, backbone_options={"width": 8}, **SMALL),
    "wpat": WPATClassifier(
        max_epochs=1, backbone_options={"dim": 16, "heads": 2, "convnet_options": TINY}, **SMALL
    ),
    "embedding": DeepEmbedding("cellnet", pretrained=False, **SMALL),
    "fcmae": FCMAEPretrainer(
        "resnet24", max_epochs=0, decoder_dim=8, backbone_options={"width": 8}, **SMALL
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_YOUR_OWN)
def test_every_fitted_net_of_your_own_measures(name):
    model = OF_YOUR_OWN[name].fit(two(0), LABELS)
    given = {"training": two(0), "random_state": 0}
    found = generative_report(two(1), two(2), encoder=FrozenEstimator(model), **given)
    assert type(model).__name__ in found.encoder
    assert np.isfinite(found.table.drop(columns="class").to_numpy(float)).all()
    once = np.repeat(two(3)[:1], 20, axis=0)
    same = generative_report(two(1), once, encoder=model, **given).table
    assert same["distance_synthetic"].item() == pytest.approx(0, abs=1e-6)
    assert same["distance_real"].item() > 1e-4


def test_classes_that_one_side_lacks_have_their_row(encoder):
    given = {"encoder": encoder, "random_state": 0}
    table = generative_report(two(1), two(2), LABELS, ["blue"] * 60, **given).table
    assert table[["class", "real", "synthetic"]].to_numpy().tolist() == [
        ["blue", 30, 60],
        ["red", 30, 0],
        ["all", 60, 60],
    ]
    assert np.isnan(table["kid"][1]) and table["kid"].notna()[[0, 2]].all()
    one_each = [f"type {i}" for i in range(8)]
    lonely = generative_report(two(1)[26:34], two(2)[26:34], one_each, one_each, **given).table
    assert len(lonely) == 9 and np.isnan(lonely["memorized"]).all()


def test_a_class_may_be_called_all(encoder):
    y = np.repeat(["all", "red"], 30)
    table = generative_report(two(1), two(2), y, y, encoder=encoder, random_state=0).table
    assert table["class"].tolist() == ["all", "red", "all together"]
    assert table["real"].tolist() == [30, 30, 60]


@pytest.mark.slow
def test_labels_of_training_alone_fit_the_encoder_and_every_image_is_looked_at():
    given = {"training": two(0), "training_labels": LABELS, "encoder": "fitted", "random_state": 0}
    found = generative_report(two(1), two(0), **given)
    assert "and their labels" in found.encoder and found.table["memorized"].item() == 1


def test_the_image_shows_the_nearest_training_cell(encoder):
    found = report(two(0), encoder)
    _, synthetic, near = found.images["red"]
    np.testing.assert_array_equal(synthetic, near)
    figure = found.plot()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["blue", "red"]
    assert "not comparable" in str(found) and "ImageClassifier" in found.encoder


def test_without_training_half_of_the_real_ones_stands_for_it(encoder):
    real = two(1)
    same = generative_report(real, real, encoder=encoder, random_state=0)
    assert 0.4 < same.table["memorized"].item() < 0.7
    named = generative_report(real, two(2), LABELS, LABELS, encoder=encoder, random_state=0)
    assert len(named.table) == 3


def test_errors_say_what_to_give(encoder):
    X = two(1)
    with pytest.raises(ValueError, match="Did you mean 'inception'"):
        generative_report(X, X, encoder="inceptoin")
    with pytest.raises(ValueError, match="at least 4"):
        generative_report(X[:3], X)
    with pytest.raises(ValueError, match="or neither"):
        generative_report(X, X, LABELS)
    with pytest.raises(ValueError, match="training_labels"):
        generative_report(X, X, LABELS, LABELS, training=X)
    with pytest.raises(ValueError, match=r"\[0, 1\] and real_labels \['blue', 'red'\] have no"):
        generative_report(X, X, LABELS, np.repeat([0, 1], 30), encoder=encoder)
    with pytest.raises(ValueError, match=r"training_labels \['c'\] have no class in common"):
        generative_report(X, X, LABELS, LABELS, training=X, training_labels=["c"] * 60)
    with pytest.raises(TypeError, match="encoder is a LogisticRegression; it must be one of auto"):
        generative_report(X, X, encoder=LogisticRegression())
    with pytest.raises(NotFittedError):
        generative_report(X, X, encoder=ImageClassifier())
