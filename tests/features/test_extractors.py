import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from hemaest.features import (
    ChromatinTexture,
    ColorFeatures,
    HandcraftedFeatures,
    MorphologyFeatures,
    PatternHistogram,
)

FLAGS = ["cell_missing", "nucleus_missing"]


def frame(extractor, X):
    return extractor.set_output(transform="pandas").fit_transform(X)


def test_areas_and_ratio_are_those_of_the_truth(cells):
    X, truth = cells
    got = frame(MorphologyFeatures(), X)
    assert (got["nucleus_area"] == truth["nucleus_area"]).all()
    assert (got["cytoplasm_area"] == truth["cytoplasm_area"]).all()
    assert (got["cell_area"] == truth["cell_area"]).all()
    np.testing.assert_allclose(got["nc_ratio"], truth["nc_ratio"], rtol=1e-12)


def test_lobes_are_those_of_the_truth(cells):
    X, truth = cells
    counted = frame(MorphologyFeatures(), X)["nucleus_lobe_count"]
    assert (counted == truth["n_lobes"]).mean() >= 0.95


@pytest.mark.parametrize("turn", [np.rot90, np.flipud, np.fliplr, lambda a: a.transpose(1, 0, 2)])
def test_turning_a_cell_changes_nothing(cells, turn):
    X = cells[0][:25]
    turned = np.stack([np.ascontiguousarray(turn(image)) for image in X])
    extractor = HandcraftedFeatures()
    one, other = frame(extractor, X), frame(extractor, turned)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_moving_a_cell_changes_no_shape(cells):
    X = cells[0][:10]
    moved = np.pad(X, ((0, 0), (7, 3), (2, 11), (0, 0)))
    keep = [n for n in MorphologyFeatures().get_feature_names_out() if n != "cell_cut"]
    one, other = frame(MorphologyFeatures(), X)[keep], frame(MorphologyFeatures(), moved)[keep]
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_scaling_laws(cells):
    X = cells[0][:20]
    big = X.repeat(2, axis=1).repeat(2, axis=2)
    one, two = frame(MorphologyFeatures(), X), frame(MorphologyFeatures(), big)
    for name in ("nucleus_area", "cell_area", "cytoplasm_area"):
        np.testing.assert_allclose(two[name], 4 * one[name])
    for name in ("nucleus_equivalent_diameter", "cell_equivalent_diameter"):
        np.testing.assert_allclose(two[name], 2 * one[name])
    for name in ("nucleus_feret_max", "cell_hull_perimeter", "nucleus_major_axis"):
        np.testing.assert_allclose(two[name], 2 * one[name], rtol=0.02)
    for name in ("nc_ratio", "nucleus_euler_number"):
        np.testing.assert_allclose(two[name], one[name])
    # a pixel more or less decides over a lobe at the limit
    assert (two["nucleus_lobe_count"] == one["nucleus_lobe_count"]).mean() >= 0.9
    np.testing.assert_allclose(two["nucleus_offset"], one["nucleus_offset"], atol=0.01)


def test_everything_is_finite_and_bounded(cells):
    got = frame(HandcraftedFeatures(), cells[0])
    # small regions have no pixels far apart, nor a thin cytoplasm any at half and quarter size
    far = [n for n in got if "_d3_" in n or "_d5_" in n]
    thin = [n for n in got if n.startswith("cytoplasm") and ("half" in n or "quarter" in n)]
    assert not got.drop(columns=far + thin).isna().any().any()
    for name in got:
        values = got[name]
        if "entropy" in name:
            assert (values.dropna() >= 0).all(), name
        if any(word in name for word in ("homogeneity", "solidity", "fraction", "lbp", "extent")):
            assert values.dropna().between(0, 1).all(), name
        if "eccentricity" in name or name.endswith("ratio") and "axis" in name:
            assert values.dropna().between(0, 1).all(), name


@pytest.mark.parametrize("corner", [(0, 0), (0, 24), (24, 0), (24, 24), (12, 24)])
def test_the_border_of_the_image_is_no_edge_of_the_stain(corner):
    y, x = corner
    image = np.full((1, 40, 40, 4), 200, np.uint8)
    image[..., 3] = 1
    image[0, y : y + 16, x : x + 16, 3] = 2
    row = ChromatinTexture().fit(image).table(image).iloc[0]
    assert row["nucleus_edge_gradient"] == row["nucleus_edge_variation"] == 0
    assert row["nucleus_lbp_8_8"] == row["cytoplasm_lbp_8_8"] == 1


def test_granules_and_vacuoles_of_a_drawn_cell():
    image = np.full((80, 80, 4), 250, np.uint8)
    image[..., 3] = 0
    image[10:70, 10:70] = (225, 215, 235, 1)  # pale lilac cytoplasm
    image[25:45, 25:45] = (80, 40, 120, 2)
    plain = frame(ColorFeatures(), image[None]).iloc[0]
    for kind in ("eosinophilic_fraction", "basophilic_fraction", "vacuole_count"):
        assert plain[f"cytoplasm_{kind}"] == 0
    for y in (14, 20, 52, 60):
        image[y : y + 3, 14:17, :3] = (235, 120, 90)  # four orange granules of 9 pixels
    for x in (50, 56, 62):
        image[55:57, x : x + 2, :3] = (60, 30, 110)  # three purple ones of 4
    image[60:64, 40:44, :3] = 250  # a vacuole of 16
    image[10:13, 40:44, :3] = 250  # a bay, open to the outside
    got = frame(ColorFeatures(), image[None]).iloc[0]
    cytoplasm = 60 * 60 - 400
    assert got["cytoplasm_eosinophilic_fraction"] == pytest.approx(36 / cytoplasm)
    assert got["cytoplasm_eosinophilic_size"] == pytest.approx(9 / 3600)
    assert got["cytoplasm_eosinophilic_density"] == pytest.approx(4000 / cytoplasm)
    assert got["cytoplasm_basophilic_fraction"] == pytest.approx(12 / cytoplasm)
    assert got["cytoplasm_basophilic_density"] == pytest.approx(3000 / cytoplasm)
    assert got["cytoplasm_vacuole_count"] == 1
    assert got["cytoplasm_vacuole_fraction"] == pytest.approx(16 / cytoplasm)


def test_shares_of_colors_sum_to_one(cells):
    got = frame(ColorFeatures(), cells[0][:10])
    for region in ("cytoplasm", "nucleus"):
        for kind in ("a", "l"):
            shares = got[[n for n in got if n.startswith(f"{region}_share_{kind}")]]
            np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize("extractor", [HandcraftedFeatures, PatternHistogram])
def test_a_whole_number_of_any_kind_is_a_number_of_threads(cells, extractor):
    one, two = (extractor(n_jobs=n).fit_transform(cells[0][:2]) for n in (1, np.int64(2)))
    assert one.tobytes() == two.tobytes()


def test_threads_give_the_same_bytes(cells):
    X = cells[0][:30]
    one = HandcraftedFeatures().fit(X).transform(X)
    assert one.tobytes() == HandcraftedFeatures(n_jobs=2).fit(X).transform(X).tobytes()


def test_groups_choose_the_families(cells):
    X = cells[0][:3]
    everything = frame(HandcraftedFeatures(), X)
    parts = [MorphologyFeatures(), ChromatinTexture(), ColorFeatures()]
    names = []
    for part in parts:
        alone = frame(part, X)
        names += list(alone.columns[:-2])
        np.testing.assert_array_equal(everything[alone.columns], alone)
    assert list(everything.columns) == names + FLAGS
    assert len(set(everything.columns)) == everything.shape[1]
    only = frame(HandcraftedFeatures(families=("color",)), X)
    assert list(only.columns) == list(frame(ColorFeatures(), X).columns)


def test_unknown_group_is_answered_with_the_likely_one(cells):
    with pytest.raises(ValueError, match="Did you mean 'chromatin'"):
        HandcraftedFeatures(families=("chromatine",)).fit(cells[0][:1])
    with pytest.raises(ValueError, match="empty"):
        HandcraftedFeatures(families=()).fit(cells[0][:1])


def test_images_without_a_map_are_sent_to_the_segmenter(cells):
    for extractor in (MorphologyFeatures(), ChromatinTexture(), HandcraftedFeatures()):
        with pytest.raises(ValueError, match="CellSegmenter"):
            extractor.fit(cells[0][:2, ..., :3])


@pytest.mark.parametrize("which", ["central", "all"])
def test_empty_maps_keep_their_row(cells, which):
    X = cells[0][:3].copy()
    X[1, ..., 3] = 0
    got = frame(HandcraftedFeatures(cells=which), X)
    assert got["cell_missing"].tolist() == [0, 1, 0]
    assert got.loc[1].drop([*FLAGS, "cell_count"], errors="ignore").isna().all()
    alone = frame(HandcraftedFeatures(cells=which), X[[0, 2]])
    np.testing.assert_array_equal(got.loc[[0, 2]], alone)


@pytest.mark.parametrize("area", [1, 2, 5])
def test_tiny_cells_do_not_break(area):
    X = np.full((1, 9, 9, 4), 100, np.uint8)
    X[..., 3] = 0
    X[0, 4, 2 : 2 + area, 3] = 2
    got = frame(HandcraftedFeatures(), X).iloc[0]
    assert got["nucleus_area"] == area and got["nc_ratio"] == 1
    assert got["nucleus_lobe_count"] == 1


def test_fields_are_summed_up_over_cells(cells):
    X = cells[0][:4]
    field = np.concatenate([X[0], X[1], X[2]], axis=1)
    for k in range(3):
        part = field[:, 128 * k : 128 * (k + 1), 3]
        part[part > 0] += 2 * k
    extractor = MorphologyFeatures(cells="all")
    row = frame(extractor, field[None]).iloc[0]
    single = frame(MorphologyFeatures(), X[:3])
    weights = single["cell_area"]
    assert row["cell_count"] == 3
    assert row["nc_ratio_mean"] == pytest.approx(np.average(single["nc_ratio"], weights=weights))
    assert row["nc_ratio_max"] == pytest.approx(single["nc_ratio"].max())
    table = extractor.table(field[None], per_cell=True)
    assert table["cell"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table["nc_ratio"], single["nc_ratio"])
    box = table.loc[1, ["y0", "x0", "y1", "x1"]].astype(int)
    inside = field[box["y0"] : box["y1"], box["x0"] : box["x1"], 3]
    assert np.isin(inside, [3, 4]).sum() == table.loc[1, "cell_area"]


@pytest.fixture(scope="module")
def features_page():
    path = Path(__file__).parents[2] / "docs" / "features.py"
    spec = importlib.util.spec_from_file_location("features_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


def test_every_feature_has_one_line_that_defines_it(cells, features_page):
    lines = re.findall(r"^\| `(\w+)` \| (.+) \|$", features_page, re.MULTILINE)
    names = set(HandcraftedFeatures().fit(cells[0][:1]).get_feature_names_out()) - set(FLAGS)
    coarse = {n for n in names if re.search("_(half|quarter)_(red|green|blue)_", n)}
    assert {name for name, _ in lines} == names - coarse and len(lines) == len(names - coarse)
    assert f"({len(coarse)} features)" in features_page


def test_the_page_of_features_is_that_of_the_code(features_page):
    path = Path(__file__).parents[2] / "docs" / "features.md"
    assert path.read_text() == features_page, "run python docs/features.py"
