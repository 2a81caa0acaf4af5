"""Lines, limits, kappa and flags, against published examples and plain computations."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from sklearn.metrics import cohen_kappa_score

from hemaest.clinical import agreement
from hemaest.clinical.agreement import (
    BlandAltmanDisplay,
    bland_altman,
    cohen_kappa,
    compare_methods,
    deming,
    flags,
    passing_bablok,
    read_counts,
    reference_limits,
)

# peak expiratory flow of 17 people by two meters, Bland and Altman (1986)
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_bland_altman_of_the_published_example():
    result = bland_altman(MINI, LARGE)
    assert result.bias == pytest.approx(-2.1, abs=0.05)
    assert result.sd == pytest.approx(38.8, abs=0.05)
    # the paper takes two standard deviations for the limits
    assert result.bias - 2 * result.sd == pytest.approx(-79.7, abs=0.1)
    assert result.bias_low == pytest.approx(-22.0, abs=0.15)
    assert result.bias_high == pytest.approx(17.8, abs=0.15)
    low, high = stats.t.interval(0.95, 16, result.bias, result.sd / np.sqrt(17))
    assert (result.bias_low, result.bias_high) == pytest.approx((low, high))


def test_ruemke_limits_of_the_published_table():
    rounded = {
        (0, 100): (0, 4),
        (5, 100): (1, 12),
        (10, 100): (4, 18),
        (5, 200): (2, 10),
        (5, 500): (3, 8),
        (5, 1000): (3, 7),
    }
    for (percent, n), (low, high) in rounded.items():
        found = reference_limits(percent, n)
        assert (np.floor(found[0]), np.ceil(found[1])) == (low, high), (percent, n)
    exact = stats.binomtest(7, 150).proportion_ci(method="exact")
    assert reference_limits(700 / 150, 150) == pytest.approx([100 * exact.low, 100 * exact.high])
    assert reference_limits(100, 50).tolist()[1] == 100
    with pytest.raises(ValueError, match="above 0"):
        reference_limits(5, 0)


def test_kappa_of_the_published_example():
    # Fleiss, Levin and Paik: two raters of 100 patients
    table = np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    first = np.repeat(np.repeat(["a", "b", "c"], 3), table.ravel())
    second = np.repeat(np.tile(["a", "b", "c"], 3), table.ravel())
    kappa, low, high = cohen_kappa(first, second)
    assert kappa == pytest.approx(0.676, abs=5e-4)
    assert low < 0.676 < high and high - low == pytest.approx(4 * 0.088, rel=0.2)
    weighted = cohen_kappa(first, second, weights="quadratic")[0]
    assert weighted == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    assert np.isnan(cohen_kappa(["a", "a"], ["a", "a"])[0])
    assert np.isnan(cohen_kappa(first, second, groups=np.zeros(100))[1])


def plain_passing_bablok(x, y):
    slopes = []
    for i in range(len(x)):
        for j in range(i + 1, len(x)):
            if x[i] == x[j] and y[i] == y[j]:
                continue
            dx, dy = x[j] - x[i], y[j] - y[i]
            slope = np.sign(dy) * np.inf if dx == 0 else dy / dx
            if slope != -1:
                slopes.append(slope)
    slopes.sort()
    n, k = len(slopes), sum(s < -1 for s in slopes)
    if n % 2:
        b = slopes[(n + 1) // 2 + k - 1]
    else:
        b = 0.5 * (slopes[n // 2 + k - 1] + slopes[n // 2 + k])
    return b, float(np.median([b_y - b * b_x for b_x, b_y in zip(x, y, strict=True)]))


@pytest.mark.parametrize("seed", range(4))
def test_passing_bablok_is_the_plain_computation_and_may_be_exchanged(seed):
    rng = np.random.default_rng(seed)
    x = np.round(rng.uniform(0, 30, 25), 0 if seed % 2 else 6)  # ties too
    y = np.round(1.2 * x + 1 + rng.normal(0, 2, 25), 0 if seed % 2 else 6)
    line = passing_bablok(x, y, interval="analytic")
    assert (line.slope, line.intercept) == pytest.approx(plain_passing_bablok(x, y), abs=1e-9)
    back = passing_bablok(y, x, interval="analytic")
    assert back.slope == pytest.approx(1 / line.slope, rel=1e-2 if seed % 2 == 0 else 0.1)
    assert line.slope_low <= line.slope <= line.slope_high
    assert line.intercept_low <= line.intercept <= line.intercept_high


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_deming_has_the_least_weighted_distance(ratio):
    rng = np.random.default_rng(1)
    true = rng.uniform(0, 40, 30)
    x, y = true + rng.normal(0, 1, 30), 0.9 * true + 2 + rng.normal(0, np.sqrt(ratio), 30)
    line = deming(x, y, error_ratio=ratio, n_draws=20)

    def distance(b):
        a = y.mean() - b * x.mean()
        return (((y - a - b * x) ** 2) / (ratio + b**2)).sum()

    slope = optimize.minimize_scalar(distance, bracket=(0.7, 1.1), tol=1e-12).x
    assert line.slope == pytest.approx(slope, abs=1e-6)
    assert line.intercept == pytest.approx(y.mean() - slope * x.mean(), abs=1e-5)


def test_bootstrap_intervals_cover_the_line():
    hit = {"deming": 0, "passing_bablok": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        true = rng.uniform(0, 40, 30)
        x, y = true + rng.normal(0, 2, 30), 1.1 * true + rng.normal(0, 2, 30)
        for name in hit:
            line = getattr(agreement, name)(x, y, n_draws=199)
            hit[name] += line.slope_low <= 1.1 <= line.slope_high
    assert all(52 <= n for n in hit.values()), hit


def test_a_line_that_bends_is_found():
    x = np.linspace(1, 30, 60)
    noise = np.random.default_rng(0).normal(0, 0.5, 60)
    assert passing_bablok(x, x + noise, n_draws=20).linearity_p > 0.05
    assert passing_bablok(x, x**2 / 15 + noise, n_draws=20).linearity_p < 0.05


def test_bias_at_a_decision_point():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 40)
    row = passing_bablok(x, 1.5 * x + rng.normal(0, 0.2, 40), n_draws=199).bias([4.0]).iloc[0]
    assert row["bias"] == pytest.approx(2.0, abs=0.2) and row["low"] < 2.0 < row["high"]


@pytest.mark.parametrize("fit", [passing_bablok, deming])
def test_what_holds_no_line_is_nan(fit):
    for x, y in (([], []), ([1, 2], [1, 2]), ([0] * 5, [0] * 5), ([0] * 5, [1, 2, 3, 4, 5])):
        line = fit(x, y)
        assert np.isnan([line.slope, line.intercept, line.slope_low]).all()
    with pytest.raises(ValueError, match="one result of each method"):
        fit([1, 2, 3], [1, 2])
    assert fit([1, 2, np.nan, 4], [1, 2, 3, 4], n_draws=20).n == 3


def test_flags_count_smears():
    reference = pd.DataFrame({"blast": [0.0, 0.5, 1.0, 20.0, 3.0]})
    test = pd.DataFrame({"blast": [0.0, 1.0, 0.0, 18.0, 2.0]})
    row = flags(reference, test, {"blast": 1.0}).iloc[0]
    assert (row["above"], row["below"]) == (3, 2)
    assert (row["sensitivity"], row["specificity"]) == (pytest.approx(2 / 3), 0.5)
    none = flags(reference, test, {"blast": 50.0}).iloc[0]
    assert np.isnan(none["sensitivity"]) and none["specificity"] == 1
    with pytest.raises(ValueError, match="no column 'ig'"):
        flags(reference, test, {"ig": 1.0})


def two_methods(n=25, seed=0):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([0.3, 3, 1, 5], n) * 100
    columns = ["blast", "lymphocyte", "monocyte", "segmented neutrophil"]
    names = [f"smear {i}" for i in range(n)]
    reference = pd.DataFrame(shares, names, columns)
    test = (reference + rng.normal(0, 2, shares.shape)).clip(0)
    return reference, test.div(test.sum(axis=1), axis=0) * 100


def test_compare_methods_and_its_page(tmp_path):
    reference, test = two_methods()
    result = compare_methods(
        reference,
        test.iloc[::-1],  # the order of smears does not matter
        after=0.5 * (reference + test),
        n_cells=100,
        decisions={"blast": [5.0, 20.0]},
        n_draws=99,
    )
    row = result.table.set_index("type").loc["monocyte"]
    assert row["bias"] == pytest.approx((test - reference)["monocyte"].mean())
    assert row["slope"] == passing_bablok(reference["monocyte"], test["monocyte"]).slope
    assert 0.5 < row["within_chance"] <= 1
    assert result.decisions["at"].tolist() == [5.0, 20.0]
    assert result.flags["type"].tolist() == ["blast"]
    spread = [t.table["limit_high"] - t.table["limit_low"] for t in (result.after, result)]
    np.testing.assert_allclose(2 * spread[0], spread[1])
    html = result.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == html
    assert "After review" in html and html.count("<svg") == 8
    assert len(BlandAltmanDisplay([1.0, 2], [1, 3]).plot().ax_.lines) == 5


def test_a_type_that_is_nowhere_does_not_stop_the_others():
    reference, test = two_methods()
    reference["plasma cell"] = 0.0
    result = compare_methods(reference, test, n_draws=20)
    row = result.table.set_index("type").loc["plasma cell"]
    assert np.isnan(row["slope"]) and row["bias"] == 0
    assert "plasma cell" in result.to_html()
    with pytest.raises(ValueError, match="no smear is in both"):
        compare_methods(reference, test.rename(index=str.upper))
    with pytest.raises(ValueError, match="dragon is no type"):
        compare_methods(reference, test, cuts={"dragon": 1})


def test_counts_are_read_in_every_form(tmp_path):
    wide = read_counts(io.StringIO("smear,blast,lymphocyte\na,10,30\nb,0,40\n"))
    long = read_counts(io.StringIO("smear,type,n\na,blast,10\na,lymphocyte,30\nb,lymphocyte,40\n"))
    cells = "smear,label\n" + "a,blast\n" * 10 + "a,lymphocyte\n" * 30 + "b,lymphocyte\n" * 40
    single = read_counts(io.StringIO(cells))
    for table in (long, single):
        pd.testing.assert_frame_equal(table, wide, check_names=False)
        assert table.attrs["n_cells"] == 40
    shares = read_counts(io.StringIO("smear,blast,lymphocyte\na,25,75\n"))
    assert "n_cells" not in shares.attrs and shares.loc["a", "blast"] == 25
    empty = read_counts(io.StringIO("smear,blast,lymphocyte\na,0,0\nb,1,2\n"))
    assert empty.loc["a"].isna().all()
    for text, says in (
        ("smear,blast\n", "holds no smear"),
        ("smear,blast\na,1\na,2\n", "smears a have several rows"),
        ("smear,blast\na,-1\n", "below 0"),
        ("smear,blast,note\na,1,hello\n", "note are no numbers"),
    ):
        with pytest.raises(ValueError, match=says):
            read_counts(io.StringIO(text))
