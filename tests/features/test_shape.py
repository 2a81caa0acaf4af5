"""Shape features against scikit-image, SciPy and plain geometry."""

import numpy as np
import pytest
from scipy import ndimage as ndi
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import find_contours, regionprops

from hemaest.features import MorphologyFeatures


def measured(masks):
    """Return the shape features of nuclei, one row each."""
    images = []
    for mask in masks:
        height, width = mask.shape
        image = np.zeros((height + 2, width + 2, 4), np.uint8)
        image[1:-1, 1:-1, 3] = 2 * mask
        images.append(image)
    table = MorphologyFeatures().fit(images[:1]).table(images)
    return [row for _, row in table.filter(like="nucleus_").rename(columns=short).iterrows()]


def short(name):
    return name.removeprefix("nucleus_")


def disk(size, radius, shift=(0, 0)):
    yy, xx = np.mgrid[:size, :size] - size / 2
    return np.hypot(yy - shift[0], xx - shift[1]) < radius


@pytest.fixture(scope="module")
def rows(masks):
    return measured(masks)


def test_regions_agree_with_scikit_image(masks, rows):
    assert len(masks) >= 400
    names = {
        "area": "area",
        "perimeter": "perimeter",
        "perimeter_crofton": "perimeter_crofton",
        "equivalent_diameter": "equivalent_diameter_area",
        "major_axis": "axis_major_length",
        "minor_axis": "axis_minor_length",
        "eccentricity": "eccentricity",
        "extent": "extent",
        "hull_area": "area_convex",
        "solidity": "solidity",
    }
    for mask, got in zip(masks, rows, strict=True):
        if mask.sum() < 2:
            continue
        want = regionprops(mask.astype(np.uint8))[0]
        for ours, theirs in names.items():
            tolerance = 1e-6 if ours in ("minor_axis", "eccentricity") else 1e-9
            assert got[ours] == pytest.approx(want[theirs], rel=1e-9, abs=tolerance), ours
        hu = want.moments_hu
        for k in range(7):
            value = abs(hu[k]) if k == 6 else hu[k]
            assert got[f"hu_{k + 1}"] == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_hull_lengths_match_scipy(masks, rows):
    for mask, got in zip(masks[::5], rows[::5], strict=True):
        ys, xs = np.nonzero(mask)
        steps = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
        points = (np.stack([ys, xs], 1)[:, None] + steps).reshape(-1, 2)
        hull = ConvexHull(points)
        corners = points[hull.vertices]
        assert got["hull_perimeter"] == pytest.approx(hull.area, rel=1e-9)
        assert got["feret_max"] == pytest.approx(pdist(corners).max(), rel=1e-9)
        heights = -(hull.equations[:, :2] @ corners.T + hull.equations[:, 2:])
        assert got["feret_min"] == pytest.approx(heights.max(axis=1).min(), rel=1e-9)


def test_euler_number_parts_and_holes(masks, rows):
    for mask, got in zip(masks, rows, strict=True):
        filled = ndi.binary_fill_holes(mask, ndi.generate_binary_structure(2, 1))
        holes = filled.sum() - mask.sum()
        assert got["parts"] == ndi.label(mask, np.ones((3, 3)))[1]
        assert got["euler_number"] == regionprops(mask.astype(np.uint8))[0].euler_number
        # a part that lies inside a hole counts as its area, here but not there
        assert got["hole_fraction"] >= holes / filled.sum() - 1e-12
        assert (got["hole_fraction"] > 0) == (holes > 0)


def test_fourier_ellipses_of_an_ellipse():
    yy, xx = np.mgrid[:140, :140] - 70
    (got,) = measured([(yy / 30) ** 2 + (xx / 60) ** 2 < 1])
    # an ellipse followed evenly along its length is no pure ellipse of the series
    assert 0.5 < got["fourier_1_minor"] < 0.62
    assert got["fourier_2_major"] < 0.01
    assert got["radius_min"] < 1 < got["radius_max"]


def test_fourier_matches_the_discrete_transform():
    """Half axes are |c(n)| +- |c(-n)| of the complex outline, resampled evenly along its length."""
    mask = disk(80, 20) | disk(80, 14, (14, 14))
    (outline,) = find_contours(mask.astype(float), 0.5)
    closed = outline[:, 1] + 1j * outline[:, 0]
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(closed)))])
    even = np.linspace(0, along[-1], 40_000, endpoint=False)
    c = np.fft.fft(np.interp(even, along, closed.real) + 1j * np.interp(even, along, closed.imag))
    plus, minus = np.abs(c[1:9]), np.abs(c[-1:-9:-1])
    first = plus[0] + minus[0]
    (got,) = measured([mask])
    assert got["fourier_1_minor"] == pytest.approx(abs(plus[0] - minus[0]) / first, abs=1e-5)
    for n in range(2, 9):
        major, minor = plus[n - 1] + minus[n - 1], abs(plus[n - 1] - minus[n - 1])
        assert got[f"fourier_{n}_major"] == pytest.approx(major / first, abs=1e-5)
        assert got[f"fourier_{n}_minor"] == pytest.approx(minor / first, abs=1e-5)


def test_indentations():
    square = np.zeros((40, 40), bool)
    square[5:35, 5:35] = True
    notched = square.copy()
    notched[5:15, 18:22] = False  # 10 deep
    twice = notched.copy()
    twice[18:22, 5:15] = False
    found = measured([square, notched, twice])
    depths = [row["indentation_depth"] * row["equivalent_diameter"] for row in found]
    assert depths[0] == pytest.approx(0, abs=0.5) and depths[1] == pytest.approx(10, abs=1)
    assert [row["indentation_count"] for row in found] == [0, 1, 2]


def test_distances_to_the_edge_are_exact(masks, rows):
    for mask, got in zip(masks, rows, strict=True):
        depth = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        assert got["inscribed_radius"] == pytest.approx(depth.max(), rel=1e-12)
        mean = depth[mask].mean() / depth.max()
        assert got["thickness_mean"] == pytest.approx(mean, rel=1e-9)


def test_lobes_of_drawn_nuclei():
    dumbbell = disk(100, 15, (0, -25)) | disk(100, 12, (0, 20))
    dumbbell[48:52, 25:70] = True  # a bridge 4 pixels wide
    apart = disk(100, 10, (-25, 0)) | disk(100, 10, (0, 20)) | disk(100, 10, (25, 0))
    round_, two, three = measured([disk(80, 20), dumbbell, apart])
    assert [row["lobe_count"] for row in (round_, two, three)] == [1, 2, 3]
    assert two["neck_width"] == pytest.approx(4, abs=1)
    assert two["lobe_smallest"] == pytest.approx(12 / 15, abs=0.05)
    assert three["neck_width"] == 0


def test_a_rough_edge_makes_no_lobe():
    rng = np.random.default_rng(1)
    rough = disk(90, 30) & ~(disk(90, 30) & ~disk(90, 28) & (rng.random((90, 90)) < 0.5))
    assert measured([rough])[0]["lobe_count"] == 1
