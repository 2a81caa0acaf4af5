import json
import tracemalloc

import numpy as np
import pytest
import stain_reference as reference
from renderer_data import STAINS
from scipy.spatial.distance import cdist
from stained import draw_stained

from hemaest._color import rgb_to_lab
from hemaest.datasets import make_cells
from hemaest.images import to_object_array
from hemaest.stain import (
    MacenkoNormalizer,
    ReinhardNormalizer,
    VahadaneNormalizer,
    normalize_together,
)

NORMALIZERS = [ReinhardNormalizer, MacenkoNormalizer, VahadaneNormalizer]
KINDS = ["giemsa", "wright", "yellow", "pale", "noise", "dim noise", "ramps", "blocks", "large"]


def levels(one, other):
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).max()


@pytest.mark.parametrize("kind", KINDS)
def test_reinhard_is_within_a_level_of_plain_float64(tiles, kind):
    normalizer = ReinhardNormalizer().fit([tiles["giemsa"]])
    expected = reference.reinhard(tiles[kind], tiles["giemsa"])
    assert levels(normalizer.transform([tiles[kind]])[0], expected) <= 1


@pytest.mark.parametrize("residual", ["keep", "drop"])
@pytest.mark.parametrize("kind", KINDS)
def test_macenko_is_within_a_level_of_plain_float64(tiles, kind, residual):
    normalizer = MacenkoNormalizer(residual=residual, light="white", preserve_background=False)
    result = normalizer.fit([tiles["giemsa"]]).transform([tiles[kind]])[0]
    assert levels(result, reference.macenko(tiles[kind], tiles["giemsa"], residual)) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("Normalizer", NORMALIZERS)
def test_an_image_normalized_to_itself_is_itself(tiles, Normalizer, kind):
    image, normalizer = tiles[kind][None], Normalizer()
    if kind == "ramps" and Normalizer is not ReinhardNormalizer:
        normalizer.set_params(light="white")  # there is no glass in it
    assert levels(normalizer.fit(image).transform(image), image) <= 1


def test_reinhard_reaches_the_statistics_of_the_target(tiles):
    target = draw_stained(0, light=(225, 220, 215))
    image = draw_stained(0, strength=(0.8, 0.9), light=(215, 225, 210))
    result = ReinhardNormalizer().fit([target]).transform([image])[0]
    inside = (result > 0).all(axis=-1) & (result < 255).all(axis=-1)
    assert inside.mean() > 0.99
    want, got = rgb_to_lab(target).reshape(-1, 3), rgb_to_lab(result).reshape(-1, 3)
    np.testing.assert_allclose(got.mean(axis=0), want.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(got.std(axis=0), want.std(axis=0), atol=0.5)


def test_modified_reinhard_keeps_brightness_and_matches_hue(tiles):
    target, image = tiles["giemsa"], tiles["wright"]
    result = ReinhardNormalizer(method="modified").fit([target]).transform([image])[0]
    want, old, got = (rgb_to_lab(i).reshape(-1, 3) for i in (target, image, result))
    assert abs(got[:, 0].mean() - old[:, 0].mean()) < 0.7
    np.testing.assert_allclose(got[:, 1:].mean(axis=0), want[:, 1:].mean(axis=0), atol=0.7)


def test_macenko_finds_the_stains_that_were_mixed():
    rng = np.random.default_rng(0)
    stains = reference.third(np.array([[0.8, 0.55, 0.2], [0.15, 0.93, 0.3]]))[:2]
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amounts = rng.uniform(0, 1, (20000, 2))
    amounts[:5000, 0] = 0
    amounts[5000:10000, 1] = 0
    image = np.rint(256 * np.exp(-amounts @ stains) - 1).astype(np.uint8).reshape(100, 200, 3)
    for normalizer in (MacenkoNormalizer(), VahadaneNormalizer(sparsity=0.01)):
        normalizer.set_params(light="white")  # every pixel is stained
        found = normalizer.fit(image[None]).target_
        np.testing.assert_allclose(found["basis"], stains, atol=0.03)
        np.testing.assert_allclose(found["concentrations"], 0.98, atol=0.05)


@pytest.mark.parametrize("Normalizer", NORMALIZERS)
def test_normalization_brings_two_stain_styles_together(Normalizer):
    one = np.stack([draw_stained(i) for i in range(4)])
    other = np.stack([draw_stained(i, strength=(0.6, 1.4)) for i in range(4)])
    normalizer = Normalizer().fit(one)

    def look(images):
        return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)

    before = np.abs(look(one) - look(other)).mean()
    after = np.abs(look(one) - look(normalizer.transform(other))).mean()
    assert after < 0.5 * before


@pytest.mark.parametrize("Normalizer", NORMALIZERS)
@pytest.mark.parametrize("aggregate", ["mean", "concat", "medoid"])
def test_permuting_images_changes_nothing(Normalizer, aggregate):
    images = np.stack([draw_stained(i, strength=(0.6 + 0.2 * i, 1)) for i in range(5)])
    order = [3, 0, 4, 1, 2]
    one = Normalizer(aggregate=aggregate).fit(images)
    other = Normalizer(aggregate=aggregate).fit(images[order])
    for name in one.target_:
        np.testing.assert_allclose(one.target_[name], other.target_[name], rtol=2e-3, atol=1e-4)
    assert levels(one.transform(images)[order], one.transform(images[order])) == 0


@pytest.mark.parametrize("Normalizer", NORMALIZERS)
@pytest.mark.parametrize("aggregate", ["mean", "concat", "medoid"])
@pytest.mark.filterwarnings("ignore:.*too little stain")
def test_blank_tiles_change_nothing(Normalizer, aggregate):
    images = np.stack([draw_stained(i) for i in range(3)])
    blanks = np.full_like(images, 255)
    one = Normalizer(aggregate=aggregate).fit(images)
    other = Normalizer(aggregate=aggregate).fit(np.concatenate([blanks, images, blanks]))
    for name in one.target_:
        np.testing.assert_array_equal(one.target_[name], other.target_[name])
    masked = Normalizer(mask="od").fit(images)
    together = normalize_together(np.concatenate([images, blanks]), masked)
    np.testing.assert_array_equal(together[:3], normalize_together(images, masked))
    np.testing.assert_array_equal(together[3:], blanks)


def test_the_medoid_is_the_image_nearest_to_all_others():
    images = np.stack([draw_stained(i, strength=(0.5 + 0.25 * i, 1)) for i in range(5)])
    target = MacenkoNormalizer(aggregate="medoid").fit(images).target_
    alone = [MacenkoNormalizer().fit(images[i : i + 1]).target_ for i in range(5)]
    table = np.array([np.concatenate([np.ravel(v) for v in a.values()]) for a in alone])
    table /= np.maximum(table.std(axis=0), 1e-9)
    nearest = alone[cdist(table, table).sum(axis=1).argmin()]
    for name, value in target.items():
        np.testing.assert_allclose(value, nearest[name])


def test_the_medoid_of_many_images_takes_no_table_of_all_pairs():
    n = 3000
    images = np.random.default_rng(0).integers(0, 255, (n, 8, 8, 3)).astype(np.uint8)
    tracemalloc.start()
    ReinhardNormalizer(aggregate="medoid", n_jobs=1).fit(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * n**2 / 4


@pytest.mark.parametrize("Normalizer", NORMALIZERS)
def test_tiles_of_one_slide_keep_equal_colors_equal(Normalizer):
    slide = draw_stained(5, size=96, strength=(0.6, 1.3))
    tiles = np.stack([slide[:48], slide[40:88]])
    normalizer = Normalizer().fit([draw_stained(0)])
    apart, together = normalizer.transform(tiles), normalize_together(tiles, normalizer)
    assert levels(together[0][40:], together[1][:8]) == 0
    assert levels(apart[0][40:], apart[1][:8]) > 0
    whole = Normalizer(source="fitted", target=normalizer.to_dict()["target"]).fit(tiles)
    np.testing.assert_array_equal(whole.transform(tiles), together)


def test_normalize_together_takes_ragged_tiles_and_refuses_other_steps(tiles):
    ragged = to_object_array([tiles["giemsa"], tiles["giemsa"][:20]])
    result = normalize_together(ragged, ReinhardNormalizer().fit([tiles["wright"]]))
    np.testing.assert_array_equal(result[0][:20], result[1])
    with pytest.raises(TypeError, match="must be a fitted ReinhardNormalizer"):
        normalize_together(ragged, object())


@pytest.mark.parametrize("mask", ["od", "luminosity", lambda rgb: rgb.mean(axis=-1) < 200])
@pytest.mark.parametrize("Normalizer", NORMALIZERS)
def test_background_is_preserved_behind_a_mask(Normalizer, mask):
    images = np.stack([draw_stained(i, strength=(0.7, 1.2)) for i in range(2)])
    normalizer = Normalizer(mask=mask).fit([draw_stained(9)])
    result = normalizer.transform(images)
    background = (images > 238).all(axis=-1)
    np.testing.assert_array_equal(result[background], images[background])
    assert levels(result, images) > 10
    moved = normalizer.set_params(preserve_background=False).transform(images)
    assert not np.array_equal(moved[background], images[background])


def test_background_passes_over_smoothly():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[::-1, None], 3, axis=1)[None, None]
    assert ramp.shape == (1, 1, 256, 3)
    target = {
        "basis": [[0.8, 0.55, 0.2], [0.1, 0.95, 0.3]],
        "concentrations": [1.5, 1.0],
        "light": [0, 0, 0],
    }
    for mask in ("od", "luminosity"):
        normalizer = MacenkoNormalizer(basis="giemsa", target=target, mask=mask).fit(ramp)
        result = normalizer.transform(ramp)[0, 0].astype(int)
        assert np.abs(np.diff(result[:140], axis=0)).max() <= 5


def test_the_cell_map_is_copied(tiles):
    labels = np.zeros((*tiles["giemsa"].shape[:2], 1), np.uint8)
    labels[20:40, 20:40], labels[25:35, 25:35] = 1, 2
    image = np.dstack([tiles["giemsa"], labels])
    for Normalizer in NORMALIZERS:
        normalizer = Normalizer().fit([tiles["wright"]])
        with_map = normalizer.transform([image])[0]
        np.testing.assert_array_equal(with_map[..., 3:], labels)
        np.testing.assert_array_equal(with_map[..., :3], normalizer.transform([tiles["giemsa"]])[0])


def test_views_and_threads_give_the_same_pixels(tiles):
    image = tiles["large"]
    for Normalizer in NORMALIZERS:
        normalizer = Normalizer().fit([tiles["wright"]])
        expected = normalizer.transform([image[:, ::-1].copy()])[0]
        np.testing.assert_array_equal(normalizer.transform([image[:, ::-1]])[0], expected)
        normalizer.set_params(n_jobs=2)
        for result in normalizer.transform([image[:, ::-1]] * 4):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("Normalizer", NORMALIZERS)
def test_json_round_trip(Normalizer, tiles):
    normalizer = Normalizer(mask="od").fit([tiles["giemsa"], tiles["wright"]])
    state = json.loads(json.dumps(normalizer.to_dict()))
    again = Normalizer.from_dict(state)
    images = [tiles["pale"], tiles["yellow"]]
    for one, other in zip(normalizer.transform(images), again.transform(images), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="not a"):
        Normalizer.from_dict({**state, "class": "Other"})
    with pytest.raises(TypeError, match="JSON cannot hold"):
        Normalizer(mask=lambda rgb: rgb[..., 0] < 230).fit([tiles["giemsa"]]).to_dict()


def test_json_holds_the_numbers_of_a_grid(tiles):
    rows = [np.array([0.8, 0.5, 0.2]), np.array([0.1, 0.9, 0.3])]
    for normalizer in (
        VahadaneNormalizer(max_pixels=np.int64(500), preserve_background=np.bool_(False)),
        MacenkoNormalizer(basis=rows, alpha=np.float32(2)),
    ):
        normalizer.fit([tiles["giemsa"]])
        again = type(normalizer).from_dict(json.loads(json.dumps(normalizer.to_dict())))
        one, other = (n.transform([tiles["pale"]])[0] for n in (normalizer, again))
        np.testing.assert_array_equal(one, other)


def test_named_and_own_bases_match_strengths_only(tiles):
    weak, strong = draw_stained(1, strength=(0.7, 0.7)), draw_stained(1)
    for basis in ("giemsa", "wright", "he", [[0.8, 0.5, 0.2], [0.1, 0.9, 0.3]]):
        normalizer = MacenkoNormalizer(basis=basis).fit([strong])
        result = normalizer.transform([weak])[0]
        assert (
            np.abs(result - strong.astype(float)).mean()
            < np.abs(weak - strong.astype(float)).mean()
        )


def test_wrong_input_is_answered(tiles):
    with pytest.raises(ValueError, match="has the keys"):
        ReinhardNormalizer(target={"men": 1}).fit([tiles["giemsa"]])
    with pytest.raises(ValueError, match="finite numbers of shape"):
        ReinhardNormalizer(target={"mean": [1], "std": [1]}).fit([tiles["giemsa"]])
    with pytest.raises(ValueError, match="must return booleans"):
        ReinhardNormalizer(mask=lambda rgb: rgb).fit([tiles["giemsa"]])
    with pytest.raises(ValueError, match="no stain basis|must be"):
        MacenkoNormalizer(basis="gimsa").fit([tiles["giemsa"]])
    target = MacenkoNormalizer().fit([tiles["giemsa"]]).target_
    with pytest.raises(ValueError, match="2 or 3 rows"):
        MacenkoNormalizer(basis=[[1, 2, 3]], target=target).fit([tiles["giemsa"]])


@pytest.mark.parametrize("Normalizer", [MacenkoNormalizer, VahadaneNormalizer])
def test_a_yellow_lamp_is_no_stain(Normalizer):
    """The same cells under white and under yellow light come out alike, glass included."""
    white = draw_stained(0, light=(250, 250, 250))[None]
    yellow = draw_stained(0, light=(250, 245, 170))[None]
    apart = np.abs(white.astype(float) - yellow).mean()
    result = Normalizer(preserve_background=False).fit(white).transform(yellow)
    assert np.abs(result - white.astype(float)).mean() < 0.15 * apart
    textbook = Normalizer(preserve_background=False, light="white").fit(white).transform(yellow)
    assert np.abs(textbook - white.astype(float)).mean() > 0.5 * apart


@pytest.mark.parametrize("Normalizer", [MacenkoNormalizer, VahadaneNormalizer])
def test_the_first_stain_learned_from_cells_is_the_nuclear_dye(Normalizer):
    """In each image alike: a mean of stains in mixed order would be neither of the two."""
    cells = make_cells(16, image_size=64, random_state=0).images
    dye = np.array(STAINS["may-gruenwald-giemsa"]["nucleus"])
    learned = Normalizer().fit(cells).target_["basis"]
    assert learned[0] @ dye / np.linalg.norm(dye) > 0.997
