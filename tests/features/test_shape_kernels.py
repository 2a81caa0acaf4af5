import numpy as np
import pytest
from scipy import ndimage as ndi
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import regionprops

from hemaest.features import _lobes, _region, _shape


def region(mask):
    out = np.empty(_region.SIZE)
    framed = np.pad(mask.astype(np.uint8), 1)
    _region.measure_region(framed, *_region.TABLES, out)
    return dict(zip(_region.DEFINITIONS, out, strict=True))


def outline(mask):
    return _shape.loops(np.pad(mask.astype(np.uint8), 1), *_shape.WALK)


def disk(size, radius, shift=(0, 0)):
    yy, xx = np.mgrid[:size, :size] - size / 2
    return np.hypot(yy - shift[0], xx - shift[1]) < radius


def test_region_agrees_with_scikit_image(masks):
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
    for mask in masks:
        if mask.sum() < 2:
            continue
        got = region(mask)
        want = regionprops(mask.astype(np.uint8))[0]
        for ours, theirs in names.items():
            tolerance = 1e-6 if ours in ("minor_axis", "eccentricity") else 1e-9
            assert got[ours] == pytest.approx(want[theirs], rel=1e-9, abs=tolerance), ours
        hu = want.moments_hu
        for k in range(7):
            value = abs(hu[k]) if k == 6 else hu[k]
            assert got[f"hu_{k + 1}"] == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_hull_lengths_match_scipy(masks):
    for mask in masks[::5]:
        ys, xs = np.nonzero(mask)
        steps = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])
        points = (np.stack([ys, xs], 1)[:, None] + steps).reshape(-1, 2)
        hull = ConvexHull(points)
        corners = points[hull.vertices]
        got = region(mask)
        assert got["hull_perimeter"] == pytest.approx(hull.area, rel=1e-9)
        assert got["feret_max"] == pytest.approx(pdist(corners).max(), rel=1e-9)
        heights = -(hull.equations[:, :2] @ corners.T + hull.equations[:, 2:])
        assert got["feret_min"] == pytest.approx(heights.max(axis=1).min(), rel=1e-9)


def test_euler_number_parts_and_holes(masks):
    square = np.ones((3, 3), int)
    for mask in masks:
        points, parts, holes, _ = outline(mask)
        assert parts == ndi.label(mask, square)[1]
        assert parts - holes == regionprops(mask.astype(np.uint8))[0].euler_number
        assert len(points) >= 4


def test_outline_encloses_its_part():
    mask = disk(60, 20)
    points = outline(mask)[0] / 2
    y, x = points.T
    shoelace = abs(np.sum(y * np.roll(x, -1) - x * np.roll(y, -1))) / 2
    # the corners of pixels are cut: a hull of edge midpoints loses 1/8 at each turn
    assert shoelace == pytest.approx(mask.sum(), rel=0.02)


def test_fourier_ellipses_of_an_ellipse():
    yy, xx = np.mgrid[:140, :140] - 70
    mask = (yy / 30) ** 2 + (xx / 60) ** 2 < 1
    out = np.empty(_shape.N_FOURIER)
    _shape.fourier(outline(mask)[0], 71.0, 71.0, out)
    got = dict(zip(_shape.FOURIER_DEFINITIONS, out, strict=True))
    # an ellipse followed evenly along its length is no pure ellipse of the series
    assert 0.5 < got["fourier_1_minor"] < 0.62
    assert got["fourier_2_major"] < 0.01
    assert got["radius_min"] < 1 < got["radius_max"]


def test_fourier_matches_the_discrete_transform():
    """Half axes are |c(n)| +- |c(-n)| of the complex outline, resampled evenly along its length."""
    mask = disk(80, 20) | disk(80, 14, (14, 14))
    points = outline(mask)[0].astype(float)
    z = points[:, 1] + 1j * points[:, 0]
    closed = np.append(z, z[0])
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(closed)))])
    even = np.linspace(0, along[-1], 40_000, endpoint=False)
    c = np.fft.fft(np.interp(even, along, closed.real) + 1j * np.interp(even, along, closed.imag))
    plus, minus = np.abs(c[1:9]), np.abs(c[-1:-9:-1])
    out = np.empty(_shape.N_FOURIER)
    _shape.fourier(points.astype(int), 40.0, 40.0, out)
    first = plus[0] + minus[0]
    assert out[0] == pytest.approx(abs(plus[0] - minus[0]) / first, abs=1e-5)
    np.testing.assert_allclose(out[1:15:2], (plus + minus)[1:] / first, atol=1e-5)
    np.testing.assert_allclose(out[2:15:2], np.abs(plus - minus)[1:] / first, atol=1e-5)


def test_indentations():
    def measure(mask):
        framed = np.pad(mask.astype(np.uint8), 1)
        out = np.empty(_shape.N_INDENTATION)
        diameter = np.sqrt(4 * mask.sum() / np.pi)
        _shape.indentations(outline(mask)[0], _region.hull(framed), diameter, out)
        return out * [diameter, diameter, 1]

    square = np.zeros((40, 40), bool)
    square[5:35, 5:35] = True
    assert measure(square)[0] == pytest.approx(0, abs=0.5)
    assert measure(square)[2] == 0
    notched = square.copy()
    notched[5:15, 18:22] = False  # 10 deep
    assert measure(notched)[0] == pytest.approx(10, abs=1)
    assert measure(notched)[2] == 1
    notched[18:22, 5:15] = False
    assert measure(notched)[2] == 2


def test_squared_distance_is_exact(masks):
    for mask in masks:
        framed = np.pad(mask.astype(np.uint8), 1)
        want = np.rint(ndi.distance_transform_edt(framed) ** 2)
        np.testing.assert_array_equal(_lobes.squared_distance(framed), want)


def lobes(mask):
    out = np.empty(_lobes.SIZE)
    framed = np.pad(mask.astype(np.uint8), 1)
    _lobes.measure_lobes(framed, np.sqrt(4 * mask.sum() / np.pi), out)
    return dict(zip(_lobes.DEFINITIONS, out, strict=True))


def test_lobes_of_drawn_nuclei():
    assert lobes(disk(80, 20))["lobe_count"] == 1
    dumbbell = disk(100, 15, (0, -25)) | disk(100, 12, (0, 20))
    dumbbell[48:52, 25:70] = True  # a bridge 4 pixels wide
    got = lobes(dumbbell)
    assert got["lobe_count"] == 2
    assert got["neck_width"] == pytest.approx(4, abs=1)
    assert got["lobe_smallest"] == pytest.approx(12 / 15, abs=0.05)
    apart = disk(100, 10, (-25, 0)) | disk(100, 10, (0, 20)) | disk(100, 10, (25, 0))
    assert lobes(apart)["lobe_count"] == 3
    assert lobes(apart)["neck_width"] == 0


def test_a_rough_edge_makes_no_lobe():
    rng = np.random.default_rng(1)
    rough = disk(90, 30) & ~(disk(90, 30) & ~disk(90, 28) & (rng.random((90, 90)) < 0.5))
    assert lobes(rough)["lobe_count"] == 1
