"""Splits keep groups together and balance classes; file names are read as they were written."""

import itertools

import numpy as np
import pandas as pd
import pytest

from hemaest.groups import (
    GroupedFolds,
    Split,
    check_groups,
    check_labels,
    connect_pairs,
    group_links,
    grouped_holdout,
    infer_groups,
    inner_folds,
    join_copies,
    join_groups,
    split,
)


@pytest.fixture
def patients():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 900)
    y = np.array(["blast", "lymphocyte", "monocyte"])[
        np.where(rng.random(900) < 0.7, groups % 3, rng.integers(0, 3, 900))
    ]
    return y, groups


def shares(y, part):
    return {c: np.mean(y[part] == c) for c in np.unique(y)}


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("grouped", [True, False])
def test_holdout_is_a_balanced_partition(patients, fraction, grouped):
    y, groups = patients
    train, held = grouped_holdout(y, groups if grouped else None, fraction, random_state=3)
    assert sorted([*train, *held]) == list(range(len(y)))
    if grouped:
        assert not set(groups[train]) & set(groups[held])
    assert abs(len(held) / len(y) - fraction) < (0.04 if grouped else 0.002)
    slack = 0.12 if grouped else 0.02
    overall = shares(y, slice(None))
    assert all(abs(v - overall[c]) < slack for c, v in shares(y, held).items())


def test_holdout_keeps_a_class_of_one_group_in_training():
    y = np.array(["rare"] * 3 + ["common"] * 40)
    groups = np.array([0] * 3 + list(np.arange(40) // 2 + 1))
    for seed, g in itertools.product(range(10), [groups, None]):
        train, held = grouped_holdout(y, g, 0.2, random_state=seed)
        assert "rare" in y[train] and len(held)
    for fraction in (0.5, 0.8):
        assert "rare" not in y[grouped_holdout(y, groups, fraction, random_state=0)[1]]
        train, _ = grouped_holdout(["b"] * 10 + ["lonely"], None, fraction, random_state=0)
        assert 10 in train
    # what fills an empty side is none of them either
    train, _ = grouped_holdout(["only", "lonely", "b", "b"], None, 0.1, random_state=0)
    assert {0, 1} <= set(train)
    # where groups hold several classes, the one that any other group can stand in for
    _, held = grouped_holdout(list("bcacccc"), [0, 1, 2, 2, 0, 1, 1], 0.2, random_state=0)
    assert held.tolist() == [1, 5, 6]


def test_holdout_small_and_odd_inputs():
    for n in range(2, 8):
        train, held = grouped_holdout(np.arange(n), None, 0.1, random_state=0)
        assert len(train) >= 1 and len(held) >= 1
    train, held = grouped_holdout([0.5, 1.5, 2.5, 7.1], None, 0.25, random_state=0)
    assert len(held) == 1
    for bad in (0, 1, -0.2):
        with pytest.raises(ValueError, match="between 0 and 1"):
            grouped_holdout([0, 1], None, bad)
    with pytest.raises(ValueError, match="one value for everybody"):
        grouped_holdout([0, 1, 1], ["ann"] * 3, 0.3)


def test_same_seed_same_split_other_seed_other(patients):
    y, groups = patients
    for g in (groups, None):
        first, again, other = (split(None, y, g, random_state=s) for s in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize("sizes", [(0.8, 0.1, 0.1), (0.7, 0.1, 0.2), (0.5, 0.5)])
def test_split_meets_its_sizes_and_splits_no_group(patients, sizes):
    y, groups = patients
    for g, slack in ((groups, 0.04), (None, 0.002)):
        parts = split(y, y, g, sizes=sizes, random_state=0)
        assert isinstance(parts, Split) and sorted(np.concatenate(parts)) == list(range(len(y)))
        for part, size in zip(parts, sizes, strict=True):
            assert abs(len(part) / len(y) - size) < slack
        if g is not None:
            for a, b in itertools.combinations(parts, 2):
                assert not set(g[a]) & set(g[b])
    with pytest.raises(ValueError, match="sizes"):
        split(None, y, sizes=(1.0,))


def test_names_of_groups_do_not_matter(patients):
    y, groups = patients
    names = np.array([f"patient {g:03d}" for g in groups], dtype=object)
    plain, named = (split(None, y, g, random_state=0) for g in (groups, names))
    for a, b in zip(plain, named, strict=True):
        np.testing.assert_array_equal(a, b)


def test_folds_cover_each_image_once_a_repeat(patients):
    y, groups = patients
    folds = GroupedFolds(n_splits=4, n_repeats=2, random_state=0)
    for g in (groups, None):
        parts = list(folds.split(None, y, g))
        assert len(parts) == folds.get_n_splits() == 8
        for repeat in (parts[:4], parts[4:]):
            assert sorted(np.concatenate([test for _, test in repeat])) == list(range(len(y)))
        assert not np.array_equal(parts[0][1], parts[4][1])
        for train, test in parts:
            assert not set(train) & set(test)
            assert g is None or not set(g[train]) & set(g[test])
            assert set(y[test]) == set(y)


def test_folds_serve_scikit_learn_under_both_routings(patients):
    import sklearn
    from sklearn.dummy import DummyClassifier
    from sklearn.model_selection import cross_val_score

    y, groups = patients
    X = np.zeros((len(y), 1))
    cv = GroupedFolds(n_splits=3, random_state=0)
    plain = cross_val_score(DummyClassifier(), X, y, groups=groups, cv=cv)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_val_score(DummyClassifier(), X, y, params={"groups": groups}, cv=cv)
    np.testing.assert_array_equal(plain, routed)
    assert "n_repeats=1" in repr(cv)


def test_folds_and_splits_need_no_labels_and_count_the_images(patients):
    _, groups = patients
    for g in (groups, None):
        folds = list(GroupedFolds(n_splits=3, random_state=0).split(groups, None, g))
        assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(groups)))
        assert sum(map(len, split(groups, None, g, random_state=0))) == len(groups)
    for call in (GroupedFolds(n_splits=2).split, split):
        with pytest.raises(ValueError, match="X has 7 images and y has 4 labels"):
            list(call(np.zeros(7), [0, 1, 0, 1]))
        with pytest.raises(ValueError, match="both None"):
            list(call(None, None))
    for bad in (0, 1.5):
        with pytest.raises(ValueError, match="n_repeats"):
            GroupedFolds(n_repeats=bad)
    with pytest.raises(ValueError, match="sizes"):
        split(None, groups, sizes=(0.9, np.nan))


@pytest.mark.parametrize(
    "y",
    [
        ["blast", None] * 3,
        ["blast", np.nan] * 3,
        [0.0, np.nan] * 3,
        pd.Series(["blast", pd.NA] * 3, dtype="string"),
    ],
)
def test_missing_labels_are_named(y):
    for call in (GroupedFolds(n_splits=2).split, split):
        with pytest.raises(ValueError, match="3 of 6 labels are missing .* of images 1, 3, 5"):
            list(call(None, y))
    with pytest.raises(ValueError, match=r"y has shape \(6, 3\)"):
        split(None, np.eye(6, 3, dtype=int))


def test_check_groups_refuses_what_cannot_be_groups():
    with pytest.raises(ValueError, match="one group for each image"):
        check_groups([1, 2], 3)
    with pytest.raises(ValueError, match="missing"):
        check_groups(["a", None, "b"], 3)
    with pytest.raises(ValueError, match="missing"):
        check_groups([1.0, np.nan, 2.0], 3)
    with pytest.raises(ValueError, match="2 of 4 groups are missing .* of images 1, 3"):
        check_groups(["ann", np.nan, "bob", np.nan], 4)
    with pytest.raises(ValueError, match="1 of 2 groups are missing"):
        check_groups(pd.Series(["ann", pd.NA], dtype="string"), 2)


@pytest.mark.parametrize(
    ("names", "groups", "source"),
    [
        (["a/UID_H10_3_2_hem.bmp", "b/UID_10_3_2_all.bmp"], ["H10", "10"], "patient"),
        (
            [
                "TRAIN/EOSINOPHIL/_0_207.jpeg",
                "TRAIN/EOSINOPHIL/_0_9.jpeg",
                "TEST/EOSINOPHIL/_0_1.jpeg",
            ],
            ["TRAIN/EOSINOPHIL/0", "TRAIN/EOSINOPHIL/0", "TEST/EOSINOPHIL/0"],
            "photograph",
        ),
        (
            ["MONOCYTE/_1_2.jpeg", "EOSINOPHIL/_1_9.jpeg"],
            ["MONOCYTE/1", "EOSINOPHIL/1"],
            "photograph",
        ),
        (["x/95-5-25-1_23_2.jpg", "y/95-5-25-1_24_1.jpg"], ["95-5-25-1"] * 2, "smear"),
        (["20190527_162951_0.jpg", "20190528_1_0.jpg"], None, "none"),
        (["patient_007/1.png", "Patient-7/2.png"], ["7", "7"], "patient"),
        (
            [r"TRAIN\MONOCYTE\_1_2.jpeg", r"TRAIN\MONOCYTE\_1_9.jpeg"],
            ["TRAIN/MONOCYTE/1"] * 2,
            "photograph",
        ),
        (["WBC-Benign-001.jpg", "WBC-Benign-002.jpg"], None, "none"),
    ],
)
@pytest.mark.filterwarnings("ignore:rule='auto' puts all")
def test_known_file_names(names, groups, source):
    found, how = infer_groups(names, return_source=True)
    assert how == source
    if groups is None:
        assert len(set(found)) == len(names)
    else:
        assert found.tolist() == groups


def test_rules_of_the_user():
    names = ["lab1/ann_1.png", "lab1/bob_1.png", "lab2/ann_1.png"]
    assert infer_groups(names, r"^(.+?)/(.+)_").tolist() == ["lab1/ann", "lab1/bob", "lab2/ann"]
    assert infer_groups(names, "folder").tolist() == ["lab1", "lab1", "lab2"]
    with pytest.raises(ValueError, match="does not fit 3 of 3"):
        infer_groups(names, r"^(\d+)_")
    with pytest.raises(ValueError, match="regular"):
        infer_groups(names, "(")
    with pytest.warns(UserWarning, match="cannot be split"):
        infer_groups(names[:2], "folder")


def test_what_is_no_list_of_file_names_is_refused(rng):
    with pytest.raises(TypeError, match="one path, 'a.png'"):
        infer_groups("a.png")
    for bad in (np.nan, None, "", 7):
        with pytest.raises(ValueError, match=r"filenames\[1\] is .* no path"):
            infer_groups(["patient_1_a.png", bad])
    images = rng.integers(0, 255, (2, 20, 20, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="3 file names and 2 images"):
        infer_groups(["a.png", "b.png", "c.png"], images=images)


def test_a_rule_that_fits_most_names_is_not_dropped_in_silence():
    names = [
        "UID_7_1_1_all.bmp",
        "UID_7_2_1_all.bmp",
        "UID_H3_1_1_hem.bmp",
        "UID_7_2_1_all (2).bmp",
    ]
    with pytest.warns(UserWarning, match=r"'cnmc' \(patient\) fits all but 1 of 4 .*1_all \(2\)"):
        found, source = infer_groups(names, return_source=True)
    assert source == "none" and len(set(found)) == 4
    with pytest.warns(UserWarning, match=r"does not fit 1 of 4 file names \(UID_7_2_1_all \(2\)\)"):
        found, source = infer_groups(names, "cnmc", unmatched="own", return_source=True)
    assert source == "patient" and found.tolist() == ["7", "7", "H3", "UID_7_2_1_all (2)"]
    with pytest.raises(ValueError, match="does not fit 1 of 4"):
        infer_groups(names, "cnmc")
    with pytest.raises(ValueError, match="'raise' or 'own'"):
        infer_groups(names, "cnmc", unmatched="drop")
    with pytest.warns(UserWarning, match="does not fit 2"):
        assert infer_groups(["a", "b"], "cnmc", unmatched="own", return_source=True)[1] == "none"


def test_joined_groups_are_the_finest_that_divide_neither(rng):
    for _ in range(20):
        a, b = (np.unique(codes, return_inverse=True)[1] for codes in rng.integers(0, 12, (2, 20)))
        joined = join_groups(a, b)
        same = (a[:, None] == a) | (b[:, None] == b)
        for _ in range(5):  # the transitive closure, by squaring
            same = (same.astype(int) @ same) > 0
        np.testing.assert_array_equal(joined[:, None] == joined, same)
        linked = connect_pairs([*group_links(a), *group_links(b)], 20)
        np.testing.assert_array_equal(linked[:, None] == linked, same)


def test_copies_join_the_groups_they_lie_in():
    X = np.zeros((4, 1, 1, 3), np.uint8)
    X[1], X[2] = 1, 2
    assert join_copies(X).tolist() == [0, 1, 2, 0]
    assert join_copies(X, ["ann", "bob", "eve", "bob"]).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("every_class", [True, False])
def test_inner_folds_divide_no_group_and_hold_each_row_out_once(patients, every_class):
    y, groups = patients
    folds = inner_folds(y, groups, 4, random_state=0, every_class=every_class)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(y)))
    assert not any(set(groups[train]) & set(groups[test]) for train, test in folds)


def test_inner_folds_of_a_class_in_one_group_can_still_train_on_it():
    y = np.array(["rare"] * 4 + ["common"] * 20)
    groups = np.array([0] * 4 + list(np.arange(20) // 2 + 1))
    with pytest.warns(UserWarning, match="no training row of rare"):
        folds = inner_folds(y, groups, 3, random_state=0, every_class=True)
    assert all("rare" in y[train] for train, _ in folds)
    with pytest.raises(ValueError, match="rare has a single row"):
        inner_folds(y[3:], groups[3:], 3, random_state=0, every_class=True)
    with pytest.raises(ValueError, match="all 4 images are of one group"):
        inner_folds(y[:4], groups[:4], 3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "compare requires y to be passed"),
        (["a", None, "b"], "1 of 3 labels are missing .* of images 1"),
        ([1.0, 2.0, np.nan], "1 of 3 labels are missing .* of images 2"),
        (pd.Series(["a", pd.NA, "b"], dtype="string"), "1 of 3 labels are missing"),
        (["a", 1, "b"], "int, str; labels are all strings or all numbers. Row 1 has 1"),
        ([b"a", b"b", "c"], "y holds bytes"),
        ([0.0, np.inf, 1.0], "infinity"),
        ([0.5, 0.7, 0.1], "Unknown label type"),
        (["a", "b"], "3 images but 2 labels; give one label each"),
        (["a", "a", "a"], "one class only, 'a'"),
    ],
)
def test_labels_that_cannot_be_learned_from_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_labels(y, 3, "compare", min_classes=2)


@pytest.mark.parametrize("y", [["a", "b", "a"], [10, 20, 30], np.array([1, 2, 1], np.int32)])
def test_labels_of_any_kind_pass_unchanged(y):
    labels = check_labels(y, 3)
    assert labels.tolist() == list(y) and labels.ndim == 1
