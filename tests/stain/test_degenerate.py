import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from stained import draw_stained

from hemaest.stain import MacenkoNormalizer, ReinhardNormalizer, VahadaneNormalizer

NORMALIZERS = [
    ReinhardNormalizer(),
    ReinhardNormalizer(mask="od"),
    MacenkoNormalizer(),
    MacenkoNormalizer(mask="luminosity"),
    MacenkoNormalizer(basis="giemsa"),
    VahadaneNormalizer(),
]
CONSTANT = {
    "white": (255, 255, 255),
    "off white": (244, 241, 238),
    "black": (0, 0, 0),
    "violet": (110, 60, 150),
    "saturated red": (255, 0, 0),
    "saturated blue": (0, 0, 255),
}


def constant(color, size=24):
    return np.full((1, size, size, 3), color, np.uint8)


@pytest.fixture(scope="module")
def target():
    return np.stack([draw_stained(i) for i in range(2)])


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
@pytest.mark.parametrize("color", CONSTANT)
def test_one_color_passes_unchanged(normalizer, color, target):
    normalizer.fit(target)
    image = constant(CONSTANT[color])
    if not normalizer.is_degenerate(image)[0]:
        # with known stains one color does give their strength
        assert getattr(normalizer, "basis", None) == "giemsa"
        return
    with pytest.warns(UserWarning, match=r"1 image\(s\) have too little stain"):
        np.testing.assert_array_equal(normalizer.transform(image), image)


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1)])
def test_images_of_one_or_two_pixels_pass_unchanged(normalizer, shape, target):
    image = np.random.default_rng(0).integers(0, 200, (1, *shape, 3)).astype(np.uint8)
    assert normalizer.is_degenerate(image).all()
    with pytest.warns(UserWarning, match="pass unchanged"):
        np.testing.assert_array_equal(normalizer.fit(target).transform(image), image)


@pytest.mark.parametrize("normalizer", NORMALIZERS[1:], ids=repr)
def test_fewer_than_three_stained_pixels_are_degenerate(normalizer):
    image = constant((255, 255, 255))
    image[0, 3, 4], image[0, 9, 9] = (90, 40, 130), (200, 110, 120)
    assert normalizer.is_degenerate(image).all()


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
def test_noise_on_blank_glass_is_not_blown_up(normalizer, target):
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(246, 2, (1, 64, 64, 3)), 0, 255).astype(np.uint8)
    assert normalizer.is_degenerate(image).all()
    with pytest.warns(UserWarning):
        np.testing.assert_array_equal(normalizer.fit(target).transform(image), image)


@pytest.mark.parametrize("normalizer", NORMALIZERS[1:], ids=repr)
@pytest.mark.filterwarnings("ignore:.*too little stain")
def test_a_trace_of_stain_stays_bright(normalizer, target):
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(246, 2, (1, 64, 64, 3)), 0, 255).astype(np.uint8)
    image[0, 10:14, 10:14] = rng.normal((205, 150, 165), 4, (4, 4, 3)).astype(np.uint8)
    result = normalizer.fit(target).transform(image)
    assert result.mean() > 240
    assert result[0, 10:14, 10:14].min() > 20


def test_decision_is_for_each_image_and_the_warning_counts(target):
    X = np.concatenate([target, np.full_like(target, 255), target[:1]])
    normalizer = MacenkoNormalizer().fit(target)
    assert normalizer.is_degenerate(X).tolist() == [False, False, True, True, False]
    before = dict(vars(normalizer))
    with pytest.warns(UserWarning, match=r"2 image\(s\).*\(number 2, 3\)") as caught:
        result = normalizer.transform(X)
    assert caught[0].filename == __file__
    assert vars(normalizer) == before
    np.testing.assert_array_equal(result[:2], normalizer.transform(target))


def test_raise_names_the_images(target):
    normalizer = ReinhardNormalizer(on_degenerate="raise").fit(target)
    X = np.concatenate([target, np.full_like(target, 255)])
    with pytest.raises(ValueError, match=r"2 image\(s\).*number 2, 3.*is_degenerate"):
        normalizer.transform(X)
    with pytest.raises(ValueError, match="learn from"):
        normalizer.fit(X[2:])


@pytest.mark.parametrize("normalizer", NORMALIZERS[:4], ids=repr)
@pytest.mark.filterwarnings("ignore:.*too little stain")
def test_target_mode_neither_blackens_nor_colors_glass(normalizer, target):
    normalizer = normalizer.__class__(mask=normalizer.mask, on_degenerate="target").fit(target)
    for color in ("white", "off white"):
        image = constant(CONSTANT[color])
        np.testing.assert_array_equal(normalizer.transform(image), image)
    assert np.isfinite(normalizer.transform(constant(CONSTANT["violet"])).astype(float)).all()


def test_target_mode_matches_the_strength_of_one_color(target):
    normalizer = MacenkoNormalizer(light="white", on_degenerate="target").fit(target)
    image = constant((160, 150, 200))
    with pytest.warns(UserWarning, match="taken from the target"):
        result = normalizer.transform(image)
    assert result.mean() < image.mean() - 5


@pytest.mark.parametrize("normalizer", NORMALIZERS[:4], ids=repr)
def test_nothing_to_learn_from_is_said(normalizer):
    blanks = np.full((3, 8, 8, 3), 255, np.uint8)
    with pytest.warns(UserWarning, match="nothing was learned"):
        normalizer.fit(blanks)
    assert normalizer.target_ is None
    image = draw_stained(0)[None]
    np.testing.assert_array_equal(normalizer.transform(image), image)


@pytest.mark.parametrize("normalizer", NORMALIZERS[:4], ids=repr)
def test_a_slide_without_stain_gives_no_correction(normalizer, target):
    numbers = normalizer.fit(target).to_dict()["target"]
    whole = type(normalizer)(mask=normalizer.mask, source="fitted", target=numbers)
    with pytest.warns(UserWarning, match="nothing was learned.* unchanged") as caught:
        whole.fit(np.full((3, 8, 8, 3), 255, np.uint8))
    assert caught[0].filename == __file__
    image = draw_stained(3)[None]
    np.testing.assert_array_equal(whole.transform(image), image)


def test_what_cannot_be_learned_leaves_what_was_learned(target):
    blanks = np.full((3, 8, 8, 3), 255, np.uint8)
    new, fitted = (ReinhardNormalizer(on_degenerate="raise") for _ in range(2))
    before = fitted.fit(target).to_dict()
    for normalizer in (new, fitted):
        with pytest.raises(ValueError, match="learn from"):
            normalizer.fit(blanks)
    assert fitted.to_dict() == before
    with pytest.raises(NotFittedError):
        new.transform(target)


@pytest.mark.parametrize("normalizer", NORMALIZERS, ids=repr)
@pytest.mark.parametrize("mask", ["own", "function"])
def test_a_black_frame_is_no_stain_and_stays_black(normalizer, mask, target):
    if mask == "function":
        normalizer = clone(normalizer).set_params(mask=lambda rgb: rgb[..., 1] < 200)
    image = draw_stained(5, basis="wright")
    framed = np.pad(image, ((20, 30), (9, 0), (0, 0)))
    inner = image[3:-3, 3:]  # beside the seam of a frame
    fitted = (clone(normalizer).fit([one]).target_ for one in (framed, inner))
    for one, other in zip(*(numbers.values() for numbers in fitted), strict=True):
        np.testing.assert_allclose(one, other, atol=0.01)
    normalizer.fit(target)
    alone, result = (normalizer.transform([one])[0] for one in (inner, framed))
    assert np.abs(result[23:-33, 12:] - alone.astype(float)).max() <= 1
    result[20:-30, 9:] = 0
    assert not result.any()
