import numpy as np
import pytest
from scipy.stats import skew

from hemaest import _color
from hemaest.features import ColorFeatures

RNG = np.random.default_rng(0)


def noise_with_map(size=48):
    image = RNG.integers(0, 256, (size, size, 4), dtype=np.uint8)
    image[..., 3] = 0
    image[8:40, 8:40, 3] = 1
    image[16:32, 18:30, 3] = 2
    image[44:47, 44:47, 3] = 3  # another cell: neither surround nor cell
    return image


def channels(image):
    rgb = image[..., :3]
    density = _color.optical_density(rgb).astype(float)
    lab = _color.rgb_to_lab(rgb).astype(float)
    names = ("r", "g", "b", "od_r", "od_g", "od_b", "lightness", "lab_a", "lab_b")
    return dict(zip(names, np.dstack([rgb, density, lab]).transpose(2, 0, 1), strict=True))


def row(extractor, image):
    return extractor.set_output(transform="pandas").fit_transform(image[None]).iloc[0]


def test_statistics_match_numpy_in_every_region():
    image = noise_with_map()
    got = row(ColorFeatures(), image)
    for region, label in (("surround", 0), ("cytoplasm", 1), ("nucleus", 2)):
        inside = image[..., 3] == label
        for name, values in channels(image).items():
            v = values[inside].astype(float)
            np.testing.assert_allclose(got[f"{region}_{name}_mean"], v.mean(), rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(got[f"{region}_{name}_std"], v.std(), rtol=1e-5)
            np.testing.assert_allclose(got[f"{region}_{name}_skewness"], skew(v), atol=1e-4)
        for c, name in enumerate("rgb"):
            for q in (5, 50, 95):
                want = np.percentile(image[..., c][inside], q)
                assert got[f"{region}_{name}_p{q}"] == pytest.approx(want, abs=1e-9)


def test_rgb_statistics_are_exact():
    image = noise_with_map()[..., :3]
    got = row(ColorFeatures(), image)
    assert got["image_r_mean"] == pytest.approx(image[..., 0].mean(), rel=1e-12)
    assert got["image_g_std"] == pytest.approx(image[..., 1].std(), rel=1e-12)
    assert got["image_b_skewness"] == pytest.approx(skew(image[..., 2].ravel().astype(float)))


def test_order_of_pixels_does_not_matter():
    image = noise_with_map()
    turned = np.ascontiguousarray(np.rot90(image))
    color = ColorFeatures().fit(image[None])
    np.testing.assert_allclose(
        color.transform(image[None]), color.transform(turned[None]), rtol=1e-9, atol=1e-9
    )


def test_shares_are_shares_and_white_is_neutral():
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    got = ColorFeatures().set_output(transform="pandas").fit_transform(white).iloc[0]
    assert got["image_od_r_share"] == pytest.approx(1 / 3)
    assert not got.isna().any()


def test_other_kind_of_images_is_refused():
    image = noise_with_map()
    with pytest.raises(ValueError, match="fitted on images of 4 channels and got 3"):
        ColorFeatures().fit(image[None]).transform(image[None, ..., :3])


def test_cells_of_images_without_a_map_cannot_be_listed():
    image = noise_with_map()[None, ..., :3]
    with pytest.raises(ValueError, match=r"ColorFeatures: X has no cell map.*CellSegmenter"):
        ColorFeatures().fit(image).table(image, per_cell=True)


def test_no_cell_gives_a_row_of_nan_and_a_flag():
    image = noise_with_map()
    image[..., 3] = 0
    got = row(ColorFeatures(), image)
    assert got["cell_missing"] == 1 and got["nucleus_missing"] == 1
    assert got.drop(["cell_missing", "nucleus_missing"]).isna().all()


def test_cells_without_nucleus_keep_their_cytoplasm():
    image = noise_with_map()
    image[image[..., 3] == 2, 3] = 1
    got = row(ColorFeatures(), image)
    assert got["nucleus_missing"] == 1 and got["cell_missing"] == 0
    assert np.isnan(got["nucleus_r_mean"]) and not np.isnan(got["cytoplasm_r_mean"])


def test_summary_of_two_equal_cells_is_the_cell():
    one = noise_with_map(48)
    one[one[..., 3] == 3, 3] = 0
    pair = np.concatenate([one, one], axis=1)
    second = pair[:, 48:, 3]
    pair[:, 48:, 3] = np.where(second > 0, second + 2, 0)
    extractor = ColorFeatures(cells="all")
    got = row(extractor, pair)
    alone = row(ColorFeatures(), one)
    assert got["cell_count"] == 2
    assert got["nucleus_g_mean_mean"] == pytest.approx(alone["nucleus_g_mean"])
    assert got["nucleus_g_mean_max"] == pytest.approx(alone["nucleus_g_mean"])
    assert got["nucleus_g_mean_std"] == pytest.approx(0, abs=1e-6)
    cells = extractor.table(pair[None], per_cell=True)
    assert cells[["image", "cell", "x0"]].values.tolist() == [[0, 1, 8], [0, 2, 56]]
    assert cells.loc[1, "nucleus_g_mean"] == pytest.approx(alone["nucleus_g_mean"])


def test_the_central_cell_is_the_one_in_the_middle():
    image = np.full((40, 60, 4), 200, np.uint8)
    image[..., 3] = 0
    image[2:10, 2:10, 3] = 1
    image[15:25, 25:35, 3] = 3
    image[15:25, 25:35, 0] = 10
    assert row(ColorFeatures(), image)["cytoplasm_r_mean"] == 10
