"""Values come back as they were: type, dtype, order, identity."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from hemaest.persistence import load_data, save_data

rng = np.random.default_rng(0)


def round_trip(value, tmp_path, **more):
    return load_data(save_data(value, tmp_path / "data", **more), **more)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        10**30,
        -0.0,
        0.1,
        float("inf"),
        "Blast \u00e9 \udce4",
        b"\0\xff",
        2 + 3j,
        (1, (2, [3])),
        {"a": 1, 2: "b", (1, 2): None, 0.5: []},
        OrderedDict(b=1, a=2),
        Bunch(images=[1], DESCR="x"),
        {1, 2, "x"},
        frozenset({1}),
        slice(1, None, 2),
        range(3, 9, 2),
        np.float32(0.1),
        np.int8(-3),
        np.str_("x"),
        np.bool_(True),
        np.dtype("<f4"),
        np.float64,
        float,
        Path("a/b"),
    ],
    # not repr: the order of a set differs between the processes that share the tests
    ids=lambda value: type(value).__name__,
)
def test_plain_values(value, tmp_path):
    again = round_trip(value, tmp_path)
    assert again == value
    assert type(again) is type(value)
    assert str(again) == str(value)


def test_nan_stays_nan(tmp_path):
    assert np.isnan(round_trip([float("nan")], tmp_path)[0])


@pytest.mark.parametrize(
    "array",
    [
        rng.normal(size=(3, 4)),
        np.asfortranarray(rng.normal(size=(3, 4))),
        rng.normal(size=(4, 6))[::2, ::3],
        np.zeros((0, 3)),
        np.array(3.5),
        np.array(["a", "\u00e9ab"]),
        np.array([b"x", b"yz"]),
        np.array([1, 2], dtype=">i2"),
        np.array([True, False]),
        np.array(["2020-01-02"], dtype="M8[D]"),
        rng.normal(size=5).astype(np.float16),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_arrays_keep_type_shape_order_and_bits(array, tmp_path):
    again = round_trip({"x": array}, tmp_path)["x"]
    assert again.dtype == array.dtype and again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.f_contiguous == array.flags.f_contiguous or not array.flags.c_contiguous
    assert again.flags.writeable


def test_objects_and_masks(tmp_path):
    objects = np.empty(2, dtype=object)
    objects[:] = [np.arange(3), "x"]
    masked = np.ma.MaskedArray([1.0, 2.0], [True, False])
    first, second = round_trip([objects, masked], tmp_path)
    np.testing.assert_array_equal(first[0], [0, 1, 2])
    assert first[1] == "x"
    assert second.mask.tolist() == [True, False] and second[1] == 2


def test_what_is_one_object_stays_one(tmp_path):
    shared = np.arange(4)
    a, b = round_trip([shared, {"again": shared}], tmp_path)
    assert b["again"] is a


def test_random_states_continue_as_they_would_have(tmp_path):
    old, new = np.random.RandomState(3), np.random.default_rng(3)
    old.normal(), new.normal()
    again_old, again_new = round_trip([old, new], tmp_path)
    assert again_old.normal() == old.normal()
    assert again_new.normal() == new.normal()


@dataclass
class Inner:
    table: pd.DataFrame
    images: dict = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outer:
    inner: Inner
    score: float


def test_dataclasses_and_tables(tmp_path):
    table = pd.DataFrame(
        {
            "epoch": [1, 2],
            "loss": [0.5, np.nan],
            "label": ["a", None],
            "kind": pd.Categorical(["x", "y"]),
            "ok": [True, False],
        },
        index=pd.Index(["p", "q"], name="row"),
    )
    value = Outer(Inner(table, {3: np.zeros((2, 2, 3), np.uint8)}), 0.9)
    again = round_trip(value, tmp_path, trusted=[Inner, Outer])
    assert type(again) is Outer and again.score == 0.9
    pd.testing.assert_frame_equal(again.inner.table, table)
    assert again.inner.images[3].dtype == np.uint8
    with pytest.raises(ValueError, match="Inner"):
        save_data(value, tmp_path / "data", trusted=[Outer])
    with pytest.raises(ValueError, match="Inner"):
        load_data(tmp_path / "data")


def test_what_holds_itself_is_refused(tmp_path):
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match="holds itself"):
        save_data(endless, tmp_path / "data")
    with pytest.raises(ValueError, match=r"call is the function .*print"):
        save_data({"call": print}, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
